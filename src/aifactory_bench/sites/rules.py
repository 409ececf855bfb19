"""What a site demands of jobs: its rules, what its nodes have, and where each of these facts comes from."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, Optional

from attrs import field, frozen
from attrs.validators import ge, gt, le, optional

from ..units import DurationS, SizeBytes

_MOST_CPUS = 4096
_MOST_GPUS = 1024
_MOST_NODES = 1_000_000
_LONGEST = DurationS(365 * 86400.0)
_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_SUFFIX = re.compile(r"[A-Za-z0-9-]{1,20}")
_LIMITED = re.compile(r"[A-Za-z0-9_.@+-]{1,99}(?:/[A-Za-z0-9_.@+-]{1,99})?|\*/[A-Za-z0-9_.@+-]{1,99}")
LONGEST_TEXT = 500


@frozen
class Fact:
    """Where a part of a profile was read, and when."""

    source: str = field()
    """Address of a page, or words."""
    date: str = field(default="")
    """`2025-02-28`. Empty: not known."""
    verified: bool = False
    """`true`: by the site's own documentation, or on the site itself; `false`: by hearsay."""

    @source.validator
    def _check_source(self, _attribute: object, value: str) -> None:
        if not value.strip() or not value.isprintable() or len(value) > LONGEST_TEXT:
            raise ValueError(f"must be one line of at most {LONGEST_TEXT} characters; found {value[:80]!r}")

    @date.validator
    def _check_date(self, _attribute: object, value: str) -> None:
        try:
            good = value == "" or date.fromisoformat(value).isoformat() == value
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"must be a day such as 2025-02-28; found {value[:80]!r}")

    def __str__(self) -> str:
        """Return `source, day`; hearsay is called that."""
        parts = [self.source, *([self.date] if self.date else [])]
        return ", ".join(parts if self.verified else [*parts, "not verified"])


@frozen
class NodeShape:
    """What one node of a partition has. None: not known."""

    cpus: Optional[int] = field(default=None, validator=optional([ge(1), le(_MOST_CPUS)]))
    """Cores that a job can have."""
    memory_bytes: Optional[SizeBytes] = field(default=None, validator=optional(gt(SizeBytes(0))))
    """Main memory."""
    gpus: Optional[int] = field(default=None, validator=optional([ge(0), le(_MOST_GPUS)]))
    """Accelerators, as the scheduler counts them."""
    gpu_type: Optional[str] = None
    """What they are called, such as `A100-40`; for people."""
    count: Optional[int] = field(default=None, validator=optional([ge(1), le(_MOST_NODES)]))
    """Nodes of the partition."""
    max_nodes: Optional[int] = field(default=None, validator=optional([ge(1), le(_MOST_NODES)]))
    """Nodes that one job can have."""
    exclusive: Optional[bool] = None
    """Whether a job has whole nodes there, whatever it asks for. None: as `rules.whole_nodes` says."""


def _check_limits(_instance: Any, _attribute: Any, value: Mapping[str, float]) -> None:
    for name, limit_s in value.items():
        if not _LIMITED.fullmatch(name):
            raise ValueError(f"must be named PARTITION, PARTITION/QOS or */QOS; found {name[:80]!r}")
        if not 0 < limit_s <= _LONGEST:
            raise ValueError(f"{name}: must be more than 0s and at most 365d")


@frozen
class Rules:
    """What a job must be like. A recipe that breaks a rule is refused before anything is submitted."""

    account_required: bool = False
    """Whether jobs without `account` are refused."""
    qos_required: bool = False
    """Whether jobs without `qos` are refused."""
    partition_required: bool = False
    """Whether jobs without `partition` are refused."""
    whole_nodes: bool = False
    """Whether jobs have whole nodes only: they ask for `exclusive`, and for all cores where `nodes` says how many."""
    cpus_per_gpu: Optional[int] = field(default=None, validator=optional([ge(1), le(_MOST_CPUS)]))
    """Cores that a job must ask for with every GPU: one that names no `cpus` gets them, another number is refused."""
    gpu_request: Literal["gpus_per_node", "gres", "gpus"] = "gpus_per_node"
    """How GPUs are asked for: `--gpus-per-node=2`, `--gres=gpu:2`, or `--gpus` for those of all nodes together."""
    gpu_type: Optional[str] = field(default=None)
    """Type that stands in the request, `--gres=gpu:a100:2`. None: none."""
    gpu_vendor: Literal["nvidia", "amd"] = "nvidia"
    """Whose GPUs they are: a container sees them by `--nv` or `--rocm`."""
    srun_containers: bool = False
    """Whether a job of one process starts it by `srun` too: for energy accounting and the statistics of steps."""
    cpus_per_task_export: bool = False
    """Whether `SRUN_CPUS_PER_TASK` is set, where `srun` does not take `cpus-per-task` from the job."""
    max_time_s: Mapping[str, DurationS] = field(factory=dict, validator=_check_limits)
    """Longest walltime by `PARTITION`, `PARTITION/QOS` or `*/QOS`; the one that names most holds."""
    fabric_suffix: Optional[str] = field(default=None)
    """What is put behind a node's name for the fast network: `i` makes `node7i.cluster` of `node7.cluster`."""
    compute_internet: Optional[bool] = None
    """Whether compute nodes reach the internet. `false`: what a job would download is refused. None: not known."""
    min_job_age_s: Optional[DurationS] = field(default=None, validator=optional([gt(DurationS(0)), le(_LONGEST)]))
    """How long Slurm remembers a job that has ended; it is asked at least three times in it. None: not known."""
    otp: Optional[bool] = None
    """Whether a login wants a second factor from a person. None: not known."""
    certificate_lifetime_s: Optional[DurationS] = field(default=None, validator=optional([gt(DurationS(0)), le(_LONGEST)]))
    """How long a login certificate holds. None: logins need none, or it is not known."""

    @gpu_type.validator
    def _check_type(self, _attribute: object, value: Optional[str]) -> None:
        if value is not None and not _TYPE.fullmatch(value):
            raise ValueError(f"must be one word such as a100; found {value[:80]!r}")

    @fabric_suffix.validator
    def _check_suffix(self, _attribute: object, value: Optional[str]) -> None:
        if value is not None and not _SUFFIX.fullmatch(value):
            raise ValueError(f"must be letters, digits and hyphens, as in a host's name; found {value[:80]!r}")


def longest_s(rules: Rules, partition: Optional[str], qos: Optional[str]) -> "tuple[str, float] | None":
    """Return the limit of walltime that holds: its name in `max_time`, and seconds; None: none is known.

    Of several partitions (`a,b`) the job may run in any, so the longest of theirs holds, and none where one has none.
    """
    found = [_limit_of(rules.max_time_s, name, qos) for name in (partition.split(",") if partition else [""])]
    known = [limit for limit in found if limit is not None]
    return max(known, key=lambda limit: limit[1]) if len(known) == len(found) else None


def _limit_of(limits: Mapping[str, float], partition: str, qos: Optional[str]) -> "tuple[str, float] | None":
    for name in (*((f"{partition}/{qos}", f"*/{qos}") if qos else ()), partition):
        if name in limits:
            return name, limits[name]
    return None
