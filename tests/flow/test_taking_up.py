"""What a run is after it was taken up, cancelled or extended: nothing lost, nothing told twice, nothing stale."""

import asyncio
import json
import os
import signal
import time

import pytest

from aifactory_bench import AsyncBenchmarkOrchestrator, BenchmarkOrchestrator, SiteError, UsageError
from aifactory_bench.report.summary import exit_code
from aifactory_bench.runs.lock import ControllerLock
from aifactory_bench.submitters.process import belonging

TWO_STAGES = "matrix: {services.cache.parameters.persistence: [none, rdb]}\n"


def test_a_finished_run_keeps_what_it_knows_of_its_jobs(recipe, runs):
    """Attached again, the summary says the same of the jobs as before."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        first = bench.run(recipe(duration="300ms"), run_id="r").wait()
        again = bench.attach("r").wait()
    assert [job.state for job in first.jobs] == ["completed", "completed"]
    assert again == first


def test_a_stop_right_after_attaching_is_heeded(recipe, runs):
    """What is missing is not measured for somebody who has changed his mind."""

    async def go():
        async with AsyncBenchmarkOrchestrator(runs_dir=runs) as bench:
            run = await bench.run(recipe(duration="30s"), run_id="r")
            await asyncio.sleep(0.5)
            await run.cancel()
            run = await bench.attach("r")
            return await run.cancel()

    assert asyncio.run(go()).status == "interrupted"
    assert len(list((runs / "r/jobs").iterdir())) == 2


def test_a_summary_of_an_earlier_end_goes(recipe, runs):
    """While what is missing is measured, nobody is shown how the run stood before."""

    async def go():
        async with AsyncBenchmarkOrchestrator(runs_dir=runs) as bench:
            run = await bench.run(recipe(duration="30s"), run_id="r")
            await asyncio.sleep(0.5)
            await run.cancel()
            before = (await bench.status("r")).state
            run = await bench.attach("r")
            while len(list((runs / "r/jobs").iterdir())) < 4:
                await asyncio.sleep(0.05)
            during = bench.summary("r")
            await run.cancel()
            return before, during

    before, during = asyncio.run(go())
    assert before == "interrupted"
    assert (during.status, during.pending) == ("detached", ("load/p0000-r1",))


def test_cancelling_a_run_that_has_only_begun(recipe, runs):
    """Its controller has submitted nothing yet, and must not do so afterwards."""

    async def go():
        async with AsyncBenchmarkOrchestrator(runs_dir=runs) as bench:
            run = await bench.run(recipe(duration="30s"), run_id="r")
            await bench.cancel("r")
            return run.done, await run.wait()

    done, report = asyncio.run(go())
    assert done
    assert report.status == "interrupted"


def test_a_client_that_was_killed_holds_no_stage_up(recipe, runs, wait_for):
    """Neither its service nor the next stage waits for a last word that cannot come."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        started = time.monotonic()
        run = bench.run(recipe(TWO_STAGES, duration="2s"), run_id="r")
        (pid_file,) = wait_for(lambda: list(runs.glob("r/jobs/*load-s0*/job_id")))
        wait_for(lambda: "point_started" in "".join(f.read_text() for f in runs.glob("r/jobs/*load-s0*/0/events.jsonl")))
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        report = run.wait()
        assert time.monotonic() - started < 40
    assert [len(point.measurements) for point in report.points] == [0, 1]
    assert {job.name: job.outcome for job in report.jobs}["load-s0"] == "failed"


def test_a_report_of_one_client_is_of_that_client_alone(recipe, runs):
    """Neither the verdict nor what is missing comes from another client of the service."""
    path = recipe(duration="300ms")
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        service = bench.start_service(path)
        bad = bench.clients.start_client(path, service, overrides=["limits.client_bound=0%", "limits.lateness=0%"]).client_id
        assert bench.clients.wait(bad).verdict == "invalid"
        long = bench.clients.start_client(path, service, overrides=["clients.load.load.duration=30s"])
        good = bench.clients.start_client(path, service, overrides=["limits.client_bound=100%"]).client_id
        report = bench.clients.wait(good)
        assert long.client_id != good
        assert report.missing == report.pending == ()
        assert report.verdict == report.points[0].measurements[0].verdict
        plan = json.loads((runs / service.partition("/")[0] / "plan.json").read_text())
        assert "plugin_files" in plan["provenance"]


def test_a_folder_that_was_moved_in_mid_run_ends_the_run(recipe, runs, command, wait_for):
    """Jobs are ended by their process ids, nothing is submitted again, no folder is made anew, and the error is told."""
    child = command("run", recipe(duration="30s"), "--run-id", "r", "--quiet", "--json")
    wait_for(lambda: "point_started" in "".join(f.read_text() for f in runs.glob("r/jobs/*/0/events.jsonl")))
    (runs / "r").rename(runs / "moved")
    out, err = child.communicate(timeout=30)
    assert child.returncode == 1, err
    document = json.loads(out)
    assert (document["run_id"], document["error"]["code"]) == ("r", "run")
    assert "the run folder is gone" in document["error"]["text"]
    assert [entry.name for entry in runs.iterdir()] == ["moved"]
    assert len(list(runs.glob("moved/jobs/*"))) == 2
    wait_for(lambda: not list(belonging(f"AFB_RUN_DIR={runs / 'r'}", runs / "moved")))


