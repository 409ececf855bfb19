"""A thousand submissions to a simulated Slurm with a fault at every step: no job twice, none lost, no end that is none.

    python benchmarks/slurm_faults.py [JOBS] [SEED]

Calls of the transport are lost before or after their effect, cut, or killed; sbatch, squeue, sacct and scancel fail, lie and
say nothing; jobs end, fail, vanish with their node, are put back into the queue and forgotten; controllers die, others follow.
Every clock is simulated. At the end what the controller says of each job is held against what really became of it.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from attrs import define, field

from aifactory_bench.errors import NotExecutedError, OutcomeUnknownError, SubmitError, TransportError
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import Plan, PlannedJob
from aifactory_bench.sites.model import Login, Site
from aifactory_bench.submitters.base import JobState, JobStatus
from aifactory_bench.submitters.slurm import SlurmSubmitter
from aifactory_bench.submitters.slurm_site import SlurmSite
from aifactory_bench.testing.fake_slurm import FakeSlurm, Instant, Refusal, down, empty, late, lost_after, lost_before, refused
from aifactory_bench.transports.base import Completed, Transport
from aifactory_bench.transports.local import LocalTransport

RUN_ID = "chaos"
STEP_S = 20.0
"""Of the simulated clock, a turn of the controller."""
AT_ONCE = 50
"""Jobs that are there and have not ended."""
TRANSPORT_FAULTS = ("before", "after", "cut", "garbled", "killed")
TRANSPORT_CHANCE = 0.3
CRASH_CHANCE = 0.1
SLURM_FAULTS = {
    "sbatch": [
        (lost_before(), 0.04),
        (lost_after(), 0.04),
        (lost_after(killed=True), 0.03),
        (late(15), 0.03),
        (empty(effect=True), 0.03),
        (refused(Refusal.QUOTA), 0.03),
        (refused(Refusal.TEMPORARY), 0.03),
        (down(), 0.03),
    ],
    "squeue": [(empty(), 0.05), (down(), 0.05), (lost_before(), 0.05)],
    "sacct": [(down(), 0.2), (lost_before(), 0.1)],
    "scancel": [(lost_before(), 0.2)],
}
FATES = ("completed", "completed", "completed", "failed", "node_fail", "purged", "purged with words", "requeued", "timeout")


class Chaos(Transport):
    """Runs programs on this machine, and loses some on the way."""

    label = "chaos"

    def __init__(self, chance: random.Random, rate: float) -> None:
        self._inner = LocalTransport()
        self._chance = chance
        self._rate = rate
        self.calls: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    async def run(self, program: str, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Completed:
        self.calls[program.split(" ", 2)[1]] += 1
        fault = self._chance.choice(TRANSPORT_FAULTS) if self._chance.random() < self._rate else ""
        if fault == "garbled" and program.startswith("# Runs"):  # transports check that; only our own programs do so besides
            fault = "after"
        self.faults[fault] += 1
        if fault == "before":
            raise NotExecutedError("lost before it ran")
        if fault == "cut":
            stdin = stdin[: self._chance.randrange(len(stdin) + 1)]
        run = self._inner.run(program, *arguments, stdin=stdin, timeout_s=timeout_s)
        if fault == "killed":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run, self._chance.uniform(0.0, 0.5))
            while _busy():  # what it had started goes on, and the simulated clock stands still meanwhile
                await asyncio.sleep(0.02)
            raise OutcomeUnknownError("killed")
        done = await run
        if fault in {"after", "cut"}:
            raise OutcomeUnknownError("its answer was lost")
        if fault == "garbled":
            return Completed(done.exit_code, done.stdout[: self._chance.randrange(len(done.stdout) + 1)], done.stderr)
        return done

    async def close(self) -> None:
        """Do nothing."""


def _busy() -> bool:
    """Whether a command of the simulated Slurm is under way for one of our jobs."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdecimal() and f"afb-{RUN_ID}-".encode() in Path("/proc", name, "cmdline").read_bytes():
                return True
    return False


