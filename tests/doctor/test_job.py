"""The job that looks at a node: what becomes of it where Slurm does not let it run, and that nothing is left of it."""

import asyncio

import pytest

from aifactory_bench.doctor import Diagnosis, examine
from aifactory_bench.testing.fake_slurm import Instant, Never, Refusal, down, refused
from aifactory_bench.testing.ssh_server import SshServer

from .conftest import Place

_VERSION, _TEST_ONLY = 1, 2
"""Calls of sbatch, by their number, before the one that submits."""


def gone(place: Place) -> bool:
    """Whether no job of ours is left, and no file."""
    return list(place.runs.iterdir()) == [] and all(job.ended is not None for job in place.slurm.jobs())


def refuse(place: Place, why: Refusal, after: int) -> None:
    """Let sbatch refuse what it is asked after so many calls, which succeed."""
    place.slurm.faults.next("sbatch", refused("", 0), after)
    place.slurm.faults.next("sbatch", refused(why))


@pytest.mark.parametrize(
    ("why", "advice"),
    [
        (Refusal.ACCOUNT, "set `account`"),
        (Refusal.PARTITION, "set `partition`"),
        (Refusal.QOS, "set `qos`"),
        (Refusal.TIME_LIMIT, "ask for less time"),
        (Refusal.QUOTA, "a limit on jobs is reached"),
        (Refusal.CREDENTIAL, "munge"),
    ],
)
def test_a_job_that_is_refused(place: Place, why: Refusal, advice: str) -> None:
    """In sbatch's own words, with what they mean."""
    refuse(place, why, _TEST_ONLY)
    found = place.examine(job=True)
    (bad,) = found.failed
    assert (bad.check, bad.text) == ("job", f"sbatch refuses: Batch job submission failed: {why.value}")
    assert advice in bad.fix
    assert found.of("node").text == "needs: job"
    assert gone(place)


@pytest.mark.parametrize(
    ("why", "advice"),
    [(Refusal.ACCOUNT, "set `account`"), (Refusal.QOS, "set `qos`"), (Refusal.TIME_LIMIT, "ask for less time")],
)
def test_sbatch_says_so_before_a_job_is_spent(place: Place, why: Refusal, advice: str) -> None:
    """By `--test-only`; then none is submitted."""
    refuse(place, why, _VERSION)
    found = place.examine(job=True)
    (bad,) = found.failed
    assert bad.check == "submission"
    assert why.value in bad.text
    assert advice in bad.fix
    assert found.of("node").text == "needs: submission"
    assert place.slurm.jobs() == []


def test_a_controller_that_goes_away(place: Place) -> None:
    """Between the question and the job."""
    place.slurm.faults.next("sbatch", down(), 2)
    found = place.examine()
    assert found.ok
    assert found.of("submission").state == "warn"
    assert "does not answer" in found.of("submission").fix


def test_a_job_that_never_starts(place: Place) -> None:
    """Is told at once, and cancelled."""
    place.slurm.behave("*", Never("InvalidQOS"))
    found = place.examine(job=True)
    (bad,) = found.failed
    assert bad.check == "job"
    assert "never starts: InvalidQOS" in bad.text
    assert bad.fix == "the QOS is not valid: change `qos`"
    assert gone(place)


def test_a_job_that_waits_too_long(place: Place) -> None:
    """Is no failure of the site."""
    place.slurm.behave("*", Never("Priority"))
    found = place.examine(job=True, wait_s=0.5)
    assert found.ok
    assert found.of("job").state == "warn"
    assert "still waits" in found.of("job").text
    assert gone(place)


def test_a_folder_that_has_to_be_made_goes_again(place: Place) -> None:
    place.change(runs=str(place.runs / "a" / "b"))
    found = place.examine(job=True)
    assert found.ok, found.failed
    assert "will be made in" in found.of("runs folder").text
    assert gone(place)


def test_cancelled_in_the_middle(place: Place) -> None:
    """As by Ctrl-C: the job is cancelled, and its folder goes."""
    place.slurm.behave("*", Instant(run_s=1e9))

    async def work() -> None:
        async with SshServer(environment=place.environment) as server:
            server.admit(place.home)
            looking = asyncio.create_task(examine(place.site, job=True))
            while not [job for job in place.slurm.jobs() if job.state == "RUNNING"]:
                await asyncio.sleep(0.05)
                assert not looking.done(), looking.result()
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking

    with place.slurm:
        asyncio.run(work())
    assert gone(place)


def test_a_connection_that_is_lost_in_the_middle(place: Place) -> None:
    """Is a finding, and no exception."""
    place.after.append(lambda server: server.faults.drop_before.update(range(8, 100)))
    found = place.examine()
    assert found.of("connection").state == "fail"
    assert not found.ok


def test_a_second_factor_with_somebody_there(place: Place) -> None:
    """Is asked for once; what a second connection is for is left out."""
    place.server = {"password": "secret", "code": "123456"}
    code: list[str] = []

    def answer(question: str, _shown: bool) -> str:
        code.append(question)
        return "123456" if "code" in question else "secret"

    found: Diagnosis = place.examine(answer=answer)
    assert found.ok, found.failed
    assert len(code) == 2
    assert found.of("forwarding").text == "a second connection needs a person"
