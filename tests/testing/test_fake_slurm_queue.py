"""How the simulated cluster works its queue as the test moves the clock."""

import contextlib
import math
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.testing.fake_slurm import FakeSlurm, Instant, Never
from aifactory_bench.testing.fake_slurm.program.hosts import compress, expand, ranges
from aifactory_bench.testing.fake_slurm.program.options import Answer
from aifactory_bench.testing.fake_slurm.program.script import directives
from aifactory_bench.testing.fake_slurm.program.store import Store
from aifactory_bench.testing.fake_slurm.program.times import read_limit, read_time

SCRIPT = "#!/bin/sh\ntrue\n"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[FakeSlurm]:
    with FakeSlurm(tmp_path / "slurm", nodes=2, cpus=2, jobs=Instant(run_s=100)) as slurm:
        yield slurm


def submit(slurm: FakeSlurm, *options: str) -> str:
    done = slurm.run("sbatch", "--parsable", *options, stdin=SCRIPT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def states(slurm: FakeSlurm) -> dict[str, str]:
    return {job.job_id: job.state for job in slurm.jobs()}


def test_jobs_wait_for_room_and_start_in_turn(slurm: FakeSlurm) -> None:
    for options in (["-n2"], ["-n2"], ["-N2", "-n4"], ["-n1"]):
        submit(slurm, *options)
    # The last one fits before the third, which needs both nodes, only if there is room now.
    assert states(slurm) == {"1": "RUNNING", "2": "RUNNING", "3": "PENDING", "4": "PENDING"}
    assert slurm.run("squeue", "-h", "-t", "PD", "-o", "%i %r").stdout == "3 Resources\n4 Priority\n"
    slurm.advance(100)
    assert slurm.job(3).nodes == ("node1", "node2")
    assert slurm.job(3).started == slurm.job(1).ended
    slurm.advance(1000)
    assert set(states(slurm).values()) == {"COMPLETED"}
    assert slurm.job(4).started == slurm.job(3).ended  # all events had their own time, though the clock jumped


def test_exclusive_jobs_have_their_nodes_alone(slurm: FakeSlurm) -> None:
    submit(slurm, "--exclusive")
    submit(slurm, "--exclude=node2")
    submit(slurm, "--nodelist=node2", "--exclusive")
    assert states(slurm) == {"1": "RUNNING", "2": "PENDING", "3": "RUNNING"}
    assert slurm.job(3).nodes == ("node2",)
    slurm.run("scancel", "1")
    assert slurm.job(2).nodes == ("node1",)


def test_pending_and_completing_take_time(slurm: FakeSlurm) -> None:
    slurm.behave("slow-*", Instant(pending_s=10, run_s=20, completing_s=5))
    job = submit(slurm, "-J", "slow-1")
    seen = []
    for _ in range(8):
        seen.append(slurm.run("squeue", "-h", "-t", "all", "-o", "%t").stdout.strip())
        slurm.advance(5)
    assert seen == ["PD", "PD", "R", "R", "R", "R", "CG", "CD"]
    assert slurm.job(job).reason == "None"


def test_time_limit(slurm: FakeSlurm) -> None:
    job = submit(slurm, "-t", "0:30")  # Slurm counts whole minutes
    slurm.advance(59)
    assert slurm.job(job).state == "RUNNING"
    slurm.advance(1)
    assert slurm.job(job).state == "TIMEOUT"


def test_jobs_that_never_start(slurm: FakeSlurm) -> None:
    slurm.behave("held", Never("launch failed requeued held"))
    submit(slurm, "-N", "9")
    submit(slurm, "-c", "100")
    submit(slurm, "-J", "held")
    slurm.advance(1e6)
    assert slurm.run("squeue", "-h", "-o", "%i %T %r").stdout == (
        "1 PENDING PartitionConfig\n2 PENDING PartitionConfig\n3 PENDING launch failed requeued held\n"
    )


def test_limits_that_are_enforced(tmp_path: Path) -> None:
    with FakeSlurm(tmp_path / "slurm", partitions={"short": 120}, enforce_limits=True) as slurm:
        done = slurm.run("sbatch", "-t", "10", stdin=SCRIPT)
        assert done.returncode == 1
        assert "Requested time limit is invalid (missing or exceeds some limit)" in done.stderr
        done = slurm.run("sbatch", "-N", "9", stdin=SCRIPT)
        assert "Requested node configuration is not available" in done.stderr
    with FakeSlurm(tmp_path / "lax", partitions={"short": 120}) as slurm:
        submit(slurm, "-t", "10")
        assert slurm.job(1).reason == "PartitionTimeLimit"


def test_held_and_released(slurm: FakeSlurm) -> None:
    submit(slurm, "--hold")
    slurm.advance(10)
    assert (slurm.job(1).state, slurm.job(1).reason) == ("PENDING", "JobHeldUser")
    assert slurm.run("scontrol", "release", "1").returncode == 0
    assert slurm.job(1).state == "RUNNING"


def test_begin_time(slurm: FakeSlurm) -> None:
    submit(slurm, "--begin=now+2minutes")
    slurm.advance(119)
    assert (slurm.job(1).state, slurm.job(1).reason) == ("PENDING", "BeginTime")
    slurm.advance(1)
    assert slurm.job(1).state == "RUNNING"


def test_dependencies(slurm: FakeSlurm) -> None:
    slurm.behave("bad", Instant(run_s=50, state="FAILED", exit_code=3))
    submit(slurm, "-J", "bad")
    submit(slurm, "-d", "afterok:1")
    submit(slurm, "-d", "afterok:1", "--kill-on-invalid-dep=yes")
    submit(slurm, "-d", "afterany:1")
    submit(slurm, "-d", "afternotok:1,after:1")
    submit(slurm, "-d", "afterok:12345")  # never given: no condition
    submit(slurm, "-J", "bad", "-d", "singleton")
    assert slurm.run("squeue", "-h", "-j", "2,5,7", "-o", "%i %r %E").stdout == (
        "2 Dependency afterok:1(unfulfilled)\n5 Dependency afternotok:1(unfulfilled)\n7 Dependency singleton(unfulfilled)\n"
    )
    assert slurm.job(6).state == "RUNNING"
    slurm.advance(50)
    assert states(slurm) == {
        "1": "FAILED",
        "2": "PENDING",
        "3": "CANCELLED",
        "4": "RUNNING",
        "5": "RUNNING",
        "6": "RUNNING",
        "7": "RUNNING",
    }
    assert slurm.job(2).reason == "DependencyNeverSatisfied"


def test_a_dependency_on_a_job_that_was_forgotten_holds_nobody(slurm: FakeSlurm) -> None:
    slurm.behave("bad", Instant(run_s=1, state="FAILED", exit_code=3))
    submit(slurm, "-J", "bad")
    slurm.advance(302)
    submit(slurm, "-d", "afterok:1")
    assert slurm.job(2).state == "RUNNING"


def test_arrays(slurm: FakeSlurm) -> None:
    submit(slurm, "--array=1-7:2%2", "-J", "sweep")
    assert slurm.submit_count("sweep") == 1
    assert slurm.run("squeue", "-h", "-o", "%i %A %F %K %T").stdout == (
        "1_1 2 1 1 RUNNING\n1_3 3 1 3 RUNNING\n1_[5,7%2] 1 1 5,7%2 PENDING\n"
    )
    assert slurm.run("squeue", "-h", "-r", "-t", "PD", "-o", "%i %A %F %K").stdout == "1_5 1 1 5\n1_7 1 1 7\n"
    slurm.advance(100)
    assert states(slurm) == {"1_1": "COMPLETED", "1_3": "COMPLETED", "1_5": "RUNNING", "1_7": "RUNNING"}
    slurm.run("scancel", "1_[5-6]")
    assert slurm.job("1_5").state == "CANCELLED"
    slurm.run("scancel", "1")
    assert slurm.job("1_7").state == "CANCELLED"
    assert slurm.job("1_3").state == "COMPLETED"


def test_the_controller_forgets_and_accounting_does_not(slurm: FakeSlurm) -> None:
    submit(slurm, "-J", "a")
    slurm.advance(100 + 300)
    assert slurm.run("squeue", "-h", "-t", "all", "-o", "%i").stdout == "1\n"
    slurm.advance(1)
    assert slurm.run("squeue", "-h", "-t", "all").stdout == ""
    assert slurm.run("scontrol", "show", "job", "1").returncode == 1
    assert slurm.run("sacct", "-X", "-n", "-P", "--name", "a", "-o", "JobID,State").stdout == "1|COMPLETED\n"
    assert not slurm.job(1).known


def test_purge_at_once(slurm: FakeSlurm) -> None:
    submit(slurm)
    slurm.purge(1)
    assert slurm.run("squeue", "-h", "-t", "all").stdout == ""
    assert slurm.job(1).state == "RUNNING"


def test_accounting_lags_and_has_a_window(tmp_path: Path) -> None:
    with FakeSlurm(tmp_path / "slurm", accounting_lag_s=30, jobs=Instant(run_s=1)) as slurm:
        submit(slurm)
        ask = ["sacct", "-X", "-n", "-P", "-o", "JobID"]
        assert slurm.run(*ask).stdout == ""
        slurm.advance(30)
        assert slurm.run(*ask).stdout == "1\n"
        slurm.advance(86400)
        assert slurm.run(*ask).stdout == ""  # what ended before today is not asked for
        assert slurm.run(*ask, "-S", "now-2days").stdout == "1\n"
        assert slurm.run(*ask, "-S", "2026-01-01T00:00:00", "-E", "2026-01-02").stdout == "1\n"
        assert slurm.run(*ask, "-j", "1").stdout == "1\n"


def test_requeue_keeps_the_id(slurm: FakeSlurm) -> None:
    submit(slurm, "-J", "a")
    submit(slurm, "-J", "b", "--no-requeue")
    assert slurm.run("scontrol", "requeue", "1").returncode == 0
    assert slurm.run("scontrol", "requeue", "2").returncode == 1
    assert (slurm.job(1).state, slurm.job(1).reason, slurm.job(1).restarts) == ("PENDING", "BeginTime", 1)
    slurm.advance(120)
    assert slurm.job(1).state == "RUNNING"
    slurm.requeue(1)
    assert slurm.job(1).restarts == 2
    slurm.advance(1000)
    history = slurm.run("sacct", "-X", "-D", "-n", "-P", "-j", "1", "-o", "JobID,State").stdout
    assert history == "1|REQUEUED\n1|REQUEUED\n1|COMPLETED\n"
    assert slurm.submit_count("a") == 1


def test_nodes_fail(slurm: FakeSlurm) -> None:
    submit(slurm, "-w", "node1")
    submit(slurm, "-w", "node1", "--no-requeue")
    submit(slurm, "-w", "node2")
    slurm.node("node1", "down")
    assert states(slurm) == {"1": "PENDING", "2": "NODE_FAIL", "3": "RUNNING"}
    assert slurm.run("sinfo", "-h", "-N", "-o", "%N %T").stdout == "node1 down\nnode2 mixed\n"
    slurm.advance(500)
    assert slurm.job(1).state == "PENDING"
    slurm.run("scontrol", "update", "nodename=node1", "state=resume")
    assert slurm.job(1).state == "RUNNING"


def test_the_environment_beats_the_script_and_the_command_line_beats_both(slurm: FakeSlurm) -> None:
    script = "#!/bin/sh\n#SBATCH --job-name=header --comment=kept\ntrue\n#SBATCH --job-name=late\n"
    sbatch = str(slurm.bin / "sbatch")
    for variables, options in [
        ({}, []),
        ({"SBATCH_JOB_NAME": "variable"}, []),
        ({"SBATCH_JOB_NAME": "variable"}, ["-J", "line"]),
    ]:
        subprocess.run(
            [sbatch, *options], env=variables, input=script, text=True, capture_output=True, check=True, cwd=slurm.folder
        )
    assert slurm.run("squeue", "-h", "-o", "%j %k").stdout == "header kept\nvariable kept\nline kept\n"
    squeue, changed = str(slurm.bin / "squeue"), {"SQUEUE_FORMAT": "%i %S", "SLURM_TIME_FORMAT": "%s", "SQUEUE_STATES": "R"}
    shown = subprocess.run([squeue, "-h"], env=changed, text=True, capture_output=True, check=True).stdout
    assert shown == f"1 {slurm.now:.0f}\n2 {slurm.now:.0f}\n3 {slurm.now:.0f}\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("0:30", 60),
        ("1:30:00", 5400),
        ("2-0", 172800),
        ("1-2:03", 93780),
        ("1-2:03:04", 93840),
        ("UNLIMITED", math.inf),
        ("1:2:3:4", None),
        ("x", None),
        ("", None),
    ],
)
def test_time_limits_are_read_as_slurm_does(text: str, seconds: float | None) -> None:
    assert read_limit(text) == seconds


