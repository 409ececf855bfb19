"""The engine: every job submitted once, watched to its end, and stopped when it should be."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from aifactory_bench.errors import SiteError, SubmitError
from aifactory_bench.node.events import EventLog
from aifactory_bench.plan import plan_from_json, plan_to_json
from aifactory_bench.runs import engine as engine_module
from aifactory_bench.runs.collect import collect, finished
from aifactory_bench.runs.engine import Engine
from aifactory_bench.runs.journal import read_journal
from aifactory_bench.runs.lock import ControllerLock
from aifactory_bench.runs.watch import NodeWatcher
from aifactory_bench.submitters.base import JobState
from aifactory_bench.submitters.local import LocalSubmitter
from aifactory_bench.submitters.process import belonging

HEEDS_TERM = (
    "trap 'end stopped TERM' TERM",
    "touch armed",
    # The signal goes to the sleep, too: where that dies of it before the shell has its own, the shell must not end over it.
    "for _ in $(seq 600); do sleep 0.05 || true; done",
)
WAIT = "for _ in $(seq 600); do stopped && end stopped 'stop file'; sleep 0.05; done"


@pytest.fixture
def short(monkeypatch):
    """Escalate within a second."""
    monkeypatch.setattr(engine_module, "CANCEL_AFTER_S", 0.4)
    monkeypatch.setattr(engine_module, "KILL_AFTER_S", 0.8)


def names(events, type):
    return [event.job for event in events if event.type == type]


def test_a_plan_runs_to_its_end(paths, make_job, make_plan, make_point, drive):
    """Service and client are submitted in order, journaled around, watched and collected."""
    service = make_job("cache", "publish", 'event phase \'{"name": "ready"}\'', "sleep 0.3", "end completed ''", role="service")
    client = make_job("load", "measured p0000-r0 ok", 'event point_finished \'{"point": "p0000-r0"}\'', "end completed ''")
    plan = make_plan(service, client, points=[make_point("p0000-r0")])
    status, events, engine = drive(plan)
    assert status == "finished"
    assert names(events, "submitted") == ["cache", "load"]
    assert sorted(names(events, "job_ended")) == ["cache", "load"]
    assert [event.data["name"] for event in events if event.type == "phase"] == ["ready"]
    assert names(events, "point_finished") == ["load"]
    kinds = [(entry["type"], entry["data"].get("token")) for entry in read_journal(paths.journal)]
    for job in plan.jobs:
        assert (
            kinds.index(("submit_intent", job.token))
            < kinds.index(("submitted", job.token))
            < kinds.index(("job_final", job.token))
        )
    result = collect(plan, paths, status, engine.statuses)
    assert [outcome.state for outcome in result.jobs] == ["completed", "completed"]
    assert result.jobs[0].phases_s == {"measure": 1.5}
    assert result.measurements["load/p0000-r0"][0]["status"] == "ok"


def test_a_stop_ends_every_job_by_the_stop_file(paths, make_job, make_plan, make_point, drive):
    """Jobs that heed the stop file end by themselves, keep what they measured, and none is submitted any more."""

    async def during(engine, _submitter):
        while not (paths.job("afb-r-load-0").folder / "0/measurements").exists():
            await asyncio.sleep(0.02)
        engine.request_stop("interrupted")

    plan = make_plan(
        make_job("cache", WAIT, role="service"),
        make_job("load", "measured p0 cut", WAIT),
        make_job("late", "end completed ''"),
        max_jobs=2,
    )
    status, events, engine = drive(plan, during)
    assert status == "interrupted"
    assert names(events, "submitted") == ["cache", "load"]
    assert {status.state for status in engine.statuses.values()} == {JobState.CANCELLED}
    assert not finished(paths, make_point("p0"))


def test_a_job_that_heeds_nothing_is_killed(paths, make_job, make_plan, drive, short):
    """Stop file, TERM, KILL: after that no process of the job is left."""

    async def during(engine, submitter):
        while not any(status.state is JobState.RUNNING for status in (await submitter.poll()).values()):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        engine.request_stop("interrupted")

    status, _events, engine = drive(make_plan(make_job("deaf", "trap '' TERM", "setsid sleep 100 &", "sleep 100")), during)
    assert status == "interrupted"
    assert engine.statuses["afb-r-deaf-0"].state is JobState.FAILED
    for _ in range(100):
        if not list(belonging("AFB_TOKEN=afb-r-deaf-0", paths.job("afb-r-deaf-0").folder)):
            return
        asyncio.run(asyncio.sleep(0.05))
    raise AssertionError("processes are left")


def test_a_job_that_heeds_term_is_not_killed(paths, make_job, make_plan, drive, short):
    """TERM is enough for a job that handles it."""

    async def during(engine, submitter):
        while not (paths.job("afb-r-slow-0").folder / "armed").exists():
            await asyncio.sleep(0.02)
        engine.request_stop("interrupted")

    job = make_job("slow", *HEEDS_TERM)
    _status, _events, engine = drive(make_plan(job), during)
    assert (engine.statuses[job.token].state, engine.statuses[job.token].text) == (JobState.CANCELLED, "TERM")


def test_detaching_leaves_jobs_alone(paths, make_job, make_plan, drive):
    """The controller goes, the job finishes, another controller finds it finished."""

    async def during(engine, submitter):
        while not await submitter.poll():
            await asyncio.sleep(0.02)
        engine.request_detach()

    plan = make_plan(make_job("load", "sleep 0.5", "end completed ''"))
    status, _events, _engine = drive(plan, during)
    assert status == "detached"
    status, events, _engine = drive(plan)
    assert status == "finished"
    assert names(events, "submitted") == []


def test_at_most_max_jobs_at_a_time(paths, make_job, make_plan, drive):
    """Jobs beyond the limit wait for others to end."""
    lines = ("echo x >> $run/running", "sleep 0.3", "end completed ''")
    jobs = [make_job(f"j{number}", *lines) for number in range(4)]
    seen = []

    async def during(_engine, submitter):
        for _ in range(40):
            seen.append(sum(not status.state.final for status in (await submitter.poll()).values()))
            await asyncio.sleep(0.02)

    status, _events, _engine = drive(make_plan(*jobs, max_jobs=2), during)
    assert status == "finished"
    assert max(seen) == 2
    assert (paths.folder / "running").read_text() == "x\n" * 4


def test_when_ready_waits_for_the_endpoint(paths, make_job, make_plan, drive):
    """A client with `submit: when_ready` is submitted after its service has published."""
    service = make_job("cache", "sleep 0.5", "publish", "touch published", "sleep 0.5", "end completed ''", role="service")
    client = make_job(
        "load",
        f"[ -e $run/jobs/{service.token}/published ] && end completed '' || end failed early",
        submit="when_ready",
        services=(service.token,),
    )
    status, _events, engine = drive(make_plan(service, client))
    assert status == "finished"
    assert engine.statuses[client.token].state is JobState.COMPLETED


def test_a_client_whose_service_has_ended_is_not_submitted(make_job, make_plan, drive):
    """There is nothing to measure, and that is said."""
    service = make_job("cache", "end failed 'no memory'", role="service")
    client = make_job("load", "end completed ''", submit="when_ready", services=(service.token,))
    status, events, _engine = drive(make_plan(service, client))
    assert status == "finished"
    assert names(events, "submitted") == ["cache"]
    assert any("cache, which it needs, has ended" in event.data["text"] for event in events if event.type == "warning")


class Refusing(LocalSubmitter):
    """A site that takes the first job and refuses the second."""

    async def submit(self, job):
        if job.name == "load":
            raise SubmitError("no more processes", "wait a little")
        return await super().submit(job)


def test_a_refused_job_stops_the_run(paths, make_job, make_plan, drive):
    """What was submitted is stopped, and the error is handed on with its hint."""
    plan = make_plan(make_job("cache", WAIT, role="service"), make_job("load", WAIT))
    status, _events, engine = drive(plan, submitter=Refusing(paths))
    assert status == "failed"
    assert engine.error == {"code": "submit", "text": "no more processes", "hint": "wait a little"}
    assert engine.statuses["afb-r-cache-0"].state is JobState.CANCELLED
    assert list(belonging("AFB_TOKEN=afb-r-cache-0", paths.job("afb-r-cache-0").folder)) == []


def test_a_journal_that_cannot_be_written_stops_the_jobs(paths, make_job, make_plan, drive, monkeypatch):
    """No space for the journal: the run fails with the place, and no job runs on unseen."""
    real = os.fsync
    calls = []

    def full(fd):
        calls.append(fd)
        if len(calls) > 6:
            raise OSError(28, "No space left on device", str(paths.journal))
        real(fd)

    monkeypatch.setattr("aifactory_bench.runs.journal.os.fsync", full)
    status, _events, engine = drive(make_plan(*(make_job(f"j{number}", WAIT) for number in range(8))))
    assert status == "failed"
    assert "No space left" in engine.error["text"]
    assert all(status.state.final for status in engine.statuses.values())


def test_following_writes_nothing(paths, make_job, make_plan, drive):
    """Without the lock nothing is submitted, and the lease is not touched."""
    plan = make_plan(make_job("load", "sleep 0.3", "end completed ''"), make_job("never", "touch $run/ran"))
    asyncio.run(LocalSubmitter(paths).submit(plan.jobs[0]))
    status, events, _engine = drive(plan, lock=False)
    assert status == "finished"
    assert names(events, "submitted") == []
    assert not paths.lease.exists()
    assert not paths.journal.exists()
    assert not (paths.folder / "ran").exists()


def test_a_controller_that_was_replaced_detaches(paths, make_job, make_plan, drive, monkeypatch):
    """The old controller sees at its heartbeat that it lost the run, and leaves the jobs to the new one."""
    monkeypatch.setattr(engine_module, "HEARTBEAT_S", 0.1)

    async def during(_engine, submitter):
        while not await submitter.poll():
            await asyncio.sleep(0.02)
        paths.lock.unlink()
        new = ControllerLock.acquire(paths.lock)
        await asyncio.sleep(0.5)
        new.release()

    status, events, _engine = drive(make_plan(make_job("load", "sleep 0.3", "end completed ''")), during)
    assert status == "detached"
    assert any("taken this run over" in event.data["text"] for event in events if event.type == "warning")


def test_a_stop_file_from_elsewhere_stops_the_run(paths, make_job, make_plan, drive):
    """`cancel` in another terminal: later jobs are not submitted."""

    async def during(_engine, submitter):
        while not await submitter.poll():
            await asyncio.sleep(0.02)
        await submitter.write("stop/all", "cancelled\n")

    plan = make_plan(make_job("a", WAIT), make_job("b", "end completed ''"), max_jobs=1)
    status, events, _engine = drive(plan, during)
    assert status == "interrupted"
    assert names(events, "submitted") == ["a"]


def test_the_lease_changes_while_the_controller_lives(paths, make_job, make_plan, drive):
    """The text of the lease differs from poll to poll."""
    texts = set()

    async def during(_engine, submitter):
        for _ in range(30):
            if paths.lease.exists():
                texts.add(paths.lease.read_text())
            await asyncio.sleep(0.02)

    drive(make_plan(make_job("load", "sleep 0.6", "end completed ''")), during)
    assert len(texts) > 2


def test_a_plan_survives_its_document(make_job, make_plan, make_point):
    """plan.json holds everything."""
    plan = make_plan(make_job("load", "true", services=("afb-r-cache-0",), cpus=2), points=[make_point("p0")])
    assert plan_from_json(plan_to_json(plan)) == plan
    for text in ("{}", "[]", "{", plan_to_json(plan).replace('"version": 1', '"version": 9')):
        with pytest.raises(ValueError):
            plan_from_json(text)


def test_what_a_dead_job_left_is_swept(paths, make_job, make_plan, drive):
    """A job that dies and leaves a process in another session: the run's end finds it."""
    status, _events, _engine = drive(make_plan(make_job("load", "setsid sleep 100 & sleep 0.1", "kill -9 $$")))
    assert status == "finished"
    for _ in range(100):
        if not list(belonging("AFB_TOKEN=afb-r-load-0", paths.job("afb-r-load-0").folder)):
            return
        asyncio.run(asyncio.sleep(0.05))
    raise AssertionError("a process is left")


