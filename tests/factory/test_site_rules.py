"""Each rule of a site, broken: one refusal, with the place in the recipe, the rule and where it was read."""

from types import MappingProxyType
from typing import ClassVar

import pytest
from attrs import evolve, frozen

from aifactory_bench import PORT, Client, Command, JobFactory, RecipeError, Registry, Service, load_site
from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench.sites.rules import Rules

NODE = "aifactory_bench_services.redis_node"


@frozen
class Nothing:
    """No parameters."""


@frozen
class PullParameters:
    """Whether it downloads."""

    pull: bool = False


class Store(Service):
    kind = "store"
    Parameters = PullParameters
    node_module = NODE
    default_image = "docker://store:1"

    def get_container_command(self):
        return Command(["store", "--port", PORT])

    def get_model_pull_commands(self):
        return [Command(["fetch"])] if self.parameters.pull else []


class Copied(Store):
    kind = "copied"
    Parameters = Nothing

    def get_model_pull_commands(self):
        return []

    def get_staged_paths(self):
        return {"/scratch/model": "/project/model"}

    def get_binds(self):
        return ["/scratch/model", "/project/data"]


class Drive(Client):
    kind = "drive"
    Parameters = Nothing
    node_module = NODE
    targets: ClassVar = {"main": ()}


REGISTRY = Registry(
    services=MappingProxyType({"store": Store, "copied": Copied}),
    clients=MappingProxyType({"drive": Drive}),
    sources=MappingProxyType({"store": "stub 1", "copied": "stub 1", "drive": "stub 1"}),
)
PROFILE = """\
schema: aifactory-bench/site/1
name: here
login: {host: login}
runs: /runs
slurm: {account: p200, qos: normal, partition: gpu}
images: {docker://store:1: /images/store.sif}
rules:
  account_required: true
  qos_required: true
  partition_required: true
  cpus_per_gpu: 20
  compute_internet: false
  max_time: {gpu: 2h, gpu/short: 30m, cpu: 4h}
nodes:
  gpu: {cpus: 80, memory: 256GiB, gpus: 4, max_nodes: 2}
  cpu: {cpus: 128, memory: 256GiB, gpus: 0}
facts:
  rules: {source: the manual, date: 2025-01-02, verified: true}
  nodes: {source: a colleague, date: 2025-03-04}
"""
RECIPE = """\
schema: aifactory-bench/1
name: small
services:
  cache: {kind: store}
clients:
  load: {kind: drive, target: cache, load: {process: closed, concurrency: 1, duration: 1s, warmup: 0s}}
"""


@pytest.fixture
def plan(tmp_path):
    """Plan a recipe with changes, on the site."""
    path = tmp_path / "here.yaml"
    path.write_text(PROFILE)
    site = load_site(str(path))

    def make(*overrides, text=RECIPE, **changes):
        recipe = load_recipe_text(text, "small", REGISTRY, list(overrides))
        return JobFactory(REGISTRY).build(recipe, evolve(site, **changes), "r")

    return make


def test_a_recipe_that_keeps_the_rules_is_planned(plan):
    made = plan("services.cache.resources={gpus: 2, time: 1h}")
    assert made.jobs[0].options["cpus-per-task"] == "40"
    assert made.jobs[0].options["gpus-per-node"] == "2"


