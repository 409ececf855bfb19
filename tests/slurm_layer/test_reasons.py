"""A job that can never start is told from one that waits its turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.reasons import judge

NEVER = [
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "PartitionConfig",
    "DependencyNeverSatisfied",
    "BadConstraints",
    "InvalidAccount",
    "AccountNotAllowed",
    "InvalidQOS",
    "QOSNotAllowed",
    "MaxMemPerLimit",
    "ReservationDeleted",
    "ReservationInvalid",
    "BurstBufferOperation",
    "JobHeldAdmin",
    "JobHeldUser",
    "JobHoldMaxRequeue",
    "launch failed requeued held",
    "launch_failed_requeued_held",
    "QOSMaxWallDurationPerJobLimit",
    "QOSMaxCpuPerJobLimit",
    "QOSMaxGRESPerJob",
    "QOSMaxMemoryPerNode",
    "QOSMaxCpuMinutesPerJobLimit",
    "QOSMinCpuNotSatisfied",
    "QOSMinGRES",
    "AssocMaxNodePerJobLimit",
    "AssocMaxWallDurationPerJobLimit",
    "AssocMaxCpuPerNode",
    "AssocMaxBillingMinutesPerJob",
]
WAITS = [
    "None",
    "",
    "Priority",
    "Resources",
    "BeginTime",
    "Dependency",
    "Licenses",
    "JobArrayTaskLimit",
    "Prolog",
    "Cleaning",
    "Reservation",
    "PartitionDown",
    "PartitionInactive",
    "ReqNodeNotAvail",
    "ReqNodeNotAvail, UnavailableNodes:node3",
    "ReqNodeNotAvail,_Reserved_for_maintenance",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
    "AssocGrpCpuLimit",
    "AssocGrpGRESMinutes",
    "AssocMaxJobsLimit",
    "AssocMaxSubmitJobLimit",
    "AssociationJobLimit",
    "QOSGrpNodeLimit",
    "QOSMaxJobsPerUserLimit",
    "QOSMaxGRESPerUser",
    "QOSMaxSubmitJobPerUserLimit",
    "QOSResourceLimit",
    "MaxCpuPerAccount",
    "BurstBufferStageIn",
    "SomethingNew",
]


@pytest.mark.parametrize("reason", NEVER)
def test_never(reason):
    judgement = judge(reason)
    assert not judgement.waits
    assert len(judgement.advice) > 20


@pytest.mark.parametrize("reason", WAITS)
def test_waits(reason):
    assert judge(reason).waits


@pytest.mark.parametrize(
    "reason", ["ReqNodeNotAvail", "PartitionDown", "QOSMaxGRESPerUser", "AssocGrpCpuLimit", "MaxCpuPerAccount"]
)
def test_a_long_wait_is_explained(reason):
    assert "starts when" in judge(reason).advice


@pytest.mark.parametrize("reason", ["None", "Priority", "Resources", "QOSUsageThreshold"])
def test_an_ordinary_wait_needs_no_words(reason):
    assert not judge(reason).advice


def test_a_limit_names_what_to_change():
    assert "change `qos`" in judge("QOSMaxCpuPerJobLimit").advice
    assert "change `account`" in judge("AssocMaxCpuPerJobLimit").advice


@given(st.one_of(st.text(), st.from_regex(r"(QOS|Assoc|Max)?[A-Za-z]*(Per(Job|Node|User))?(Limit)?", fullmatch=True)))
def test_any_text_is_judged(reason):
    judgement = judge(reason)
    assert judgement.waits or judgement.advice
