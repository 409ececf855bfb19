"""The submitter of a Slurm site over a simulated one: what is lost on the way costs time, and neither a job nor the truth."""

import asyncio
import os
import shutil
import subprocess

import pytest
from attrs import evolve

from aifactory_bench.errors import (
    LockedError,
    NotExecutedError,
    OutcomeUnknownError,
    RunError,
    SiteError,
    SubmitError,
    TransportError,
    UsageError,
)
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.sites.model import Login
from aifactory_bench.sites.rules import Rules
from aifactory_bench.submitters.base import JobState
from aifactory_bench.submitters.process import ProcessId, boot_id
from aifactory_bench.submitters.slurm import EXPIRY_S, SlurmSubmitter
from aifactory_bench.submitters.slurm_site import is_dead
from aifactory_bench.testing.fake_slurm import (
    Fault,
    Instant,
    Never,
    Refusal,
    down,
    empty,
    freeze,
    late,
    lost_after,
    lost_before,
    noise,
    refused,
    truncated,
    unknown_state,
)
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports.local import LocalTransport
from aifactory_bench.transports.ssh import SshTransport

PERMANENT = [Refusal.ACCOUNT, Refusal.FEATURE, Refusal.NODES, Refusal.PARTITION, Refusal.QOS, Refusal.TIME_LIMIT]


class Drive:
    """A controller at work: it does what the engine does, and a step takes as long as a test says."""

    def __init__(self, lab, controller, jobs):
        self.lab = lab
        self.controller = controller
        self.jobs = jobs
        self.statuses = {}
        self.lost = 0

    async def turn(self, after=5.0):
        """Poll, submit what is not there, and let time pass; what is lost is done again in the next turn."""
        try:
            self.statuses |= await self.controller.poll()
            wanted = [job for job in self.jobs if job.token not in self.statuses]
            if wanted:
                answers = await self.controller.submit_all(wanted)
                for job, answer in zip(wanted, answers, strict=True):
                    if isinstance(answer, SubmitError):
                        raise answer
                    if answer is not None:
                        self.statuses[job.token] = None
        except TransportError:
            self.lost += 1
        self.lab.advance(after)

    async def until(self, reached, after=5.0, turns=60):
        for _ in range(turns):
            await self.turn(after)
            if reached():
                return
        raise AssertionError(f"not reached: {self.statuses}, {self.controller.trouble}")

    def state(self, number=0):
        status = self.statuses.get(self.lab.token(number))
        return None if status is None else status.state


@pytest.fixture
def drive(lab):
    """Make a controller with some jobs at work, in a run that is staged."""
    return starter(lab)


def starter(lab):
    def make(count=1, plan=None, **more):
        jobs = [lab.job(number) for number in range(count)]
        plan = plan or lab.plan(jobs)
        lab.stage(plan)
        return Drive(lab, lab.controller(plan, **more), jobs)

    return make


def run(coroutine):
    return asyncio.run(coroutine)


def submitted(driven):
    """Whether all jobs are known."""
    return lambda: len(driven.statuses) == len(driven.jobs)


# submission


@pytest.mark.parametrize("inner", [None, LocalTransport], ids=["shell", "local"])
def test_a_whole_life(lab, drive, faulty, inner):
    driven = drive(2, transport=faulty(inner=inner and inner()))

    async def main():
        await driven.until(submitted(driven))
        await driven.turn()
        assert driven.state() is JobState.RUNNING
        for number in range(2):
            lab.begin(lab.token(number), number + 1)
            lab.end(lab.token(number), text="well")
            lab.slurm.end(number + 1, "COMPLETED")
        await driven.turn()
        assert [driven.state(number) for number in range(2)] == [JobState.COMPLETED] * 2
        assert driven.statuses[lab.token()].nodes == "node1"
        await driven.controller.close()

    run(main())
    assert not (lab.run.folder / ".controller").exists()


