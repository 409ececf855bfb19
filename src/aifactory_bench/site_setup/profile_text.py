"""The profile of a cluster as text: what a person answered, and what the cluster showed, each with its source and its date."""

import json
import math
import re
from collections.abc import Callable
from datetime import date
from typing import Literal, Optional

from attrs import asdict, frozen

from ..sites.model import Login
from ..slurm.printed import number_of
from .cluster import Cluster, Partition

_PLAIN = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)$)[A-Za-z/][A-Za-z0-9_./@-]*", re.IGNORECASE)
_RUNS = "aifactory-bench/runs"
_BEST = ("SCRATCH", "WORK", "PROJECT")
_CONFIG = "scontrol show config"
_PARTITION = "scontrol show partition"
_NODES = "sinfo"
_ACCOUNTS = "sacctmgr show associations"
_YOU = "your answer"
_NOTHING_SAID = {"host": None, "port": None, "user": None, "jump": None, "transport": "ssh"}
_Line = Callable[..., str]
"""Puts source, date and more behind a line: text, source, what."""


@frozen
class Answers:
    """What a person says of a site; the rest is looked up."""

    name: str
    login: Login
    runs: str
    account: str = ""
    partition: str = ""
    qos: str = ""
    runtime: Literal["host", "apptainer", "singularity"] = "apptainer"
    modules: "tuple[str, ...]" = ()
    python: str = "python3"
    extends: str = ""
    """Profile that is extended; what it says is not said again."""
    extended: Optional[Login] = None
    """Its login."""


def proposed(cluster: Cluster, name: str, login: Login, *, extends: str = "", extended: Optional[Login] = None) -> Answers:
    """Return answers that fit the cluster: its default partition and account, the best folder, what it has of runtimes."""
    default = cluster.default_partition or (cluster.partitions[0] if len(cluster.partitions) == 1 else None)
    folder = next((cluster.folders[variable] for variable in _BEST if variable in cluster.folders), cluster.home)
    runtime: Literal["host", "apptainer", "singularity"] = "host"
    if "apptainer" in cluster.runtimes or any(module.lower().startswith("apptainer") for module in cluster.modules):
        runtime = "apptainer"
    elif "singularity" in cluster.runtimes or cluster.modules:
        runtime = "singularity"
    modules = [module for module in cluster.modules if module.lower().startswith(runtime)]
    return Answers(
        name=name,
        login=login,
        runs=f"{folder.rstrip('/')}/{_RUNS}",
        account=cluster.default_account or (cluster.accounts[0] if len(cluster.accounts) == 1 else ""),
        partition=default.name if default else "",
        runtime=runtime,
        modules=tuple(modules[-1:]) if runtime not in cluster.runtimes else (),
        python=cluster.python() or "python3",
        extends=extends,
        extended=extended,
    )


def profile_text(cluster: Cluster, answers: Answers, *, today: Optional[date] = None) -> str:
    """Return the text of a profile's file, that is valid as it stands.

    Args:
        cluster: What was seen.
        answers: What a person said.
        today: Day that stands behind what was seen; default: today.
    """
    day = (today or date.today()).isoformat()  # noqa: DTZ011  the day of whoever writes it

    def line(text: str, source: str, what: str = "") -> str:
        return f"{text}  # {_comment(f'{what}; ') if what else ''}{' ' if what else ''}{_comment(source)}, {day}"

    lines = [
        _comment(
            f"# Made by `aifactory-bench init` on {day}; cluster {cluster.name or 'without a name'}, Slurm {cluster.version}"
        ),
        "schema: aifactory-bench/site/1",
        f"name: {answers.name}",
        *([f"extends: {_text(answers.extends)}"] if answers.extends else []),
        line(f"login: {_login(answers)}", _YOU),
        line(f"runs: {_text(answers.runs)}", _YOU, "login node and compute nodes see it at this path"),
    ]
    options = {"account": answers.account, "partition": answers.partition, "qos": answers.qos}
    given = {name: value for name, value in options.items() if value}
    if given:
        offered = {"account": cluster.accounts, "partition": tuple(p.name for p in cluster.partitions), "qos": cluster.qos}
        sources = {"account": _ACCOUNTS, "partition": _NODES, "qos": _ACCOUNTS}
        lines.append("slurm:")
        for name, value in given.items():
            there = ", ".join(clipped(offered[name]))
            what, source = (f"there is: {there}", sources[name]) if there else ("", _YOU)
            lines.append(line(f"  {name}: {_text(value)}", source, what))
    if not answers.extends:
        lines += _runtime(cluster, answers, line)
        lines += _rules(cluster, answers, line)
        lines += _nodes(cluster, line)
        lines += _facts(cluster, answers, day)
    return "\n".join(lines) + "\n"


