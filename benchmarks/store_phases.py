"""From recipe to verdict, phase by phase, for each store; and what we add over the bare tool with the same arguments.

    python benchmarks/store_phases.py [--rounds 5] [--seconds 5] [--connections 2] [--only pgbench sysbench] [--slurm]

The first table has the wall time of each phase of a run with a server of its own. The second has one server for both: our run,
the tool by hand with the very arguments that our run recorded, and the tool by hand without what our recipes add to them (the
log of every transaction, our Lua file, the loop of reports). Rounds alternate: ours, same, plain, plain, same, ours. A ratio is
that of two runs of one round. There are two ratios of rates: the tool's own figure is over its whole run, and our measurement's
over the window in it.

With `--slurm`: on the test bed of docs/test-bed.md, as root; by hand is a batch job of one line then. Otherwise on this
machine, where root becomes another user by name, as PostgreSQL refuses root. The tool by hand is in a session of its own, as a
job's is: in the session of the server Linux would give both one share of the CPUs (`sched_autogroup`), and on a busy machine
that alone is a factor of two. Chroma is what `.ci/chroma-server` makes. Redis gets rid of its password for the second table, as
redis-benchmark takes it as an argument only.
"""

import argparse
import json
import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from as_user import as_user
from slurm_bed_place import loads
from store_phases_place import CHROMA, Here, OnSlurm, Served
from store_phases_read import CLIENT, ROWS, SERVICE, TOOLS, Figures, compare, measurement, phases_s

SECRET = "STORE_PHASES_SECRET"
"""Name of the variable that holds an external server's password."""
HEAD = """\
schema: aifactory-bench/1
name: phases
services:
  {service}: {what}
"""
LOAD = """\
clients:
  {client}:
    kind: {kind}
    target: {service}
    resources: {{time: 10m, memory: 500MiB}}
    parameters: {{{parameters}}}
    load: {{process: closed, concurrency: {connections}, warmup: {warmup}s, duration: {seconds}s}}
"""
LABEL, CELL = 28, 16


class Product(NamedTuple):
    """A store and what loads it."""

    service: str
    served: str
    loaded: str
    warmup_s: int = 1


PRODUCTS = {
    "redis-benchmark": Product("redis", "", "test: get, keys: 10000"),
    "redis-load": Product("redis", "", "operations: {get: 1}, keys: 10000"),
    "pgbench": Product("postgresql", "", "workload: select-only, scale: 4"),
    # Its warm-up is a run of its own, which nobody makes by hand.
    "sysbench": Product(
        "mysql", "innodb_buffer_pool_size: 256MiB", "workload: oltp_point_select, tables: 2, table_size: 10000", 0
    ),
    "chroma-load": Product("chroma", "program: {chroma}", "vectors: 2000, dimension: 32"),
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of the window")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument(
        "--only", nargs="+", choices=PRODUCTS, default=list(PRODUCTS), metavar="CLIENT", help=", ".join(PRODUCTS)
    )
    parser.add_argument("--slurm", action="store_true", help="on the test bed")
    parser.add_argument("--table", choices=["phases", "added", "both"], default="both")
    options = parser.parse_args()
    if not options.slurm:
        as_user()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    kinds = [kind for kind in PRODUCTS if kind in options.only]
    if "chroma-load" in kinds and not list(CHROMA.glob("made-*")):
        print("chroma-load is left out: `.ci/chroma-server` installs Chroma")
        kinds.remove("chroma-load")
    before, began = os.getloadavg()[0], time.monotonic()
    with (OnSlurm if options.slurm else Here)() as place:
        if options.table != "added":
            _phases(place, kinds, options)
        if options.table != "phases":
            _added(place, [kind for kind in kinds if kind in TOOLS], options)
    print(f"{loads(before)}; took {time.monotonic() - began:.0f} s")
    return 0


def _recipe(place: Here, kind: str, options: argparse.Namespace, served: "Served | None" = None, *, load: bool = True) -> str:
    """Return a recipe: with a server of its own, with one that runs already, or of the server alone."""
    product = PRODUCTS[kind]
    if served is not None:
        secret = f', secret: "env:{SECRET}"' if served.secret else ""
        what = f'{{external: {{url: "{served.url}"{secret}}}}}'
    else:
        chosen = product.served.format(chroma=place.chroma) if "{chroma}" in product.served else product.served
        what = f"{{kind: {product.service}, parameters: {{{chosen}}}, resources: {{time: 60m, memory: 1000MiB}}}}"
    text = HEAD.format(service=SERVICE, what=what)
    if not load:
        return text
    return text + LOAD.format(
        client=CLIENT, service=SERVICE, kind=kind, parameters=product.loaded, connections=options.connections,
        warmup=product.warmup_s, seconds=options.seconds,
    )  # fmt: skip


# phases


