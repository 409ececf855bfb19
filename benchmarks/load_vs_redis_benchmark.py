"""redis-load against redis-benchmark on one server: 50 connections, closed loop, recording on, standard library only.

    python benchmarks/load_vs_redis_benchmark.py [--rounds 5] [--seconds 3] [--pipelines 1 16]

Rounds are interleaved, so that what else the machine does falls on both. GET and SET are compared each for itself, over the
same 100,000 keys with the same 64 bytes, and a mix of 10 GETs to 1 SET, which redis-benchmark cannot make, against what its
two rates would add up to. CPU is all that the client's processes took, a request.
"""

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from redis_bench import SECRET, cpu_s, measure, server

from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load import Histogram

CONNECTIONS = 50
MIX = {"get": 10, "set": 1}


class Figures(NamedTuple):
    """One round of one client."""

    per_s: float
    cpu_us: float
    p50_us: float
    p99_us: float


def own(endpoint: Endpoint, folder: Path, operations: dict[str, int], pipeline: int, seconds: float) -> Figures:
    """Run redis-load once."""
    load = {"process": "closed", "concurrency": CONNECTIONS, "warmup_s": 0.3, "duration_s": seconds, "workers": 1}
    result, used_s = measure(endpoint, folder, load, operations, pipeline)
    requests = result.counts.ok + result.phase_counts["warmup"]["ok"]
    if result.counts.error or result.counts.timeout or result.metrics.get("misses", {}).get("value"):
        sys.exit(f"redis-load had errors or misses: {result.counts} {result.errors} {result.metrics}")
    latency = Histogram.from_json(result.latency["all"]["send"])
    return Figures(
        result.achieved_per_s or 0.0,
        used_s / requests * 1e6,
        latency.percentile_us(50) or 0.0,
        latency.percentile_us(99) or 0.0,
    )


def theirs(endpoint: Endpoint, test: str, pipeline: int, requests: int) -> Figures:
    """Run redis-benchmark once."""
    argv = ["redis-benchmark", "-h", endpoint.host, "-p", str(endpoint.port), "-t", test, "-n", str(requests), "-d", "64"]
    argv += ["-c", str(CONNECTIONS), "-P", str(pipeline), "-r", "100000", "--csv", "-a", SECRET]
    before = cpu_s()
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    cpu_us = (cpu_s() - before) / requests * 1e6
    row = next(row for row in csv.DictReader(io.StringIO(done.stdout)) if row["test"].lower() == test)
    return Figures(float(row["rps"]), cpu_us, float(row["p50_latency_ms"]) * 1000, float(row["p99_latency_ms"]) * 1000)


def _median(rounds: list[Figures], name: str) -> float:
    return statistics.median(getattr(figures, name) for figures in rounds)


def _mixed_per_s(get_per_s: float, set_per_s: float) -> float:
    return sum(MIX.values()) / (MIX["get"] / get_per_s + MIX["set"] / set_per_s)


def compare(endpoint: Endpoint, folder: Path, pipeline: int, rounds: int, seconds: float) -> bool:
    """Print the comparison at one pipeline depth; returns whether no ratio is below 1."""
    requests = dict.fromkeys(("get", "set"), 100000)
    for test in requests:
        requests[test] = max(50_000, int(theirs(endpoint, test, pipeline, requests[test]).per_s * seconds))
    ours: dict[str, list[Figures]] = {"get": [], "set": [], "mix": []}
    other: dict[str, list[Figures]] = {"get": [], "set": []}
    for _ in range(rounds):
        for test in ("get", "set"):
            ours[test].append(own(endpoint, folder, {test: 1}, pipeline, seconds))
            other[test].append(theirs(endpoint, test, pipeline, requests[test]))
        ours["mix"].append(own(endpoint, folder, MIX, pipeline, seconds))
    print(f"\npipeline {pipeline}    ops/s    CPU us/op   p50 us    p99 us   (medians of {rounds} rounds)")
    for name, figures in (
        *((f"redis-load {test}", ours[test]) for test in ours),
        *((f"redis-benchmark {test}", other[test]) for test in other),
    ):
        medians = [_median(figures, field) for field in Figures._fields]
        print(f"  {name:21}{medians[0]:10,.0f}{medians[1]:10.2f}{medians[2]:11,.0f}{medians[3]:10,.0f}")
    ratios = {
        test: statistics.median(a.per_s / b.per_s for a, b in zip(ours[test], other[test], strict=True)) for test in other
    }
    ratios["mix 10:1"] = statistics.median(
        mix.per_s / _mixed_per_s(get.per_s, put.per_s)
        for mix, get, put in zip(ours["mix"], other["get"], other["set"], strict=True)
    )
    print("  ratio of ops/s: " + ", ".join(f"{test} {ratio:.3f}" for test, ratio in ratios.items()))
    return min(ratios.values()) >= 1


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="redis-load against redis-benchmark")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pipelines", type=int, nargs="+", default=[1, 16])
    arguments = parser.parse_args()
    print(f"python {sys.version.split()[0]}, {os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.2f}")
    with server() as (_, endpoint, folder):
        good = [compare(endpoint, folder, pipeline, arguments.rounds, arguments.seconds) for pipeline in arguments.pipelines]
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
