"""The whole program with a real Redis: run, interrupt, leave, take up, cancel, and look at runs again."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Console = Callable[..., subprocess.CompletedProcess[str]]
LONG = "--set=clients.load.load.duration=60s"


@pytest.fixture
def finished(inside: Console, quick_recipe: Path) -> dict[str, Any]:
    """A run that is over."""
    done = inside("run", "quick.yaml", "--json", "--run-id", "done")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _alive(runs: Path) -> list[str]:
    """Return the command lines of processes that belong to runs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = Path(folder, "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(runs) in command and "aifactory_bench" not in command.split(" run ")[0]:
            found.append(command)
    return found


def test_run_shows_progress_and_table(console: Console, quick_recipe: Path, tmp_path: Path) -> None:
    """Progress goes to standard error, the result to standard output, and nothing is left running."""
    done = console("run", "quick.yaml")
    assert done.returncode == 0
    assert re.search(r"^measure +load +\d\.\d s$", done.stderr, flags=re.MULTILINE)
    assert "answers: redis" in done.stderr
    assert done.stdout.startswith("quick on local")
    assert "latency from schedule" in done.stdout
    assert str(tmp_path / "runs") in done.stdout.replace("\n", "")
    assert not _alive(tmp_path / "runs")


def test_json_is_one_line_and_nothing_else(finished: dict[str, Any]) -> None:
    """`--json` prints the document that is kept as summary.json."""
    assert (finished["schema"], finished["run_id"]) == ("aifactory-bench/results/1", "done")
    assert finished["points"][0]["measurements"][0]["counts"]["ok"] > 400
    assert json.loads(Path(finished["run_folder"], "summary.json").read_text()) == finished


def test_json_of_a_bad_recipe_is_an_object_too(inside: Console, quick_recipe: Path) -> None:
    """Good and bad recipes get an object each, the exit code is the worst, and the error is told as text as well."""
    done = inside("run", "nosuch.yaml", "quick.yaml", "--json", "--quiet")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 2
    assert (first["run_id"], first["error"]["code"], first["recipe"]) == (None, "recipe", "nosuch.yaml")
    assert second["error"] is None
    assert "nosuch.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_of_bad_options_is_an_object_too(inside: Console, quick_recipe: Path) -> None:
    """A lease that is no duration is told in the same form."""
    done = inside("run", "quick.yaml", "--json", "--lease", "5")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"


def test_two_at_a_time(inside: Console, quick_recipe: Path, tmp_path: Path) -> None:
    """`--parallel 2` runs both, each with its own object."""
    (tmp_path / "other.yaml").write_text(quick_recipe.read_text().replace("name: quick", "name: other"))
    done = inside("run", "quick.yaml", "other.yaml", "--parallel", "2", "--json")
    assert sorted(json.loads(line)["recipe"] for line in done.stdout.splitlines()) == ["other", "quick"]
    assert "other: measure" in done.stderr


def test_terminal_shows_one_live_line_a_phase(terminal: Callable[..., Any], quick_recipe: Path, tmp_path: Path) -> None:
    """On 80 columns nothing is wider, the live line goes away, and the cursor comes back."""
    screen = terminal("run", "quick.yaml")
    assert screen.end() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.text)
    lines = [line.rsplit("\r", 1)[-1] for line in plain.replace("\r\n", "\n").split("\n")]
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert any(re.search(r"measure +load +\d+\.\d / 1 s", part) for part in re.split(r"[\r\n]", plain))
    # Phases are told at the node's next look, which may be late for the beginning, the end, or both.
    took_s = re.search(r"✓ measure +load +(\d+\.\d) s", plain)
    assert took_s is not None
    assert 0.5 <= float(took_s[1]) < 10
    assert screen.text.rfind("\x1b[?25h") > screen.text.rfind("\x1b[?25l")


def test_ctrl_c_stops_and_keeps(terminal: Callable[..., Any], quick_recipe: Path, tmp_path: Path, inside: Console) -> None:
    """The first Ctrl-C stops the jobs; the summary is shown, kept, and the exit code is 130."""
    screen = terminal("run", "quick.yaml", LONG, "--run-id", "stopped")
    screen.wait_for("measure  load")
    screen.press_ctrl_c()
    assert screen.end() == 130
    assert "stopping jobs, keeping what was measured (Ctrl-C again to leave them)" in screen.text.replace("\r\n", "")
    assert "Traceback" not in screen.text
    assert not _alive(tmp_path / "runs")
    assert json.loads((tmp_path / "runs" / "stopped" / "summary.json").read_text())["status"] == "interrupted"
    assert inside("report", "stopped").returncode == 130


