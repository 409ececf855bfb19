"""Jobs that the simulated cluster really runs."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aifactory_bench.testing.fake_slurm import Execute, FakeSlurm
from aifactory_bench.testing.fake_slurm.program.execution import processes_of


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeSlurm]:
    with FakeSlurm(
        tmp_path / "slurm", nodes=2, cpus=2, jobs=Execute(), real_clock=True, kill_wait_s=0.5, requeue_delay_s=0.2
    ) as slurm:
        yield slurm


def submit(slurm: FakeSlurm, body: str, *options: str) -> str:
    done = slurm.run("sbatch", "--parsable", *options, stdin=f"#!/bin/bash\n{body}\n")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def output(slurm: FakeSlurm, job_id: str) -> str:
    return (slurm.folder / f"slurm-{job_id}.out").read_text()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.01)


def test_a_script_runs_as_a_job_does(slurm: FakeSlurm, tmp_path: Path) -> None:
    job = submit(
        slurm,
        'echo "$SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_JOB_NODELIST $SLURM_NTASKS $SLURMD_NODENAME ${SLURM_RESTART_COUNT-none}"\n'
        "pwd\nread -r line || echo no input\necho wrong >&2",
        "-N2",
        "-n4",
        "-Jnamed",
    )
    assert slurm.wait(job).state == "COMPLETED"
    assert output(slurm, job) == f"1 named node[1-2] 4 node1 none\n{slurm.folder}\nno input\nwrong\n"


@pytest.mark.parametrize(
    ("body", "state", "code", "number"),
    [("exit 3", "FAILED", 3, 0), ("kill -9 $$", "FAILED", 0, 9), ("true", "COMPLETED", 0, 0)],
)
def test_the_state_follows_the_process(slurm: FakeSlurm, body: str, state: str, code: int, number: int) -> None:
    ended = slurm.wait(submit(slurm, body))
    assert (ended.state, ended.exit_code, ended.signal) == (state, code, number)


def test_what_cannot_be_launched(slurm: FakeSlurm) -> None:
    job = submit(slurm, "true", "--output=/nonexistent/x")
    assert (slurm.wait(job).state, slurm.job(job).reason) == ("FAILED", "JobLaunchFailure")


def test_files_of_output(slurm: FakeSlurm, tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("before\n")
    job = submit(slurm, "echo out; echo err >&2", f"--chdir={tmp_path}", "--output=%x-%j.%%", "--error=%x.err", "-Jn")
    slurm.wait(job)
    assert ((tmp_path / "n-1.%").read_text(), (tmp_path / "n.err").read_text()) == ("out\n", "err\n")
    job = submit(slurm, "echo after", f"--output={tmp_path}/all.txt", "--open-mode=append")
    slurm.wait(job)
    assert (tmp_path / "all.txt").read_text() == "before\nafter\n"


def test_the_environment_that_a_job_gets(slurm: FakeSlurm) -> None:
    show = 'echo "${LC_ALL-unset} ${EXTRA-unset} ${SLURM_EXPORT_ENV-unset}"; command -v srun'
    for options in ([], ["--export=NONE"], ["--export=ALL,EXTRA=1"], ["--export=LC_ALL,EXTRA=2"]):
        slurm.wait(submit(slurm, show, *options))
    found = f"\n{slurm.bin}/srun\n"
    assert [output(slurm, str(job)) for job in (1, 2, 3, 4)] == [
        f"C unset unset{found}",
        f"unset unset NONE{found}",
        f"C 1 ALL,EXTRA=1{found}",
        f"C 2 LC_ALL,EXTRA=2{found}",
    ]


def test_scancel_warns_and_then_kills(slurm: FakeSlurm) -> None:
    polite = submit(slurm, "trap 'echo told; exit 9' TERM\ntouch polite\nsleep 60 & wait")
    stubborn = submit(slurm, "trap '' TERM\ntouch stubborn\nwhile :; do sleep 60; done")
    for name in ("polite", "stubborn"):
        wait_for(slurm.folder / name)
    assert slurm.run("scancel", polite, stubborn).returncode == 0
    assert slurm.job(stubborn).state == "COMPLETING"
    assert slurm.wait(polite).state == "CANCELLED"
    assert output(slurm, polite) == "told\n"
    ended = slurm.wait(stubborn)
    assert (ended.state, ended.signal) == ("CANCELLED", signal.SIGKILL)


def test_scancel_with_kill_warns_nobody(slurm: FakeSlurm) -> None:
    job = submit(slurm, "trap 'echo told' TERM\ntouch there\nwhile :; do sleep 0.1; done")
    wait_for(slurm.folder / "there")
    slurm.run("scancel", "--signal=KILL", "--full", "--ctld", job)
    assert slurm.wait(job).state == "CANCELLED"
    assert output(slurm, job) == ""


def test_whom_a_signal_reaches(slurm: FakeSlurm) -> None:
    body = (
        "trap 'echo shell >> got' USR1\n"
        "srun -n1 bash -c 'trap \"echo step >> got\" USR1; touch step-there; while :; do sleep 0.05; done' &\n"
        "(trap 'echo child >> got' USR1; touch child-there; while :; do sleep 0.05; done) &\n"
        "while :; do wait; done"
    )
    job = submit(slurm, body)
    got = slurm.folder / "got"
    for name in ("step-there", "child-there"):
        wait_for(slurm.folder / name)
    for options, expected in ([["-b"], {"shell"}], [[], {"step"}], [["--full"], {"shell", "step", "child"}]):
        got.unlink(missing_ok=True)
        slurm.run("scancel", "--signal=USR1", *options, job)
        deadline = time.monotonic() + 30
        while not got.exists() or set(got.read_text().split()) < expected:
            assert time.monotonic() < deadline, (options, got.exists() and got.read_text())
            time.sleep(0.01)
        assert set(got.read_text().split()) == expected
    slurm.run("scancel", job)


def test_the_warning_before_the_limit_and_the_limit(tmp_path: Path) -> None:
    with FakeSlurm(tmp_path / "slurm", jobs=Execute(), kill_wait_s=0.5) as slurm:
        job = submit(
            slurm,
            "trap 'echo warned; touch warned' USR1\ntouch there\nwhile :; do sleep 0.05; done",
            "-t2",
            "--signal=B:USR1@30",
        )
        wait_for(slurm.folder / "there")
        slurm.advance(89)
        assert not (slurm.folder / "warned").exists()
        slurm.advance(1)
        wait_for(slurm.folder / "warned")
        slurm.advance(30)
        assert slurm.wait(job).state == "TIMEOUT"
        assert output(slurm, job) == "warned\n"


def test_tasks_of_a_step(slurm: FakeSlurm) -> None:
    body = (
        "show='echo $SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURMD_NODENAME $SLURM_NTASKS'\n"
        'srun --ntasks=4 --export=ALL bash -c "$show" | sort\n'
        "srun -n2 bash -c 'exit $((SLURM_PROCID * 7))'\necho code $?"
    )
    job = submit(slurm, body, "-N2", "-n4")
    assert slurm.wait(job).state == "COMPLETED"
    assert output(slurm, job) == "0 0 0 node1 4\n1 1 0 node1 4\n2 0 1 node2 4\n3 1 1 node2 4\ncode 7\n"


def test_requeue_runs_it_again_under_its_id(slurm: FakeSlurm) -> None:
    job = submit(slurm, 'echo "$SLURM_JOB_ID ${SLURM_RESTART_COUNT-none}"; touch there; sleep 60', "--open-mode=append")
    wait_for(slurm.folder / "there")
    (slurm.folder / "there").unlink()
    slurm.requeue(job)
    wait_for(slurm.folder / "there")
    assert output(slurm, job) == "1 none\n1 1\n"
    assert slurm.job(job).restarts == 1


def test_the_test_ends_a_job(slurm: FakeSlurm) -> None:
    job = submit(slurm, "trap '' TERM; touch there; while :; do sleep 60; done")
    wait_for(slurm.folder / "there")
    slurm.end(job, "OUT_OF_MEMORY", signal=125)
    ended = slurm.job(job)
    assert (ended.state, ended.signal) == ("OUT_OF_MEMORY", 125)


def test_jobs_wait_for_a_node_and_follow_each_other(slurm: FakeSlurm) -> None:
    first = submit(slurm, "sleep 0.3", "-N2", "--exclusive")
    second = submit(slurm, "true", "-N2", "--exclusive")
    third = submit(slurm, "true", f"-dafterok:{second}")
    ended = [slurm.wait(job) for job in (first, second, third)]
    assert [job.state for job in ended] == ["COMPLETED"] * 3
    assert ended[0].ended is not None
    assert ended[1].started is not None
    assert ended[1].started >= ended[0].ended


def test_an_executor_that_is_killed_is_a_node_that_failed(slurm: FakeSlurm) -> None:
    job = submit(slurm, "echo $PPID > executor.tmp; mv executor.tmp executor; sleep 60")
    wait_for(slurm.folder / "executor")
    os.kill(int((slurm.folder / "executor").read_text()), signal.SIGKILL)
    assert slurm.wait(job).state == "NODE_FAIL"


def test_what_a_job_leaves_behind_ends_with_it(slurm: FakeSlurm) -> None:
    job = submit(slurm, "setsid env -i sleep 60 >/dev/null 2>&1 & echo $! > pid")
    assert slurm.wait(job).state == "COMPLETED"
    assert not Path(f"/proc/{(slurm.folder / 'pid').read_text().strip()}").exists()


def test_nothing_is_left_running_after_the_block(tmp_path: Path) -> None:
    with FakeSlurm(tmp_path / "slurm", jobs=Execute(), real_clock=True) as slurm:
        for number in range(6):
            submit(slurm, f"trap '' TERM; setsid sleep 60 & touch there-{number}; while :; do sleep 60; done")
        for number in range(6):
            wait_for(slurm.folder / f"there-{number}")
    assert processes_of(str(slurm.folder)) == []
    assert slurm.run("sbatch", stdin="#!/bin/bash\ntouch started\n").returncode == 0
    assert processes_of(str(slurm.folder)) == []  # a stray call starts nothing any more
