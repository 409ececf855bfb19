"""From recipe to verdict on this machine, and back from every kind of interruption."""

import asyncio
import json
import os
import random
import shutil
import signal
import time

import pytest

from aifactory_bench import AsyncBenchmarkOrchestrator, BenchmarkOrchestrator
from aifactory_bench.submitters.process import belonging

MATRIX = "matrix: {clients.load.load.rate: [300/s, 500/s]}\nrepetitions: 2\n"


def test_recipe_to_verdict(recipe, runs):
    """One call: a real server is started, measured, stopped, and the numbers hold up."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        events = []
        run = bench.run(recipe(), listener=events.append)
        summary = run.wait()
    (point,) = summary.points
    (measurement,) = point.measurements
    # On a machine that does other things as well the generator may be late, and then it must say so; nothing else may be wrong.
    own = {"lateness", "loop_lag", "client_bound", "generator_stalled"}
    assert {reason.code for reason in measurement.reasons} <= own, measurement.reasons
    assert measurement.counts["ok"] > 250
    assert measurement.counts["error"] == 0
    assert measurement.offered_per_s == 400
    assert measurement.latency["get"]["send"].p50_us <= measurement.latency["get"]["schedule"].p50_us
    assert summary.missing == ()
    assert events[0].type == "planned"
    assert events[-1].type == "finished"
    assert not list(belonging(f"AFB_RUN_DIR={run.folder}", run.folder))
    document = json.loads((run.folder / "summary.json").read_text())
    assert document["schema"] == "aifactory-bench/results/1"


def test_the_run_leaves_no_secret_behind(recipe, runs):
    """The server's password stands in no script, log, event, measurement or plan, and is kept private."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        folder = bench.run(recipe()).wait().run_folder
    (secret,) = runs.glob("*/endpoints/*/secret")
    password = secret.read_text().strip()
    assert len(password) >= 16
    for path in runs.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
            if path != secret and path.name != "redis.conf":
                assert password.encode() not in path.read_bytes(), path
        else:
            assert path.stat().st_mode & 0o077 == 0, path
    assert str(runs) in folder


def test_a_matrix_with_repetitions_shares_one_server(recipe, runs):
    """Load factors and repetitions do not restart the service; every point is there, in a recorded order."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        run = bench.run(recipe(MATRIX, duration="500ms"))
        summary = run.wait()
        plan = bench.plan(bench.load_recipe(recipe(MATRIX, duration="500ms")))
    assert len(summary.points) == 4
    assert len(list(runs.glob("*/endpoints/*/0.json"))) == 1
    assert [job.role for job in plan.jobs] == ["service", "client"]


def test_runs_in_a_running_event_loop(recipe, runs):
    """A notebook cell: the blocking face works while a loop runs in the same thread."""

    async def cell():
        with BenchmarkOrchestrator(runs_dir=runs) as bench:
            return bench.run(recipe(duration="300ms")).wait()

    assert asyncio.run(cell()).points


def test_leaving_the_block_stops_unfinished_runs(recipe, runs):
    """Like Ctrl-C: nothing runs on, what was measured is kept."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        run = bench.run(recipe(duration="60s"))
        time.sleep(1.5)
    assert run.done
    assert not list(belonging(f"AFB_RUN_DIR={run.folder}", run.folder))


def test_the_async_face(recipe, runs):
    """The same verbs, awaited."""

    async def go():
        async with AsyncBenchmarkOrchestrator(runs_dir=runs) as bench:
            run = await bench.run(recipe(duration="300ms"))
            summary = await run.wait()
            return summary, await bench.status(run.run_id), await bench.list_runs()

    summary, status, listed = asyncio.run(go())
    assert status.state == "finished"
    assert status.verdict == summary.verdict
    assert [row.points_done for row in status.jobs] == [0, 1]
    assert [entry.run_id for entry in listed] == [summary.run_id]


def test_ctrl_c_keeps_what_was_measured(recipe, runs, command, wait_for):
    """The first Ctrl-C stops everything; finished points are in the summary; exit code 130."""
    child = command(
        "run",
        recipe("matrix: {clients.load.load.rate: [300/s, 301/s, 302/s, 303/s]}\n", duration="2s"),
        "--json",
        "--run-id",
        "r",
    )
    wait_for(lambda: list(runs.glob("r/jobs/*/0/measurements/*.json")))
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    summary = json.loads(out)
    assert summary["status"] == "interrupted"
    measurements = [measurement for point in summary["points"] for measurement in point["measurements"]]
    assert any(measurement["counts"]["ok"] > 200 for measurement in measurements)
    # The service outlives its client, so that our own stop is not taken for a server that dies.
    assert "service_died" not in {reason["code"] for measurement in measurements for reason in measurement["reasons"]}
    assert sum(measurement["counts"]["error"] for measurement in measurements) == 0
    assert not list(belonging(f"AFB_RUN_DIR={runs / 'r'}", runs / "r"))


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_controller_loses_nothing(recipe, runs, command, cli, wait_for, seed):
    """kill -9 at a random moment: the run finishes or ends by its lease, and attach makes it whole."""
    path = recipe("matrix: {clients.load.load.rate: [300/s, 500/s]}\n", duration="600ms")
    child = command("run", path, "--run-id", "r", "--lease", "2s", "--quiet")
    wait_for(lambda: (runs / "r/plan.json").exists())
    time.sleep(random.Random(seed).uniform(0, 3))
    child.kill()
    child.wait()
    kept = {file: file.read_bytes() for file in runs.glob("r/jobs/*/0/measurements/*.json")}
    wait_for(lambda: not list(belonging(f"AFB_RUN_DIR={runs / 'r'}", runs / "r")), limit_s=20)
    code, out, err = cli("attach", "r", "--json")
    assert code in (0, 3), err
    summary = json.loads(out)
    assert len(summary["points"]) == 2
    assert all(point["measurements"] for point in summary["points"])
    assert {file: file.read_bytes() for file in kept} == kept