FAULTS = {
    "said timed out, and was not": lost_before(),
    "said timed out, and was": lost_after(),
    "killed before": lost_before(killed=True),
    "killed after": lost_after(killed=True),
    "appears 20 s later": late(20),
    "said nothing, and was": empty(effect=True),
    "said nothing, and was not": empty(),
    "the id was cut off": truncated(0),
    "not reachable": down(),
    "noise": noise("Welcome!\n", "sbatch: lua: hello\n"),
    "no room for more": refused(Refusal.QUOTA),
    "munge": refused(Refusal.CREDENTIAL),
    "standby": refused(Refusal.STANDBY),
    "busy": refused(Refusal.TEMPORARY),
    "broken off": Fault(
        effect="none", says="text", stderr="sbatch: error: Socket timed out on send/recv operation\n", exit_code=1
    ),
    "gibberish": Fault(says="text", stdout="???\n", stderr="", exit_code=3),
}


def test_whatever_sbatch_says_each_job_is_there_once(lab, drive):
    """Each fault strikes one job of a batch, and its next attempt too, where there is one."""
    driven = drive(len(FAULTS))
    for fault in [*FAULTS.values(), *FAULTS.values()]:
        lab.slurm.faults.next("sbatch", fault)

    async def main():
        await driven.until(submitted(driven), after=15)
        await driven.turn()

    run(main())
    assert sorted(job.name for job in lab.slurm.jobs()) == sorted(job.token for job in driven.jobs)
    assert {driven.state(number) for number in range(len(FAULTS))} == {JobState.RUNNING}
    assert driven.controller.trouble == ""


def test_one_that_turns_up_after_it_was_given_up_is_ended_by_the_fence(lab, drive):
    """It appears two minutes later, when another one has been submitted: the one that began first is the job."""
    lab.slurm.behave("*", Instant(run_s=1e6, pending_s=1000))
    driven = drive()
    lab.slurm.faults.next("sbatch", late(120))

    async def main():
        await driven.until(submitted(driven), after=20)
        assert lab.duplicates()
        lab.advance(60)
        first, second = [job.job_id for job in lab.slurm.jobs()]
        lab.advance(1100)
        lab.begin(lab.token(), first)
        await driven.turn()
        lab.slurm.end(second, "COMPLETED")
        for _ in range(5):
            await driven.turn(40)
            assert driven.state() is JobState.RUNNING
        assert driven.statuses[lab.token()].job_id == first
        lab.end(lab.token())
        lab.slurm.end(first, "COMPLETED")
        await driven.turn()
        assert driven.state() is JobState.COMPLETED

    run(main())


@pytest.mark.parametrize("why", PERMANENT)
def test_a_refusal_for_good_is_told_with_advice(lab, drive, why):
    driven = drive(2)
    lab.slurm.faults.next("sbatch", refused(why))

    async def main():
        answers = await driven.controller.submit_all(driven.jobs)
        assert isinstance(answers[0], SubmitError)
        assert why.value[:30] in str(answers[0])
        assert answers[0].hint
        assert answers[1] == "1"
        lab.slurm.faults.next("sbatch", refused(why))
        with pytest.raises(SubmitError):
            await driven.controller.submit(driven.jobs[0])

    run(main())


def test_a_certain_refusal_is_made_again_without_look_ups(lab, drive):
    driven = drive()
    lab.slurm.faults.next("sbatch", refused(Refusal.QUOTA))

    async def main():
        assert await driven.controller.submit_all(driven.jobs) == [None]
        assert "limit" in driven.controller.trouble
        await driven.controller.poll()
        assert "limit" in driven.controller.trouble, "it still has to wait"
        assert await driven.controller.submit_all(driven.jobs) == ["1"]
        await driven.controller.poll()
        assert driven.controller.trouble == ""

    run(main())


def test_one_job_that_has_to_wait_is_an_error_of_its_call(lab, drive):
    driven = drive()
    lab.slurm.faults.next("sbatch", lost_after())

    async def main():
        with pytest.raises(OutcomeUnknownError, match="not submitted yet"):
            await driven.controller.submit(driven.jobs[0])
        assert await driven.controller.submit(driven.jobs[0]) == "1"

    run(main())


