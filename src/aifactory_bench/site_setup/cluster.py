"""A cluster as it shows itself on its login node."""

import re
from collections.abc import Iterable, Mapping
from typing import Optional

from attrs import evolve, field, frozen

from ..slurm.control import parse_config, parse_job
from ..slurm.printed import clean, number_of, seconds_of
from .parts import Part

_LONGEST = 200
_NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
_GPU = re.compile(r"(?:gres/)?gpu(?::([A-Za-z][A-Za-z0-9_.-]*))?:(\d+)")
_BAD = ("down", "drain", "fail", "maint", "unknown")
FLOOR = (3, 9)
"""Version of Python that our part of a job needs."""


@frozen
class Partition:
    """One partition, by `scontrol show partition` and `sinfo`."""

    name: str
    default: bool = False
    state: str = "UP"
    max_time_s: Optional[float] = None
    """None: no limit."""
    max_nodes: Optional[int] = None
    exclusive: bool = False
    """Whether jobs have whole nodes there."""
    accounts: "tuple[str, ...] | None" = None
    """Those that may use it; None: all."""
    qos: "tuple[str, ...] | None" = None
    nodes: int = 0
    usable: int = 0
    """Of its nodes, those that are neither down nor drained."""
    cpus: Optional[int] = None
    """Of its largest node, as the next three."""
    memory_mb: Optional[int] = None
    gpus: int = 0
    gpu_type: str = ""


@frozen
class Cluster:
    """What a login node tells."""

    host: str = ""
    user: str = ""
    home: str = ""
    shell: str = ""
    """Path of the login shell; empty: not known."""
    clock_s: Optional[float] = None
    """Seconds since 1970, in whole ones."""
    commands: Mapping[str, str] = field(factory=dict)
    """Name -> path."""
    name: str = ""
    version: str = ""
    config: Mapping[str, str] = field(factory=dict)
    """By `scontrol show config`; empty: the controller did not answer."""
    said: str = ""
    """Then, what was said instead."""
    partitions: "tuple[Partition, ...]" = ()
    accounts: "tuple[str, ...]" = ()
    """Of the user; empty: none, or sacctmgr does not tell."""
    default_account: str = ""
    qos: "tuple[str, ...]" = ()
    """That the user's accounts may use."""
    runtimes: Mapping[str, str] = field(factory=dict)
    """`apptainer` or `singularity` on the login node -> what it says of its version."""
    modules: "tuple[str, ...]" = ()
    """Of these two."""
    pythons: Mapping[str, str] = field(factory=dict)
    """Command -> version, on the login node."""
    folders: Mapping[str, str] = field(factory=dict)
    """Variable such as `SCRATCH` -> folder that may be written."""

    @property
    def missing(self) -> "tuple[str, ...]":
        """Commands of Slurm that we need and that are not there."""
        return tuple(name for name in _NEEDED if name not in self.commands)

    @property
    def accounting(self) -> bool:
        """Whether jobs are kept by slurmdbd, so that sacct answers."""
        return "slurmdbd" in self.config.get("AccountingStorageType", "")

    @property
    def enforced(self) -> bool:
        """Whether a job needs an account that exists."""
        words = self.config.get("AccountingStorageEnforce", "").lower().replace(" ", "").split(",")
        return self.accounting and bool({"associations", "limits", "safe", "qos", "all"} & set(words))

    def partition(self, name: str) -> Optional[Partition]:
        """Return a partition by its name."""
        return next((partition for partition in self.partitions if partition.name == name), None)

    @property
    def default_partition(self) -> Optional[Partition]:
        """The one that a job gets that names none."""
        return next((partition for partition in self.partitions if partition.default), None)

    def python(self) -> Optional[str]:
        """Return the command of a Python that is new enough, the plain one first."""
        return next((name for name, version in self.pythons.items() if new_enough(version)), None)