def test_term_stops_like_ctrl_c(tmp_path: Path, quick_recipe: Path) -> None:
    """TERM, as a scheduler or a service manager sends it, does the same."""
    command = [sys.executable, "-m", "aifactory_bench", "run", "quick.yaml", LONG, "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "ready    load" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "interrupted"


def test_second_ctrl_c_leaves_the_run_and_attach_takes_it_up(
    terminal: Callable[..., Any], quick_recipe: Path, tmp_path: Path, inside: Console
) -> None:
    """Who presses twice has the prompt back while the jobs end; what comes of them is there afterwards."""
    screen = terminal("run", "quick.yaml", "--set=clients.load.load.duration=2s", "--run-id", "left")
    screen.wait_for("warmup   load")
    screen.press_ctrl_c()
    screen.wait_for("stopping jobs")
    screen.press_ctrl_c()
    assert screen.end() == 4
    assert "Traceback" not in screen.text
    taken = inside("attach", "left", "--json")
    assert json.loads(taken.stdout)["run_id"] == "left"
    assert "Traceback" not in taken.stderr


def test_killed_controller_is_followed_by_attach(tmp_path: Path, quick_recipe: Path, inside: Console) -> None:
    """KILL of the controller costs nothing: the jobs go on, and attach shows what they measured."""
    command = [sys.executable, "-m", "aifactory_bench", "run", "quick.yaml", "--run-id", "orphan"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "ready    load" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    done = inside("attach", "orphan", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["points"][0]["measurements"][0]["counts"]["ok"] > 400


def test_cancel_from_elsewhere(tmp_path: Path, quick_recipe: Path, inside: Console) -> None:
    """`cancel` ends a run that another process drives, and that process says so."""
    command = [sys.executable, "-m", "aifactory_bench", "run", "quick.yaml", LONG, "--run-id", "other"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while "running" not in (said := inside("status", "other").stdout) or "load  " not in said:
        assert time.monotonic() < deadline
    done = inside("cancel", "other")
    process.communicate(timeout=30)
    assert done.returncode == 0
    assert "no job is left" in done.stdout
    assert process.returncode == 130
    assert not _alive(tmp_path / "runs")


def test_reader_that_leaves_is_no_error(tmp_path: Path, quick_recipe: Path) -> None:
    """`| head -1` ends quietly, whatever is printed after it, and the run is finished all the same."""
    line = f"{sys.executable} -m aifactory_bench run quick.yaml --run-id piped 2>&1 | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert "measurements, in" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    deadline = time.monotonic() + 20
    while not (tmp_path / "runs" / "piped" / "summary.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_output_that_cannot_be_written_stops_no_run(console: Console, quick_recipe: Path, tmp_path: Path) -> None:
    """A full disk behind standard output is told once, at the end; both runs are measured and kept."""
    (tmp_path / "other.yaml").write_text(quick_recipe.read_text().replace("name: quick", "name: other"))
    with open("/dev/full", "w") as full:
        done = console("run", "quick.yaml", "other.yaml", "--json", "--quiet", stdout=full)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "aifactory-bench: standard output: No space left on device"
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "runs").glob("*/summary.json"))) == 2


def test_progress_that_cannot_be_written_costs_nothing(console: Console, quick_recipe: Path) -> None:
    """The run ends as it would have, and its result is shown."""
    with open("/dev/full", "w") as full:
        done = console("run", "quick.yaml", stderr=full)
    assert done.returncode == 0
    assert done.stdout.startswith("quick on local")


def test_width_of_nothing_is_80_columns(finished: dict[str, Any], inside: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some terminals say that they have no columns: the result is shown all the same."""
    said = inside("report", "done").stdout
    monkeypatch.setenv("COLUMNS", "0")
    assert inside("report", "done").stdout == said
    assert said.startswith("quick on local")


def test_finished_run_can_be_looked_at(finished: dict[str, Any], inside: Console) -> None:
    """`status`, `logs`, `report` and `cancel` know a run that is over."""
    assert re.search(r"^done +quick +finished", inside("status").stdout, flags=re.MULTILINE)
    assert re.search(r"^load +client +redis-load .* 1/1$", inside("status", "done").stdout, flags=re.MULTILINE)
    assert "==== cache 0" in inside("logs", "done").stdout
    assert "====" not in inside("logs", "done", "cache").stdout
    assert json.loads(inside("report", "done", "--json").stdout) == finished
    assert inside("report", "done").stdout.startswith("quick on local")
    assert inside("cancel", "done").returncode == 0
    assert inside("attach", "done", "--json").returncode == 0


@pytest.mark.parametrize("command", [["status"], ["attach"], ["cancel"], ["logs"], ["report"]])
def test_unknown_run_is_told(command: list[str], inside: Console) -> None:
    """A run that is not there is an error of one line and a hint."""
    done = inside(*command, "nosuch")
    assert done.returncode == 1
    assert "nosuch" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_runs_yet(inside: Console) -> None:
    """An empty list says where it looked."""
    assert "no runs in" in inside("status").stdout


def test_dead_server_is_an_error_of_the_run(inside: Console, quick_recipe: Path) -> None:
    """A server that cannot start ends with exit code 1, says why, and shows where to look."""
    done = inside("run", "quick.yaml", "--json", "--set=services.cache.parameters.no_such_thing=1")
    assert done.returncode == 2
    assert "no_such_thing" in json.loads(done.stdout)["error"]["text"]