def test_a_lease_that_cannot_be_written_stops_the_jobs(paths, make_job, make_plan, drive):
    """A full disk shows as an error of the site: the run fails with it, and no job runs on unseen."""

    class Full(LocalSubmitter):
        async def write(self, name, text):
            if name == "lease" and "sleeper" in "".join(await self.poll()):
                raise SiteError(f"{paths.lease}: No space left on device", "free some space")
            await super().write(name, text)

    status, _events, engine = drive(make_plan(make_job("sleeper", "exec sleep 100")), submitter=Full(paths))
    assert status == "failed"
    assert engine.error["code"] == "site"
    assert engine.error["hint"] == "free some space"
    assert all(status.state.final for status in engine.statuses.values())


def test_a_job_that_died_without_a_word_holds_nobody_up(paths, make_job, make_plan, drive):
    """Who waits for the end of a job that was killed from outside sees it: its last word is written for it."""
    silent = make_job("silent", "mkdir 0", "kill -9 $$", role="service")
    waiting = make_job(
        "waiting", "for _ in $(seq 400); do [ -e $run/jobs/afb-r-silent-0/0/exit.json ] && end completed ''; sleep 0.05; done"
    )
    plan = make_plan(silent, waiting)
    status, _events, engine = drive(plan)
    assert status == "finished"
    assert engine.statuses[waiting.token].state is JobState.COMPLETED
    first, second = collect(plan, paths, status, engine.statuses).jobs
    assert (first.state, first.outcome, second.outcome) == ("failed", "failed", "completed")
    assert "ended without a word" in first.text


