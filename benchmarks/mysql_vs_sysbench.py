"""What a recipe with `sysbench` measures, against sysbench with the same arguments by hand, on one MariaDB.

Rounds alternate, and which of the two begins does too. The tool by hand runs in a session of its own, as a job's does: in the
session of the server Linux would give both one share of the CPUs (`sched_autogroup`), and on a busy machine that alone is a
factor of two.

    python benchmarks/mysql_vs_sysbench.py [ROUNDS]
"""

import importlib.util
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aifactory_bench import BenchmarkOrchestrator
from aifactory_bench_services.mysql import MySQLService
from aifactory_bench_services.sysbench import SysbenchClient

SECONDS = 5
TABLES = ("--tables=2", "--table-size=10000")
RECIPE = """\
schema: aifactory-bench/1
name: compared
services:
  db:
    external: {{url: "mysql://127.0.0.1:{port}", secret: "env:DB_SECRET"}}
clients:
  load:
    kind: sysbench
    target: db
    parameters: {{workload: {workload}, tables: 2, table_size: 10000}}
    load: {{process: closed, concurrency: 4, warmup: 0s, duration: {seconds}s}}
"""


def _server_of_tests(folder):
    path = Path(__file__).parents[1] / "tests/services/mysql/conftest.py"
    spec = importlib.util.spec_from_file_location("mysql_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Server(folder, {"innodb_buffer_pool_size_bytes": 256 << 20})


def ours(recipe, folder):
    """Transactions/s, CPU us a transaction, wall seconds from the call to the verdict."""
    began = time.monotonic()
    with BenchmarkOrchestrator(runs_dir=folder / "runs", plugins=[MySQLService, SysbenchClient]) as bench:
        summary = bench.run(recipe).wait()
    measurement = summary.points[0].measurements[0]
    cpu_s = measurement.provenance["ranks"][0]["tool"]["cpu_s"]
    return measurement.achieved_per_s, 1e6 * cpu_s / measurement.counts["ok"], time.monotonic() - began


def by_hand(config, workload):
    """The same of the bare tool."""
    argv = ["sysbench", f"--config-file={config}", workload, *TABLES, "--threads=4", f"--time={SECONDS}", "--events=0"]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(
        [*argv, "--rand-type=uniform", "run"], capture_output=True, text=True, check=True, start_new_session=True
    )
    wall_s = time.monotonic() - began
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    count, per_s = re.search(r"transactions: +(\d+) +\(([0-9.]+) per sec", done.stdout).groups()
    return float(per_s), 1e6 * cpu_s / int(count), wall_s


def main(rounds):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = _server_of_tests(folder)
        os.environ["DB_SECRET"] = server.secret
        config = folder / "by-hand.cfg"
        config.write_text(
            f"mysql-host=127.0.0.1\nmysql-port={server.port}\nmysql-db=sbtest\nmysql-user=bench\nmysql-password={server.secret}\n"
        )
        recipe = folder / "recipe.yaml"
        try:
            for workload in ("oltp_point_select", "oltp_read_only", "oltp_read_write"):
                recipe.write_text(RECIPE.format(port=server.port, workload=workload, seconds=SECONDS))
                ours(recipe, folder)  # makes the tables
                pairs = []
                for number in range(rounds):
                    turns = [lambda: ours(recipe, folder), lambda workload=workload: by_hand(config, workload)]
                    found = [turn() for turn in (turns[::-1] if number % 2 else turns)]
                    pairs.append(found[::-1] if number % 2 else found)
                _tell(workload, pairs)
        finally:
            server.close()


def _tell(workload, pairs):
    ratios = [own[0] / bare[0] for own, bare in pairs]
    cpu = [own[1] / bare[1] for own, bare in pairs]
    added_s = [own[2] - bare[2] for own, bare in pairs]
    print(
        f"{workload}: rate {statistics.median(ratios):.3f} of the bare tool ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"CPU a transaction {statistics.median(cpu):.3f}, {statistics.median(added_s):.2f} s added; "
        f"load of the machine {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
