"""Controllers that `slurm_scale.py` measures, each in a process of its own: the engine and the submitter, over SSH.

python benchmarks/slurm_scale_controller.py ROLE SETTINGS      is what it starts; SETTINGS and the answer are JSON
"""

import asyncio
import collections
import contextlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

from slurm_scale_bed import ask
from slurm_scale_clock import VirtualLoop
from slurm_scale_counted import Controller, SiteCosts, make_site, memory_mb
from slurm_scale_run import event_line

import aifactory_bench.orchestrator  # a controller has this in its memory, too
from aifactory_bench.errors import TransportError
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.runs.engine import Engine
from aifactory_bench.runs.lock import ControllerLock
from aifactory_bench.runs.store import read_plan
from aifactory_bench.submitters.slurm import SlurmSubmitter

TOUCH_S = 0.02


# polls: virtual time


def polls(settings):
    """Track jobs: first nothing changes, then something at each poll."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_polls(settings, loop))


async def _polls(settings, loop):
    bed = Path(settings["bed"])
    site = make_site(settings, loop.time)
    handled, answered, marks = [], [], {}

    def before(_name):
        loop.under_way += 1
        marks["asked"] = time.perf_counter()
        if "change" in marks:
            marks["change"] += 1
            with open(settings["changing"], "a") as stream:
                stream.write(event_line("job", marks["change"], f"change{marks['change']}"))

    def after(name):
        loop.under_way -= 1
        if name == "poll":
            marks["answered"] = time.perf_counter()
            answered.append(marks["answered"] - marks["asked"])

    def idle():
        if "answered" in marks:
            handled.append(time.perf_counter() - marks.pop("answered"))

    site.before, site.after, loop.idle = before, after, idle
    runs = []
    for folder in settings["folders"]:
        controller = Controller(folder, site, loop.time)
        runs.append((controller, asyncio.create_task(controller.drive())))
        await asyncio.sleep(settings["stagger_s"])
    await asyncio.sleep(settings["easing_s"])
    steady = await _window(loop, bed, site, (answered, handled), settings["steady_s"])
    memory = memory_mb()
    states = collections.Counter(status.state.value for one, _ in runs for status in one.engine.statuses.values())
    marks["change"] = 0
    await asyncio.sleep(settings["stir_s"])
    busy = await _window(loop, bed, site, (answered, handled), settings["busy_s"])
    for controller, task in runs:
        controller.engine.request_detach()
        await task
    await site.close()
    return {"steady": steady, "busy": busy, "rss_mb": memory[0], "peak_mb": memory[1], "states": states}


async def _window(loop, bed, site, times, length_s):
    """Count over a while of virtual time."""

    def counts():
        carried = ask(bed, "bytes")
        return {
            "squeue": ask(bed, "calls").get("squeue", 0),
            "polls": site.ran["poll"],
            "up": carried["up"],
            "down": carried["down"],
            "cpu_s": time.process_time(),
            "real_s": time.monotonic(),
        }

    for taken in times:
        taken.clear()
    begun, before = loop.time(), counts()
    await asyncio.sleep(length_s)
    counted = {key: value - before[key] for key, value in counts().items()}
    return {**counted, "virtual_s": loop.time() - begun, "answered_s": list(times[0]), "handled_s": list(times[1])}


# throughput: real time


def throughput(settings):
    return asyncio.run(_throughput(settings))


async def _throughput(settings):
    site = make_site(settings)
    answer = {}
    try:
        costs = SiteCosts(Path(settings["bed"]))
        done = await site.run("command", "sh", "-c", _SBATCH_LOOP, timeout_s=300.0)
        if done.exit_code:
            raise SystemExit(f"sbatch: {done.stderr.decode()}")
        answer["sbatch_ms"] = int(done.stdout) / 1e6 / _SBATCH_CALLS
        answer["sbatch_cpu_s"] = costs.since()["site_cpu_s"]
        answer["sbatch_calls"] = _SBATCH_CALLS
        for name, send in (("bulk", _send_bulk), ("single", _send_single)):
            answer[name] = await _submissions(settings, site, name, send)
        answer["engine"] = await _engine(settings, site)
    finally:
        with contextlib.suppress(TransportError):
            await site.run("command", "sh", "-c", 'scancel -u "$(id -un)"', timeout_s=120.0)
        await site.close()
    return answer


_SBATCH_CALLS = 20
_SBATCH_LOOP = f"""
cd /tmp
begun=$(date +%s%N)
for number in $(seq {_SBATCH_CALLS}); do
    sbatch --parsable --hold --job-name=alone --output=/dev/null --wrap true >/dev/null || exit 1
