"""What `store_phases` reads: the phases of a run from its run folder, and a tool's own figures from what it printed."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from store_phases_place import ByHand, Here, Ran

from aifactory_bench.node.placeholders import resolve
from aifactory_bench_services.pgbench_log_node import read_summary
from aifactory_bench_services.redis_benchmark_text_node import parse as parse_redis
from aifactory_bench_services.sysbench_text_node import parse as parse_sysbench

SERVICE, CLIENT = "store", "load"
"""Names of the jobs in all recipes."""
POINT = "p0000-r1"
_LOADED = ("warmup", "measure", "drain")
_SYSBENCH = re.compile(r"transactions: +(\d+) +\(([0-9.]+) per sec")

ROWS = (
    "controller: plan, stage",
    "controller: submit",
    "service: queue",
    "service: image",
    "service: start",
    "service: ready",
    "client: queue",
    "client: image",
    "client: start",
    "client: waits for service",
    "client: generator starts",
    "client: prepare",
    "client: load",
    "  more than was asked",
    "client: collect",
    "client: stop",
    "service: stop",
    "controller: verdict",
    "in no phase",
    "total",
    "  less the load asked",
)
_CHAIN = ("controller: plan, stage", "controller: submit", *(row for row in ROWS if row.startswith("client: ")))
"""One after another, from the call to the verdict; what a service does meanwhile is in `client: waits for service`."""


def phases_s(ran: Ran, asked_s: float) -> "dict[str, float | None]":
    """Return the seconds of each row; None where no file of the run tells.

    The controller's rows and `queue` are differences of wall clock stamps of several processes, in the journal, `exit.json` and
    the time of `job_id`; on the test bed, too, all of them are of one machine's clock. The others are phases of `exit.json`,
    and of `events.jsonl` where a phase has two parts here.
    """
    journal = [json.loads(line) for line in (ran.folder / "journal.jsonl").read_text().splitlines()]
    first_s = min(entry["wall_ns"] for entry in journal if entry["type"] == "submit_intent") / 1e9
    exits = {job: json.loads((ran.rank(job) / "exit.json").read_text()) for job in (SERVICE, CLIENT)}
    stored_s = {job: (ran.rank(job).parent / "job_id").stat().st_mtime for job in exits}
    found: dict[str, float | None] = dict.fromkeys(ROWS)
    found["controller: plan, stage"] = first_s - ran.began_wall_s
    found["controller: submit"] = stored_s[CLIENT] - first_s
    for job, role in ((SERVICE, "service"), (CLIENT, "client")):
        of_job = exits[job]["phases_s"]
        found[f"{role}: queue"] = exits[job]["started_wall_ns"] / 1e9 - stored_s[job]
        for name in ("image", "start", "ready", "prepare", "collect", "stop"):
            if f"{role}: {name}" in found:
                found[f"{role}: {name}"] = of_job.get(name)
    of_client = exits[CLIENT]["phases_s"]
    found["client: waits for service"], found["client: generator starts"] = _ready_s(ran)
    load_s = sum(of_client.get(name, 0.0) for name in _LOADED)
    found["client: load"], found["  more than was asked"] = load_s, load_s - asked_s
    found["controller: verdict"] = ran.ended_wall_s - max(record["ended_wall_ns"] for record in exits.values()) / 1e9
    chain = (*_CHAIN, "service: stop", "controller: verdict")
    found["in no phase"] = ran.wall_s - sum(found[row] or 0.0 for row in chain)
    found["total"] = ran.wall_s
    found["  less the load asked"] = ran.wall_s - asked_s
    return found


def _ready_s(ran: Ran) -> tuple[float, float]:
    """Return the two parts of a client's phase `ready`: until it has the endpoints, and until the generator prepares."""
    at_s: dict[str, float] = {}
    for line in (ran.rank(CLIENT) / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        name = event["data"]["name"] if event["type"] == "phase" else event["type"]
        at_s.setdefault(name, event["mono_ns"] / 1e9)
    return at_s["endpoints"] - at_s["ready"], at_s["prepare"] - at_s["endpoints"]


def measurement(ran: Ran) -> Mapping[str, Any]:
    """Return the only measurement."""
    found: Mapping[str, Any] = ran.summary["points"][0]["measurements"][0]
    return found


# tools


class Figures(NamedTuple):
    """One run of a tool, by its own account."""

    per_s: float
    """Over its whole run."""
    cpu_us: float
    """A transaction, of the tool and what it starts."""
    wall_s: float
    window_per_s: float = 0.0
    """What our measurement says of its window."""


def counted_redis(text: str) -> tuple[float, float]:
    """Return requests, and their rate: over all reports, without the time between them."""
    reports = parse_redis(text)
    seconds = sum(report.seconds for report in reports)
    count = sum(report.requests for report in reports)
    return count, count / seconds if seconds else 0.0


def counted_pgbench(text: str) -> tuple[float, float]:
    """Return transactions, and the rate without the time to connect."""
    summary = read_summary(text)
    return summary.get("processed", 0), summary.get("rate_per_s", 0.0)


def counted_sysbench(text: str) -> tuple[float, float]:
    """Return transactions and their rate, as our Lua file prints them or as the tool does."""
    output = parse_sysbench(text)
    if output.total:
        return output.events, output.events / output.total["time_interval"]
    match = _SYSBENCH.search(text)
    return (int(match[1]), float(match[2])) if match else (0, 0.0)


def plain_redis(argv: Sequence[str], per_s: float, seconds: int) -> list[str]:
    """Return what one types: a number of requests, one report."""
    own = list(argv[list(argv).index("redis-benchmark") :])
    own[own.index("-n") + 1] = str(max(1000, round(per_s * seconds)))
    own.remove("-l")
    return own


def plain_pgbench(argv: Sequence[str], _per_s: float, _seconds: int) -> list[str]:
    """Return the same without the log of every transaction."""
    return [part for part in argv if part != "--log" and not part.startswith("--log-prefix=")]


def plain_sysbench(argv: Sequence[str], _per_s: float, _seconds: int) -> list[str]:
    """Return the same without our Lua file and what it needs: reports of seconds, and the histogram."""
    (script,) = (part.partition("=")[2] for part in argv if part.startswith("--afb-script="))
    ours = ("--afb-script=", "--report-interval=", "--histogram=")
    return [script if part.endswith("/report.lua") else part for part in argv if not part.startswith(ours)]


class Tool(NamedTuple):
    """How a tool is run by hand."""

    counted: Callable[[str], tuple[float, float]]
    plain: Callable[[Sequence[str], float, int], list[str]]
    without: str
    """What `plain` leaves out."""


TOOLS = {
    "redis-benchmark": Tool(counted_redis, plain_redis, "one report, no loop"),
    "pgbench": Tool(counted_pgbench, plain_pgbench, "no --log"),
    "sysbench": Tool(counted_sysbench, plain_sysbench, "no Lua file of ours"),
}


def argv_of(ran: Ran) -> list[str]:
    """Return the tool's argument vector as our run recorded it; its log's prefix is to be another one by hand."""
    argv = list(measurement(ran)["provenance"]["ranks"][0]["tool"]["argv"])
    if "***" in " ".join(argv):
        raise RuntimeError(f"a password stands in the arguments: {argv}")
    return [re.sub("^--log-prefix=.*", "--log-prefix=@folder/transactions", part) for part in argv]


def environment_of(ran: Ran, secret: str) -> dict[str, str]:
    """Return what the client's job adds to the tool's environment: pgbench has role and password there."""
    spec = json.loads((ran.rank(CLIENT).parent / "spec.json").read_text())
    values = {"endpoint.main.0.secret": secret}
    return {name: resolve(value, values) for name, value in (spec.get("environment") or {}).items()}


def figures_of(ran: Ran, tool: Tool) -> Figures:
    """Return the figures of one of our runs; the last command is the window's."""
    measured = measurement(ran)
    out = max((ran.rank(CLIENT) / f"raw/{POINT}").glob("command-*.out"))
    count, per_s = tool.counted(out.read_text(errors="replace"))
    cpu_s = measured["provenance"]["ranks"][0]["tool"]["cpu_s"]
    return Figures(per_s, 1e6 * cpu_s / count, ran.wall_s, measured["achieved_per_s"])


def figures_by_hand(ended: ByHand, tool: Tool) -> Figures:
    """Return the figures of one run by hand."""
    count, per_s = tool.counted(ended.out)
    if not count or not per_s:
        raise RuntimeError(f"by hand: {ended.out[-500:]} {ended.err[-500:]}")
    return Figures(per_s, 1e6 * ended.cpu_s / count, ended.wall_s)


def compare(place: Here, kind: str, recipe: str, secret: str, rounds: int, seconds: int) -> "list[dict[str, Figures]]":
    """Run ours, by hand the same arguments, and by hand without what we add to them, in turn and back; one dict a round."""
    tool = TOOLS[kind]
    first = place.run(f"{kind}-first", recipe)  # makes the data, and says what the arguments are
    argv, environment = argv_of(first), environment_of(first, secret)
    plain = tool.plain(argv, figures_of(first, tool).per_s, seconds)
    found = []
    for number in range(rounds):
        turns: dict[str, Callable[[], Figures]] = {
            "ours": lambda number=number: figures_of(place.run(f"{kind}-{number}", recipe), tool),
            "same": lambda number=number: figures_by_hand(place.hand(f"same-{kind}-{number}", argv, environment), tool),
            "plain": lambda number=number: figures_by_hand(place.hand(f"plain-{kind}-{number}", plain, environment), tool),
        }
        order = list(turns) if number % 2 == 0 else list(turns)[::-1]
        found.append({name: turns[name]() for name in order})
    return found