def test_a_summary_that_cannot_be_written_is_shown_all_the_same(recipe, runs, monkeypatch):
    """The measurements are there, with the error of the site, and the exit code says that something is wrong."""

    def full(path, _value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("aifactory_bench.async_run.write_json", full)
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        report = bench.run(recipe(duration="300ms"), run_id="r").wait()
    assert report.points[0].measurements
    assert (report.status, report.error["code"]) == ("failed", "site")
    assert "summary.json: No space left" in report.error["text"]
    assert exit_code(report) == 1


def test_a_run_whose_staging_failed_can_be_run(recipe, runs, monkeypatch):
    """Nothing is left of a run that could not begin, and what a killed controller left is in nobody's way."""

    async def full(*_):
        raise SiteError("no room")

    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        with monkeypatch.context() as patched:
            patched.setattr("aifactory_bench.submitters.local.LocalSubmitter.stage", full)
            with pytest.raises(SiteError, match="no room"):
                bench.run(recipe(), run_id="r")
        assert list(runs.iterdir()) == []
        (runs / "r").mkdir()
        (runs / "r/recipe.yaml").write_text("of another run")
        held = ControllerLock.acquire(runs / "r/controller.lock")
        with pytest.raises(UsageError, match="just being begun"):
            bench.run(recipe(), run_id="r")
        held.release()
        report = bench.run(recipe(duration="300ms"), run_id="r").wait()
    assert report.points[0].measurements
    assert "name: small" in (runs / "r/recipe.yaml").read_text()


def test_what_a_dead_service_cut_is_measured_again(recipe, runs, wait_for):
    """Once: `attach` makes one more attempt, and keeps what that came to."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        run = bench.run(recipe(duration="3s"), run_id="r")
        wait_for(lambda: "point_started" in "".join(f.read_text() for f in runs.glob("r/jobs/*/0/events.jsonl")))
        (events,) = runs.glob("r/jobs/*cache*/0/events.jsonl")
        (server,) = {json.loads(line)["data"]["pid"] for line in events.read_text().splitlines() if '"started"' in line}
        os.kill(server, signal.SIGKILL)
        assert run.wait().verdict == "invalid"
        report = bench.attach("r").wait()
    codes = {reason.code for reason in report.points[0].measurements[0].reasons}
    assert codes.isdisjoint({"cut", "service_died", "no_measurement"})
    assert report.points[0].measurements[0].counts["ok"] > 600
    assert len(list(runs.glob("r/jobs/*"))) == 4


def test_what_fails_again_is_tried_once(recipe, runs):
    """Taking a run up makes one more attempt, not two."""
    path = recipe(duration="300ms")
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        bench.run(path, run_id="r").wait()
        for file in runs.glob("r/jobs/*load*/0/measurements/*.json"):
            document = json.loads(file.read_text())
            file.write_text(json.dumps({**document, "status": "failed"}))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("aifactory_bench.runs.recovery.finished", lambda _paths, _point: False)
            bench.attach("r").wait()
    assert len(list(runs.glob("r/jobs/*"))) == 4


def test_a_follower_goes_on_when_the_driver_dies(recipe, runs, command, wait_for):
    """It takes the lock that fell free, measures on, and writes the summary."""
    driver = command("run", recipe(duration="6s"), "--run-id", "r", "--quiet")
    wait_for(lambda: list(runs.glob("r/endpoints/*/0.json")))
    follower = command("attach", "r", "--json")
    assert "only following" in follower.stderr.readline()
    driver.kill()
    driver.wait()
    out, err = follower.communicate(timeout=60)
    assert follower.returncode in (0, 3), err
    assert "this one drives it now" in err
    assert json.loads(out)["points"][0]["measurements"][0]["counts"]["ok"] > 600
    assert json.loads((runs / "r/summary.json").read_text())["status"] == "finished"
    assert len(list(runs.glob("r/jobs/*"))) == 2


def test_a_follower_of_an_interrupted_driver_says_so(recipe, runs, command, wait_for):
    """It shows the summary that the driver wrote."""
    driver = command("run", recipe(duration="30s"), "--run-id", "r", "--quiet")
    wait_for(lambda: list(runs.glob("r/endpoints/*/0.json")))
    follower = command("attach", "r", "--json")
    assert "only following" in follower.stderr.readline()
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=30)
    out, _err = follower.communicate(timeout=30)
    assert follower.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