def _phases(place: Here, kinds: Sequence[str], options: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, float | None]]] = {kind: [] for kind in kinds}
    verdicts: dict[str, list[str]] = {kind: [] for kind in kinds}
    for number in range(-1, options.rounds):  # the first one warms up
        for kind in kinds if number % 2 else kinds[::-1]:
            ran = place.run(f"phases-{kind}-{number + 1}", _recipe(place, kind, options))
            if number >= 0:
                found[kind].append(phases_s(ran, PRODUCTS[kind].warmup_s + options.seconds))
                measured = measurement(ran)
                codes = ", ".join(reason["code"] for reason in measured["reasons"])
                verdicts[kind].append(measured["verdict"] + (f" ({codes})" if codes else ""))
    print(f"\nFrom recipe to verdict, {place.label}: seconds, median and least-most of {options.rounds} rounds,")
    print(f"{options.connections} connections, window {options.seconds} s. Services overlap with clients: rows do not add up.")
    print(f"{'':{LABEL}}" + "".join(f"{kind:>{CELL}}" for kind in kinds))
    for row in ROWS:
        cells = [[one[row] for one in found[kind]] for kind in kinds]
        print(f"{row:{LABEL}}" + "".join(f"{_cell(cell):>{CELL}}" for cell in cells))
    print("-: no file of the run tells. queue: until our program begins; without Slurm, the start of shell and Python.")
    print("start of a service: with making its data. verdict: from the last job's end to the end of the command.")
    for kind, told in verdicts.items():
        if set(told) != {"valid"}:
            print(f"{kind}: " + ", ".join(f"{told.count(one)} {one}" for one in sorted(set(told))))
    sys.stdout.flush()


def _cell(values: "Sequence[float | None]") -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    middle, least, most = statistics.median(known), min(known), max(known)
    return (
        f"{middle:.2f} {least:.2f}-{most:.2f}"
        if max(map(abs, (middle, least, most))) < 10
        else f"{middle:.2f} {least:.1f}-{most:.1f}"
    )


# the bare tool


def _added(place: Here, kinds: Sequence[str], options: argparse.Namespace) -> None:
    found = {}
    for kind in kinds:
        run = f"server-{kind}"
        with place.serve(run, _recipe(place, kind, options, load=False)) as served:
            used = _without_password(place, served, run) if PRODUCTS[kind].service == "redis" else served
            os.environ[SECRET] = used.secret
            text = _recipe(place, kind, options, used)
            found[kind] = compare(place, kind, text, used.secret, options.rounds, options.seconds)
    print(f"\nOurs by the bare tool, {place.label}: median and least-most of {options.rounds} pairs,")
    print(f"{options.connections} connections, window {options.seconds} s.")
    print(f"{'':22}{'by hand':>16}{'tool rate':>18}{'our window':>18}{'CPU/transaction':>18}{'added':>17}")
    print(f"{'':22}{'1/s':>9}{'spread':>7}" + f"{'ratio':>18}" * 3 + f"{'s':>17}")
    for kind in kinds:
        print(kind)
        for against in ("same", "plain"):
            print(_row(TOOLS[kind].without if against == "plain" else "the same arguments", [
                (one["ours"], one[against]) for one in found[kind]
            ]))  # fmt: skip
    print("tool rate: the tool's own figure over its whole run, in our run divided by by hand.")
    print("our window: the rate in our measurement, divided by the tool's own figure by hand.")
    print("added: wall time from the call to the verdict, less that of the tool by hand.")
    print("spread: most less least of the rates by hand, by their median. Differences below it are not resolved.")
    sys.stdout.flush()


def _row(how: str, pairs: "Sequence[tuple[Figures, Figures]]") -> str:
    by_hand = [bare.per_s for _, bare in pairs]
    median = statistics.median(by_hand)
    ratios = (
        [own.per_s / bare.per_s for own, bare in pairs],
        [own.window_per_s / bare.per_s for own, bare in pairs],
        [own.cpu_us / bare.cpu_us for own, bare in pairs],
    )
    added_s = [own.wall_s - bare.wall_s for own, bare in pairs]
    line = f"  {how:20}{median:9,.0f}{100 * (max(by_hand) - min(by_hand)) / median:5.1f} %"
    line += "".join(f"{statistics.median(r):.3f} {min(r):.3f}-{max(r):.3f}".rjust(18) for r in ratios)
    return line + f"{statistics.median(added_s):.2f} {min(added_s):.1f}-{max(added_s):.1f}".rjust(17)


def _without_password(place: Here, served: Served, run: str) -> Served:
    """Let everybody in who reaches the server, and return it so; `redis-cli` has the password from a variable."""
    endpoint = place.on_site(run) / f"endpoints/afb-{run}-{SERVICE}-0/0.json"
    where = json.loads(endpoint.read_text())
    ask = f"redis-cli -h {shlex.quote(where['host'])} -p {where['port']} config set"
    secret = shlex.quote(place.site_path(endpoint.with_name("secret")))
    # In this order: without a password it would refuse all other hosts at once.
    place.shell(f'export REDISCLI_AUTH="$(cat {secret})" && {ask} protected-mode no && {ask} requirepass ""')
    return Served(served.url, "")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