def clipped(names: "tuple[str, ...]", most: int = 8) -> "tuple[str, ...]":
    """Return the first names, and a mark where there are more."""
    return names if len(names) <= most else (*names[:most], "...")


def _login(answers: Answers) -> str:
    """Return the login; what an extended profile says alike is left out."""
    mine, theirs = asdict(answers.login), asdict(answers.extended) if answers.extended is not None else _NOTHING_SAID
    shown = [f"{name}: {_scalar(value)}" for name, value in mine.items() if value != theirs[name]]
    return f"{{{', '.join(shown)}}}"


def _scalar(value: "str | int | None") -> str:
    return "null" if value is None else _text(value) if isinstance(value, str) else str(value)


def _runtime(cluster: Cluster, answers: Answers, line: _Line) -> "list[str]":
    version = cluster.runtimes.get(answers.runtime, "")
    what = version or ("services are installed on the nodes" if answers.runtime == "host" else "not seen on the login node")
    lines = [line(f"runtime: {answers.runtime}", f"{cluster.host}", _comment(what))]
    if answers.modules:
        lines.append(line(f"modules: [{', '.join(map(_text, answers.modules))}]", "module -t avail"))
    python = cluster.pythons.get(answers.python, "")
    what = f"{python} on the login node" if python else "not seen on the login node"
    return [*lines, line(f"python: {_text(answers.python)}", cluster.host, f"{what}; `doctor --job` looks on a node")]


def _rules(cluster: Cluster, answers: Answers, line: _Line) -> "list[str]":
    rules = []
    if cluster.enforced and not cluster.default_account:
        rules.append(line("  account_required: true", _CONFIG, f"AccountingStorageEnforce={_enforce(cluster)}"))
    chosen = [cluster.partition(name) for name in answers.partition.split(",")] if answers.partition else []
    if cluster.default_partition is None:
        rules.append(line("  partition_required: true", _PARTITION, "no partition is the default"))
    if cluster.config.get("SelectType") == "select/linear":
        rules.append(line("  whole_nodes: true", _CONFIG, "SelectType=select/linear"))
    elif chosen and all(partition is not None and partition.exclusive for partition in chosen):
        rules.append(line("  whole_nodes: true", _PARTITION, "OverSubscribe=EXCLUSIVE"))
    words = cluster.config.get("MinJobAge", "").split()
    age_s = number_of(words[0]) if words else None
    if age_s:
        rules.append(line(f"  min_job_age: {age_s}s", _CONFIG))
    limits = [partition for partition in cluster.partitions if partition.max_time_s]
    if limits:
        rules.append(line("  max_time:", _PARTITION, "longest walltime"))
        rules += [f"    {_text(one.name)}: {_duration(one.max_time_s or 0)}" for one in limits]
    return ["rules:", *rules] if rules else []


def _enforce(cluster: Cluster) -> str:
    return _comment(cluster.config.get("AccountingStorageEnforce", ""))


def _nodes(cluster: Cluster, line: _Line) -> "list[str]":
    """Return what the nodes of each partition have."""
    shown = [f"  {_text(one.name)}: {{{', '.join(_shape(one))}}}" for one in cluster.partitions if _shape(one)]
    return [line("nodes:", _NODES, "of the largest node of each partition"), *shown] if shown else []


def _shape(partition: Partition) -> "list[str]":
    values = {
        "cpus": partition.cpus or None,
        "memory": f"{partition.memory_mb}MiB" if partition.memory_mb else None,
        "gpus": partition.gpus if partition.cpus else None,
        "gpu_type": _text(partition.gpu_type) if partition.gpu_type else None,
        "count": partition.nodes or None,
        "max_nodes": partition.max_nodes or None,
        "exclusive": "true" if partition.exclusive else None,
    }
    return [f"{name}: {value}" for name, value in values.items() if value is not None]


def _facts(cluster: Cluster, answers: Answers, day: str) -> "list[str]":
    """Return where what stands above was read, in the form in which a refusal names it."""
    found = {"runtime": f"seen on {cluster.host}"}
    if _rules(cluster, answers, lambda text, *_: text):
        found["rules"] = f"{_CONFIG} and {_PARTITION} on {cluster.host}"
    if any(map(_shape, cluster.partitions)):
        found["nodes"] = f"{_NODES} on {cluster.host}"
    entries = [f'  {name}: {{source: {_text(source)}, date: "{day}", verified: true}}' for name, source in found.items()]
    return ["facts:", *entries]


def _duration(seconds: float) -> str:
    whole_s = math.floor(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole_s % size == 0:
            return f"{whole_s // size}{unit}"
    return f"{whole_s}s"


def _comment(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:200]


def _text(value: str) -> str:
    """Return a text as YAML reads it again."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
