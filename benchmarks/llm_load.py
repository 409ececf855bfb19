"""What each load generator reports of one and the same server, against the truth.

    python benchmarks/llm_load.py [--streams 256,1024] [--rounds 3] [--vllm-python PATH]

The truth server's twin in C streams chats: first token after 100 to 120 ms, then 128 tokens every 20 ms, and logs when it sent
what. Server and client have a core each where the machine has two. A closed loop of so many streams begins with all of them at
once, which is the burst; clients take turns, and each figure is the median of the rounds. Added: what a client reports, less
what the server's log says (p50 less p50, p99 less p99). A row is marked when the server itself was late. Clients: ours, a
minimal one on aiohttp, and with --vllm-python (an interpreter that has vLLM) the request function of `vllm bench serve`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm_client_result import quantile
from truth_twin import build, serving

HERE = Path(__file__).parent
TOKENS = 128
OWN = "llm_client_own.py"
HEADING = (
    f"{'streams':>7} {'client':17} {'CPU us':>7} {'token/s':>8} {'TTFT p50':>9} {'added':>8} {'p99':>8} {'added':>8} "
    f"{'gap p99':>8} {'added':>7} {'server':>7}"
)


def foreign_s() -> float:
    """Return the CPU seconds of everything on this machine."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return (sum(map(int, fields)) - int(fields[3]) - int(fields[4])) / os.sysconf("SC_CLK_TCK")


def truth_of(path: Path) -> dict[str, float]:
    """Return what the server's log says."""
    head, *records = [json.loads(line) for line in path.read_text().splitlines()]
    ttfts, gaps = [], []
    for record in records:
        sent = [stamp for stamp, kind in zip(record["sent_ns"], record["kinds"], strict=True) if kind == "C"]
        if len(sent) > 1:
            ttfts.append(sent[0])  # stamps count from the request's arrival
            gaps.extend(after - before for before, after in pairwise(sent))
    return {
        "ttft_p50_ms": quantile(ttfts, 0.5) / 1e6,
        "ttft_p99_ms": quantile(ttfts, 0.99) / 1e6,
        "gap_p99_ms": quantile(gaps, 0.99) / 1e6,
        "lateness_p99_ms": head["lateness_p99_us"] / 1000,
    }


def once(server: list[str], client: list[str], streams: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Run one client against a server of its own."""
    log = folder / "log.jsonl"
    pinned = (os.cpu_count() or 1) > 1
    with serving(server, "--ttft", "uniform:100ms:120ms", "--gap", "20ms", "--log", str(log)) as (port, pid):
        if pinned:
            os.sched_setaffinity(pid, {0})
        command = [*client, f"http://127.0.0.1:{port}", str(streams), str(seconds), str(TOKENS)]
        if pinned:
            command = ["taskset", "-c", "1", *command]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE)
        result = json.loads(done.stdout.splitlines()[-1])
        if OWN in command:
            # As against any other server: no stamps of its own to be read.
            plain = subprocess.run([*command, "plain"], check=True, capture_output=True, text=True, cwd=HERE)
            result["cpu_us_per_token"] = json.loads(plain.stdout.splitlines()[-1])["cpu_us_per_token"]
    return {**result, "truth": truth_of(log)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="64,256,1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="in which requests are sent (default: 6)")
    parser.add_argument("--vllm-python", metavar="PATH")
    parser.add_argument("--aiohttp-python", metavar="PATH", default=sys.executable)
    given = parser.parse_args()
    clients = {"own": [sys.executable, OWN]}
    if subprocess.run([given.aiohttp_python, "-c", "import aiohttp"], capture_output=True, check=False).returncode == 0:
        clients["aiohttp"] = [given.aiohttp_python, "llm_client_aiohttp.py"]
    if given.vllm_python:
        clients["vllm"] = [given.vllm_python, "llm_client_vllm.py"]
    print(f"load {os.getloadavg()[0]:.2f}; medians of {given.rounds} rounds; times in ms")
    print(HEADING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = [str(build(folder))]
        for streams in map(int, given.streams.split(",")):
            found: dict[str, list[dict[str, Any]]] = {client: [] for client in clients}
            for _ in range(given.rounds):
                for client, command in clients.items():
                    found[client].append(once(server, command, streams, given.seconds, folder))
            for results in found.values():
                show(streams, results, given.seconds)


def show(streams: int, results: list[dict[str, Any]], seconds: float) -> None:
    """Print the row of one client."""

    def median(of: Any) -> float:
        return statistics.median(of(result) for result in results)

    def added(name: str) -> float:
        own = f"added_{name}"
        if own in results[0] and name != "gap_p99_ms":  # request by request, where the client knows
            return median(lambda result: result[own])
        return median(lambda result: result[name] - result["truth"][name])

    late = median(lambda result: result["truth"]["lateness_p99_ms"])
    print(
        f"{streams:7} {results[0]['client']:17} {median(lambda r: r['cpu_us_per_token']):7.1f} "
        f"{median(lambda r: r['tokens']) / (seconds + 1.3):8.0f} "
        f"{median(lambda r: r['ttft_p50_ms']):9.2f} {added('ttft_p50_ms'):8.2f} "
        f"{median(lambda r: r['ttft_p99_ms']):8.2f} {added('ttft_p99_ms'):8.2f} "
        f"{median(lambda r: r['gap_p99_ms']):8.2f} {added('gap_p99_ms'):7.2f} {late:6.2f}{'*' if late > 1 else ' '}",
        flush=True,
    )
    if "age_p99_ms" in results[0]:
        print(
            f"{'':7} age of observation p50 {median(lambda r: r['age_p50_ms']):.3f}, "
            f"p99 {median(lambda r: r['age_p99_ms']):.2f}; "
            f"worker's CPU {median(lambda r: r['cpu_share'][0]):.0%} of a core"
        )


if __name__ == "__main__":
    main()
