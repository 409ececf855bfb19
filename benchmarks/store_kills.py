"""Kill a service with SIGKILL at random moments of its load, and see how the run takes it.

    python benchmarks/store_kills.py recipes/redis.yaml --kill redis-server --times 20

Each trial runs the recipe on this machine with a short load, waits until a client has begun to send, and kills the server
after a random time. A trial is good when the run has ended within the limit, says why, leaves no process behind, and calls
no number valid that was measured while the server died. The exit code is 0 when all trials are good.

A server of several processes is killed at the one that started the others; of several replicas one is killed by chance.
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
from pathlib import Path
from typing import Any, NamedTuple

from aifactory_bench import load_recipe, load_registry
from aifactory_bench.submitters.process import belonging

START_LIMIT_S = 180.0
"""From the start of a run until its load begins."""
END_LIMIT_S = 120.0
"""A run that has not ended by then hangs."""
POLL_S = 0.005


class Trial(NamedTuple):
    """How one run took it."""

    killed_after_s: float
    """From the begin of the load."""
    ended_after_s: float
    """From the kill."""
    reason: str
    faults: "tuple[str, ...]"
    """What was not as it should be."""


def clients_of(recipe: Path, plugins: "list[Path]") -> "list[str]":
    """Return the names of a recipe's clients."""
    loaded = load_recipe(recipe, load_registry(files=plugins))
    return [client.name for client in loaded.clients]


def began(folder: Path, clients: "list[str]") -> bool:
    """Return whether one of the clients has begun to send."""
    for path in folder.glob("jobs/*/*/events.jsonl"):
        for line in path.read_text(errors="replace").splitlines():
            if '"phase"' in line and ('"warmup"' in line or '"measure"' in line):
                event = json.loads(line)
                if event["job"] in clients:
                    return True
    return False


def named(folder: Path, name: str) -> "dict[int, int]":
    """Return the processes of a run with a name, each with the one that started it."""
    found: dict[int, int] = {}
    for pid in belonging(f"AFB_RUN_DIR={folder}", folder):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text()
            program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            continue
        comm = fields[fields.index("(") + 1 : fields.rindex(")")]
        if name[:15] == comm or Path(program.split(" ")[0].rstrip(":")).name == name:
            found[pid] = int(fields[fields.rindex(")") + 2 :].split()[1])
    return found


def servers(folder: Path, name: str) -> "list[int]":
    """Return those that no process of the same name has started."""
    found = named(folder, name)
    return [pid for pid, parent in found.items() if parent not in found]


def trial(number: int, root: Path, options: argparse.Namespace, clients: "list[str]") -> Trial:
    """Run, kill, wait, judge."""
    chance = random.Random(options.seed * 1000 + number)
    run_id = f"kill-{number}"
    folder = root / "runs" / run_id
    argv = [sys.executable, "-m", "aifactory_bench", "run", str(options.recipe), "--runs-dir", str(root / "runs")]
    argv += ["--run-id", run_id, "--quiet", "--json", "--set", "repetitions=1"]
    for client in clients:
        argv += ["--set", f"clients.{client}.load.warmup={options.warmup}s"]
        argv += ["--set", f"clients.{client}.load.duration={options.duration}s"]
    for text in options.set:
        argv += ["--set", text]
    for path in options.plugin:
        argv += ["--plugin", str(path)]
    with (root / f"{run_id}.out").open("w+") as out:
        child = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + START_LIMIT_S
            while not began(folder, clients):
                if child.poll() is not None or time.monotonic() > deadline:
                    out.seek(0)
                    return Trial(0.0, 0.0, "", (f"the load never began: {out.read()[-1000:].strip()}",))
                time.sleep(POLL_S)
            killed_after_s = chance.uniform(0.0, 0.8 * (options.warmup + options.duration))
            time.sleep(killed_after_s)
            found = servers(folder, options.kill)
            if not found:
                return Trial(killed_after_s, 0.0, "", (f"no process of the run is called {options.kill!r}",))
            os.kill(chance.choice(found), signal.SIGKILL)
            killed = time.monotonic()
            try:
                child.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                return Trial(killed_after_s, END_LIMIT_S, "", ("it did not end",))
            return judged(folder, child.returncode, killed_after_s, time.monotonic() - killed, options.limit)
        finally:
            child.terminate()  # which stops its jobs
            child.wait()


def judged(folder: Path, code: int, killed_after_s: float, ended_after_s: float, limit_s: float) -> Trial:
    """Look at what a run has left."""
    faults = [] if ended_after_s <= limit_s else [f"it ended {ended_after_s:.1f} s after the kill"]
    left = list(belonging(f"AFB_RUN_DIR={folder}", folder))
    if left:
        faults.append(f"processes are left: {left}")
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError) as error:
        return Trial(killed_after_s, ended_after_s, "", (*faults, f"there is no summary: {error}"))
    if summary["verdict"] != "invalid":
        faults.append(f"the run is called {summary['verdict']}")
    if code == 0:
        faults.append("its exit code is 0")
    measured = [measurement for point in summary["points"] for measurement in point["measurements"]]
    texts = [reason["text"] for measurement in measured for reason in measurement["reasons"]]
    texts += [str(job["text"]) for job in summary["jobs"] if job["role"] == "service"]
    for measurement in measured:
        # What had ended before the kill may be good, and its numbers are.
        hit = any(reason["code"] in ("service_died", "no_measurement", "cut") for reason in measurement["reasons"])
        if hit and measurement["verdict"] != "invalid":
            faults.append(f"a measurement of {measurement['client']} is called {measurement['verdict']}")
    if not any("SIGKILL" in text for text in texts):
        faults.append("nothing says that the server was killed")
    return Trial(killed_after_s, ended_after_s, next((text for text in texts if "SIGKILL" in text), ""), tuple(faults))


def main() -> int:
    """Run the trials and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--kill", required=True, metavar="NAME", help="name of the server's program, as ps shows it")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds from the kill to the end of the run")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds, in the place of the recipe's")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds, in the place of the recipe's")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as `run` takes it")
    parser.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help="as `run` takes it")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    clients = clients_of(options.recipe, options.plugin)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        trials = []
        for number in range(options.times):
            trials.append(trial(number, Path(name), options, clients))
            for fault in trials[-1].faults:
                print(f"  trial {number}, killed after {trials[-1].killed_after_s:.2f} s: {fault}", flush=True)
    good = sum(not one.faults for one in trials)
    ended = sorted(one.ended_after_s for one in trials)
    print(f"{options.recipe.name}: {options.kill} killed {len(trials)} times, {good} good; load average {before:.1f}")
    print(f"  from the kill to the end of the run: median {ended[len(ended) // 2]:.2f} s, slowest {ended[-1]:.2f} s")
    print(f"  as it is told: {next((one.reason for one in trials if one.reason), 'not at all')}")
    return int(good < len(trials))


if __name__ == "__main__":
    sys.exit(main())
