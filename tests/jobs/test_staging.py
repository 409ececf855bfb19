"""A service that has its model copied first: a job of its own, without GPUs, before the service's job and its clients'."""

import json

import pytest
from attrs import evolve, field, frozen

from aifactory_bench import Client, Command, JobFactory, RecipeError, Service, load_recipe, load_registry, load_site
from aifactory_bench.jobs.staging import STAGING_TIME_S

RECIPE = """\
schema: aifactory-bench/1
name: r
services:
  llm:
    kind: model
    resources: {{gpus: 4, slurm: {{partition: gpu}}}}
    parameters: {parameters}
    {staging}
clients:
  load: {{kind: asks, target: llm, load: {{concurrency: 1, warmup: 0s, duration: 1s}}}}
{matrix}
"""
PARAMETERS = '{target: /scratch/m, source: "/archive/its @{port}"}'


@frozen
class ModelParameters:
    source: str = ""
    target: str = ""
    other: int = field(default=1)


class Model(Service):
    """Serves a model."""

    kind = "model"
    Parameters = ModelParameters
    node_module = "aifactory_bench_services.redis_node"
    default_image = "docker://model"

    def get_staged_paths(self):
        return {self.parameters.target: self.parameters.source} if self.parameters.source else {}

    def get_container_command(self):
        return Command(["serve", self.parameters.target])


class Asks(Client):
    """Asks it."""

    kind = "asks"
    node_module = "aifactory_bench_services.redis_node"
    targets = {"main": ("model",)}


@pytest.fixture
def plan(tmp_path):
    """Returns a function: what the recipe says -> its plan on a cluster with containers."""

    def plan(parameters=PARAMETERS, staging="", matrix="", **more):
        path = tmp_path / "r.yaml"
        path.write_text(RECIPE.format(parameters=parameters, staging=staging, matrix=matrix))
        registry = load_registry(classes=[Model, Asks])
        site = evolve(load_site("local"), submitter="slurm", runtime="apptainer", images={"docker://model": "/m.sif"})
        return JobFactory(registry).build(load_recipe(path, registry), site, "x", **more)

    return plan


def spec_of(job):
    return json.loads(job.script.split("'AFB_SPECIFICATION'\n")[1].split("\nAFB_")[0])


def test_the_copy_is_a_job_of_its_own(plan):
    """First in the order, without GPUs or a container; the others wait for its end."""
    copy, service, client = plan().jobs
    assert (copy.name, copy.role, copy.gpus, copy.time_s, copy.after) == ("llm-staging", "service", 0, STAGING_TIME_S, ())
    assert copy.script.splitlines()[-1].endswith("-- '@{python}' '@{node}' place '/archive/its @@{port}' /scratch/m")
    assert spec_of(copy)["service"]["once"] is True
    assert "partition" not in copy.options
    assert service.after == client.after == (copy.token,)
    assert spec_of(service)["after"] == spec_of(client)["after"] == {copy.token: 1}
    assert spec_of(service)["service"]["once"] is False
    assert (service.gpus, service.options["partition"]) == (4, "gpu")
    assert client.services == (service.token,)


def test_what_it_takes_is_the_recipes(plan):
    """A partition without GPUs, time, memory."""
    copy = plan(staging="staging: {time: 2h, memory: 4GiB, slurm: {partition: cpu}}").jobs[0]
    assert (copy.time_s, copy.memory_bytes, copy.options["partition"]) == (7200.0, 4 << 30, "cpu")


def test_without_anything_to_copy_there_is_no_job(plan):
    """And saying what it takes is an error."""
    assert [job.name for job in plan(parameters="{}").jobs] == ["llm", "load"]
    with pytest.raises(RecipeError, match=r"services\.llm\.staging: nothing is copied before a service of kind model"):
        plan(parameters="{}", staging="staging: {time: 2h}")


def test_every_target_is_copied_once_in_a_plan(plan):
    """Service factors make several services of one model."""
    jobs = plan(matrix="matrix: {services.llm.parameters.other: [1, 2]}").jobs
    assert [job.name for job in jobs] == ["llm-staging-s0", "llm-s0", "load-s0", "llm-s1", "load-s1"]
    assert jobs[0].token in spec_of(jobs[3])["after"]
    several = plan(matrix="matrix: {services.llm.parameters.target: [/scratch/a, /scratch/b]}").jobs
    assert [job.name for job in several if "staging" in job.name] == ["llm-staging-s0", "llm-staging-s1"]


def test_a_service_that_runs_already_is_not_copied_for(plan):
    """What is missing of a run is made again, and only that."""
    names = [job.name for job in plan(running={"llm": "afb-x-llm-0"}, attempt=1).jobs]
    assert names == ["load"]
