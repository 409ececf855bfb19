"""`chroma-load` against Chroma's official client and a minimal one on aiohttp: rate, latency, the client's CPU, recall.

    python benchmarks/chroma_load.py [--vectors 20000] [--rounds 3] [--seconds 4] [--concurrency 1,8] [--chroma BIN]

BIN is a folder with `chroma` and a Python that has chromadb and aiohttp; `.ci/chroma-server` makes one. One collection of
128 numbers, cosine, M 16, ef_construction 100, ef_search 100, k 10. Clients take turns; figures are medians of the rounds.
Then an open loop in which the server is stopped for 0.5 s: what it reports from sending, and from the schedule.
"""

import argparse
import dataclasses
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import attrs

from aifactory_bench.node.contract import Context, NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import Histogram, run_load
from aifactory_bench_services import chroma_load_node, chroma_node
from aifactory_bench_services.chroma_data_node import Data, data_of
from aifactory_bench_services.chroma_load import ChromaLoadParameters

HERE = Path(__file__).parent
CLIENTS = ("own", "official", "aiohttp")


def cpu_s() -> float:
    """Return the CPU time of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def serve(program: Path, folder: Path) -> "tuple[subprocess.Popen[bytes], Endpoint]":
    """Start a server and return it when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "log").open("wb")
    argv = [str(program), "run", "--path", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        argv, stdout=log, stderr=log, env={**os.environ, "ANONYMIZED_TELEMETRY": "False", "RUST_LOG": "warn"}
    )
    endpoint = Endpoint("vectors", 0, "127.0.0.1", port, f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 30
    while True:
        try:
            chroma_node.probe(endpoint, "", {"program": str(program)})
        except NotReady:
            if time.monotonic() > deadline:
                process.kill()
                raise
            time.sleep(0.05)
        else:
            return process, endpoint


def context_of(endpoint: Endpoint, folder: Path, vectors: int) -> Context:
    """Return the context of a client that searches alone."""
    raw = folder / "jobs/afb-r-load-0/0/raw/p0000-r1"
    raw.mkdir(parents=True)
    return Context(
        client="load",
        kind="chroma-load",
        rank=0,
        ranks=1,
        seed=1,
        endpoints={"main": (endpoint,)},
        secrets={},
        service_parameters={},
        parameters=attrs.asdict(ChromaLoadParameters(vectors=vectors)),
        load={},
        point="p0000-r1",
        repetition=1,
        reset="none",
        first=True,
        folder=raw,
        events=EventLog(folder / "events.jsonl", "load", 0),
    )


def own(context: Context, concurrency: int, seconds: float) -> dict[str, float]:
    """Drive the load of `chroma-load`; a short warm-up is in its CPU time, and in the number that it is divided by."""
    load = {
        "process": "closed",
        "concurrency": concurrency,
        "warmup_s": 0.5,
        "duration_s": seconds,
        "timeout_s": 10.0,
        "seed": 1,
    }
    context = dataclasses.replace(context, load=load)
    driver = chroma_load_node.driver(context)
    before_s = cpu_s()
    measurement = run_load(context, driver, time.monotonic_ns() + 100_000_000, lambda: None)
    used_s = cpu_s() - before_s
    if measurement.status != "ok" or measurement.errors:
        sys.exit(f"the measurement failed: {measurement.reason} {measurement.errors}")
    count = measurement.counts.ok + measurement.phase_counts["warmup"]["ok"]
    p50_us = Histogram.from_json(measurement.latency["query"]["send"]).percentile_us(50)
    return {
        "per_s": measurement.counts.ok / measurement.window_s,
        "p50_ms": (p50_us or 0) / 1000,
        "cpu_us": 1e6 * used_s / count,
        "recall": measurement.metrics["recall_at_k"]["value"],
    }


def other(python: Path, kind: str, arguments: list[str]) -> dict[str, float]:
    """Run one of the other clients."""
    done = subprocess.run([python, HERE / "chroma_clients.py", kind, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{kind}: {done.stderr[-1000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def write_queries(data: Data, k: int, path: Path) -> None:
    """Write what the other clients ask for."""
    pairs = [
        [[round(value, 4) for value in vector], list(map(str, exact))]
        for vector, exact in zip(data.queries, data.exact, strict=True)
    ]
    path.write_text(json.dumps({"k": k, "queries": pairs}))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--concurrency", default="1,8")
    parser.add_argument("--chroma", type=Path, default=HERE.parent / ".venv-chroma/bin")
    options = parser.parse_args()
    if not (options.chroma / "chroma").exists():
        sys.exit(f"{options.chroma}: there is no chroma; .ci/chroma-server installs it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, endpoint = serve(options.chroma / "chroma", folder)
        try:
            context = measure(options, folder, endpoint)
            stall(process.pid, context)
        finally:
            process.kill()
            process.wait()


def stall(pid: int, context: Context) -> None:
    """Stop the server for 0.5 s of 5 s at 100 requests a second over 16 connections."""
    load = {"process": "constant", "rate_per_s": 100.0, "connections": 16, "timeout_s": 10.0, "seed": 1}
    context = dataclasses.replace(context, load={**load, "warmup_s": 1.0, "duration_s": 5.0})
    driver = chroma_load_node.driver(context)
    timers = [threading.Timer(3.0, os.kill, (pid, signal.SIGSTOP)), threading.Timer(3.5, os.kill, (pid, signal.SIGCONT))]
    for timer in timers:
        timer.start()
    measurement = run_load(context, driver, time.monotonic_ns() + 100_000_000, lambda: None)
    for timer in timers:
        timer.join()
    print(f"stopped for 0.5 s of 5 s, 100/s, {measurement.counts.ok} answered:")
    for clock in ("send", "schedule"):
        latency = Histogram.from_json(measurement.latency["query"][clock])
        figures = ", ".join(f"p{percent} {(latency.percentile_us(percent) or 0) / 1000:.1f} ms" for percent in (50, 90, 95, 99))
        print(f"  from {clock:8}: {figures}, max {(latency.max_us or 0) / 1000:.1f} ms")


def measure(options: argparse.Namespace, folder: Path, endpoint: Endpoint) -> Context:
    """Fill the collection, then have the clients take turns; return the context."""
    context = context_of(endpoint, folder, options.vectors)
    prepared = chroma_load_node.prepare(context)
    settle_s = prepared["settle_s"]
    print(
        f"filled {prepared['vectors']} x {prepared['dimension']}: {prepared['vectors_per_s']:.0f} vectors/s, batch p50 "
        f"{prepared['batch_p50_s']:.2f} s, p99 {prepared['batch_p99_s']:.2f} s, settled after {settle_s or 0:.2f} s"
    )
    write_queries(data_of(context), 10, folder / "queries.json")
    print(f"{'at a time':>9} {'client':9} {'queries/s':>9} {'p50 ms':>8} {'CPU us/query':>13} {'recall':>8}")
    for concurrency in map(int, options.concurrency.split(",")):
        rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in CLIENTS}
        arguments = [str(endpoint.port), prepared["collection"], str(concurrency), str(options.seconds)]
        for _ in range(options.rounds):
            rounds["own"].append(own(context, concurrency, options.seconds))
            for kind in CLIENTS[1:]:
                rounds[kind].append(other(options.chroma / "python", kind, [*arguments, str(folder / "queries.json")]))
        for kind, found in rounds.items():
            median = {name: statistics.median(each[name] for each in found) for name in found[0]}
            print(
                f"{concurrency:9} {kind:9} {median['per_s']:9.0f} {median['p50_ms']:8.2f} {median['cpu_us']:13.0f} "
                f"{median['recall']:8.4f}"
            )
    return context


if __name__ == "__main__":
    main()