@pytest.mark.parametrize("fault", ["before", "after", "cut", "garbled", "killed"])
def test_whatever_the_connection_loses_each_job_is_there_once(lab, drive, faulty, fault):
    """Every second call."""
    transport = faulty(seed=3)
    driven = drive(4, transport=transport)
    transport.faults = [fault, ""] * 6 + ["", fault] * 6

    async def main():
        await driven.until(submitted(driven), after=60)
        transport.faults = []
        await driven.turn()

    run(main())
    assert sorted(job.name for job in lab.slurm.jobs()) == [lab.token(number) for number in range(4)]
    assert all(driven.state(number) is JobState.RUNNING for number in range(4))
    assert driven.lost or fault == "garbled"


def test_a_controller_that_died_is_followed_by_one_that_knows_all(lab, drive):
    """Killed after its jobs went in, before it heard of it: the next one knows them from the queue, and from what is there."""
    driven = drive(2)
    plan = lab.plan(driven.jobs)
    run(driven.controller.submit_all(driven.jobs[:1]))
    lab.slurm.faults.next("sbatch", lost_after(killed=True))
    run(driven.controller.submit_all(driven.jobs[1:]))
    after = Drive(lab, lab.controller(plan), driven.jobs)
    after.controller.driving = False

    async def main():
        await after.turn(EXPIRY_S)
        assert {token: status.job_id for token, status in after.statuses.items()} == {lab.token(0): "1", lab.token(1): "2"}
        assert await after.controller.submit_all(driven.jobs) == ["1", "2"]

    run(main())
    assert len(lab.slurm.jobs()) == 2


def test_two_controllers_submit_each_job_once(lab, drive):
    driven = drive(6)
    other = Drive(lab, lab.controller(lab.plan(driven.jobs)), driven.jobs)

    async def main():
        for _ in range(30):
            answers = await asyncio.gather(*(one.controller.submit_all(one.jobs) for one in (driven, other)))
            if all(None not in each for each in answers):
                break
            lab.advance(5)
        assert answers[0] == answers[1]

    run(main())
    assert len(lab.slurm.jobs()) == 6


def test_an_sbatch_that_hangs_is_ended_and_its_job_found(lab, drive, monkeypatch):
    """Its time is up though the cluster took the job."""
    monkeypatch.setattr("aifactory_bench.submitters.slurm.SBATCH_S", 1.0)
    driven = drive(2)
    frozen = lab.slurm.faults.next("sbatch", freeze(after=True))

    async def main():
        assert await driven.controller.submit_all(driven.jobs) == [None, "2"]
        frozen.off()
        assert await driven.controller.submit_all(driven.jobs) == ["1", "2"]

    run(main())
    assert len(lab.slurm.jobs()) == 2


def test_many_go_in_few_calls_as_far_as_the_site_allows(lab_of, faulty, monkeypatch):
    """Fifty in one; after a turn's worth somebody else is listened to."""
    monkeypatch.setattr("aifactory_bench.submitters.slurm.MOST_A_TURN", 55)
    monkeypatch.setattr("aifactory_bench.submitters.slurm_site.SUBMIT_BURST", 1000)
    lab = lab_of()
    jobs = [lab.job(number) for number in range(58)]
    lab.stage(lab.plan(jobs))
    transport = faulty()
    unbounded = lab.controller(lab.plan(jobs), transport=transport)

    async def main():
        answers = await unbounded.submit_all(jobs)
        assert all(answers)
        assert len(transport.calls) == 2
        transport.faults = ["before"]
        with pytest.raises(NotExecutedError):
            await unbounded.submit_all(jobs)
        assert await unbounded.submit_all(jobs) == answers

    run(main())
    assert len(lab.slurm.jobs()) == 58


def test_a_few_are_not_worth_a_call_of_their_own(lab_of, faulty):
    """What may go a moment later waits until it is some more, or the rest."""
    lab = lab_of()
    jobs = [lab.job(number) for number in range(40)]
    lab.stage(lab.plan(jobs))
    transport = faulty()
    controller = lab.controller(lab.plan(jobs), transport=transport, site=evolve(lab.site, submit_rate_per_s=2.0))

    async def main():
        assert sum(map(bool, await controller.submit_all(jobs))) == 20
        lab.advance(2)
        assert sum(map(bool, await controller.submit_all(jobs[20:]))) == 4
        assert len(transport.calls) == 2

    run(main())


