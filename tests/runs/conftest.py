"""Plans whose jobs are small bash scripts that write what the node side writes."""

import asyncio

import pytest

from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import Plan, PlannedJob, PlannedPoint
from aifactory_bench.runs.engine import Engine
from aifactory_bench.runs.lock import ControllerLock
from aifactory_bench.submitters.local import LocalSubmitter

PRELUDE = """#!/bin/bash
set -eu
export AFB_TOKEN={token}
run={run}
end() {{
  mkdir -p 0
  printf '{{"outcome": "%s", "text": "%s", "log_tail": "", "phases_s": {{"measure": 1.5}}}}' "$1" "$2" > 0/.exit
  mv 0/.exit 0/exit.json
  exit 0
}}
measured() {{
  mkdir -p 0/measurements
  printf '{{"v": 1, "point": "%s", "status": "%s"}}' "$1" "$2" > "0/measurements/$1.json"
}}
publish() {{ mkdir -p "$run/endpoints/$AFB_TOKEN"; echo '{{}}' > "$run/endpoints/$AFB_TOKEN/0.json"; }}
event() {{
  mkdir -p 0
  printf '{{"v": 1, "seq": 0, "wall_ns": %s, "type": "%s", "data": %s}}\\n' "$(date +%s%N)" "$1" "$2" >> 0/events.jsonl
}}
stopped() {{ [ -e "$run/stop/all" ]; }}
"""


@pytest.fixture
def paths(tmp_path):
    """An empty run folder."""
    return RunPaths(tmp_path / "run")


@pytest.fixture
def make_job(paths):
    """Build a job: name, lines of its script."""

    def make(name, *lines, role="client", **more):
        token = f"afb-r-{name}-0"
        script = PRELUDE.format(token=token, run=paths.folder) + "\n".join(lines) + "\n"
        return PlannedJob(name=name, role=role, kind="stub", token=token, script=script, ranks=1, time_s=60.0, **more)

    return make


@pytest.fixture
def make_point():
    """Build a planned measurement of a client."""

    def make(point_id, client="load"):
        return PlannedPoint(
            id=point_id,
            index=0,
            repetition=0,
            parameters={},
            client=client,
            kind="stub",
            token=f"afb-r-{client}-0",
            ranks=1,
            offered_per_s=None,
            process="closed",
            load={},
            client_parameters={},
            service_parameters={},
            services=(),
        )

    return make


@pytest.fixture
def make_plan(paths):
    """Build a plan of jobs and points."""

    def make(*jobs, points=(), max_jobs=16, lease_s=60.0):
        return Plan(
            run_id="r",
            recipe_name="recipe",
            site="local",
            run_folder=str(paths.folder),
            jobs=jobs,
            points=tuple(points),
            limits={},
            lease_s=lease_s,
            max_jobs=max_jobs,
            node_modules=(),
            node_digest="0" * 16,
        )

    return make


@pytest.fixture
def drive(paths):
    """Execute a plan with the local submitter; returns status, events and engine."""

    def go(plan, during=None, *, lock=True, submitter=None):
        events = []

        async def run():
            own = submitter or LocalSubmitter(paths)
            await own.write("recipe.yaml", "")
            held = ControllerLock.acquire(paths.lock) if lock else None
            engine = Engine(plan, paths, own, events.append, held)
            task = asyncio.create_task(engine.execute())
            if during is not None:
                await during(engine, own)
            try:
                return await asyncio.wait_for(task, 60), engine
            finally:
                if held is not None:
                    held.release()

        status, engine = asyncio.run(run())
        return status, events, engine

    return go
