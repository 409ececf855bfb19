"""Slurm as the login node shows it, against what the profile says of it."""

import math
import re

from ..script.header import walltime
from ..site_setup.cluster import Cluster, Partition
from ..site_setup.parts import Part, program, read_parts
from ..sites.model import Site
from ..slurm.printed import number_of
from ..slurm.submission import classify_sbatch
from ..transports.base import Transport
from .findings import Report

_SHOWN = (
    "SelectType",
    "SelectTypeParameters",
    "SchedulerParameters",
    "JobSubmitPlugins",
    "EnforcePartLimits",
    "MaxArraySize",
    "MaxJobCount",
    "MessageTimeout",
    "KillWait",
)
_UNSET = {"", "(null)"}
_FORGETS_S = 180.0
"""Slurm that forgets an ended job sooner may have done so between three calm polls."""
_LIMIT_S = 60.0
_SHORTEST_S = 60
CHECKS = ("partition", "account", "qos", "time limit")


def look_at_slurm(cluster: Cluster, report: Report) -> bool:
    """Look whether there is a Slurm that answers."""
    if cluster.missing:
        report.fail(
            "slurm commands",
            f"{cluster.host}: not on the PATH of a plain login: {', '.join(cluster.missing)}",
            "name a login node of the cluster; where commands come by a module, /etc/profile has to set them for every shell",
        )
        return False
    report.ok("slurm commands", f"{cluster.host}: Slurm {cluster.version or 'of unknown version'}")
    if not cluster.config:
        report.fail(
            "controller",
            f"the controller of Slurm does not answer: {cluster.said or 'scontrol said nothing'}",
            "nothing can be submitted until it does: see `scontrol ping` and the site's status page, and try again",
        )
        return False
    report.ok("controller", f"cluster {cluster.name or 'without a name'} answers")
    return True


def look_at_settings(site: Site, cluster: Cluster, report: Report) -> None:
    """Look at the settings of Slurm that matter, and at its accounting."""
    _look_at_memory(site, cluster, report)
    shown = [f"{name}={cluster.config[name]}" for name in _SHOWN if cluster.config.get(name, "") not in _UNSET]
    if cluster.config.get("SelectType", "") == "select/linear" and not site.rules.whole_nodes:
        report.warn(
            "slurm settings",
            "SelectType=select/linear: every job has whole nodes, and the profile does not say so",
            "add `rules: {whole_nodes: true}` to the profile, so that plans count what is really taken",
        )
    else:
        report.ok("slurm settings", ", ".join(shown) or "nothing out of the ordinary")
    if cluster.accounting:
        report.ok("accounting", "slurmdbd keeps accounts: sacct answers")
    else:
        report.warn(
            "accounting",
            f"no accounts are kept (AccountingStorageType={cluster.config.get('AccountingStorageType', 'not set')}): sacct"
            " knows nothing",
            "nothing has to be done: the end of a job is known by its own last words and by squeue; one that dies with its node"
            " is called lost after one to three minutes",
        )


def _look_at_memory(site: Site, cluster: Cluster, report: Report) -> None:
    words = cluster.config.get("MinJobAge", "").split()
    age_s = number_of(words[0]) if words else None
    told_s = site.rules.min_job_age_s
    if age_s is None:
        report.skip("job memory", "Slurm does not tell its MinJobAge")
    elif told_s is not None and told_s > age_s:
        report.warn(
            "job memory",
            f"Slurm forgets jobs {age_s} s after their end (MinJobAge), the profile says {told_s:g} s",
            f"correct it: `rules: {{min_job_age: {age_s}s}}`",
        )
    elif told_s is None and age_s < _FORGETS_S:
        report.warn(
            "job memory",
            f"Slurm forgets jobs {age_s} s after their end (MinJobAge), which may be between two looks at the queue",
            f"say so in the profile, then it is asked more often: `rules: {{min_job_age: {age_s}s}}`",
        )
    else:
        report.ok("job memory", f"jobs are shown for {age_s} s after their end (MinJobAge)")


def look_at_place(site: Site, cluster: Cluster, report: Report) -> None:
    """Look whether partition, account, QOS and time of the profile exist and go together."""
    partitions = _look_at_partition(site, cluster, report)
    _look_at_account(site, cluster, partitions, report)
    _look_at_qos(site, cluster, partitions, report)
    if partitions:
        _look_at_time(site, partitions, report)
    else:
        report.skip("time limit", "needs a partition")


def _look_at_partition(site: Site, cluster: Cluster, report: Report) -> "tuple[Partition, ...]":
    wanted = site.scheduler.get("partition", "")
    there = ", ".join(partition.name for partition in cluster.partitions) or "none that you may see"
    if not wanted:
        default = cluster.default_partition
        if default is not None and not site.rules.partition_required:
            report.ok("partition", f"{default.name}, the cluster's default")
            return (default,)
        report.fail(
            "partition", f"the profile names no partition, and there is no default; there is: {there}", _set("partition")
        )
        return ()
    found = [cluster.partition(name) for name in wanted.split(",")]
    unknown = [name for name, partition in zip(wanted.split(","), found, strict=True) if partition is None]
    if unknown:
        report.fail("partition", f"there is no partition {unknown[0]!r}; there is: {there}", _set("partition"))
        return ()
    partitions = tuple(partition for partition in found if partition is not None)
    closed = [partition for partition in partitions if not partition.state.startswith("UP") or not partition.usable]
    if closed:
        report.warn(
            "partition",
            f"{closed[0].name} starts no jobs now: it is {closed[0].state}, and {closed[0].usable} of"
            f" {closed[0].nodes} nodes can be used",
            "wait, or take another one",
        )
    else:
        report.ok("partition", ", ".join(f"{one.name}: {one.usable} of {one.nodes} nodes can be used" for one in partitions))
    return partitions