def test_a_burst_is_bounded(lab, drive):
    """Twenty, and then as many as the site allows in a second."""
    driven = drive(26, site=evolve(lab.site, submit_rate_per_s=2.0))

    async def main():
        assert sum(answer is not None for answer in await driven.controller.submit_all(driven.jobs)) == 20
        assert await driven.controller.submit_all(driven.jobs) == [None] * 26
        lab.advance(3)
        assert sum(answer is not None for answer in await driven.controller.submit_all(driven.jobs[20:])) == 6

    run(main())
    assert len(lab.slurm.jobs()) == 26


def test_jobs_wait_for_those_before_them_by_their_ids(lab):
    first, second = lab.job(0), lab.job(1, after=(lab.token(0),))
    plan = lab.plan([first, second])
    lab.stage(plan)
    controller = lab.controller(plan)

    async def main():
        assert await controller.submit_all([first]) == ["1"]
        assert await controller.submit_all([second]) == ["2"]

    run(main())
    sent = [call.arguments for call in lab.slurm.call_log() if call.command == "sbatch"]
    assert "--dependency=afterany:1" in sent[1]
    assert "--kill-on-invalid-dep=yes" in sent[1]
    assert not [word for word in sent[0] if "dependency" in word]


def test_without_room_on_the_site_a_submission_waits(lab, drive):
    driven = drive()
    lab.program("mktemp", "echo 'mktemp: failed: No space left on device' >&2; exit 1")

    async def main():
        assert await driven.controller.submit_all(driven.jobs) == [None]
        assert "No space left" in driven.controller.trouble
        (lab.bin / "mktemp").unlink()
        assert await driven.controller.submit_all(driven.jobs) == ["1"]

    run(main())


# how they stand


