"""The engine and a site that is out of reach for a while, wants a person, or asks for patience: jobs never suffer for that."""

import asyncio

import pytest

from aifactory_bench.errors import AccessError, NotExecutedError, OutcomeUnknownError
from aifactory_bench.runs import engine as engine_module
from aifactory_bench.runs.journal import read_journal
from aifactory_bench.submitters.base import JobState
from aifactory_bench.submitters.local import LocalSubmitter

WAIT = "for _ in $(seq 600); do stopped && end stopped 'stop file'; sleep 0.05; done"


class Apart(LocalSubmitter):
    """A site whose connection does what a test says: `errors` are raised by the next calls of any kind, one each."""

    queues = True

    def __init__(self, paths):
        super().__init__(paths)
        self.errors = []
        self.hold = None
        self.later = 0

    async def _pass(self):
        if self.hold is not None:
            await self.hold.wait()
        if self.errors:
            raise self.errors.pop(0)

    async def poll(self):
        await self._pass()
        return await super().poll()

    async def write(self, name, text):
        if name == "stop/all":
            await self._pass()
        await super().write(name, text)

    async def submit_all(self, jobs):
        await self._pass()
        if self.later:
            self.later -= 1
            self.trouble = "not now"
            return [None] * len(jobs)
        self.trouble = ""
        return await super().submit_all(jobs)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(engine_module, "RETRY_S", 0.05)


def warnings(events):
    return [event.data["text"] for event in events if event.type == "warning"]


def test_a_lost_connection_is_told_once_and_the_run_goes_on(paths, make_job, make_plan, drive):
    """Whatever step it struck is made again; nothing is submitted twice."""
    submitter = Apart(paths)
    lost = "the connection is lost"
    submitter.errors = [NotExecutedError(lost), OutcomeUnknownError(lost), NotExecutedError(lost)]
    plan = make_plan(make_job("load", "sleep 0.3", "end completed ''"))
    status, events, engine = drive(plan, submitter=submitter)
    assert (status, engine.error) == ("finished", None)
    assert warnings(events) == [lost]
    assert [entry["type"] for entry in read_journal(paths.journal)].count("submit_intent") == 1
    assert len([event for event in events if event.type == "submitted"]) == 1


def test_a_submission_that_has_to_wait_is_asked_for_again(paths, make_job, make_plan, drive):
    """As often as it takes, and said once."""
    submitter = Apart(paths)
    submitter.later = 3
    status, events, _engine = drive(make_plan(make_job("load", "end completed ''")), submitter=submitter)
    assert status == "finished"
    assert submitter.later == 0
    assert warnings(events) == ["not now"]


def test_a_site_that_wants_a_person_detaches_the_run(paths, make_job, make_plan, drive):
    """Its jobs are left alone; the error says what is wanted."""
    submitter = Apart(paths)

    async def during(_engine, _submitter):
        while not (paths.job("afb-r-load-0").folder / "0/events.jsonl").exists():
            await asyncio.sleep(0.02)
        submitter.errors = [AccessError("it asks for a second factor", "attach later")]

    plan = make_plan(make_job("load", 'event phase \'{"name": "start"}\'', "sleep 1", "end completed ''"))
    status, _events, engine = drive(plan, during, submitter=submitter)
    assert status == "detached"
    assert engine.error == {"code": "access", "text": "it asks for a second factor", "hint": "attach later"}
    assert not paths.stop_file("all").exists()
    assert drive(plan)[0] == "finished"


def test_a_stop_reaches_a_site_that_comes_back(paths, make_job, make_plan, drive):
    """The stop file is written as soon as that is possible, once."""
    submitter = Apart(paths)

    async def during(engine, _submitter):
        while not engine.statuses or any(status.state is not JobState.RUNNING for status in engine.statuses.values()):
            await asyncio.sleep(0.02)
        submitter.errors = [NotExecutedError("out of reach")] * 4
        engine.request_stop("interrupted")

    status, events, _engine = drive(make_plan(make_job("load", WAIT)), during, submitter=submitter)
    assert status == "interrupted"
    assert submitter.errors == []
    assert len([event for event in events if event.type == "stopping"]) == 1
    assert [entry["type"] for entry in read_journal(paths.journal)].count("stop_intent") == 1


@pytest.mark.parametrize("lock", [True, False])
def test_a_run_can_be_left_while_its_site_does_not_answer(paths, make_job, make_plan, drive, lock):
    """Nobody has to wait for a connection that is made again at its own pace."""
    submitter = Apart(paths)
    plan = make_plan(make_job("load", "sleep 1", "end completed ''"))
    if not lock:
        drive(plan, _leave_soon)

    async def during(engine, _submitter):
        while lock and not engine.statuses:
            await asyncio.sleep(0.02)
        submitter.hold = asyncio.Event()
        await asyncio.sleep(0.2)
        engine.request_detach()

    status, _events, _engine = drive(plan, during, lock=lock, submitter=submitter)
    assert status == "detached"
    submitter.hold = None
    assert drive(plan)[0] == "finished"


async def _leave_soon(engine, _submitter):
    while not engine.statuses:
        await asyncio.sleep(0.02)
    engine.request_detach()


def test_many_jobs_are_asked_for_at_once(paths, make_job, make_plan, drive):
    """In one call, as far as the plan lets them run at a time."""
    asked = []

    class Counting(LocalSubmitter):
        async def submit_all(self, jobs):
            asked.append([job.name for job in jobs])
            return await super().submit_all(jobs)

    jobs = [make_job(f"j{number}", "end completed ''") for number in range(5)]
    status, _events, _engine = drive(make_plan(*jobs, max_jobs=3), submitter=Counting(paths))
    assert status == "finished"
    assert asked[0] == ["j0", "j1", "j2"]
    assert sorted(name for names in asked for name in names) == ["j0", "j1", "j2", "j3", "j4"]


def test_jobs_that_wait_in_a_queue_are_taken_out_of_it(paths, make_job, make_plan, drive):
    """They read no stop file, and are asked to end at once."""
    cancelled = []

    class Waiting(Apart):
        async def poll(self):
            return {
                token: status if token.endswith("other-0") else type(status)(token, "1", JobState.PENDING, "Priority")
                for token, status in (await super().poll()).items()
                if token not in cancelled
            } | {token: _cancelled(token) for token in cancelled}

        async def cancel(self, tokens):
            cancelled.extend(tokens)
            await super().kill(tokens)

    def _cancelled(token):
        from aifactory_bench.submitters.base import JobStatus

        return JobStatus(token, "1", JobState.CANCELLED)

    async def during(engine, _submitter):
        while not engine.statuses:
            await asyncio.sleep(0.02)
        engine.request_stop("interrupted")

    status, events, _engine = drive(make_plan(make_job("load", WAIT)), during, submitter=Waiting(paths))
    assert status == "interrupted"
    assert set(cancelled) == {"afb-r-load-0"}
    assert any(event.type == "job_state" and event.data["text"] == "Priority" for event in events)
