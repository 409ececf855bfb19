"""The local submitter: real processes, once each, and none left."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aifactory_bench.errors import RunError, SiteError, SubmitError
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import Plan
from aifactory_bench.submitters.base import JobState
from aifactory_bench.submitters.local import LocalSubmitter
from aifactory_bench.submitters.process import belonging

END = 'mkdir -p 0 && echo \'{"outcome": "%s", "text": "%s"}\' > 0/exit.json'


def pid_exists(pid):
    """Whether a process, or its zombie, is there."""
    return Path(f"/proc/{pid}").exists()


async def final(submitter, token, limit_s=15.0):
    """Poll until the job is final."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        status = (await submitter.poll()).get(token)
        if status is not None and status.state.final:
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(f"{token} did not end within {limit_s} s")


async def gone(paths, token, limit_s=10.0):
    """Wait until no process carries the token."""
    deadline = time.monotonic() + limit_s
    while list(belonging(f"AFB_TOKEN={token}", paths.job(token).folder)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("completed", JobState.COMPLETED),
        ("stopped", JobState.CANCELLED),
        ("timeout", JobState.TIMEOUT),
        ("failed", JobState.FAILED),
        ("lease_expired", JobState.FAILED),
        ("no such outcome", JobState.FAILED),
    ],
)
def test_a_job_ends_as_its_exit_record_says(submitter, make_job, outcome, state):
    """The outcome in exit.json decides, and its text is handed on."""

    async def go():
        job = make_job(END % (outcome, "why"))
        assert int(await submitter.submit(job)) > 0
        status = await final(submitter, job.token)
        assert status.state is state
        assert status.text == ("" if state is JobState.COMPLETED else "why")

    asyncio.run(go())


def test_a_job_without_an_exit_record_failed(submitter, make_job):
    """A job that ends without a word has failed, with the end of its log."""

    async def go():
        job = make_job("echo something is wrong >&2", "exit 0")
        await submitter.submit(job)
        status = await final(submitter, job.token)
        assert status.state is JobState.FAILED
        assert "something is wrong" in status.text

    asyncio.run(go())


def test_submitting_twice_runs_once(paths, make_job):
    """Two submitters at the same time, and a third one later, mean the same job."""

    async def go():
        job = make_job("echo run >> ran", "sleep 0.2", END % ("completed", ""))
        first, second = LocalSubmitter(paths), LocalSubmitter(paths)
        ids = set(await asyncio.gather(first.submit(job), second.submit(job), first.submit(job)))
        await final(first, job.token)
        ids.add(await LocalSubmitter(paths).submit(job))
        assert len(ids) == 1
        assert (paths.job(job.token).folder / "ran").read_text() == "run\n"

    asyncio.run(go())