def test_a_queue_that_does_not_answer_changes_nothing(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        switch = lab.slurm.faults.always("squeue", down())
        for _ in range(8):
            await driven.turn(300)
        assert driven.state() is JobState.RUNNING
        assert "Unable to contact" in driven.controller.trouble
        switch.off()
        await driven.turn()
        await driven.turn()
        assert driven.controller.trouble == ""

    run(main())
    assert lab.slurm.calls["sacct"] == 0


@pytest.mark.parametrize(
    "fault", [empty(), truncated(3), noise("# motd\n"), unknown_state("BRAND_NEW"), unknown_state("COMPLETING")]
)
def test_a_queue_that_answers_nonsense_ends_nothing(lab, drive, fault):
    driven = drive(2)

    async def main():
        await driven.until(lambda: driven.state(1) is JobState.RUNNING)
        switch = lab.slurm.faults.always("squeue", fault)
        for _ in range(8):
            await driven.turn(90)
        assert [driven.state(number) for number in range(2)] == [JobState.RUNNING] * 2
        switch.off()
        await driven.turn()
        assert [driven.state(number) for number in range(2)] == [JobState.RUNNING] * 2

    run(main())


def purge(lab, number=0, state="COMPLETED"):
    lab.slurm.end(number + 1, state)
    lab.slurm.purge(number + 1)


def test_purged_before_its_end_was_seen_its_own_word_decides(lab, drive):
    driven = drive(2)

    async def main():
        await driven.until(submitted(driven))
        for number in range(2):
            lab.begin(lab.token(number), number + 1)
        lab.end(lab.token(0), "failed", text="own words")
        purge(lab)
        await driven.until(lambda: driven.state().final, after=15)
        assert driven.state() is JobState.FAILED
        assert driven.statuses[lab.token()].text == "own words"
        purge(lab, 1, "NODE_FAIL")
        await driven.until(lambda: driven.state(1).final, after=15)
        assert driven.state(1) is JobState.NODE_FAIL, "from the accounts"

    run(main())
    assert 1 <= lab.slurm.calls["sacct"] <= 3


@pytest.mark.parametrize("accounting", [True, False])
def test_vanished_without_a_word_it_is_lost_and_never_completed(lab_of, accounting):
    lab = lab_of(accounting=accounting, accounting_lag_s=1e9)
    driven = starter(lab)()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.begin(lab.token(), 1)
        purge(lab)
        began = lab.now
        await driven.until(lambda: driven.state().final, after=10)
        assert driven.state() is JobState.LOST
        assert 60 <= lab.now - began <= 300

    run(main())
    assert lab.slurm.calls["sacct"] <= (3 if accounting else 1)


def test_accounts_that_say_nothing_once_are_asked_again(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        purge(lab, 0, "TIMEOUT")
        lab.slurm.faults.next("sacct", empty())
        await driven.until(lambda: driven.state().final, after=20)
        assert driven.state() is JobState.TIMEOUT

    run(main())


def test_an_empty_queue_and_the_word_of_a_first_execution_are_no_end(lab, drive):
    """A controller that comes while a job waits to be started again, and whose first looks find nothing."""
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.begin(lab.token(), 1)
        lab.end(lab.token(), "stopped")
        lab.slurm.requeue(1)
        after = Drive(lab, lab.controller(lab.plan(driven.jobs), driving=False), [])
        lab.slurm.faults.next("squeue", empty(), count=6)
        for _ in range(6):
            await after.turn(20)
            assert after.state() is None
        await after.turn()
        assert after.state() in {JobState.PENDING, JobState.RUNNING}

    run(main())


def test_without_an_answer_of_the_accounts_a_job_is_not_lost_for_long(lab, drive):
    """The database is down: it may know of the end."""
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        switch = lab.slurm.faults.always("sacct", down())
        purge(lab, 0, "TIMEOUT")
        for _ in range(8):
            await driven.turn(90)
            assert not driven.state().final
        switch.off()
        await driven.until(lambda: driven.state().final, after=30)
        assert driven.state() is JobState.TIMEOUT

    run(main())


def test_accounts_that_never_answer_end_the_wait_all_the_same(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.slurm.faults.always("sacct", down())
        purge(lab)
        await driven.until(lambda: driven.state().final, after=200)
        assert driven.state() is JobState.LOST

    run(main())


def test_accounts_that_say_it_runs_are_believed_for_a_while(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.slurm.purge(1)
        for _ in range(6):
            await driven.turn(100)
        assert driven.state() is JobState.RUNNING
        await driven.until(lambda: driven.state().final, after=100)
        assert driven.state() is JobState.LOST

    run(main())


def test_what_still_writes_is_not_lost_whatever_the_queue_says(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.begin(lab.token(), 1)
        lab.slurm.faults.always("squeue", empty())
        for _ in range(8):
            lab.begin(lab.token(), 1)
            await driven.turn(120)
        assert driven.state() is JobState.RUNNING

    run(main())
    assert lab.slurm.calls["sacct"] == 0


def test_files_that_come_late_are_waited_for(lab, drive):
    driven = drive(2)

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.slurm.end(1, "COMPLETED")
        lab.slurm.end(2, "COMPLETED")
        for _ in range(4):
            await driven.turn(10)
            assert driven.state() is JobState.RUNNING
        lab.begin(lab.token(), 1)
        lab.end(lab.token())
        await driven.turn(10)
        assert driven.state() is JobState.COMPLETED
        await driven.turn(20)
        await driven.turn(20)
        assert driven.state(1) is JobState.FAILED, "completed without a last word is not completed"

    run(main())


def test_put_back_into_the_queue_it_is_waited_for_anew(lab, drive):
    """The same id; last words of the first execution say nothing of the second."""
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.begin(lab.token(), 1)
        lab.end(lab.token(), "stopped")
        lab.slurm.requeue(1)
        await driven.turn()
        assert driven.state() is JobState.PENDING
        lab.slurm.faults.next("squeue", empty(), count=2)
        await driven.turn()
        await driven.turn()
        assert driven.state() is JobState.PENDING
        lab.advance(130)
        await driven.turn()
        assert driven.state() is JobState.RUNNING
        lab.run.job(lab.token()).rank(0).exit.unlink()
        await driven.turn()
        assert not driven.controller._paths.job(lab.token()).rank(0).exit.exists()
        lab.end(lab.token(), "completed", restart=1)
        lab.slurm.end(1, "COMPLETED")
        await driven.turn()
        assert driven.state() is JobState.COMPLETED

    run(main())


def test_one_that_can_never_start_is_cancelled_with_advice(lab, drive):
    lab.slurm.behave("*", Never("PartitionTimeLimit"))
    driven = drive()

    async def main():
        lab.slurm.faults.next("scancel", lost_before())
        await driven.until(lambda: driven.state() is JobState.FAILED)
        assert "lower `time`" in driven.statuses[lab.token()].text

    run(main())
    assert lab.slurm.job(1).state == "CANCELLED"


def test_one_that_waits_longer_than_it_may_is_cancelled(lab):
    lab.slurm.behave("*", Instant(pending_s=1e6))
    driven = starter(lab)(plan=lab.plan([lab.job()], max_pending_s=100.0))

    async def main():
        await driven.until(lambda: driven.state() is JobState.FAILED, after=20)
        assert "max_pending" in driven.statuses[lab.token()].text

    run(main())


def test_large_files_come_in_one_poll_and_before_the_end_is_told(lab, drive, monkeypatch):
    monkeypatch.setattr("aifactory_bench.submitters.slurm_site.MOST_BYTES", 5000)
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.begin(lab.token(), 1)
        rank = lab.run.job(lab.token()).rank(0)
        rank.measurements.mkdir()
        for number in range(6):
            rank.measurement(f"p{number}").write_text("m" * 3000)
        rank.log.write_text("x" * 20_000)
        lab.end(lab.token())
        lab.slurm.end(1, "COMPLETED")
        calls = lab.slurm.calls["squeue"]
        await driven.turn()
        assert driven.state() is JobState.COMPLETED
        assert lab.slurm.calls["squeue"] == calls + 1, "files alone do not ask the queue"
        mine = driven.controller._paths.job(lab.token()).rank(0)
        assert all(mine.measurement(f"p{number}").read_text() == "m" * 3000 for number in range(6))
        assert mine.log.stat().st_size == 20_000

    run(main())


# ends


def test_an_end_that_was_lost_is_asked_for_again(lab, drive):
    driven = drive(2)

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.slurm.faults.next("scancel", lost_before())
        await driven.controller.cancel([lab.token(0), lab.token(1)])
        assert lab.slurm.job(1).state == "RUNNING"
        await driven.turn(11)
        await driven.turn(11)
        assert [lab.slurm.job(number).state for number in (1, 2)] == ["CANCELLED"] * 2

    run(main())


def test_killing_takes_the_harder_way(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        await driven.controller.kill([lab.token(0), "afb-r1-unknown-0"])

    run(main())
    assert [call.arguments for call in lab.slurm.call_log() if "--signal=KILL" in call.arguments and "1" in call.arguments]
    assert [call.arguments for call in lab.slurm.call_log() if "afb-r1-unknown-0" in call.arguments]


def test_a_stopped_run_leaves_no_job_whose_submission_was_in_doubt(lab, drive):
    """Ctrl-C while nobody knows whether it is in the queue: it is cancelled by its name, and finds the stop file."""
    driven = drive()
    lab.slurm.faults.next("sbatch", lost_after())

    async def main():
        assert await driven.controller.submit_all(driven.jobs) == [None]
        await driven.controller.write("stop/all", "Ctrl-C\n")
        await driven.controller.close()

    run(main())
    assert lab.slurm.job(1).state == "CANCELLED"
    assert lab.run.stop_file("all").read_text() == "Ctrl-C\n"


def test_a_run_that_is_left_keeps_the_job_whose_submission_was_in_doubt(lab, drive):
    driven = drive()
    lab.slurm.faults.next("sbatch", lost_after())

    async def main():
        await driven.controller.submit_all(driven.jobs)
        await driven.controller.close()

    run(main())
    assert lab.slurm.job(1).state == "RUNNING"


# controllers


def test_a_second_controller_follows_until_the_first_shows_no_life(lab, drive):
    driven = drive()
    plan = lab.plan(driven.jobs)

    async def main():
        await driven.controller.write("lease", "host 1 1\n")
        await driven.turn()
        assert lab.run.lease.read_text() == "host 1 1\n"
        second = lab.controller(plan)
        with pytest.raises(LockedError, match="host2"):
            await second.poll()
        follower = lab.controller(plan, driving=False)
        assert (await follower.poll())[lab.token()].job_id == "1"
        assert follower.driven_elsewhere
        lab.advance(EXPIRY_S + 1)
        await second.poll()
        with pytest.raises(LockedError):
            await driven.controller.poll()
        await driven.controller.close()
        assert (lab.run.folder / ".controller").read_text().startswith(second._site.holder), "who lost it does not let go of it"
        await second.close()
        await lab.controller(plan).poll()

    run(main())


def test_a_short_lease_is_renewed_more_often_than_the_queue_is_asked(lab, drive):
    driven = drive()
    plan = lab.plan(driven.jobs, lease_s=3.0)

    async def main():
        controller = lab.controller(plan, folder=driven.controller._paths.folder)
        texts = set()
        calls = lab.slurm.calls["squeue"]
        for number in range(20):
            await controller.write("lease", f"host 1 {number}\n")
            await controller.poll()
            texts.add(lab.run.lease.read_text())
            lab.advance(0.4)
        assert len(texts) == 20
        assert lab.slurm.calls["squeue"] - calls <= 3

    run(main())


def test_a_dead_holder_of_this_machine_is_no_holder(lab, drive):
    me = ProcessId.own()
    child = subprocess.Popen(["true"])
    child.wait()
    host = os.uname().nodename
    dead = f"{host}:{child.pid}:1:{boot_id()}"
    assert is_dead(dead)
    assert not is_dead(f"{host}:{me.pid}:{me.start_ticks}:{me.boot_id}")
    assert not is_dead(f"elsewhere:{child.pid}:1:{boot_id()}")
    assert not is_dead(f"{host}:{child.pid}:1:another-boot"), "another machine may have the same name"
    assert not is_dead("garbage")
    driven = drive()
    (lab.run.folder / ".controller").write_text(f"{dead} {lab.now:.0f}\n")

    async def main():
        await driven.turn()
        await driven.turn()

    run(main())
    assert (lab.run.folder / ".controller").read_text().startswith(driven.controller._site.holder)


def test_two_controllers_of_one_machine_share_the_copy(lab, drive):
    """`status` while a run is driven: both bring the same folder on."""
    driven = drive(2)
    plan = lab.plan(driven.jobs)

    async def main():
        await driven.until(lambda: driven.state(1) is JobState.RUNNING)
        looking = lab.controller(plan, folder=driven.controller._paths.folder, driving=False)
        for turn in range(6):
            lab.begin(lab.token(turn % 2), turn % 2 + 1)
            await asyncio.gather(driven.controller.poll(), looking.poll())
            lab.advance(5)
        await driven.controller.poll()
        for number in range(2):
            site, copy = (paths.job(lab.token(number)).rank(0).events for paths in (lab.run, driven.controller._paths))
            assert copy.read_bytes() == site.read_bytes()

    run(main())


def test_two_runs_are_one_question_to_the_queue(lab, drive):
    """And what fails one of them is not the other's trouble."""
    driven = drive()
    site = driven.controller._site
    other = SlurmSubmitter(RunPaths(lab.folder / "other" / "r2"), site, "r2", None)

    async def main():
        await driven.turn()
        lab.advance(5)
        calls = lab.slurm.calls["squeue"]
        await driven.turn(0)
        await other.poll()
        assert lab.slurm.calls["squeue"] == calls + 1
        assert "not there" in other.trouble
        assert driven.controller.trouble == ""
        shutil.rmtree(lab.folder / "other")
        (lab.folder / "other").write_text("in the way")
        (lab.run.folder.parent / "r2").mkdir()
        lab.advance(5)
        await driven.turn(0)
        with pytest.raises(SiteError):
            await other.poll()
        await driven.turn(0)
        assert driven.lost == 0

    run(main())


# the run folder


def test_a_run_is_staged_once_and_again_after_a_lost_answer(lab, faulty):
    plan = lab.plan([lab.job()])
    transport = faulty()
    controller = lab.controller(transport=transport)
    transport.faults = ["after", "cut", "before", ""]
    lab.stage(plan, controller)
    assert transport.calls == ["Puts"] * 4
    transport.faults = ["before"]
    with pytest.raises(NotExecutedError):  # a site that cannot be reached at all is told at once
        lab.stage(plan, controller)
    transport.faults = ["after"] * 4
    with pytest.raises(OutcomeUnknownError):
        lab.stage(plan, controller)
    with pytest.raises(UsageError, match="exists already"):
        lab.stage(lab.plan([lab.job(), lab.job(1)]), lab.controller())
    lab.stage(lab.plan([lab.job(), lab.job(1)]), controller)
    assert "job-1" in lab.run.plan.read_text()


def test_a_run_folder_that_is_gone_is_told_after_some_looks(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.run.folder.rename(lab.folder / "moved")
        for _ in range(2):
            await driven.turn(20)
            assert "not there" in driven.controller.trouble
        with pytest.raises(RunError, match="gone"):
            await driven.turn()

    run(main())


def test_a_file_system_that_is_away_is_waited_for(lab, drive):
    driven = drive()

    async def main():
        await driven.until(lambda: driven.state() is JobState.RUNNING)
        lab.run.folder.parent.rename(lab.folder / "unmounted")
        for _ in range(5):
            await driven.turn(60)
        assert "away" in driven.controller.trouble
        (lab.folder / "unmounted").rename(lab.run.folder.parent)
        await driven.turn()
        await driven.turn()
        assert driven.state() is JobState.RUNNING
        assert driven.controller.trouble == ""

    run(main())


def test_without_room_for_life_signs_the_site_is_named(lab, drive):
    driven = drive()

    async def main():
        await driven.turn()
        lab.program("mv", "exit 1")
        lab.advance(5)
        await driven.turn()
        assert "is there space left" in driven.controller.trouble

    run(main())


def test_small_files_are_written_on_both_sides(lab, drive):
    driven = drive()

    async def main():
        await driven.controller.write("stop/all", "now\n")
        for paths in (lab.run, driven.controller._paths):
            assert paths.stop_file("all").read_text() == "now\n"
        await driven.controller.remove("stop/all")
        for paths in (lab.run, driven.controller._paths):
            assert not paths.stop_file("all").exists()
        (lab.run.folder / "file").write_text("")
        with pytest.raises(SiteError, match="could not be written"):
            await driven.controller.write("file/x", "")

    run(main())


def test_polls_ease_when_nothing_changes(lab, drive):
    controller = drive().controller
    assert [controller.interval_s(since, ending=False) for since in (0, 40, 1000)] == [5.0, 10.0, 60.0]
    assert controller.interval_s(1000, ending=True) == 2.0


def test_polls_come_before_slurm_forgets(lab):
    """Three times in the time for which it remembers a job that has ended, however quiet it is."""
    site = evolve(lab.site, rules=Rules(min_job_age_s=60.0))
    controller = lab.controller(site=site)
    assert [controller.interval_s(since, ending=False) for since in (0, 40, 1000)] == [5.0, 10.0, 20.0]


def test_over_ssh_a_lost_connection_loses_no_job(lab, drive, tmp_path):
    """Dropped before, during and after each of the first commands."""

    async def main():
        async with SshServer() as server:
            server.admit(tmp_path / "home")
            transport = SshTransport(Login(host="login"), sleep=lambda _seconds: asyncio.sleep(0))
            driven = drive_with(transport)
            server.faults.drop_before, server.faults.drop_during, server.faults.drop_after = {1, 5}, {2, 6}, {3, 7}
            server.faults.noise_before = b"Welcome!\n"
            server.faults.refused_sessions = {9}
            try:
                await driven.until(submitted(driven), after=60)
                await driven.turn()
                assert all(driven.state(number) is JobState.RUNNING for number in range(3))
                assert driven.lost
            finally:
                await transport.close()

    jobs = [lab.job(number) for number in range(3)]
    lab.stage(lab.plan(jobs))

    def drive_with(transport):
        return Drive(lab, lab.controller(lab.plan(jobs), transport=transport), jobs)

    run(main())
    assert sorted(job.name for job in lab.slurm.jobs()) == [lab.token(number) for number in range(3)]


def test_what_was_never_executed_is_said_to_be(lab, drive, faulty):
    transport = faulty()
    driven = drive(transport=transport)
    transport.faults = ["before"]
    with pytest.raises(NotExecutedError):
        run(driven.controller.poll())