done
echo $(($(date +%s%N) - begun))
"""


async def _submissions(settings, site, name, send):
    """Submit every job of a plan and return how long it took."""
    paths = RunPaths(Path(settings[name]))
    plan = read_plan(paths)
    paths.plan.unlink()  # it is a new run
    submitter = SlurmSubmitter(paths, site, plan.run_id)
    await submitter.stage(plan, "name: scale\n", b"")
    before, costs = site.ran.copy(), SiteCosts(Path(settings["bed"]))
    cpu_s, begun = time.process_time(), time.monotonic()
    await send(submitter, plan.jobs)
    took_s = time.monotonic() - begun
    return {
        "jobs": len(plan.jobs),
        "took_s": took_s,
        "cpu_s": time.process_time() - cpu_s,
        "channels": (site.ran - before).total(),
        **costs.since(),
    }


async def _send_bulk(submitter, jobs):
    left = list(jobs)
    while left:
        answers = await submitter.submit_all(left)
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        if refused:
            raise refused[0]
        if submitter.trouble:
            raise SystemExit(submitter.trouble)
        left = [job for job, answer in zip(left, answers, strict=True) if answer is None]


async def _send_single(submitter, jobs):
    for job in jobs:
        await submitter.submit(job)


async def _engine(settings, site):
    """Let the engine submit a whole plan."""
    paths = RunPaths(Path(settings["engine"]))
    plan = read_plan(paths)
    paths.plan.unlink()
    submitter = SlurmSubmitter(paths, site, plan.run_id)
    await submitter.stage(plan, "name: scale\n", b"")
    submitted, over = [], asyncio.Event()

    def listener(event):
        if event.type == "submitted":
            submitted.append(time.monotonic())
            if len(submitted) == len(plan.jobs):
                over.set()

    lock = ControllerLock.acquire(paths.lock)
    engine = Engine(plan, paths, submitter, listener, lock)
    before, costs, cpu_s, begun = site.ran.copy(), SiteCosts(Path(settings["bed"])), time.process_time(), time.monotonic()
    task = asyncio.create_task(engine.execute())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), settings["engine_limit_s"])
    channels, cpu_s, asked = site.ran - before, time.process_time() - cpu_s, costs.since()
    engine.request_detach()
    await task
    await submitter.close()
    lock.release()
    took_s = (submitted[-1] if submitted else time.monotonic()) - begun
    return {"jobs": len(submitted), "took_s": took_s, "cpu_s": cpu_s, "channels": channels.total(), **asked}


# drop: real time


def drop(settings):
    return asyncio.run(_drop(settings))


async def _drop(settings):
    bed = Path(settings["bed"])
    site = make_site(settings)
    polled, warned, trials = [], [], []
    site.after = lambda name: polled.append(time.monotonic()) if name == "poll" else None

    def listener(event):
        if event.type == "warning":
            warned.append((time.monotonic(), event.data.get("text", "")))

    async def first(found):
        while not found():
            await asyncio.sleep(TOUCH_S)

    controller = Controller(settings["folder"], site, listener=listener)
    task = asyncio.create_task(controller.drive())
    dice = random.Random(1)
    for number in range(settings["trials"]):
        count = len(polled)
        await first(lambda count=count: len(polled) > count)
        await asyncio.sleep(dice.uniform(0.0, settings["spread_s"]))
        line, frozen = site.transport.line, time.monotonic()
        ask(bed, settings["break"])
        await first(lambda line=line: line.lost)
        lost = time.monotonic()
        await asyncio.sleep(settings["outages_s"][number % len(settings["outages_s"])])
        ask(bed, settings["mend"])
        back = time.monotonic()
        await first(lambda back=back: polled[-1] > back)
        trials.append({
            "lost_s": lost - frozen,
            "told_s": next((at - frozen for at, _ in warned if at > frozen), None), "outage_s": back - frozen,
            "fresh_s": next(at for at in polled if at > back) - back,
        })  # fmt: skip
    controller.engine.request_detach()
    await task
    await site.close()
    return {"trials": trials, "warnings": [text for _, text in warned]}


# restart: real time, everything as the command line has it


def restart(settings):
    return asyncio.run(_restart(settings))


async def _restart(settings):
    bed = Path(settings["bed"])
    seen = {}
    known, wanted = asyncio.Event(), settings["states"]

    def listener(event):
        if event.type == "job_state":
            seen[event.job] = event.data["state"]
            if len(seen) >= len(wanted):
                known.set()

    before, costs = ask(bed, "calls").get("squeue", 0), SiteCosts(bed)
    cpu_s, begun = time.process_time(), time.monotonic()
    orchestrator = aifactory_bench.orchestrator.AsyncBenchmarkOrchestrator(settings["profile"], runs_dir=settings["runs_dir"])
    run = await orchestrator.attach(settings["run_id"], listener=listener)
    attached_s = time.monotonic() - begun
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(known.wait(), 60.0)
    answer = {
        "attached_s": attached_s,
        "took_s": time.monotonic() - begun,
        "cpu_s": time.process_time() - cpu_s,
        "squeue": ask(bed, "calls").get("squeue", 0) - before,
        "site_cpu_s": costs.since()["site_cpu_s"],
        "known": len(seen),
        "wrong": sum(seen.get(name) != state for name, state in wanted.items()),
    }
    there = Path(settings["site_folder"])
    files = _files(there)

    def missing():
        return [file for file in files if not (run.folder / file).exists()]

    deadline = time.monotonic() + settings["files_limit_s"]
    while missing() and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    answer |= {
        "files": len(files),
        "files_missing": len(missing()),
        "missing": [str(file) for file in missing()[:3]],
        "files_s": time.monotonic() - begun,
        "files_cpu_s": time.process_time() - cpu_s,
        "files_squeue": ask(bed, "calls").get("squeue", 0) - before,
        "peak_mb": memory_mb()[1],
    }
    run.detach()
    await run.wait()
    await orchestrator.close()
    return answer


def _files(there):
    """Return the files of jobs in a run's folder on the site that the controller gets."""
    return [path.relative_to(there) for path in there.glob("jobs/*/**/*") if path.is_file() and _comes(path)]


def _comes(path):
    return path.name != "spec.json" and (path.suffix in {".json", ".jsonl", ".csv"} or path.name in {"log", "job_id"})


def end_with_parent():
    """End when the process that started this one is gone."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    role = {"polls": polls, "throughput": throughput, "drop": drop, "restart": restart}[sys.argv[1]]
    answer = role(json.loads(sys.argv[2]))
    sys.stdout.flush()
    os.write(1, json.dumps(answer).encode() + b"\n")