@define
class World:
    """The site: Slurm, its nodes, and the run folder."""

    folder: Path
    slurm: FakeSlurm
    chance: random.Random
    now: float = 0.0
    truth: "dict[str, JobState]" = field(factory=dict)
    """What really became of jobs, by token."""
    due: "dict[str, float]" = field(factory=dict)
    fenced: int = 0

    def __attrs_post_init__(self) -> None:
        self.now = self.slurm.now
        (self.folder / "bin").mkdir()
        date = self.folder / "bin" / "date"
        date.write_text(f'#!/bin/sh\n[ "$*" = +%s ] && exec cat {self.folder}/now\nexec /bin/date "$@"\n')
        date.chmod(0o755)
        self.advance(0)

    @property
    def run(self) -> RunPaths:
        return RunPaths(self.folder / "site" / RUN_ID)

    def advance(self, seconds: float) -> None:
        """Move every clock on, and let nodes do what is due."""
        self.slurm.advance(seconds)
        self.now += seconds
        (self.folder / "now.new").write_text(f"{self.now:.0f}\n")
        os.replace(self.folder / "now.new", self.folder / "now")
        for job in sorted(self.slurm.jobs(), key=lambda job: job.started or 0.0):
            if job.state == "RUNNING":
                self._work(job.name, job.job_id, job.restarts)

    def _work(self, token: str, job_id: str, restarts: int) -> None:
        claim = self.run.job(token).claim
        owner = claim / "owner.json"
        if not owner.exists():
            claim.mkdir(parents=True, exist_ok=True)
            owner.write_text(json.dumps({"job_id": job_id}))
            self.due[token] = self.now + self.chance.uniform(5, 200)
        if json.loads(owner.read_text())["job_id"] != job_id:
            self.fenced += 1
            self.slurm.end(job_id, "COMPLETED")
            return
        rank = self.run.job(token).rank(0)
        rank.folder.mkdir(exist_ok=True)
        if restarts and token in self.truth:  # the second execution begins
            del self.truth[token]
            rank.exit.unlink(missing_ok=True)
            self.due[token] = self.now + self.chance.uniform(5, 200)
        with open(rank.events, "a", encoding="utf-8") as stream:
            stream.write('{"type": "phase"}\n')
        if token not in self.truth and self.now >= self.due[token]:
            self._end(token, job_id, restarts)

    def _end(self, token: str, job_id: str, restarts: int) -> None:
        fate = self.chance.choice([fate for fate in FATES if not (restarts and fate == "requeued")])
        if fate == "requeued":
            self._say(token, "stopped", restarts)
            self.truth[token] = JobState.PENDING
            self.slurm.requeue(job_id)
            return
        if fate not in {"node_fail", "purged"}:
            self._say(token, {"failed": "failed", "timeout": "timeout"}.get(fate, "completed"), restarts)
        word = {"failed": "FAILED", "timeout": "TIMEOUT", "node_fail": "NODE_FAIL", "purged": "OUT_OF_MEMORY"}.get(
            fate, "COMPLETED"
        )
        self.truth[token] = JobState(word.lower())
        self.slurm.end(job_id, word)
        if fate.startswith("purged"):
            self.slurm.purge(job_id)

    def _say(self, token: str, outcome: str, restart: int) -> None:
        record = {"v": 1, "outcome": outcome, "text": "", "restart": restart}
        draft = self.run.job(token).rank(0).folder / ".exit"
        draft.write_text(json.dumps(record) + "\n")
        os.replace(draft, self.run.job(token).rank(0).exit)


@define
class Outcome:
    """What is counted."""

    submitted: int = 0
    duplicates: int = 0
    """Names that more than one submission took effect for."""
    fenced: int = 0
    """Executions of them that found another one at work, and did nothing."""
    lost: int = 0
    """Jobs that were never submitted, or whose end nobody knows."""
    false_ends: "set[tuple[str, str, str]]" = field(factory=set)
    """Ends that were told and are not what became of the job: token, what was told, what is true."""
    turns: int = 0
    crashes: int = 0
    transport_faults: int = 0
    slurm_faults: int = 0
    simulated_s: float = 0.0
    took_s: float = 0.0


class Controllers:
    """One controller at a time; each may die, and the next one knows only what is written down."""

    def __init__(self, world: World, plan: Plan, rate: float) -> None:
        self._world = world
        self._plan = plan
        self.transport = Chaos(world.chance, rate)
        self.count = 0
        self.current = self._new()

    def _new(self) -> SlurmSubmitter:
        self.count += 1
        # Now and then it is another machine.
        folder = self._world.folder / f"controller-{self._world.chance.randrange(3)}" / RUN_ID
        login = Login(host="chaos", transport="local")
        runs = str(self._world.folder / "site")
        site = Site(name="chaos", submitter="slurm", runs=runs, login=login, submit_rate_per_s=1e6)
        known = SlurmSite(site, self.transport, clock=lambda: self._world.now)
        known.holder = "chaos:1:1:1"
        made = SlurmSubmitter(RunPaths(folder), known, RUN_ID, self._plan)
        made.driving = True
        return made

    def crash(self) -> None:
        self.current = self._new()


def _plan(world: World, count: int) -> Plan:
    tokens = [f"afb-{RUN_ID}-job{number}-0" for number in range(count)]
    jobs = [
        PlannedJob(
            name=f"job{number}",
            role="client",
            kind="stub",
            token=token,
            script=f"#!/bin/sh\n# {token}\n",
            ranks=1,
            time_s=60.0,
            options={"job-name": token},
        )
        for number, token in enumerate(tokens)
    ]
    return Plan(RUN_ID, "chaos", "chaos", str(world.run.folder), tuple(jobs), (), {}, None, AT_ONCE, (), "0" * 16)


