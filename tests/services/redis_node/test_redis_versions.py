"""The same measurement on the oldest Python of a compute node and on a recent one."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aifactory_bench.node
from aifactory_bench_services import redis_node

PROGRAM = """
import sys, time
from dataclasses import replace
from pathlib import Path
from aifactory_bench.node.contract import Context
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import run_load
from aifactory_bench.node.measurement import from_json, to_json
from aifactory_bench_services import redis_messages_node, redis_node

port, secret, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
endpoint = Endpoint("cache", 0, "127.0.0.1", port, "")
for load in ({"process": "closed", "concurrency": 4}, {"process": "poisson", "rate_per_s": 300.0, "connections": 4}):
    for pipeline in (1, 8):
        context = Context(
            client="load", kind="redis-load", rank=0, ranks=1, seed=1, endpoints={"main": (endpoint,)},
            secrets={"main": secret}, service_parameters={},
            load={**load, "warmup_s": 0.1, "duration_s": 0.4, "workers": 2, "seed": 1},
            parameters={"operations": {"get": 2, "set": 1}, "keys": 100, "value_size_bytes": 8, "pipeline": pipeline},
            point="p", repetition=1, reset="none", first=True, folder=folder,
            events=EventLog(folder / "e.jsonl", "load", 0),
        )
        redis_node.prepare(context)
        result = run_load(context, redis_node.driver(context), time.monotonic_ns() + 50_000_000, lambda: None)
        assert from_json(to_json(result)) == result
        assert result.status == "ok" and not result.errors and result.counts.ok > 30, result
for kind, own in (("redis-pubsub", {"subscribers": 2}), ("redis-stream", {"consumers": 2, "read_count": 9, "max_length": 999})):
    message = {"channels": 1, "message_size_bytes": 30, "pipeline": 1, **own}
    context = replace(context, kind=kind, parameters=message)
    redis_messages_node.prepare(context)
    result = run_load(context, redis_messages_node.driver(context), time.monotonic_ns() + 150_000_000, lambda: None)
    assert result.status == "ok" and not result.errors and result.metrics["lost"]["value"] == 0, result
    assert result.distributions["delivery"]["histogram"]["count"] > 0, result
for only in ({"distribution": "zipf"}, {"distribution": "hot-set", "value_range": {"least_bytes": 1, "most_bytes": 9}}):
    more = {"operations": {"get": 1, "set": 1}, "keys": 70000, "value_size_bytes": 8, "pipeline": 2, "expire_s": 9.0, **only}
    context = replace(context, kind="redis-load", parameters=more)
    redis_node.prepare(context)
    result = run_load(context, redis_node.driver(context), time.monotonic_ns() + 150_000_000, lambda: None)
    assert result.status == "ok" and not result.errors and result.counts.ok, result
assert redis_node.sample(endpoint, secret)["used_memory"] > 0
redis_node._reserved.popitem()[1].close()
print(redis_node.probe(endpoint, secret, {})["server_version"], redis_node.counters(endpoint, secret)["operations"])
"""


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_the_node_side_runs_on_other_versions(
    server: Any, tmp_path: Path, python_of: Callable[[str], str], version: str
) -> None:
    """The oldest of a compute node and a recent one, with nothing installed and warnings as errors."""
    python = python_of(version)
    # As in the packed program: the packages hold nothing but their node side.
    core, services = tmp_path / "aifactory_bench", tmp_path / "aifactory_bench_services"
    for package in (core, services):
        package.mkdir()
        (package / "__init__.py").touch()
    (core / "node").symlink_to(Path(aifactory_bench.node.__file__).parent)
    for module in Path(redis_node.__file__).parent.glob("redis*_node.py"):
        (services / module.name).symlink_to(module)
    argv = [python, "-W", "error", "-c", PROGRAM, str(server.endpoint.port), server.secret, str(tmp_path)]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