def _look_at_account(site: Site, cluster: Cluster, partitions: "tuple[Partition, ...]", report: Report) -> None:
    wanted = site.scheduler.get("account", "")
    yours = ", ".join(cluster.accounts) or "none that sacctmgr shows"
    if not wanted:
        if site.rules.account_required or (cluster.enforced and not cluster.default_account and not cluster.accounts):
            report.fail("account", f"jobs need an account here, and the profile names none; yours: {yours}", _set("account"))
        else:
            report.ok("account", f"none asked for{_default(cluster)}")
    elif cluster.accounts and wanted not in cluster.accounts:
        tell = report.fail if cluster.enforced else report.warn  # where nobody checks, jobs run all the same
        tell("account", f"the account {wanted!r} is none of yours: {yours}", _set("account"))
    elif barred := [one.name for one in partitions if one.accounts is not None and wanted not in one.accounts]:
        report.fail("account", f"the partition {barred[0]} is not open to the account {wanted!r}", _set("account", "partition"))
    else:
        report.ok("account", f"{wanted}{'' if cluster.accounts else ', which nobody checks here'}")


def _look_at_qos(site: Site, cluster: Cluster, partitions: "tuple[Partition, ...]", report: Report) -> None:
    wanted = site.scheduler.get("qos", "")
    yours = ", ".join(cluster.qos) or "none that sacctmgr shows"
    if not wanted and site.rules.qos_required:
        report.fail("qos", f"jobs need a QOS here, and the profile names none; yours: {yours}", _set("qos"))
    elif wanted and cluster.qos and wanted not in cluster.qos:
        report.fail("qos", f"the QOS {wanted!r} is none of yours: {yours}", _set("qos"))
    elif barred := [one.name for one in partitions if wanted and one.qos is not None and wanted not in one.qos]:
        report.fail("qos", f"the partition {barred[0]} is not open to the QOS {wanted!r}", _set("qos", "partition"))
    else:
        report.ok("qos", wanted or "none asked for")


def _look_at_time(site: Site, partitions: "tuple[Partition, ...]", report: Report) -> None:
    wanted_s = site.time_default_s
    limits = [partition.max_time_s or math.inf for partition in partitions]
    longest_s = max(limits)
    shown = "no limit" if math.isinf(longest_s) else walltime(int(longest_s))
    if wanted_s is not None and wanted_s > longest_s:
        report.fail(
            "time limit",
            f"`time_default` is {walltime(math.ceil(wanted_s))}, and {partitions[0].name} gives {shown} at most",
            "lower `time_default` in the profile, or take another `slurm: {partition: ...}`",
        )
    else:
        report.ok("time limit", f"{partitions[0].name}: {shown}")


def _default(cluster: Cluster) -> str:
    return f"; your default is {cluster.default_account}" if cluster.default_account else ""


def _set(*names: str) -> str:
    return f"set {' or '.join(f'`{name}`' for name in names)} under `slurm` in the profile"


def sbatch_options(site: Site, time_s: int = _SHORTEST_S) -> "list[str]":
    """Return the options of a job of one process with which a site's jobs come."""
    options = {"time": walltime(time_s), "nodes": "1", "ntasks": "1", "export": "NONE", **site.scheduler}
    if site.rules.whole_nodes:
        options.setdefault("exclusive", "")
    return [f"--{name}={value}" if value else f"--{name}" for name, value in options.items()]


async def look_at_submission(site: Site, transport: Transport, report: Report) -> None:
    """Ask sbatch what it would say of a job, without submitting one."""
    if failed := report.failed(*CHECKS):
        report.skip("submission", f"needs: {', '.join(failed)}")
        return
    time_s = max(_SHORTEST_S, math.ceil(site.time_default_s or 0))
    done = await transport.run(program(__package__ or "", "test_only"), *sbatch_options(site, time_s), timeout_s=_LIMIT_S)
    said = read_parts(done.stdout).get("sbatch", Part(1, ""))
    if said.code == 0:
        report.ok("submission", "sbatch would take a job with the options of the profile")
        return
    if said.code == 124:
        report.warn("submission", "sbatch does not answer within 20 s", "the controller is busy; try again later")
        return
    refusal = classify_sbatch(said.code, re.sub(r"(?m)^(?!sbatch: )", "sbatch: ", said.text))
    if refusal.kind in {"transient", "ambiguous", "quota"}:
        report.warn("submission", f"sbatch would not take a job now: {refusal.text}", refusal.advice)
    else:
        report.fail("submission", f"sbatch would refuse every job: {refusal.text}", refusal.advice)
