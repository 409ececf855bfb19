"""Runs whose services live in images of the cache: a simulated Slurm behind an SSH server, its jobs executed for real."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from aifactory_bench import AsyncBenchmarkOrchestrator, SiteError
from aifactory_bench.images.api import AsyncImages
from aifactory_bench.images.cache import Cache
from aifactory_bench.sites.load import load_site
from aifactory_bench.testing.fake_slurm import Execute, FakeSlurm
from aifactory_bench.testing.ssh_server import SshServer

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None and os.environ.get("CI") != "true", reason="redis-server is not installed"
)

RECIPE = """\
schema: aifactory-bench/1
name: small
services:
  cache: {kind: redis, image: "docker://redis:7"}
clients:
  load:
    kind: redis-load
    target: cache
    parameters: {keys: 100}
    load: {process: constant, rate: 200/s, connections: 2, warmup: 100ms, duration: 1s}
"""


@pytest.fixture
def slurm(lab, tmp_path, monkeypatch):
    """A cluster whose jobs are executed; its commands are found first."""
    with FakeSlurm(tmp_path / "slurm", jobs=Execute(), real_clock=True) as slurm:
        monkeypatch.setenv("PATH", f"{slurm.bin}:{os.environ['PATH']}")
        yield slurm


@pytest.fixture
def profile(lab, tmp_path) -> str:
    """The profile of that cluster; what its jobs need of the stand-in stands in `setup`."""
    path = tmp_path / "lab.yaml"
    path.write_text(
        f"schema: aifactory-bench/site/1\nname: lab\nlogin: {{host: login}}\nruns: {tmp_path}/there\nruntime: apptainer\n"
        f"images_cache: {lab.cache}\npython: {sys.executable}\nbind: 127.0.0.1\nfile_lag: 2s\nunsure: 1s\n"
        f"setup: [export APPTAINER_REGISTRY='{lab.registry}', export PATH='{tmp_path}/bin':$PATH]\n"
    )
    return str(path)


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A recipe that needs an image."""
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


def change(path, content):
    """Put something else into an image's file."""
    Path(path).write_bytes(content)


@contextlib.asynccontextmanager
async def benches(profile, tmp_path, count=1):
    """Give orchestrators, each with a connection of its own to one SSH server, which stands for the login node."""
    async with SshServer() as server, contextlib.AsyncExitStack() as stack:
        server.admit(tmp_path / "home")
        found = [
            await stack.enter_async_context(AsyncBenchmarkOrchestrator(profile, runs_dir=tmp_path / f"runs{number}"))
            for number in range(count)
        ]
        yield found


def test_without_the_image_nothing_is_submitted(lab, slurm, profile, recipe, tmp_path):
    async def go():
        async with benches(profile, tmp_path) as (bench,):
            with pytest.raises(SiteError) as caught:
                await bench.run(recipe)
            return caught.value

    error = asyncio.run(go())
    assert "site lab has no image docker://redis:7" in error.text
    assert error.hint == "aifactory-bench images pull docker://redis:7 --site lab"
    assert slurm.calls["sbatch"] == 0
    assert list((tmp_path / "runs0").glob("*")) == []


def test_two_runs_that_need_an_image_at_once_pull_it_once(lab, slurm, profile, recipe, tmp_path):
    """Each makes sure of its image and runs; each plan names the digest."""
    lab.slow(1.0)

    async def one(bench, run_id):
        async with AsyncImages(profile) as images:
            image = await images.pull("docker://redis:7")
        run = await bench.run(recipe, run_id=run_id)
        return image, await run.wait(), run.plan

    async def go():
        async with benches(profile, tmp_path, 2) as found:
            return await asyncio.gather(*(one(bench, f"r{number}") for number, bench in enumerate(found)))

    outcomes = asyncio.run(go())
    assert lab.calls == ["pull docker://redis:7"]
    for image, report, plan in outcomes:
        assert report.points[0].measurements[0].counts["ok"] > 100
        assert plan.provenance["images"]["docker://redis:7"]["digest"] == image.digest
        assert image.path in plan.jobs[0].script
    assert set((lab.registry / "execs").read_text().splitlines()) == {f"exec {outcomes[0][0].path}"}


def test_an_image_that_changed_after_planning_is_refused_on_the_node(lab, slurm, profile, recipe, tmp_path, monkeypatch):
    find = Cache.find

    async def find_then_change(cache, references):
        found = await find(cache, references)
        for image in found.values():
            change(image.path, b"another image")
        return found

    async def go():
        async with benches(profile, tmp_path) as (bench,), AsyncImages(profile) as images:
            await images.pull("docker://redis:7")
            monkeypatch.setattr(Cache, "find", find_then_change)
            run = await bench.run(recipe)
            return await run.wait()

    report = asyncio.run(go())
    (service,) = [job for job in report.jobs if job.name == "cache"]
    assert service.state == "failed"
    assert "was changed: it has 13 bytes in place of 110000" in service.text
    assert not (lab.registry / "execs").exists()


def test_an_image_that_was_changed_is_refused_before(lab, slurm, profile, recipe, tmp_path):
    async def go():
        async with benches(profile, tmp_path) as (bench,), AsyncImages(profile) as images:
            image = await images.pull("docker://redis:7")
            change(image.path, b"x" * image.size_bytes)
            await images.verify()
            with pytest.raises(SiteError, match="is refused: its file was changed"):
                await bench.run(recipe)

    asyncio.run(go())
    assert slurm.calls["sbatch"] == 0


def test_a_run_is_taken_up_with_the_images_of_its_plan(lab, slurm, profile, recipe, tmp_path):
    """What is planned again uses the file that the first plan had, though the reference stands for another one by now."""

    async def go():
        async with benches(profile, tmp_path) as (bench,), AsyncImages(profile) as images:
            image = await images.pull("docker://redis:7")
            await bench.resolve_images(bench.load_recipe(recipe))
            plan = bench.plan(bench.load_recipe(recipe), run_id="r")
            lab.offer("redis:7", b"the next version")
            await images.pull("docker://redis:7", again=True)
            paths = bench.store.create("r")
            paths.recipe.write_text(RECIPE)
            again, _program = bench.replan(plan, paths, [("load", plan.points[0].id)])
            return image, again

    image, again = asyncio.run(go())
    assert image.path in again.jobs[0].script
    assert json.loads(json.dumps(again.provenance["images"]["docker://redis:7"]))["digest"] == image.digest


def test_a_path_of_the_profile_needs_no_cache(lab, slurm, profile, recipe, tmp_path):
    path = Path(profile)
    path.write_text(path.read_text() + 'images: {"docker://redis:7": /srv/redis.sif}\n')

    async def go():
        async with benches(profile, tmp_path) as (bench,):
            return bench.plan(bench.load_recipe(recipe))

    plan = asyncio.run(go())
    assert "/srv/redis.sif" in plan.jobs[0].script
    assert "images" not in plan.provenance
    assert load_site(profile).images_cache == str(lab.cache)
