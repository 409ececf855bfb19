"""The same measurement on the oldest Python of a compute node, without numpy."""

import json
import os
import subprocess
from pathlib import Path

import attrs

import aifactory_bench.node
from aifactory_bench_services import chroma_node
from aifactory_bench_services.chroma_load import ChromaLoadParameters

PROGRAM = """
import json, sys, time
from pathlib import Path
from aifactory_bench.node.contract import Context
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import run_load
from aifactory_bench_services import chroma_load_node, chroma_node, rag_load_node

port, folder, parameters = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
endpoint = Endpoint("vectors", 0, "127.0.0.1", port, "http://127.0.0.1:%d" % port)
for number, load in enumerate(
    ({"process": "closed", "concurrency": 4}, {"process": "poisson", "rate_per_s": 60.0, "connections": 4})
):
    raw = folder / "jobs/afb-r-load-0/0/raw" / ("p000%d-r1" % number)
    raw.mkdir(parents=True)
    context = Context(
        client="load", kind="chroma-load", rank=0, ranks=1, seed=1, endpoints={"main": (endpoint,)}, secrets={},
        service_parameters={}, load={**load, "warmup_s": 0.2, "duration_s": 0.8, "workers": 2, "seed": 1},
        parameters=parameters, point=raw.name, repetition=1, reset="data", first=True, folder=raw,
        events=EventLog(folder / "e.jsonl", "load", 0),
    )
    prepared = chroma_load_node.prepare(context)
    assert prepared["exact_neighbours"] == "python", prepared
    result = run_load(context, chroma_load_node.driver(context), time.monotonic_ns() + 100_000_000, lambda: None)
    assert result.status == "ok" and not result.errors and result.counts.ok > 5, result
    assert result.metrics["recall_at_k"]["value"] > 0.98, result.metrics
print(chroma_node.probe(endpoint, "", {})["api_version"])
"""


def test_the_node_side_runs_on_the_oldest_version(chroma, tmp_path, python_of):
    """With nothing installed and warnings as errors."""
    python = python_of("3.9")
    server = chroma()
    core, services = tmp_path / "aifactory_bench", tmp_path / "aifactory_bench_services"
    for package in (core, services):
        package.mkdir()
        (package / "__init__.py").touch()
    (core / "node").symlink_to(Path(aifactory_bench.node.__file__).parent)
    for module in Path(chroma_node.__file__).parent.glob("*_node.py"):
        (services / module.name).symlink_to(module)
    given = ChromaLoadParameters(
        vectors=500, dimension=16, clusters=10, queries=40, operations={"query": 5, "insert": 1, "upsert": 1}, insert_batch=3
    )
    text = json.dumps(attrs.asdict(given))
    argv = [python, "-W", "error", "-c", PROGRAM, str(server.endpoint.port), str(tmp_path), text]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1.0.0\n"