def test_a_job_that_was_given_up_holds_nobody_up(paths, make_job, make_plan, drive):
    """A client without its service is never submitted, and the next stage does not wait for its end."""
    service = make_job("cache", "end failed 'no memory'", role="service")
    client = make_job("load", "touch $run/ran", services=(service.token,), submit="when_ready")
    later = make_job(
        "later", "for _ in $(seq 400); do [ -e $run/jobs/afb-r-load-0/0/exit.json ] && end completed ''; sleep 0.05; done"
    )
    plan = make_plan(service, client, later)
    status, events, engine = drive(plan)
    assert status == "finished"
    assert names(events, "submitted") == ["cache", "later"]
    outcomes = {job.name: (job.state, job.outcome) for job in collect(plan, paths, status, engine.statuses).jobs}
    assert outcomes == {
        "cache": ("failed", "failed"),
        "load": ("not submitted", "no_endpoint"),
        "later": ("completed", "completed"),
    }


def test_following_lasts_as_long_as_the_controller_drives(paths, make_job, make_plan, drive):
    """Between two stages no job runs: a follower does not take that for the end."""
    first, second = make_job("first", "end completed ''"), make_job("second", "end completed ''")
    lock = []

    async def during(_engine, submitter):
        lock.append(ControllerLock.acquire(paths.lock))
        await submitter.submit(first)
        await asyncio.sleep(0.6)
        await submitter.submit(second)
        while not (await submitter.poll())[second.token].state.final:
            await asyncio.sleep(0.02)
        lock[0].release()

    status, events, _engine = drive(make_plan(first, second), during, lock=False)
    assert status == "finished"
    assert names(events, "job_ended") == ["first", "second"]


