"""`sinfo`: the common parts."""

from collections.abc import Callable

from .hosts import compress
from .options import Answer, Options
from .schedule import free_cpus
from .squeue import padded, split_format
from .store import Store
from .times import short_duration

_OPTIONS = Options(
    "sinfo", "all,a exact,e format=,o help long,l Node,N nodes=,n noheader,h partition=,p states=,t verbose,v version,V"
)
_HEADERS = {
    "P": "PARTITION", "R": "PARTITION", "a": "AVAIL", "l": "TIMELIMIT", "D": "NODES", "t": "STATE", "T": "STATE",
    "N": "NODELIST", "n": "HOSTNAMES", "C": "CPUS(A/I/O/T)", "c": "CPUS", "m": "MEMORY", "G": "GRES", "f": "AVAIL_FEATURES",
    "o": "NODE_ADDR", "E": "REASON",
}  # fmt: skip
_SHORT = {"allocated": "alloc", "mixed": "mix", "drained": "drain", "draining": "drng"}


def prepare(arguments: "list[str]") -> "Callable[[Store], Answer]":
    """Read the options, and return what looks at the nodes.

    Raises:
        Answer: they are wrong.
    """
    options, _ = _OPTIONS.parse(arguments)
    if "version" in options:
        raise Answer("slurm-wlm 22.05.8\n")
    return lambda store: _show(store, options)


def _show(store: Store, options: "dict[str, str]") -> Answer:
    by_node = "Node" in options
    default = "%10N %.5D %.9P %6t" if by_node else "%9P %.5a %.10l %.6D %.6t %N"
    parts = split_format(options.get("format", default))
    free = free_cpus(store)
    lines: list[dict[str, str]] = []
    partitions = store.query("SELECT name, limit_s FROM partitions ORDER BY rowid")
    for partition, limit_s in partitions:
        if options.get("partition", partition) != partition:
            continue
        groups: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
        for name, cpus, kept, why in store.query("SELECT name, cpus, state, reason FROM nodes ORDER BY rowid"):
            state = _state(kept, free.get(name, 0), cpus)
            if options.get("states", state) in (state, _SHORT.get(state)):
                groups.setdefault((state, name if by_node else why), []).append((name, cpus, free.get(name, 0)))
        mark = "*" if partition == partitions[0][0] else ""
        lines += [_line(partition, mark, limit_s, state, nodes) for (state, _), nodes in groups.items()]
    text = [] if "noheader" in options else [_HEADERS]
    return Answer("".join(_written(parts, values) + "\n" for values in [*text, *lines]))


def _state(kept: str, free: int, cpus: int) -> str:
    if kept == "idle":
        return "idle" if free == cpus else "mixed" if free else "allocated"
    return {"drain": "drained"}.get(kept, kept)


def _line(partition: str, mark: str, limit_s: float, state: str, nodes: "list[tuple[str, int, int]]") -> "dict[str, str]":
    names = [name for name, _, _ in nodes]
    total, idle = sum(cpus for _, cpus, _ in nodes), sum(free for _, _, free in nodes)
    up = state in ("idle", "mixed", "allocated")
    return {
        "P": partition + mark, "R": partition, "a": "up", "l": short_duration(limit_s).lower().replace("unlimited", "infinite"),
        "D": str(len(nodes)), "t": _SHORT.get(state, state), "T": state, "N": compress(names), "n": names[0],
        "C": f"{total - idle if up else 0}/{idle if up else 0}/{0 if up else total}/{total}", "c": str(nodes[0][1]),
        "m": "4000",        "G": "(null)", "f": "(null)", "o": "127.0.0.1", "E": "none",
    }  # fmt: skip


def _written(parts: "list[tuple[str, str, str]]", values: "dict[str, str]") -> str:
    return "".join(padded(values.get(letter, letter), width) + after for letter, width, after in parts)