async def _drive(world: World, plan: Plan, rate: float) -> "tuple[dict[str, JobStatus], Outcome]":
    """Submit and follow all jobs to their ends."""
    outcome = Outcome()
    quiet = Controllers(world, plan, 0.0)
    await quiet.current.stage(plan, "recipe\n", b"program")
    controllers = Controllers(world, plan, rate)
    statuses: dict[str, JobStatus] = {}
    intended: set[str] = set()
    while not all(job.token in statuses and statuses[job.token].state.final for job in plan.jobs):
        outcome.turns += 1
        if rate and world.chance.random() < CRASH_CHANCE:
            outcome.crashes += 1
            controllers.crash()
            statuses, intended = {}, set()
        controller = controllers.current
        try:
            seen = await controller.poll()
            _compare(world, seen, outcome)
            statuses.update(seen)
            live = sum(1 for token in intended | set(statuses) if token not in statuses or not statuses[token].state.final)
            wanted = [job for job in plan.jobs if job.token not in statuses][: max(0, AT_ONCE - live)]
            for job, answer in zip(wanted, await controller.submit_all(wanted) if wanted else (), strict=True):
                if isinstance(answer, SubmitError):
                    raise answer
                if answer is not None:
                    intended.add(job.token)
        except TransportError:
            pass
        intended -= set(statuses)
        world.advance(STEP_S)
    outcome.transport_faults = sum(count for fault, count in controllers.transport.faults.items() if fault)
    return statuses, outcome


def _compare(world: World, seen: "dict[str, JobStatus] | object", outcome: Outcome) -> None:
    """Count ends that are told of jobs that have not ended, or not so."""
    assert isinstance(seen, dict)
    for token, status in seen.items():
        if status.state.final and status.state is not world.truth.get(token):
            true = world.truth.get(token, JobState.RUNNING)
            outcome.false_ends.add((token, status.state.value, true.value))


def chaos(count: int, seed: int, *, rate: float = TRANSPORT_CHANCE) -> Outcome:
    """Submit so many jobs; rate: of calls of the transport that are lost, and 0 switches every fault off."""
    began = time.perf_counter()
    path = os.environ["PATH"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with FakeSlurm(folder / "slurm", nodes=AT_ONCE, cpus=8, jobs=Instant(run_s=1e9)) as slurm:
            world = World(folder, slurm, random.Random(seed))
            os.environ["PATH"] = f"{folder}/bin:{slurm.bin}:{path}"
            try:
                switches = [
                    slurm.faults.sometimes(command, fault, chance, seed * 100 + number)
                    for command, faults in (SLURM_FAULTS.items() if rate else ())
                    for number, (fault, chance) in enumerate(faults)
                ]
                statuses, outcome = asyncio.run(_drive(world, _plan(world, count), rate))
            finally:
                os.environ["PATH"] = path
            names = Counter(job.name for job in slurm.jobs())
            outcome.submitted = len(names)
            outcome.duplicates = sum(number > 1 for number in names.values())
            outcome.fenced = world.fenced
            outcome.lost = count - len(names) + sum(status.state is JobState.LOST for status in statuses.values())
            outcome.slurm_faults = sum(switch.fired for switch in switches)
            outcome.simulated_s = world.now - 1_767_261_600.0
    outcome.took_s = time.perf_counter() - began
    return outcome


def channels(count: int) -> "tuple[float, float]":
    """Return how many sessions of the connection a submission takes: one by one, and all at once."""
    path = os.environ["PATH"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with FakeSlurm(folder / "slurm", nodes=AT_ONCE, cpus=8, jobs=Instant(run_s=1e9)) as slurm:
            world = World(folder, slurm, random.Random(0))
            os.environ["PATH"] = f"{folder}/bin:{slurm.bin}:{path}"
            try:
                plan = _plan(world, 5 + count)
                controllers = Controllers(world, plan, 0.0)

                async def submit() -> "tuple[int, int]":
                    calls = controllers.transport.calls
                    await controllers.current.stage(plan, "recipe\n", b"program")
                    before = calls.total()
                    for job in plan.jobs[:5]:
                        await controllers.current.submit(job)
                    single = calls.total() - before
                    left = list(plan.jobs[5:])
                    while left:
                        world.advance(1)
                        answers = await controllers.current.submit_all(left)
                        left = [job for job, answer in zip(left, answers, strict=True) if answer is None]
                    return single, calls.total() - before - single

                single, bulk = asyncio.run(submit())
            finally:
                os.environ["PATH"] = path
    return single / 5, bulk / count


def main() -> int:
    """Run and print; 1: something was lost, twice there, or false."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    single, bulk = channels(100)
    print(f"sessions a submission: {single:g} one by one, {bulk:g} of a hundred at once")
    found = chaos(count, seed)
    print(
        f"{found.submitted} submitted, {found.duplicates} duplicates ({found.fenced} fenced), {found.lost} lost, "
        f"{len(found.false_ends)} false final states"
    )
    for token, told, true in sorted(found.false_ends):
        print(f"  {token}: told {told}, true {true}")
    print(
        f"{found.turns} turns, {found.crashes} controllers died, {found.transport_faults} faults of the connection, "
        f"{found.slurm_faults} of Slurm; {found.simulated_s:.0f} s simulated in {found.took_s:.0f} s, seed {seed}"
    )
    return int(bool(found.duplicates or found.lost or found.false_ends))


if __name__ == "__main__":
    sys.exit(main())
