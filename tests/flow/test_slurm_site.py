"""The whole line through a Slurm that is simulated, its jobs executed for real: without root, packages or a network."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from aifactory_bench import AsyncBenchmarkOrchestrator, BenchmarkOrchestrator, RecipeError, RunError, SiteError, UsageError
from aifactory_bench.errors import LockedError
from aifactory_bench.testing.fake_slurm import Execute, FakeSlurm, Never, Refusal, refused

SERVICE = """\
schema: aifactory-bench/1
name: alone
services:
  cache: {kind: redis}
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster whose jobs are executed; its commands are found first."""
    with FakeSlurm(tmp_path / "slurm", jobs=Execute(), real_clock=True) as slurm:
        monkeypatch.setenv("PATH", f"{slurm.bin}:{os.environ['PATH']}")
        yield slurm


@pytest.fixture
def site(tmp_path):
    """Write a profile of that cluster, as of a controller that runs on its login node; returns its path."""

    def write(more=""):
        path = tmp_path / "fake.yaml"
        path.write_text(
            "schema: aifactory-bench/site/1\nname: fake\nlogin: {host: localhost, transport: local}\n"
            f"runs: {tmp_path}/there\nruntime: host\npython: {sys.executable}\nbind: 127.0.0.1\n"
            f"file_lag: 2s\nunsure: 1s\n{more}"
        )
        return str(path)

    return write


def test_a_run_from_the_command_line(slurm, site, recipe, cli, objects, tmp_path):
    """Submitted, watched, fetched and judged; each job once, one squeue a poll whatever their number."""
    code, out, err = cli("run", recipe(), "--site", site(), "--run-id", "whole", "--json")
    assert code in {0, 3}, err
    (summary,) = objects(out)
    assert summary["points"][0]["measurements"][0]["counts"]["ok"] > 300
    assert [job["state"] for job in summary["jobs"]] == ["completed", "completed"]
    assert summary["site_folder"] == f"{tmp_path}/there/whole"
    assert slurm.submit_count("afb-whole-cache-0") == slurm.submit_count("afb-whole-load-0") == 1
    assert slurm.calls["sbatch"] == 2
    assert (tmp_path / "there/whole").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "there/whole/.controller").exists()


def test_replicas_are_started_by_srun_and_merged(slurm, site, recipe, runs):
    """One job, two tasks."""
    path = recipe(text=recipe().read_text().replace("target: cache", "target: cache\n    replicas: 2"), duration="1s")
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench:
        report = bench.run(path).wait()
    (measurement,) = report.points[0].measurements
    assert measurement.replicas == 2
    assert measurement.counts["ok"] > 300


def test_what_is_known_of_a_run_anywhere(slurm, site, recipe, runs, tmp_path):
    """A folder of runs that never saw it, with the name of the site, is enough for status and attach."""
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench:
        first = bench.run(recipe(), run_id="r").wait()
        assert bench.status("r").state == "finished"
        calls = slurm.calls["squeue"]
        assert [status.state for status in bench.list_runs()] == ["finished"]
        assert slurm.calls["squeue"] == calls  # nobody has to be asked about what is over
    with BenchmarkOrchestrator(site(), runs_dir=tmp_path / "elsewhere") as bench:
        again = bench.attach("r").wait()
        assert again.points == first.points
        assert [(job.state, job.job_id) for job in again.jobs] == [(job.state, job.job_id) for job in first.jobs]
        with pytest.raises(RunError, match="no run other here, and none in"):
            bench.attach("other")
    with BenchmarkOrchestrator(runs_dir=runs) as bench:  # the site of a run is its own
        assert bench.attach("r").wait() == first


def test_a_run_id_that_is_taken_on_the_site(slurm, site, recipe, runs, tmp_path):
    """By a run of another machine: jobs of the same name would be taken for ours."""
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench:
        bench.run(recipe(), run_id="r").wait()
    with (
        BenchmarkOrchestrator(site(), runs_dir=tmp_path / "elsewhere") as bench,
        pytest.raises(UsageError, match="exists already"),
    ):
        bench.run(recipe(), run_id="r")
    assert not (tmp_path / "elsewhere/r").exists()
    assert slurm.calls["sbatch"] == 2


def test_services_and_clients_one_by_one(slurm, site, recipe, runs):
    """As on this machine."""
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench:
        service = bench.start_service(recipe())
        assert bench.servers.get_service_host(service)
        client = bench.clients.start_client(recipe(), service)
        assert bench.clients.wait(client.client_id).points[0].measurements[0].counts["ok"] > 300
        assert bench.stop_service(service)
    assert all(job.state == "COMPLETED" for job in slurm.jobs())


def test_a_job_that_would_never_start_is_cancelled_with_advice(slurm, site, recipe, runs):
    """Waiting does not help, and the run does not wait."""
    slurm.behave("afb-*-cache-0", Never("QOSMaxMemoryPerJob"))
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench:
        report = bench.run(recipe(), run_id="r").wait()
    assert report.status == "finished"
    assert report.missing == ("load/p0000-r1",)
    assert "would never have started (QOSMaxMemoryPerJob)" in report.error["text"]
    assert "QOS" in report.error["text"]
    assert {job.state for job in slurm.jobs("afb-r-cache-0")} == {"CANCELLED"}


def test_the_wait_in_the_queue_is_bounded_by_the_recipe(slurm, site, recipe, runs):
    """Whatever the reason."""
    slurm.behave("afb-*-cache-0", Never("Priority"))
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench:
        report = bench.run(recipe("max_pending: 2s\n"), run_id="r").wait()
    assert "max_pending" in report.error["text"]
    assert {job.state for job in slurm.jobs("afb-r-cache-0")} == {"CANCELLED"}


def test_a_refused_job_ends_the_run_and_takes_the_others_along(slurm, site, recipe, runs):
    """With sbatch's own words."""
    slurm.faults.next("sbatch", refused(Refusal.PARTITION), 1)
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench:
        report = bench.run(recipe(), run_id="r").wait()
    assert report.status == "failed"
    assert report.error["code"] == "submit"
    assert "Invalid partition" in report.error["text"]
    assert "partition" in report.error["hint"]
    assert not [job for job in slurm.jobs() if job.state in {"PENDING", "RUNNING"}]