def test_times_are_read() -> None:
    noon = read_time("2026-01-31T12:00:00", 0.0)
    assert noon is not None
    assert read_time("2026-01-31T12:00", 0.0) == noon
    assert read_time("01/31/26", 0.0) == read_time("2026-01-31", 0.0) == read_time("today", noon) == noon - 43200
    assert read_time("now-1hour", 7200.0) == 3600.0
    assert read_time("uts12", 0.0) == 12.0
    assert read_time("yesterdayish", 0.0) is None


NAMES = st.lists(st.builds("{}{:0{}d}".format, st.sampled_from(["n", "gpu-a", "x1y"]), st.integers(1, 300), st.integers(1, 4)))


@given(NAMES)
def test_lists_of_nodes_come_back(names: list[str]) -> None:
    unique = list(dict.fromkeys(names))
    assert sorted(expand(compress(unique))) == sorted(unique) if unique else compress(unique) == ""


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    written = ranges(sorted(numbers))
    assert expand(f"[{written}]") == [str(number) for number in sorted(numbers)]


@given(st.text(st.characters(blacklist_characters="\n\0", blacklist_categories=("Cs",))))
def test_no_line_of_a_script_makes_sbatch_fall_over(text: str) -> None:
    with contextlib.suppress(Answer):
        assert len(list(directives(f"#!/bin/sh\n#SBATCH {text}\n".encode(), "script"))) == 1