def new_enough(version: str) -> bool:
    """Tell whether `3.11.2` runs our part of a job."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= FLOOR


def cluster_of(parts: Mapping[str, Part]) -> Cluster:
    """Return what the parts of `look` say."""

    def text(name: str) -> str:
        return parts[name].text if name in parts and parts[name].code == 0 else ""

    def lines(name: str) -> "list[str]":
        return parts[name].lines if name in parts and parts[name].code == 0 else []

    host, user, home, shell, clock = (*lines("who"), "", "", "", "", "")[:5]
    config = parse_config(text("config"))
    rows = [line.split("|") for line in lines("associations")]
    default = lines("default")
    return Cluster(
        host=host,
        user=user,
        home=home,
        shell=shell,
        clock_s=number_of(clock),
        commands={path.rpartition("/")[2]: path for path in lines("commands")},
        name=config.get("ClusterName", ""),
        version=config.get("SLURM_VERSION", "") or text("version").removeprefix("slurm").strip(" -wlm"),
        config=config,
        said="" if config else (parts["config"].line if "config" in parts else ""),
        partitions=_partitions(lines("partitions"), lines("nodes")),
        accounts=_once(row[0] for row in rows),
        default_account=default[0] if default else "",
        qos=_once(name for row in rows if len(row) > 2 for name in row[2].split(",")),
        runtimes={name[8:]: part.line for name, part in parts.items() if name.startswith("runtime:") and part.code == 0},
        modules=_once(line.removesuffix("(default)") for line in lines("modules") if not line.endswith((":", "/"))),
        pythons={name[7:]: part.line for name, part in parts.items() if name.startswith("python:") and part.code == 0},
        folders=dict(line.partition("=")[::2] for line in lines("folders") if "=/" in line),
    )


def _once(names: Iterable[str]) -> "tuple[str, ...]":
    return tuple(dict.fromkeys(clean(name, _LONGEST) for name in names if name))


def _partitions(records: "list[str]", rows: "list[str]") -> "tuple[Partition, ...]":
    found = {partition.name: partition for partition in map(_partition, records) if partition.name}
    for row in rows:
        values = row.split("|")
        partition = found.get(values[0])
        if partition is None or len(values) < 6:
            continue
        found[partition.name] = _with_nodes(partition, values)
    return tuple(found.values())


def _partition(record: str) -> Partition:
    values = parse_job(record)
    return Partition(
        name=values.get("PartitionName", ""),
        default=values.get("Default") == "YES",
        state=values.get("State", "UP"),
        max_time_s=seconds_of(values.get("MaxTime", "")),
        max_nodes=number_of(values.get("MaxNodes", "")),
        exclusive=values.get("OverSubscribe", "") == "EXCLUSIVE",
        accounts=_allowed(values.get("AllowAccounts", "ALL")),
        qos=_allowed(values.get("AllowQos", "ALL")),
        nodes=number_of(values.get("TotalNodes", "")) or 0,
    )


def _allowed(text: str) -> "tuple[str, ...] | None":
    return None if text in {"ALL", "(null)", ""} else tuple(text.split(","))


def _with_nodes(partition: Partition, values: "list[str]") -> Partition:
    """Return the partition with what a line of sinfo says of some of its nodes."""
    _, state, count, cpus, memory, gres = values[:6]
    usable = 0 if any(word in state.lower() for word in _BAD) else number_of(count) or 0
    gpu = _GPU.search(gres)
    return evolve(
        partition,
        usable=partition.usable + usable,
        cpus=_most(partition.cpus, number_of(cpus.rstrip("+"))),
        memory_mb=_most(partition.memory_mb, number_of(memory.rstrip("+"))),
        gpus=max(partition.gpus, int(gpu[2]) if gpu else 0),
        gpu_type=partition.gpu_type or ((gpu[1] or "") if gpu else ""),
    )


def _most(one: Optional[int], other: Optional[int]) -> Optional[int]:
    return max((value for value in (one, other) if value is not None), default=None)
