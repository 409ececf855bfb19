"""A server that stands still for half a second under load: what each client reports, from sending and from schedule.

    python benchmarks/store_stalls.py [CASE ...] [--seconds 5] [--stall 0.5]

As root it begins anew as another user of a user namespace, because of PostgreSQL. Chroma must be on PATH. All processes of
the server get SIGSTOP, and after the stall SIGCONT. Of the requests of an open loop a share of stall / seconds was due
meanwhile: a tenth with the defaults, so that p99 from the schedule must be near 450 ms.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from as_user import as_user
from store_kills import began, named

LIMIT_S = 180.0
"""From the start of a run until its load begins, and until its end."""


class Case(NamedTuple):
    """A client that is watched."""

    service: str
    program: str
    """Of the server, as ps shows it."""
    client: str
    load: str


CASES = {
    "redis-load, closed": Case("{kind: redis}", "redis-server", "kind: redis-load", "process: closed, concurrency: 4"),
    "redis-load, open": Case("{kind: redis}", "redis-server", "kind: redis-load", "process: poisson, rate: 2000/s"),
    "pgbench, closed": Case(
        "{kind: postgresql}",
        "postgres",
        "kind: pgbench, parameters: {workload: select-only, scale: 10}",
        "process: closed, concurrency: 4",
    ),
    "pgbench, -R": Case(
        "{kind: postgresql}",
        "postgres",
        "kind: pgbench, parameters: {workload: select-only, scale: 10}",
        "process: poisson, rate: 1000/s, connections: 8",
    ),
    "sysbench, closed": Case(
        "{kind: mysql, parameters: {flavour: mariadb}}",
        "mariadbd",
        "kind: sysbench, parameters: {workload: oltp_point_select, tables: 1, table_size: 10000}",
        "process: closed, concurrency: 4",
    ),
    "sysbench, --rate": Case(
        "{kind: mysql, parameters: {flavour: mariadb}}",
        "mariadbd",
        "kind: sysbench, parameters: {workload: oltp_point_select, tables: 1, table_size: 10000}",
        "process: poisson, rate: 1000/s, connections: 8",
    ),
    "chroma-load, closed": Case(
        "{kind: chroma}",
        "chroma",
        "kind: chroma-load, parameters: {vectors: 2000, dimension: 32, operations: {query: 1}}",
        "process: closed, concurrency: 4",
    ),
    "chroma-load, open": Case(
        "{kind: chroma}",
        "chroma",
        "kind: chroma-load, parameters: {vectors: 2000, dimension: 32, operations: {query: 1}}",
        "process: poisson, rate: 100/s, connections: 16",
    ),
}


def recipe(case: Case, seconds: float) -> str:
    """Return the recipe of a case."""
    return (
        f"schema: aifactory-bench/1\nname: stalled\nservices:\n  store: {case.service}\nclients:\n"
        f"  load: {{{case.client}, target: store, load: {{{case.load}, warmup: 1s, duration: {seconds}s}}}}\n"
    )


def send(folder: Path, program: str, number: signal.Signals) -> int:
    """Send a signal to the server; return to how many processes."""
    pids = named(folder, program)
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return len(pids)


def measured(case: Case, root: Path, seconds: float, stall_s: float) -> "dict[str, Any]":
    """Run, stall the server in the middle of the window, and return the measurement.

    Raises:
        RuntimeError: there is none.
    """
    path, runs = root / "recipe.yaml", root / "runs"
    path.write_text(recipe(case, seconds))
    folder = runs / "stalled"
    argv = [sys.executable, "-m", "aifactory_bench", "run", str(path), "--runs-dir", str(runs)]
    with (root / "out").open("w+") as out:
        child = subprocess.Popen([*argv, "--run-id", "stalled", "--quiet", "--json"], stdout=out, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + LIMIT_S
            while child.poll() is None and not began(folder, ["load"]) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(1.0 + seconds / 2)
            stopped = 0
            try:
                stopped = send(folder, case.program, signal.SIGSTOP)
                time.sleep(stall_s)
            finally:
                send(folder, case.program, signal.SIGCONT)
            child.wait(LIMIT_S)
        finally:
            child.terminate()  # which stops its jobs
            child.wait()
        out.seek(0)
        said = out.read()
    if not stopped:
        raise RuntimeError(f"no process of the run is called {case.program!r}: {said[-500:]}")
    summary = json.loads((folder / "summary.json").read_text())
    found = summary["points"][0]["measurements"]
    if not found:
        raise RuntimeError(f"nothing was measured: {said[-500:]}")
    return dict(found[0])


def main() -> None:
    """Run the cases and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(map(repr, CASES))}; default: all")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the window")
    parser.add_argument("--stall", type=float, default=0.5, help="seconds that the server stands still")
    options = parser.parse_args()
    as_user()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no case {unknown.pop()!r}")
    print(f"load average {os.getloadavg()[0]:.1f}; server stopped for {options.stall:g} s in a window of {options.seconds:g} s")
    print(f"{'':20}{'from sending, ms':>27}  {'from schedule, ms':>27}")
    print(f"{'':20}{'p50':>9}{'p99':>9}{'max':>9}  {'p50':>9}{'p99':>9}{'max':>9}  requests  verdict")
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory(prefix="stalls-") as folder:
            Path(folder).chmod(0o755)
            found = measured(CASES[name], Path(folder), options.seconds, options.stall)
        clocks = found["latency"]["all"]
        cells = [
            "".join(
                f"{clocks[clock][key] / 1000:9.2f}" if clocks.get(clock) else f"{'-':>9}"
                for key in ("p50_us", "p99_us", "max_us")
            )
            for clock in ("send", "schedule")
        ]
        codes = ", ".join(reason["code"] for reason in found["reasons"])
        print(
            f"{name:20}{cells[0]}  {cells[1]}  {found['counts']['ok']:8}  {found['verdict']}{f': {codes}' if codes else ''}",
            flush=True,
        )


if __name__ == "__main__":
    main()