@pytest.mark.parametrize(
    ("overrides", "changes", "told"),
    [
        (
            [],
            {"scheduler": {"qos": "a", "partition": "gpu"}},
            "services.cache.resources.slurm.account: here takes no job without an account",
        ),
        (
            [],
            {"scheduler": {"account": "a", "partition": "gpu"}},
            "services.cache.resources.slurm.qos: here takes no job without a qos",
        ),
        (
            [],
            {"scheduler": {"account": "a", "qos": "a"}},
            "services.cache.resources.slurm.partition: here takes no job without a",
        ),
        (
            ["services.cache.resources={gpus: 2, cpus: 16}"],
            {},
            "services.cache.resources.cpus: 16 cores for 2 GPUs; here wants 20 a GPU",
        ),
        (
            ["services.cache.resources.time=1h", "clients.load.resources={time: 3h}"],
            {},
            "clients.load.resources.time: the job's walltime is 3h; here gives jobs in gpu at most 2h",
        ),
        (
            ["clients.load.resources={time: 1h, slurm: {qos: short}}"],
            {},
            "clients.load.resources.time: the job's walltime is 1h; here gives jobs in gpu/short at most 30m",
        ),
        (["services.cache.parameters.pull=true"], {}, "services.cache.parameters: the job would download its model"),
    ],
)
def test_a_broken_rule_is_one_refusal(plan, overrides, changes, told):
    with pytest.raises(RecipeError) as caught:
        plan(*overrides, **changes)
    lines = caught.value.text.splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert lines[0].endswith(": the manual, 2025-01-02)")
    assert "rules.account_required" in lines[0] or "slurm.account" not in told


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["services.cache.resources={cpus: 100}"],
            "services.cache.resources.cpus: 100; in the partition gpu of here a node has 80",
        ),
        (
            ["services.cache.resources={memory: 1TiB}"],
            "services.cache.resources.memory: 1TiB; in the partition gpu of here a node has 256GiB",
        ),
        (["services.cache.resources={gpus: 5}"], "services.cache.resources.gpus: 5; in the partition gpu of here a node has 4"),
        (
            ["clients.load.resources={gpus: 1, slurm: {partition: cpu}}"],
            "clients.load.resources.gpus: 1; in the partition cpu of here a node has 0",
        ),
        (
            ["clients.load.load.concurrency=3", "clients.load.replicas=3", "clients.load.resources={nodes: 3}"],
            "clients.load.resources.nodes: 3; in the partition gpu of here a job has 2",
        ),
    ],
)
def test_what_no_node_has_is_one_refusal(plan, overrides, told):
    with pytest.raises(RecipeError) as caught:
        plan(*overrides)
    assert told in caught.value.text
    assert len(caught.value.text.splitlines()) == 1
    assert caught.value.text.endswith(": a colleague, 2025-03-04, not verified)")


def test_all_that_is_broken_is_told_at_once(plan):
    """A rule that all jobs break is told once."""
    with pytest.raises(RecipeError) as caught:
        plan("services.cache.resources={gpus: 5, time: 9h}", scheduler={"partition": "gpu"})
    places = [line.split(": ")[1] for line in caught.value.text.splitlines()]
    assert places == [
        "services.cache.resources.slurm.account",
        "services.cache.resources.slurm.qos",
        "services.cache.resources.gpus",
        "services.cache.resources.time",
    ]


def test_a_job_that_copies_is_judged_by_its_own_resources(plan):
    text = RECIPE.replace("kind: store", "kind: copied")
    with pytest.raises(RecipeError, match=r"services\.cache\.staging\.time: the job's walltime is 3h"):
        plan("services.cache.staging={time: 3h}", text=text)


def test_a_node_with_internet_may_download(plan):
    """And one of which nobody knows."""
    for reaches in (True, None):
        assert plan("services.cache.parameters.pull=true", rules=Rules(compute_internet=reaches)).jobs


def test_local_has_no_rules():
    recipe = load_recipe_text(RECIPE, "small", REGISTRY, ["clients.load.resources={time: 300d, gpus: 9}"])
    assert JobFactory(REGISTRY).build(recipe, load_site("local"), "r").jobs


def test_paths_that_jobs_need(plan):
    """The image where a container is started; the model where it is copied from, and not where it is copied to."""
    made = plan(text=RECIPE.replace("kind: store", "kind: copied"))
    assert {job.name: job.paths for job in made.jobs} == {
        "cache-staging": ("/project/model",),
        "cache": ("/images/store.sif", "/project/data"),
        "load": (),
    }
