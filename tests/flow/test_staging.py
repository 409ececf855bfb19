"""The whole line with something to copy first, on a simulated Slurm: the service's job is held until it is there."""

import os
import sys

import pytest
from attrs import frozen

from aifactory_bench import BenchmarkOrchestrator
from aifactory_bench.testing.fake_slurm import Execute, FakeSlurm
from aifactory_bench_services.redis import RedisLoadClient, RedisParameters, RedisService

RECIPE = """\
schema: aifactory-bench/1
name: staged
services:
  cache:
    kind: redis-staged
    staging: {{time: 10m, slurm: {{constraint: disk}}}}
    parameters: {{source: {source}, target: {target}}}
clients:
  load:
    kind: redis-staged-load
    target: cache
    parameters: {{keys: 500}}
    load: {{process: constant, rate: 200/s, warmup: 0s, duration: 1s}}
"""


@frozen
class StagedParameters(RedisParameters):
    source: str = ""
    target: str = ""


class StagedRedis(RedisService):
    """Redis that wants a file beside it."""

    kind = "redis-staged"
    Parameters = StagedParameters

    def get_staged_paths(self):
        return {self.parameters.target: self.parameters.source}


class StagedLoad(RedisLoadClient):
    """Its load."""

    kind = "redis-staged-load"
    targets = {"main": ("redis-staged",)}


@pytest.fixture
def bench(tmp_path, monkeypatch, runs):
    """An orchestrator on a cluster whose jobs are executed."""
    profile = tmp_path / "fake.yaml"
    profile.write_text(
        "schema: aifactory-bench/site/1\nname: fake\nlogin: {host: localhost, transport: local}\n"
        f"runs: {tmp_path}/there\nruntime: host\npython: {sys.executable}\nbind: 127.0.0.1\nfile_lag: 2s\nunsure: 1s\n"
    )
    with FakeSlurm(tmp_path / "slurm", jobs=Execute(), real_clock=True) as slurm:
        monkeypatch.setenv("PATH", f"{slurm.bin}:{os.environ['PATH']}")
        with BenchmarkOrchestrator(str(profile), runs_dir=runs, plugins=[StagedRedis, StagedLoad]) as bench:
            yield bench


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(source=tmp_path / "archive", target=tmp_path / "scratch" / "copy"))
    return path


def test_a_copy_comes_first(bench, recipe, tmp_path):
    """Its job has ended before the service's begins, and the copy is whole."""
    (tmp_path / "archive").write_text("weights")
    report = bench.run(recipe).wait()
    assert [(job.name, job.state, job.outcome) for job in report.jobs] == [
        ("cache-staging", "completed", "completed"),
        ("cache", "completed", "completed"),
        ("load", "completed", "completed"),
    ]
    assert (tmp_path / "scratch" / "copy").read_text() == "weights"
    assert report.points[0].measurements[0].counts["ok"] > 100
    assert report.error is None


def test_a_copy_that_fails_is_the_error_of_the_run(bench, recipe, tmp_path):
    """What is wrong is told, before anything that follows from it."""
    report = bench.run(recipe).wait()
    assert report.error["text"].startswith("service cache-staging: ")
    assert "there is no such file or folder" in report.error["text"]
