"""Faults do what they say, to the calls that they are meant for, and nothing that happens to a call harms the queue."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aifactory_bench.testing.fake_slurm import (
    Execute,
    FakeSlurm,
    Fault,
    Refusal,
    delay,
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

SCRIPT = "#!/bin/sh\ntrue\n"
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeSlurm]:
    with FakeSlurm(tmp_path / "slurm") as slurm:
        yield slurm


def submit(slurm: FakeSlurm) -> "subprocess.CompletedProcess[str]":
    return slurm.run("sbatch", "--parsable", "-J", "a", stdin=SCRIPT)


@pytest.mark.parametrize(
    ("fault", "code", "stdout", "stderr", "submitted"),
    [
        (lost_before(), 1, "", TIMED_OUT, 0),
        (lost_before(killed=True), -9, "", "", 0),
        (lost_after(), 1, "", TIMED_OUT, 1),
        (lost_after(killed=True), -9, "", "", 1),
        (empty(), 0, "", "", 0),
        (empty(effect=True), 0, "", "", 1),
        (truncated(1), 0, "1", "", 1),
        (truncated(0), 0, "", "", 1),
        (noise("Welcome!\n", "motd\n"), 0, "Welcome!\n1\n", "motd\n", 1),
        (delay(0.05), 0, "1\n", "", 1),
        (
            down(),
            1,
            "",
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n",
            0,
        ),
        (
            refused(Refusal.QUOTA),
            1,
            "",
            (
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
                " (job submit limit, user's size and/or time limits)\n"
            ),
            0,
        ),
        (refused("sbatch: nonsense\n", 7), 7, "", "sbatch: nonsense\n", 0),
        (Fault(effect="none", says="text", stdout="Submitted\n", exit_code=3), 3, "Submitted\n", "", 0),
    ],
)
def test_what_a_fault_does_to_a_submission(
    slurm: FakeSlurm, fault: Fault, code: int, stdout: str, stderr: str, submitted: int
) -> None:
    switch = slurm.faults.next("sbatch", fault)
    done = submit(slurm)
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)
    assert slurm.submit_count("a") == submitted
    assert switch.fired == 1
    assert submit(slurm).returncode == 0  # it was meant for one call
    assert slurm.submit_count("a") == submitted + 1
    assert [call.struck for call in slurm.call_log()] == [True, False]
    assert slurm.call_log()[0].exit_code == (None if code == -9 else code)


def test_a_late_submission_appears_later(slurm: FakeSlurm) -> None:
    slurm.faults.next("sbatch", late(30))
    assert submit(slurm).stderr == TIMED_OUT
    look = ["squeue", "-h", "-t", "all", "-n", "a", "-o", "%i %T"]
    assert slurm.run(*look).stdout == slurm.run("sacct", "-n", "-X").stdout == ""
    assert slurm.submit_count("a") == 1
    assert not slurm.job(1).known
    slurm.run("scancel", "-n", "a")  # cannot know it
    slurm.advance(29)
    assert slurm.run(*look).stdout == ""
    slurm.advance(1)
    assert slurm.run(*look).stdout == "1 RUNNING\n"


@pytest.mark.parametrize("after", [False, True])
def test_a_frozen_call_goes_on_when_it_is_released(slurm: FakeSlurm, after: bool) -> None:
    switch = slurm.faults.next("sbatch", freeze(after=after))
    frozen = subprocess.Popen(
        [slurm.bin / "sbatch", "-J", "a"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=slurm.folder
    )
    with frozen:
        assert frozen.stdin is not None
        frozen.stdin.write(SCRIPT.encode())
        frozen.stdin.close()
        deadline = time.monotonic() + 30
        while not switch.fired or slurm.submit_count("a") != after:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert frozen.poll() is None
        assert slurm.run("squeue", "-h", "-o", "%j").stdout == ("a\n" if after else "")  # others go on
        switch.release()
        assert frozen.stdout is not None
        assert frozen.stdout.read() == b"Submitted batch job 1\n"


def test_a_frozen_call_does_not_outlive_the_cluster(tmp_path: Path) -> None:
    with FakeSlurm(tmp_path / "slurm") as slurm:
        switch = slurm.faults.always("squeue", freeze())
        frozen = subprocess.Popen([slurm.bin / "squeue"])
        deadline = time.monotonic() + 30
        while not switch.fired:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert frozen.wait(30) == -signal.SIGKILL


def test_words_for_each_command_when_there_is_no_controller(slurm: FakeSlurm) -> None:
    switch = slurm.faults.always("*", down())
    why = "Unable to contact slurm controller (connect failure)"
    said = {
        "squeue": (1, f"slurm_load_jobs error: {why}\n"),
        "sinfo": (1, f"slurm_load_partitions: {why}\n"),
        "scancel 3": (8, f"scancel: error: Kill job error on job id 3: {why}\n"),
        "scontrol show job 3": (1, f"slurm_load_jobs error: {why}\n"),
        "scontrol show config": (1, f"slurm_load_ctl_conf error: {why}\n"),
        "sstat -j 3": (0, "sstat: error: couldn't get steps for job 3\n"),
    }
    for command, (code, stderr) in said.items():
        done = slurm.run(*command.split())
        assert (done.returncode, done.stderr) == (code, stderr)
    done = slurm.run("scontrol", "ping")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "Slurmctld(primary) at fake-ctl is DOWN")
    assert slurm.run("scontrol", "show", "hostnames", "a[1-2]").stdout == "a1\na2\n"  # needs none
    assert switch.fired == 8
    switch.off()
    assert slurm.run("squeue").returncode == 0
    slurm.faults.next("scancel", lost_after())
    assert slurm.run("scancel", "3").returncode == 140


def test_a_state_that_nobody_knows(slurm: FakeSlurm) -> None:
    submit(slurm)
    with_word = slurm.faults.always("squeue", unknown_state("EXPEDITING"))
    assert slurm.run("squeue", "-h", "-o", "%T %t").stdout == "EXPEDITING EXPEDITING\n"
    assert slurm.run("sacct", "-n", "-X", "-P", "-o", "State").stdout == "RUNNING\n"
    with_word.off()
    assert slurm.run("squeue", "-h", "-o", "%T %t").stdout == "RUNNING R\n"


def test_faults_by_count_by_command_and_by_chance(slurm: FakeSlurm) -> None:
    slurm.faults.next("squeue", empty(), count=2)
    submit(slurm)
    assert [slurm.run("squeue", "-h", "-o", "%j").stdout for _ in range(3)] == ["", "", "a\n"]
    first = slurm.faults.sometimes("squeue", empty(), 0.5, seed=7)
    pattern = [slurm.run("squeue", "-h", "-o", "%j").stdout for _ in range(24)]
    assert 4 <= first.fired == pattern.count("") <= 20
    first.off()
    again = slurm.faults.sometimes("squeue", empty(), 0.5, seed=7)
    assert [slurm.run("squeue", "-h", "-o", "%j").stdout for _ in range(24)] == pattern
    slurm.faults.clear()
    assert [slurm.run("squeue", "-h", "-o", "%j").stdout for _ in range(8)] == ["a\n"] * 8
    assert again.fired == pattern.count("")
    assert slurm.calls == {"squeue": 59, "sbatch": 1}


def test_two_hundred_submissions_at_once(slurm: FakeSlurm) -> None:
    with ThreadPoolExecutor(16) as pool:
        ids = [done.stdout for done in pool.map(lambda _: submit(slurm), range(200))]
    assert sorted(int(job_id) for job_id in ids) == list(range(1, 201))
    assert slurm.submit_count("a") == slurm.calls["sbatch"] == 200
    assert sum(job.state == "RUNNING" for job in slurm.jobs()) == 16  # as many as there are CPUs


def test_submissions_that_are_killed_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(20)
    with FakeSlurm(tmp_path / "slurm", jobs=Execute(), real_clock=True, cpus=50) as slurm:
        begin = time.monotonic()
        assert slurm.run("sbatch", "-J", "whole", stdin=SCRIPT).returncode == 0
        takes_s = time.monotonic() - begin
        answered = []
        for number in range(60):
            sbatch = subprocess.Popen(
                [slurm.bin / "sbatch", "--parsable", "-J", f"job-{number}", f"--output=job-{number}.out"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=slurm.folder,
            )
            timer = threading.Timer(chance.uniform(0, 1.5 * takes_s), sbatch.kill)
            timer.start()
            try:
                stdout, _ = sbatch.communicate(b"#!/bin/sh\necho once\n")
            except BrokenPipeError:
                stdout = b""
            timer.cancel()
            timer.join()
            if stdout:
                answered.append((number, stdout.decode().strip()))
        jobs = [job for job in slurm.jobs() if job.name != "whole"]
        # What was answered is there; what is there is whole, has an id of its own, and runs exactly once.
        assert {(f"job-{number}", job_id) for number, job_id in answered} <= {(job.name, job.job_id) for job in jobs}
        assert len({job.job_id for job in jobs}) == len({job.name for job in jobs}) == len(jobs)
        for job in jobs:
            assert slurm.script(job.job_id) == "#!/bin/sh\necho once\n"
            assert slurm.wait(job.job_id, timeout_s=60).state == "COMPLETED"
            assert (slurm.folder / f"{job.name}.out").read_text() == "once\n"
        assert 0 < len(answered) < 60
        assert submit(slurm).returncode == 0


def test_a_reader_that_went_away_is_no_traceback(slurm: FakeSlurm) -> None:
    submit(slurm)
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([slurm.bin / "squeue"], stdout=write, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