@settings(max_examples=25, deadline=None)
@given(
    jobs=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 200), st.sampled_from(["", "1", "2"])),
        min_size=1,
        max_size=8,
    ),
    steps=st.lists(st.integers(1, 150), max_size=8),
)
def test_no_node_is_ever_given_away_twice(
    tmp_path_factory: pytest.TempPathFactory, jobs: list[tuple[int, int, int, str]], steps: list[int]
) -> None:
    with FakeSlurm(tmp_path_factory.mktemp("queue") / "slurm", nodes=3, cpus=3) as slurm:
        for nodes, cpus, run_s, after in jobs:
            slurm.behave("*", Instant(run_s=run_s))
            slurm.submit("a", f"-N{nodes}", f"-n{nodes * cpus}", *([f"-dafterany:{after}"] if after else []))
        for step in [*steps, 100_000]:
            with Store(str(slurm.folder)) as store:
                taken = Counter(
                    dict.fromkeys(("node1", "node2", "node3"), 0)
                    | Counter(host for job in store.active() for host in job.hosts for _ in range(job.cpus_each))
                )
            assert max(taken.values()) <= 3
            slurm.advance(step)
        ended = slurm.jobs()
        assert {job.state for job in ended} == {"COMPLETED"}
        for job, (_, _, run_s, _) in zip(ended, jobs, strict=True):
            assert job.started is not None
            assert job.ended == job.started + run_s


def test_what_the_test_itself_gets_wrong(slurm: FakeSlurm) -> None:
    with pytest.raises(ValueError, match="backwards"):
        slurm.advance(-1)
    with pytest.raises(ValueError, match="Invalid partition name"):
        slurm.submit("a", "--partition=nope")
    for look in (slurm.job, slurm.script, slurm.purge, slurm.requeue):
        with pytest.raises(KeyError):
            look("7_3")
    with pytest.raises(FileExistsError):
        FakeSlurm(slurm.folder)


def test_nodes_by_name(tmp_path: Path) -> None:
    with FakeSlurm(tmp_path / "slurm", nodes=["gpu01", "gpu02", "big"]) as slurm:
        slurm.submit("a", "-N3")
        assert slurm.run("squeue", "-h", "-o", "%N").stdout == "gpu[01-02],big\n"
