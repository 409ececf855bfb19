"""Is a generator without enough CPU found out, and one with enough of it left alone?

    python benchmarks/llm_starved.py [--runs 20]

The same recipe, a truth server and 16 streams, is run: alone; beside four busy processes a core, with the generator at the
lowest priority while it measures; and with its processes stopped for 80 ms of every 100 ms, as a quota of a cgroup does it.
Starved runs must be degraded or invalid, every one; the others valid, every one. As the server shares the machine, it is
starved as well: what counts is that no such result is called valid.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

RECIPE = """
schema: aifactory-bench/1
name: starved
services:
  truth: {kind: truth-llm, parameters: {ttft: "uniform:50ms:60ms", gap: 20ms}}
clients:
  load:
    kind: openai-load
    target: truth
    parameters: {input_tokens: 32, output_tokens: 32}
    load: {process: PROCESS, warmup: 1s, duration: 4s}
"""
PROCESSES = {"closed": "closed, concurrency: 16", "open": "poisson, rate: 20/s, connections: 64"}
PERIOD_S, STOPPED_S = 0.1, 0.08
HOGS_A_CORE = 4
HOG = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
LEAST = 19
"""The lowest priority there is."""


def run(folder: Path, process: str) -> tuple[str, tuple[str, ...]]:
    """Return the verdict of one run and the codes of its reasons."""
    recipe = folder / f"{process}.yaml"
    recipe.write_text(RECIPE.replace("PROCESS", PROCESSES[process]))
    command = [sys.executable, "-m", "aifactory_bench", "run", str(recipe), "--json", "--quiet"]
    done = subprocess.run([*command, "--runs-dir", str(folder / "runs")], capture_output=True, text=True, check=False)
    summary = json.loads(done.stdout)
    measured = [one for point in summary["points"] for one in point["measurements"]]
    return summary["verdict"], tuple(reason["code"] for one in measured for reason in one["reasons"])


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nothing beside it."""
    yield


@contextlib.contextmanager
def hogs() -> Iterator[None]:
    """Busy processes on every core, that come before the generator while it measures.

    At the same priority the kernel gives a process that mostly sleeps a core as soon as it wants one: its numbers are right.
    """
    busy = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(HOGS_A_CORE * (os.cpu_count() or 1))]

    def hold_back(pids: list[int]) -> None:
        # One that forks workers measures: before and after, a generator that gets next to nothing would take minutes.
        for pid in pids if len(pids) > 1 else ():
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, pid, LEAST)
                Path(f"/proc/{pid}/autogroup").write_text(str(LEAST))  # of its session, where the kernel shares by session

    try:
        with _meanwhile(hold_back, lambda _pids: None, 0.2):
            yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextlib.contextmanager
def quota() -> Iterator[None]:
    """Stop the generator's processes for most of the time, as a quota does; the server goes on."""
    with _meanwhile(lambda pids: _signal(pids, signal.SIGSTOP), lambda pids: _signal(pids, signal.SIGCONT), STOPPED_S):
        yield


@contextlib.contextmanager
def _meanwhile(begin: Callable[[list[int]], None], end: Callable[[list[int]], None], lasts_s: float) -> Iterator[None]:
    """Do something to the generator's processes again and again."""
    ended = threading.Event()

    def act() -> None:
        while not ended.is_set():
            found = [
                int(entry.name)
                for entry in os.scandir("/proc")
                if entry.name.isdigit() and b"\0measure\0" in _cmdline(entry.path) and int(entry.name) != os.getpid()
            ]
            begin(found)
            time.sleep(lasts_s)
            end(found)
            ended.wait(PERIOD_S - STOPPED_S)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _cmdline(path: str) -> bytes:
    try:
        return Path(path, "cmdline").read_bytes()
    except OSError:
        return b""


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as name:
        for title, condition, starved in (("alone", alone, False), ("hogs", hogs, True), ("quota", quota, True)):
            verdicts: Counter[str] = Counter()
            codes: Counter[str] = Counter()
            wrong = 0
            for number in range(given.runs):
                with condition():
                    verdict, reasons = run(Path(name), ("closed", "open")[number % 2])
                verdicts[verdict] += 1
                codes.update(reasons)
                wrong += (verdict == "valid") == starved
            print(f"{title:6} {given.runs} runs: {dict(verdicts)}, judged wrongly {wrong}; reasons {dict(codes)}", flush=True)


if __name__ == "__main__":
    main()