def test_many_controllers_at_once_run_a_job_once(paths, make_job):
    """Separate processes that submit the same token start it once."""
    job = make_job("echo run >> ran", "sleep 0.5", END % ("completed", ""))
    program = (
        "import asyncio, sys\n"
        "from aifactory_bench.node.paths import RunPaths\n"
        "from aifactory_bench.plan import PlannedJob\n"
        "from aifactory_bench.submitters.local import LocalSubmitter\n"
        "from pathlib import Path\n"
        f"job = PlannedJob(name='job', role='service', kind='stub', token={job.token!r}, script={job.script!r},"
        " ranks=1, time_s=60.0)\n"
        f"print(asyncio.run(LocalSubmitter(RunPaths(Path({str(paths.folder)!r}))).submit(job)))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    ids = {child.communicate(timeout=60)[0].strip() for child in children}
    assert len(ids) == 1
    assert asyncio.run(final(LocalSubmitter(paths), job.token)).state is JobState.COMPLETED
    assert (paths.job(job.token).folder / "ran").read_text() == "run\n"


def test_a_job_outlives_its_controller(paths, make_job):
    """Another controller sees the job run on and end."""

    async def go():
        job = make_job("sleep 0.6", END % ("completed", ""))
        await LocalSubmitter(paths).submit(job)
        other = LocalSubmitter(paths)
        assert (await other.poll())[job.token].state is JobState.RUNNING
        assert (await final(other, job.token)).state is JobState.COMPLETED

    asyncio.run(go())


def test_cancel_asks_and_kill_leaves_nothing(submitter, paths, make_job):
    """TERM reaches the job; one that ignores it is killed with everything it started, in whatever session."""

    async def go():
        polite = make_job(
            'ended() { mkdir -p 0; printf \'{"outcome": "stopped", "text": "TERM"}\' > 0/exit.json; exit 0; }',
            "trap ended TERM",
            "for _ in $(seq 600); do sleep 0.1; done",
            token="afb-r-a-0",
        )
        deaf = make_job("trap '' TERM", "setsid sleep 60 &", "sleep 60", token="afb-r-b-0")
        await submitter.submit(polite)
        await submitter.submit(deaf)
        await asyncio.sleep(0.2)
        await submitter.cancel([polite.token, deaf.token, "afb-r-never-0"])
        assert (await final(submitter, polite.token)).text == "TERM"
        assert (await submitter.poll())[deaf.token].state is JobState.RUNNING
        await submitter.kill([deaf.token])
        assert (await final(submitter, deaf.token)).state is JobState.FAILED
        await gone(paths, deaf.token)

    asyncio.run(go())


def test_a_job_that_died_before_it_said_who_it_is_is_lost(submitter, paths, make_job):
    """The mark of a start with no id after it is not taken for a job that runs for ever."""

    async def go():
        job = make_job("true")
        folder = paths.job(job.token).folder
        (folder / "started").mkdir(parents=True)
        assert (await submitter.poll())[job.token].state is JobState.PENDING
        os.utime(folder / "started", (time.time() - 3600, time.time() - 3600))
        assert (await submitter.poll())[job.token].state is JobState.LOST

    asyncio.run(go())


def test_a_job_of_another_boot_has_ended(submitter, paths, make_job):
    """After a restart of the machine no pid means anything."""

    async def go():
        folder = paths.job(make_job("true").token).folder
        (folder / "started").mkdir(parents=True)
        (folder / "job_id").write_text(f"{os.getpid()} 1 00000000-0000-0000-0000-000000000000\n")
        assert (await submitter.poll())[folder.name].state is JobState.FAILED

    asyncio.run(go())


def test_an_absent_job_has_no_status(submitter):
    """A token that was never submitted is absent, not finished."""
    assert asyncio.run(submitter.poll()) == {}


def test_the_worst_rank_decides(submitter, paths, make_job):
    """Two ranks, one of which failed: the job failed, with that one's text."""

    async def go():
        job = make_job(
            "mkdir 0 1",
            'echo \'{"outcome": "completed", "text": "fine"}\' > 0/exit.json',
            'echo \'{"outcome": "not_ready", "text": "no answer"}\' > 1/exit.json',
            ranks=2,
        )
        await submitter.submit(job)
        status = await final(submitter, job.token)
        assert (status.state, status.text) == (JobState.FAILED, "no answer")

    asyncio.run(go())


def test_the_environment_is_scrubbed(submitter, paths, make_job, monkeypatch):
    """What the controller's shell exports does not reach the job."""
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    async def go():
        job = make_job("env > environment", END % ("completed", ""))
        await submitter.submit(job)
        await final(submitter, job.token)
        text = (paths.job(job.token).folder / "environment").read_text()
        assert "PATH=" in text
        assert "SECRET_OF_THE_USER" not in text
        assert "SLURM" not in text

    asyncio.run(go())


def test_an_unwritable_folder_is_one_clear_error(tmp_path, make_job):
    """A run folder that is a file is refused with its path."""
    from aifactory_bench.node.paths import RunPaths

    (tmp_path / "run").write_text("")
    with pytest.raises(SiteError, match="run: "):
        asyncio.run(LocalSubmitter(RunPaths(tmp_path / "run")).submit(make_job("true")))


def test_a_launcher_that_fails_is_one_clear_error(paths, make_job):
    """A job whose id cannot be written is a SubmitError, not a wait."""

    async def go():
        job = make_job("true")
        folder = paths.job(job.token).folder
        (folder / ".job_id").mkdir(parents=True)
        with pytest.raises(SubmitError, match="did not start"):
            await LocalSubmitter(paths).submit(job)

    asyncio.run(go())


def test_write_and_remove(submitter, paths):
    """Small files appear whole, private, and vanish; removing twice is nothing."""

    async def go():
        await submitter.write("stop/all", "why\n")
        assert paths.stop_file("all").read_text() == "why\n"
        assert paths.stop_file("all").stat().st_mode & 0o777 == 0o600
        await submitter.remove("stop/all")
        await submitter.remove("stop/all")
        assert not paths.stop_file("all").exists()

    asyncio.run(go())


def test_polling_reaps_children(submitter, make_job):
    """A finished job leaves no zombie behind."""

    async def go():
        job = make_job(END % ("completed", ""))
        pid = int(await submitter.submit(job))
        await final(submitter, job.token)
        deadline = time.monotonic() + 5
        while pid_exists(pid):
            assert time.monotonic() < deadline
            await submitter.poll()
            await asyncio.sleep(0.01)

    asyncio.run(go())


def test_damaged_records_do_not_make_a_success(submitter, make_job):
    """An exit record that is not JSON, or no object, is a failure."""

    async def go():
        for number, text in enumerate(("{", "[]", json.dumps("completed"))):
            job = make_job("mkdir 0", f"printf '%s' '{text}' > 0/exit.json", token=f"afb-r-{number}-0")
            await submitter.submit(job)
            assert (await final(submitter, job.token)).state is JobState.FAILED

    asyncio.run(go())


def test_kill_spares_strangers(submitter, make_job):
    """Killing a job touches no process that does not carry its token."""
    stranger = subprocess.Popen(["sleep", "60"], env={"AFB_TOKEN": "afb-r-job-01"})
    try:

        async def go():
            job = make_job("sleep 60")
            await submitter.submit(job)
            await submitter.kill([job.token])
            await final(submitter, job.token)

        asyncio.run(go())
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()


def test_kill_spares_a_run_of_the_same_name_elsewhere(submitter, make_job):
    """Two folders of runs may hold runs with one id; tokens are the same, folders are not."""
    stranger = subprocess.Popen(
        ["sleep", "60"], env={"AFB_TOKEN": "afb-r-job-0", "AFB_JOB_DIR": "/elsewhere/r/jobs/afb-r-job-0"}
    )
    try:
        asyncio.run(submitter.kill([make_job("true").token]))
        time.sleep(0.1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_kill_finds_what_works_in_the_folder_by_another_path(tmp_path, make_job):
    """A folder of runs behind a link is the same folder."""
    (tmp_path / "link").symlink_to(tmp_path)
    folder = tmp_path / "run/jobs/afb-r-job-0"
    folder.mkdir(parents=True)
    left = subprocess.Popen(["sleep", "60"], cwd=folder)
    asyncio.run(LocalSubmitter(RunPaths(tmp_path / "link/run")).kill(["afb-r-job-0"]))
    assert left.wait(10) == -signal.SIGKILL


def test_the_age_of_a_run_stays(submitter, paths):
    """Runs are listed by the time of their recipe: taking one up again does not make it new."""
    plan = Plan("r", "small", "local", str(paths.folder), (), (), {}, None, 1, (), "0" * 16)
    asyncio.run(submitter.stage(plan, "text", b""))
    os.utime(paths.recipe, (1, 1))
    asyncio.run(submitter.stage(plan, "text", b""))
    assert paths.recipe.stat().st_mtime == 1


def test_a_rank_that_never_began_fails_its_job(submitter, make_job):
    """The job says how many ranks it has; the folders only say which of them began."""

    async def go():
        job = make_job(END % ("completed", ""), ranks=2)
        await submitter.submit(job)
        status = await final(submitter, job.token)
        assert (status.state, status.text) == (JobState.FAILED, "rank 1 never began")

    asyncio.run(go())


def test_another_controller_knows_the_ranks_by_the_specification(paths, make_job):
    """Who did not submit the job reads what it was told to be."""

    async def go():
        job = make_job("echo '{\"ranks\": 2}' > spec.json", END % ("completed", ""), ranks=2)
        await LocalSubmitter(paths).submit(job)
        assert (await final(LocalSubmitter(paths), job.token)).text == "rank 1 never began"

    asyncio.run(go())


def test_programs_of_the_system_are_found_without_a_path(submitter, make_job, monkeypatch, tmp_path):
    """A PATH without mkdir and mv costs neither time nor the job."""
    monkeypatch.setenv("PATH", str(tmp_path))

    async def go():
        job = make_job(END % ("completed", ""))
        await asyncio.wait_for(submitter.submit(job), 5)
        assert (await final(submitter, job.token)).state is JobState.COMPLETED

    asyncio.run(go())


def test_a_start_that_cannot_be_marked_is_not_a_second_start(paths, make_job, monkeypatch):
    """The reason is told at once; only a mark that is there says that somebody else was first."""

    async def go():
        job = make_job("true")
        folder = paths.job(job.token).folder
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/mkdir").write_text("#!/bin/sh\necho mkdir: no room >&2\nexit 1\n")
        (folder / "bin/mkdir").chmod(0o700)
        monkeypatch.setenv("PATH", str(folder / "bin"))
        submitter = LocalSubmitter(paths)
        with pytest.raises(SubmitError, match="no room"):
            await asyncio.wait_for(submitter.submit(job), 5)

    asyncio.run(go())


def test_a_killed_job_is_known_without_its_folder(submitter, paths, make_job):
    """Moved away in mid-run: it is seen to run, can be ended, and is lost."""

    async def go():
        job = make_job("sleep 60")
        await submitter.submit(job)
        paths.folder.rename(paths.folder.with_name("moved"))
        assert (await submitter.poll())[job.token].state is JobState.RUNNING
        for step in (submitter.write("lease", ""), submitter.submit(job)):
            with pytest.raises(RunError, match="the run folder is gone"):
                await step
        await submitter.kill([job.token])
        assert (await final(submitter, job.token)).state is JobState.LOST
        assert not paths.folder.exists()

    asyncio.run(go())