def test_a_plan_that_grew_is_executed_by_the_same_engine(paths, make_job, make_plan):
    """A second execution goes on where the first one ended, and tells nothing twice."""
    first, second = make_job("first", "event ready '{}'", "end completed ''"), make_job("second", "end completed ''")
    events = []

    async def run():
        lock = ControllerLock.acquire(paths.lock)
        engine = Engine(make_plan(first), paths, LocalSubmitter(paths), events.append, lock)
        await engine.execute()
        engine.extend(make_plan(first, second))
        status = await engine.execute()
        lock.release()
        return status

    paths.folder.mkdir()
    assert asyncio.run(run()) == "finished"
    assert [event.job for event in events if event.type == "ready"] == ["first"]
    assert names(events, "job_ended") == ["first", "second"]


def test_only_jobs_that_were_submitted_are_looked_at(paths, make_job, make_plan):
    """A thousand jobs that wait for their turn cost nothing at each look."""
    job = make_job("load")
    watcher = NodeWatcher(make_plan(job), paths)
    EventLog(paths.job(job.token).rank(0).events, "load", 0).append("ready")
    assert list(watcher.advance(())) == []
    assert [event.type for event in watcher.advance({job.token})] == ["ready"]


DEAF = "trap '' TERM; for _ in $(seq 600); do sleep 0.05; done"


