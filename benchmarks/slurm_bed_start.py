"""`start`: from sbatch to the first measured request, ours and two scripts written by hand."""

import json
import os
import statistics
import time
from pathlib import Path

from slurm_bed_place import Place, loads

OURS = """\
schema: aifactory-bench/1
name: start
services:
  cache: {kind: redis, resources: {time: 5m, memory: 200MiB}}
clients:
  load:
    kind: redis-load
    target: cache
    resources: {time: 5m, memory: 200MiB}
    parameters: {keys: 500, operations: {get: 1}}
    load: {process: closed, concurrency: 1, warmup: 0s, duration: 300ms}
"""
SERVER = """\
#!/bin/bash
cd "$1" || exit 1
date +%s%N > server_began
redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --save "" --appendonly no --dir /tmp > server.log 2>&1 &
until [ "$(redis-cli ping 2>/dev/null)" = PONG ]; do sleep 0.1; done
echo "$(hostname) 6379" > address.new && mv address.new address
wait
"""
CLIENT = """\
#!/bin/bash
cd "$1" || exit 1
date +%s%N > client_began
until [ -s address ]; do sleep 0.1; done
read -r host port < address
python3 client.py "$host" "$port" > first_request
redis-cli -h "$host" -p "$port" shutdown nosave
"""
PROGRAM = """\
import socket, sys, time

connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
answers = connection.makefile("rb")
keys = ["key:%012d" % number for number in range(500)]
connection.sendall("".join(f"SET {key} {'x' * 64}\\r\\n" for key in keys).encode())
for _ in keys:
    answers.readline()
first = time.time_ns()
while time.time_ns() - first < 300_000_000:
    for key in keys[:50]:
        connection.sendall(f"GET {key}\\r\\n".encode())
        answers.readline(), answers.readline()
print(first)
"""
STEPS = ("service's job begins", "address is there", "client's job begins", "first request")


def start(place: Place, trials: int, _seed: int) -> bool:
    """Measure both, one after the other, in turn."""
    before = os.getloadavg()[0]
    place.span_s()
    ours: list[list[float]] = []
    by_hand: list[list[float]] = []
    submitted: list[float] = []
    for number in range(trials):
        steps, submitted_s = _ours(place, f"start-{number}")
        ours.append(steps)
        submitted.append(submitted_s)
        by_hand.append(_by_hand(place, f"{place.cluster.shared}/by-hand-{number}"))
    print(f"start: {trials} times each, in turn; seconds from the first sbatch on; {loads(before)}")
    print("                            ours median  min   max    by hand median  min   max")
    for position, step in enumerate(STEPS):
        row = [[trial[position] for trial in kind] for kind in (ours, by_hand)]
        cells = (f"{statistics.median(values):13.2f} {min(values):5.2f} {max(values):5.2f}   " for values in row)
        print(f"  {step:24}", *cells)
    print(f"  from `aifactory-bench run` to submitted: median {statistics.median(submitted):.2f} s, max {max(submitted):.2f} s")
    return not place.cluster.leftovers()


def _ours(place: Place, run: str) -> tuple[list[float], float]:
    controller = place.start("run", run, place.recipe(OURS, "start"))
    place.until(controller.ended, 120.0)
    folder = place.on_site(run)
    if controller.process.returncode not in {0, 3}:
        raise RuntimeError(controller.complained)
    cache, load = (folder / f"jobs/afb-{run}-{name}-0" for name in ("cache", "load"))
    measured = json.loads((load / "0/measurements/p0000-r1.json").read_text())
    sbatch = (cache / "script.sh").stat().st_mtime  # written right before sbatch
    endpoint = json.loads((folder / f"endpoints/{cache.name}/0.json").read_text())
    steps = [
        (cache / "spec.json").stat().st_mtime,  # the script's first act
        endpoint["published_wall_ns"] / 1e9,
        (load / "spec.json").stat().st_mtime,
        measured["start_wall_ns"] / 1e9,
    ]
    submitted = max((job / "job_id").stat().st_mtime for job in (cache, load))
    return [step - sbatch for step in steps], submitted - controller.started_wall


def _by_hand(place: Place, shared: str) -> list[float]:
    cluster = place.cluster
    cluster.run(["mkdir", shared], check=True)
    folder: Path = cluster.here(shared)
    for name, text in (("server.sh", SERVER), ("client.sh", CLIENT), ("client.py", PROGRAM)):
        (folder / name).write_text(text)
    options = f"--ntasks=1 --mem=200M --time=5 --chdir={shared} --output={shared}/%j.log"
    both = f'date +%s%N > sbatch; for name in server client; do sbatch --parsable {options} "$name.sh" "$PWD"; done'
    jobs = cluster.run(["sh", "-c", f'cd "{shared}" && {both}'], check=True).stdout.split()
    for job in jobs:
        if cluster.wait_for(job, "COMPLETED", "FAILED", "CANCELLED").state != "COMPLETED":
            raise RuntimeError(f"by hand: {[log.read_text() for log in folder.glob('*.log')]}")
    at = {name: int((folder / name).read_text()) / 1e9 for name in ("sbatch", "server_began", "client_began", "first_request")}
    at["address"] = (folder / "address").stat().st_mtime
    time.sleep(0.5)
    return [at[name] - at["sbatch"] for name in ("server_began", "address", "client_began", "first_request")]