def test_an_image_that_the_site_does_not_have_is_refused_before_anything_is_submitted(slurm, site, recipe, runs):
    """By name, with those that it has."""
    path = Path(site())
    path.write_text(path.read_text().replace("runtime: host", "runtime: apptainer"))
    with BenchmarkOrchestrator(str(path), runs_dir=runs) as bench, pytest.raises(SiteError, match="has no image"):
        bench.run(recipe())
    assert slurm.calls == {}


def test_the_sites_own_folder_of_runs_cannot_be_the_controllers(slurm, site, recipe, tmp_path):
    """The copy would be written over what the jobs write."""
    with BenchmarkOrchestrator(site(), runs_dir=tmp_path / "there") as bench, pytest.raises(UsageError, match="runs-dir"):
        bench.run(recipe())


def test_a_controller_on_another_machine_is_followed_until_it_is_gone(slurm, site, recipe, runs, tmp_path):
    """One that has shown life is left to it; one that let go, or is dead here, is none."""

    async def go():
        async with AsyncBenchmarkOrchestrator(site(), runs_dir=runs) as first:
            run = await first.run(recipe(duration="3s"), run_id="r")
            while len(slurm.jobs()) < 2 or not (tmp_path / "there/r/.controller").exists():
                await asyncio.sleep(0.05)
            # As if it ran on another machine: this one cannot tell whether that process lives.
            lock = tmp_path / "there/r/.controller"
            events = []
            async with AsyncBenchmarkOrchestrator(site(), runs_dir=tmp_path / "elsewhere") as second:
                lock.write_text(f"far-away:1:2:x {int(time.time())}\n")
                with pytest.raises(LockedError):
                    await second.attach("r", take_over=True)
                follower = await second.attach("r", listener=events.append)
                report = await run.wait()
                assert report.status == "detached"  # it has seen that another one drives
                lock.unlink()
                return (await follower.wait()), events

    report, events = asyncio.run(go())
    assert report.status == "finished"
    assert report.points[0].measurements[0].counts["ok"] > 900
    assert any("only following" in event.data.get("text", "") for event in events)


def test_a_run_that_was_only_asked_about_is_polled_no_more(slurm, site, recipe, runs):
    """Of a controller that lives long, each run it ever looked at would else be asked for at every poll."""

    async def go():
        async with AsyncBenchmarkOrchestrator(site(), runs_dir=runs) as bench:
            run = await bench.run(recipe(), run_id="r")
            await run.wait()
            await bench.cancel("r")  # nothing is left to cancel
            (link,) = bench._submitters._sites.values()
            return list(link._members)

    assert asyncio.run(go()) == []


def test_who_only_followed_does_not_undo_a_cancel(slurm, site, recipe, runs, tmp_path):
    """What was stopped on purpose is not begun anew by somebody who watched."""

    async def go():
        async with AsyncBenchmarkOrchestrator(site(), runs_dir=runs) as first:
            run = await first.run(recipe(duration="30s"), run_id="r")
            while len(slurm.jobs()) < 2 or not (tmp_path / "there/r/.controller").exists():
                await asyncio.sleep(0.05)
            lock = tmp_path / "there/r/.controller"
            holder = lock.read_text()
            async with AsyncBenchmarkOrchestrator(site(), runs_dir=tmp_path / "elsewhere") as second:
                lock.write_text(f"far-away:1:2:x {int(time.time())}\n")
                follower = await second.attach("r")
                lock.write_text(holder)
                await run.cancel()
                return (await follower.wait()).status

    assert asyncio.run(go()) == "interrupted"
    assert len(slurm.jobs()) == 2


def test_more_nodes_than_replicas_are_refused(slurm, site, recipe, runs):
    """They would stand idle."""
    with BenchmarkOrchestrator(site(), runs_dir=runs) as bench, pytest.raises(RecipeError, match="3 nodes for 1 replicas"):
        bench.run(recipe(), overrides=["clients.load.resources.nodes=3"])
    assert slurm.calls == {}


def test_a_run_whose_site_is_not_known_here_says_which_it_is(slurm, site, recipe, runs):
    """And how to name it."""
    path = Path(site())
    with BenchmarkOrchestrator(str(path), runs_dir=runs) as bench:
        bench.run(recipe(), run_id="r").wait()
    path.rename(path.with_name("moved.yaml"))
    with BenchmarkOrchestrator(runs_dir=runs) as bench, pytest.raises(UsageError, match="run r is on site 'fake'") as caught:
        bench.status("r")
    assert "--site" in caught.value.hint


def test_json_tells_where_things_are(slurm, site, recipe, cli, objects, tmp_path):
    """Status, report and logs of a run on a site come from the copy."""
    cli("run", recipe(), "--site", site(), "--run-id", "r", "--quiet")
    _code, out, _err = cli("report", "r", "--json")
    assert objects(out)[0]["site"] == "fake"
    assert json.loads((tmp_path / "runs/r/summary.json").read_text()) == objects(out)[0]
    code, out, _err = cli("logs", "r")
    assert code == 0
    assert "Ready to accept connections" in out
