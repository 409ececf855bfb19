"""`doctor` as a user sees it: lines with fixes, one JSON object, exit codes, and an end that leaves nothing."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from aifactory_bench.cli import doctor as command
from aifactory_bench.errors import UsageError
from aifactory_bench.testing.fake_slurm import FakeSlurm, Instant

PROFILE = """\
schema: aifactory-bench/site/1
name: lab
login: {{host: localhost, transport: local}}
runs: {runs}
runtime: host
python: {python}
slurm: {{partition: {partition}}}
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    """A cluster whose login node is this machine; its jobs never end."""
    with FakeSlurm(tmp_path / "slurm", jobs=Instant(run_s=1e9), real_clock=True) as one:
        monkeypatch.setenv("PATH", f"{one.bin}:/usr/bin:/bin")
        yield one


def profile(folder: Path, partition: str = "batch") -> Path:
    path = folder / "lab.yaml"
    path.write_text(PROFILE.format(runs=folder / "shared", python=sys.executable, partition=partition))
    return path


def run(*arguments: object) -> tuple[object, str]:
    """Return what the command returns, or raises, and what it says."""
    result = CliRunner().invoke(command.command, list(map(str, arguments)), standalone_mode=False)
    return result.exception or result.return_value, result.output


def test_what_is_wrong_is_told_with_its_fix(slurm: FakeSlurm, tmp_path: Path) -> None:
    code, said = run("--site", profile(tmp_path, "gpu"))
    assert code == 1
    lines = said.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("FAIL")]
    assert lines[at] == "FAIL  partition         there is no partition 'gpu'; there is: batch"
    assert lines[at + 1].strip() == "fix: set `partition` under `slurm` in the profile"
    assert "-     submission        needs: partition" in lines
    assert " 1 failed, " in lines[-1]


def test_all_is_well(slurm: FakeSlurm, tmp_path: Path) -> None:
    code, said = run("--site", profile(tmp_path))
    assert code == 0, said
    assert "ok    submission        sbatch would take a job" in said
    assert "-     node              not asked for" in said
    assert not (tmp_path / "shared").exists()
    assert slurm.jobs() == []


def test_one_json_object(slurm: FakeSlurm, tmp_path: Path) -> None:
    code, said = run("--site", profile(tmp_path, "gpu"), "--json")
    found = json.loads(said)
    assert (code, found["schema"], found["site"], found["ok"]) == (1, "aifactory-bench/doctor/1", "lab", False)
    (bad,) = [one for one in found["findings"] if one["state"] == "fail"]
    assert set(bad) == {"check", "state", "text", "fix"}


def test_a_profile_that_is_none(tmp_path: Path) -> None:
    """Is a finding like any other; nothing else is looked at."""
    path = profile(tmp_path)
    path.write_text(path.read_text() + "nosuch: 1\n")
    code, said = run("--site", path)
    assert code == 1
    assert "FAIL  profile" in said
    assert "nosuch" in said
    assert "-     login             needs: profile" in said


def test_a_shipped_profile_without_the_users_part() -> None:
    """Is told what to do in one line."""
    code, said = run("--site", "meluxina")
    assert code == 1
    assert "lacks your own part: runs, login.user, slurm.account" in said
    assert "fix: aifactory-bench init meluxina asks for it" in said


def test_this_machine() -> None:
    """The site `local` has no login and no Slurm, and is in order."""
    code, said = run("--site", "local")
    assert code == 0, said
    assert "runs our program" in said


def test_a_time_that_is_none(tmp_path: Path) -> None:
    error, _ = run("--site", profile(tmp_path), "--wait", "soon")
    assert isinstance(error, UsageError)
    assert error.text.startswith("--wait: ")


def test_a_site_is_needed() -> None:
    error, _ = run()
    assert isinstance(error, click.UsageError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(slurm: FakeSlurm, tmp_path: Path, number: signal.Signals) -> None:
    """While the job runs: it is cancelled, and its folder goes."""
    program = "import sys; from aifactory_bench.cli.doctor import command; command(sys.argv[1:], prog_name='doctor')"
    argv = [sys.executable, "-c", program, "--site", str(profile(tmp_path)), "--job"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not [job for job in slurm.jobs() if job.state == "RUNNING" and job.name.startswith("afb-doctor-")]:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(number)
    said, _ = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "Traceback" not in said
    assert [job.state for job in slurm.jobs() if not job.state.startswith("CANCELLED")] == []
    assert not (tmp_path / "shared").exists()
