"""Why a job waits, and whether waiting helps."""

import re
from collections.abc import Mapping

from attrs import frozen


@frozen
class Judgement:
    """What a reason means for a pending job."""

    waits: bool
    """False: it will not start unless somebody changes something."""
    advice: str
    """What to do about it; empty: nothing, it is the ordinary way of a queue."""


_LONGEST = 200

_HELD = "somebody has to release it: ask the site's administrators, or run `scontrol release` on it"
_NEVER: Mapping[str, str] = {
    "PartitionTimeLimit": "the job asks for more time than its partition gives: lower `time`, or choose another partition",
    "PartitionNodeLimit": "the job asks for more, or fewer, nodes than its partition gives, or they are down: change `nodes`, "
    "or choose another partition",
    "PartitionConfig": "the partition cannot give what the job asks for: change its resources, or choose another partition",
    "DependencyNeverSatisfied": "a job that this one depends on did not end as it had to",
    "BadConstraints": "no node has what the job asks for: change `constraint` or the resources",
    "InvalidAccount": "the account is not valid, or has expired: change `account`",
    "AccountNotAllowed": "the account may not use this partition: change `account` or `partition`",
    "InvalidQOS": "the QOS is not valid: change `qos`",
    "QOSNotAllowed": "the account or the partition does not allow this QOS: change `qos`",
    "MaxMemPerLimit": "the job asks for more memory than one of its CPUs or nodes may have: lower `memory`, or take more CPUs",
    "ReservationDeleted": "the reservation is gone: change or leave out `reservation`",
    "ReservationInvalid": "the reservation is not valid for this job: change or leave out `reservation`",
    "BurstBufferOperation": "the burst buffer refused a request of the job",
    "JobHeldAdmin": f"an administrator holds the job; {_HELD}",
    "JobHeldUser": f"the job is held; {_HELD}",
    "JobHoldMaxRequeue": f"the job was requeued too often and is held; {_HELD}",
    "launch failed requeued held": f"the job could not be launched and is held; {_HELD}",
}
_WAITS: Mapping[str, str] = {
    "ReqNodeNotAvail": "nodes it needs are down, drained or reserved, often for maintenance: it starts when they are back; a "
    "shorter `time` may fit in before",
    "PartitionDown": "the partition is down: it starts when the administrators open it again, or choose another one",
    "PartitionInactive": "the partition starts no jobs at the moment: it starts when the administrators open it again",
    "Reservation": "it starts when its reservation begins",
    "BeginTime": "it starts when its begin time has come; a job that was requeued waits about two minutes",
}


def _plain(reason: str) -> str:
    return re.sub(r"[^a-z0-9]", "", reason.lower())


_JUDGEMENTS: Mapping[str, Judgement] = {
    **{_plain(reason): Judgement(False, advice) for reason, advice in _NEVER.items()},
    **{_plain(reason): Judgement(True, advice) for reason, advice in _WAITS.items()},
}
# QOSMaxWallDurationPerJobLimit, AssocMaxMemPerNode, QOSMinCpuNotSatisfied: of this job alone, so no other job's end helps.
_OVER = re.compile(r"(qos|assoc)max(.*)per(job|node)(?:limit)?")
_UNDER = re.compile(r"qosmin(.*?)(?:notsatisfied)?")
_SHARED = re.compile(
    r"(?:qos|assoc|max).*(?:peruser|peraccount|submitjob|jobslimit).*|(?:qos|assoc)(?:grp|iation|job|resource).*"
)
_OWNERS: Mapping[str, str] = {"qos": "QOS", "assoc": "account"}


def judge(reason: str) -> Judgement:
    """Return whether a pending job with this reason of squeue's will ever start; what is not known is waited for."""
    # What stands behind a comma are details: "ReqNodeNotAvail, UnavailableNodes:node3".
    key = _plain(reason[:_LONGEST].partition(",")[0])
    if key in _JUDGEMENTS:
        return _JUDGEMENTS[key]
    if found := _OVER.fullmatch(key):
        owner = _OWNERS[found[1]]
        return Judgement(False, f"the job alone is over a limit of its {owner}: ask for less, or change `{owner.lower()}`")
    if _UNDER.fullmatch(key):
        return Judgement(False, "the job asks for less than its QOS demands: ask for more, or change `qos`")
    if _SHARED.fullmatch(key):
        return Judgement(True, "a limit on all jobs of the user, the account or the QOS is reached: it starts when others end")
    return Judgement(True, "")