def spoil(paths, how):
    """Move or remove what the run needs."""
    if how == "moved":
        paths.folder.rename(paths.folder.with_name("elsewhere"))
    elif how == "replaced":
        paths.folder.rename(paths.folder.with_name("elsewhere"))
        paths.folder.mkdir()
    else:
        shutil.rmtree(paths.folder if how == "removed" else paths.folder / "jobs")


@pytest.mark.parametrize("how", ["moved", "replaced", "removed", "jobs removed"])
def test_a_run_folder_that_is_gone_ends_the_run(paths, make_job, make_plan, drive, how):
    """One error, every process ended, nothing made anew, and no job submitted a second time."""

    async def during(engine, _submitter):
        while "afb-r-deaf-0" not in engine.statuses:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        spoil(paths, how)

    status, events, engine = drive(make_plan(make_job("deaf", DEAF), make_job("late", "true"), max_jobs=1), during)
    assert status == "failed"
    assert engine.error["code"] == "run"
    assert "the run folder is gone" in engine.error["text"]
    assert names(events, "submitted") == ["deaf"]
    assert engine.statuses["afb-r-deaf-0"].state is JobState.LOST
    assert not Path("/proc", engine.statuses["afb-r-deaf-0"].job_id).exists()
    assert paths.folder.exists() == (how in ("replaced", "jobs removed"))
    assert not (paths.folder / "jobs").exists()
    assert not (how == "replaced" and list(paths.folder.iterdir()))


def test_a_job_that_is_not_seen_is_not_submitted_again(paths, make_job, make_plan, drive):
    """Absent from a poll is not `never submitted`."""

    class Forgetful(LocalSubmitter):
        async def poll(self):
            found = await super().poll()
            return {} if looks.pop() else found

    looks = [False] * 1000 + [True] * 4
    status, events, _engine = drive(make_plan(make_job("load", "sleep 0.3", "end completed ''")), submitter=Forgetful(paths))
    assert status == "finished"
    assert names(events, "submitted") == ["load"]


def test_a_stop_that_cannot_be_written_stops_the_jobs(paths, make_job, make_plan, drive):
    """A full disk when it matters: TERM and KILL need no room, and the error is told."""

    class Full(LocalSubmitter):
        async def write(self, name, text):
            if name.startswith("stop/"):
                raise SiteError(f"{paths.stop}: No space left on device")
            await super().write(name, text)

    async def during(engine, _submitter):
        while not (paths.job("afb-r-slow-0").folder / "armed").exists():
            await asyncio.sleep(0.02)
        engine.request_stop("interrupted")

    job = make_job("slow", *HEEDS_TERM)
    status, events, engine = drive(make_plan(job), during, submitter=Full(paths))
    assert (status, engine.error["code"]) == ("failed", "site")
    assert engine.statuses[job.token].state is JobState.CANCELLED
    assert names(events, "job_ended") == ["slow"]


@pytest.mark.parametrize(("status", "is_finished"), [("ok", True), ("cut", False), ("failed", False)])
def test_only_a_measurement_that_ran_to_its_end_is_one(paths, make_job, make_plan, make_point, drive, status, is_finished):
    """What was cut, or failed, is measured again by `attach`."""
    point = make_point("p0000-r0")
    drive(make_plan(make_job("load", f"measured p0000-r0 {status}", "end completed ''"), points=[point]))
    assert finished(paths, point) is is_finished
