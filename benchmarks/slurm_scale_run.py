"""Runs for `slurm_scale.py` that no recipe made: their plans, and their folders on the site as jobs leave them."""

import hashlib
import json
import random
import time
from pathlib import Path

from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import Plan, PlannedJob, plan_to_json

RUN_ID = "redis-sweep-20260101-101500-ab{:02d}"
"""As long as those that the tool gives, so that names of jobs have 45 characters."""
SCRIPT_BYTES = 2100
"""A rendered batch script, as measured; so are the sizes of what jobs write."""
EVENTS = 9
EVENT_TEXT_BYTES = 90
FINGERPRINT_BYTES = 600
SAMPLES_BYTES = 1500
EXIT_TEXT_BYTES = 300
MEASUREMENT_BYTES = 41_000
DIGEST = hashlib.sha256(b"").hexdigest()[:16]
"""The program that these jobs do not run is empty."""
RECIPE = "schema: aifactory-bench/1\nname: redis-sweep\n"

_DICE = random.Random(1)
_COUNTS = [_DICE.randrange(10_000) for _ in range(MEASUREMENT_BYTES // 6)]


def make_plan(run_id, jobs, *, site="scale", runs="/nowhere", lease_s=None, options=None):
    """Return a plan of that many jobs, every second one a client, and no measurement."""
    planned = []
    for number in range(jobs):
        role = "client" if number % 2 else "service"
        name = f"{role[0]}{number:05d}"
        token = f"afb-{run_id}-{name}-0"
        named = {"job-name": token, "output": "/dev/null", **(options or {})}
        header = "".join(f"#SBATCH --{key}" + (f"={value}\n" if value else "\n") for key, value in named.items())
        script = f"#!/bin/bash\n{header}exit 0\n".ljust(SCRIPT_BYTES, "#") + "\n"
        planned.append(PlannedJob(name, role, "redis", token, script, ranks=1, time_s=3600.0, options=named))
    return Plan(
        run_id=run_id,
        recipe_name="redis-sweep",
        site=site,
        run_folder=f"{runs}/{run_id}",
        jobs=tuple(planned),
        points=(),
        limits={},
        lease_s=lease_s,
        max_jobs=100_000,
        node_modules=(),
        node_digest=DIGEST,
    )


def write_plan(folder, plan):
    """Write what a run was made of into its folder, here or on the site."""
    for name in ("jobs", "stop", "barriers", "endpoints"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(plan_to_json(plan))
    (folder / "recipe.yaml").write_text(RECIPE)


def event_line(job, number, phase):
    """Return one line of `events.jsonl`."""
    event = {
        "v": 1, "host": "node1", "pid": 4711, "job": job, "rank": 0, "restart": 0, "seq": number, "wall_ns": time.time_ns(),
        "mono_ns": time.monotonic_ns(), "type": "phase", "data": {"name": phase, "text": "x" * EVENT_TEXT_BYTES},
    }  # fmt: skip
    return json.dumps(event) + "\n"


def write_job(folder, job, job_id, state):
    """Write a job's folder on the site; state: pending, running, ended or gone."""
    paths = RunPaths(folder).job(job.token)
    paths.folder.mkdir()
    paths.script.write_text(job.script)
    paths.job_id.write_text(f"{job_id}\n")
    if state == "pending":
        return
    owner = json.dumps({"job_id": job_id, "host": "node1", "pid": 4711, "start_ticks": 1, "wall_ns": 1}) + "\n"
    for place in (paths.claim, paths.claim / "0-0"):
        place.mkdir()
        (place / "owner.json").write_text(owner)
    paths.spec.write_text("{}\n")
    paths.log.write_text("")
    rank = paths.rank(0)
    for place in (rank.folder, rank.samples, rank.measurements):
        place.mkdir()
    rank.events.write_text("".join(event_line(job.name, number, f"phase{number}") for number in range(EVENTS)))
    rank.log.write_text("ready\n")
    rank.fingerprint.write_text(json.dumps({"text": "x" * FINGERPRINT_BYTES}) + "\n")
    (rank.samples / "node.csv").write_text("0,0,0,0\n" * (SAMPLES_BYTES // 8))
    if state == "running":
        return
    if job.role == "client":
        rank.measurement("p0000-r1").write_text(json.dumps({"counts": _COUNTS}) + "\n")
    rank.exit.write_text(json.dumps({"v": 1, "outcome": "completed", "text": "x" * EXIT_TEXT_BYTES}) + "\n")


def state_of(number, jobs, shares):
    """Return the state of one job of a run; shares: state -> part of the jobs, spread evenly over services and clients."""
    place = (number // 2 * 2) / jobs
    for state, share in shares.items():
        if place < share:
            return state
        place -= share
    return next(reversed(shares))


def put_on_site(bed, plan, shares):
    """Put a run onto the site: its jobs into the queue, their files into the run's folder."""
    folder = Path(bed.runs) / plan.run_id
    write_plan(folder, plan)
    by_state = {}
    for number, job in enumerate(plan.jobs):
        by_state.setdefault(state_of(number, len(plan.jobs), shares), []).append(job)
    for state, jobs in by_state.items():
        ids = bed.ask("submit", names=[job.token for job in jobs], state=state)
        for job, job_id in zip(jobs, ids, strict=True):
            write_job(folder, job, job_id, state)
    return folder