def test_attach_takes_up_a_run_that_goes_on(recipe, runs, command, cli, wait_for):
    """Killed in the middle of a measurement, attached at once: the same jobs, nothing measured twice."""
    child = command("run", recipe(duration="3s"), "--run-id", "r", "--quiet")
    wait_for(lambda: "point_started" in "".join(f.read_text() for f in runs.glob("r/jobs/*/0/events.jsonl")))
    child.kill()
    child.wait()
    code, out, err = cli("attach", "r", "--json")
    assert code in (0, 3), err
    assert json.loads(out)["points"][0]["measurements"][0]["counts"]["ok"] > 600
    assert len(list(runs.glob("r/jobs/*"))) == 2


def test_attach_to_a_finished_run_shows_it(recipe, runs, cli):
    """Nothing is run again."""
    code, first, _err = cli("run", recipe(duration="300ms"), "--run-id", "r", "--json")
    assert code in (0, 3)
    jobs = sorted(runs.glob("r/jobs/*"))
    _code, second, _err = cli("attach", "r", "--json")
    assert json.loads(second)["points"] == json.loads(first)["points"]
    assert sorted(runs.glob("r/jobs/*")) == jobs


def test_a_second_controller_only_follows(recipe, runs, command, cli, wait_for):
    """While one controller drives the run, another one watches to the end."""
    child = command("run", recipe(duration="2s"), "--run-id", "r", "--quiet", "--json")
    wait_for(lambda: (runs / "r/journal.jsonl").exists())
    code, out, err = cli("attach", "r", "--json")
    assert "only following" in err
    assert code in (0, 3)
    assert json.loads(out)["points"][0]["measurements"]
    child.communicate(timeout=30)
    assert len(list(runs.glob("r/jobs/*"))) == 2


def test_cancel_from_another_terminal(recipe, runs, command, cli, wait_for):
    """`cancel` ends the run of another controller, which then ends by itself."""
    child = command("run", recipe(duration="60s"), "--run-id", "r", "--quiet", "--json")
    wait_for(lambda: list(runs.glob("r/endpoints/*/0.json")))
    code, _out, err = cli("cancel", "r")
    assert code in (0, 130), err
    child.communicate(timeout=30)
    assert child.returncode == 130


def test_cancel_without_a_controller(recipe, runs, command, cli, wait_for):
    """`cancel` ends jobs whose controller is dead."""
    child = command("run", recipe(duration="60s"), "--run-id", "r", "--quiet")
    wait_for(lambda: list(runs.glob("r/endpoints/*/0.json")))
    child.kill()
    child.wait()
    code, _out, err = cli("cancel", "r")
    assert code in (0, 130), err
    assert not list(belonging(f"AFB_RUN_DIR={runs / 'r'}", runs / "r"))


def test_a_server_that_dies_in_the_window_is_said(recipe, runs, command, wait_for):
    """SIGKILL of the server: the run ends soon, invalid, with a reason, exit code 3."""
    child = command("run", recipe(duration="20s"), "--run-id", "r", "--quiet", "--json")
    wait_for(lambda: "point_started" in "".join(f.read_text() for f in runs.glob("r/jobs/*/0/events.jsonl")))
    time.sleep(1.0)
    (events,) = runs.glob("r/jobs/*cache*/0/events.jsonl")
    (server,) = {json.loads(line)["data"]["pid"] for line in events.read_text().splitlines() if '"started"' in line}
    killed = time.monotonic()
    os.kill(server, signal.SIGKILL)
    out, err = child.communicate(timeout=30)
    assert time.monotonic() - killed < 8
    assert child.returncode == 3, err
    summary = json.loads(out)
    assert summary["verdict"] == "invalid"
    assert "service_died" in {
        reason["code"] for point in summary["points"] for m in point["measurements"] for reason in m["reasons"]
    }


def test_a_missing_program_is_one_clear_error(recipe, cli, tmp_path, monkeypatch):
    """A tool that is not installed: the summary names it and says what to do, and nothing hangs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mkdir", "mv", "cat", "bash", "sh", "env", "redis-server"):
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(programs))
    path = recipe()
    text = (
        path.read_text()
        .replace("redis-load", "memtier")
        .replace("process: poisson, rate: 400/s", "process: closed, concurrency: 4")
        .replace("200ms", "1s")
    )
    path.write_text(text)
    code, out, err = cli("run", path, "--json", "--quiet")
    assert code == 3, err
    assert "Traceback" not in err + out
    (reason,) = json.loads(out)["points"][0]["measurements"][0]["reasons"]
    assert "memtier_benchmark" in reason["text"]
