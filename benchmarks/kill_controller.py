"""Kill the controller with SIGKILL at random moments, and count what is left running and what is lost.

Each trial starts `aifactory-bench run` on a small recipe with a short lease, kills the controller after a random
time, waits until the run has finished by itself or the lease has ended it, counts the processes that still belong to
it, and takes the run up with `attach`. Lost is a measurement that was complete when the controller died and is not
there afterwards, unchanged.

    python benchmarks/kill_controller.py --trials 100 --parallel 4 --lease 5
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aifactory_bench.submitters.process import belonging

RECIPE = """\
schema: aifactory-bench/1
name: kill
services:
  cache: {kind: redis}
clients:
  load:
    kind: redis-load
    target: cache
    parameters: {keys: 1000}
    load: {process: poisson, rate: 500/s, warmup: 200ms, duration: 1s}
matrix: {clients.load.parameters.pipeline: [1, 2]}
"""
MARGIN_S = 8.0


def measured(folder: Path) -> "dict[str, bytes]":
    """Return the complete measurements of a run: path -> bytes."""
    found = {}
    for path in folder.glob("jobs/*/*/measurements/*.json"):
        data = path.read_bytes()
        if json.loads(data)["status"] == "ok":
            found[str(path)] = data
    return found


def left(folder: Path) -> "list[int]":
    """Return the processes that belong to a run."""
    return list(belonging(f"AFB_RUN_DIR={folder}", folder))


def trial(number: int, root: Path, lease_s: float, seed: int) -> "dict[str, object]":
    """Run, kill, wait, count, attach."""
    recipe = root / "kill.yaml"
    run_id = f"kill-{number}"
    folder = root / "runs" / run_id
    command = [sys.executable, "-m", "aifactory_bench"]
    place = ["--runs-dir", str(root / "runs")]
    child = subprocess.Popen(
        [*command, "run", str(recipe), *place, "--run-id", run_id, "--lease", f"{lease_s}s", "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # From the first sign of the run on, as there is nothing to lose before.
    while not folder.exists() and child.poll() is None:
        time.sleep(0.001)
    delay_s = random.Random(seed * 1000 + number).uniform(0.0, 5.0)
    time.sleep(delay_s)
    ended = child.poll() is not None
    child.send_signal(signal.SIGKILL)
    child.wait()
    complete = measured(folder)
    deadline = time.monotonic() + lease_s + MARGIN_S
    while left(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    leftovers = left(folder)
    gone_s = time.monotonic() - (deadline - lease_s - MARGIN_S)
    outcome: dict[str, object] = {
        "trial": number,
        "delay_s": round(delay_s, 2),
        "ended": ended,
        "left": len(leftovers),
        "gone_s": round(gone_s, 1),
    }
    if not (folder / "plan.json").exists():
        return {**outcome, "complete": 0, "lost": 0, "attached": "never began"}
    done = subprocess.run(
        [*command, "attach", run_id, *place, "--quiet", "--json"], capture_output=True, text=True, check=False, timeout=300
    )
    lost = [path for path, data in complete.items() if not Path(path).exists() or Path(path).read_bytes() != data]
    summary = json.loads(done.stdout) if done.stdout.strip() else {}
    points = sum(bool(point["measurements"]) for point in summary.get("points", ()))
    attached = (
        "ok" if points == 2 and done.returncode in (0, 3) else f"exit {done.returncode}, {points} points: {done.stderr[-500:]}"
    )
    return {
        **outcome,
        "complete": len(complete),
        "lost": len(lost),
        "attached": attached,
        "left": len(leftovers) + len(left(folder)),
    }


def main() -> int:
    """Run the trials and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--lease", type=float, default=5.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        root = Path(name)
        (root / "kill.yaml").write_text(RECIPE)
        with ThreadPoolExecutor(options.parallel) as pool:
            outcomes = list(pool.map(lambda number: trial(number, root, options.lease, options.seed), range(options.trials)))
    for outcome in outcomes:
        if outcome["left"] or outcome["lost"] or outcome["attached"] not in ("ok", "never began"):
            print(json.dumps(outcome))
    total = {key: sum(int(str(outcome[key])) for outcome in outcomes) for key in ("left", "complete", "lost")}
    total["attached and whole"] = sum(outcome["attached"] == "ok" for outcome in outcomes)
    total["killed before the run began"] = sum(outcome["attached"] == "never began" for outcome in outcomes)
    total["had ended by itself before"] = sum(bool(outcome["ended"]) for outcome in outcomes)
    print(f"{options.trials} kills with a lease of {options.lease:g} s, load average {os.getloadavg()[0]:.1f}")
    for key, value in total.items():
        print(f"  {key}: {value}")
    print(f"  slowest end after the kill: {max(float(str(outcome['gone_s'])) for outcome in outcomes):.1f} s")
    return int(bool(total["left"] or total["lost"]))


if __name__ == "__main__":
    sys.exit(main())
