"""Plans of clients that search: they are alone, have time enough, and judge by the recipe's limits."""

from types import MappingProxyType
from typing import ClassVar

import pytest
from attrs import frozen

from aifactory_bench import PORT, Client, Command, JobFactory, RecipeError, Registry, Service, load_site
from aifactory_bench.jobs.client import PREPARE_MARGIN_S
from aifactory_bench.node.spec import spec_from_json
from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench.recipe.search_model import search_budget_s

NODE = "aifactory_bench_services.redis_node"


@frozen
class Nothing:
    """No parameters."""


class Store(Service):
    kind = "store"
    Parameters = Nothing
    node_module = NODE
    default_image = "docker://store:1"

    def get_container_command(self):
        return Command(["store", "--port", PORT])


class Drive(Client):
    kind = "drive"
    Parameters = Nothing
    node_module = NODE
    targets: ClassVar = {"main": ("store",)}


class Tool(Client):
    kind = "tool"
    Parameters = Nothing
    mode = "tool"
    node_module = NODE
    targets: ClassVar = {"main": ()}

    def get_benchmark_commands(self, load, parameters):
        return [Command(["bench"])]


REGISTRY = Registry(
    services=MappingProxyType({"store": Store}),
    clients=MappingProxyType({"drive": Drive, "tool": Tool}),
    sources=MappingProxyType({"store": "stub 1", "drive": "stub 1", "tool": "stub 1"}),
)
HEAD = "schema: aifactory-bench/1\nname: small\nservices: {cache: {kind: store}}\nclients:\n"
RATE = "process: poisson, search: {find: rate, most: 400/s, slo: {latency: 30ms}}"
CONCURRENCY = "search: {find: concurrency, most: 64, slo: {latency: 30ms}LEAST}"


@pytest.fixture
def build(tmp_path):
    """Plan a recipe given as text from its clients on."""

    def build(text):
        recipe = load_recipe_text(HEAD + text, "small.yaml", REGISTRY)
        return JobFactory(REGISTRY).build(recipe, load_site("local", runs=tmp_path / "runs"), "r")

    return build


def points_of(plan, name="load"):
    (job,) = [job for job in plan.jobs if job.name == name]
    text = job.script.split("<<'AFB_SPECIFICATION'\n")[1].split("\nAFB_SPECIFICATION\n")[0]
    return spec_from_json(text).client.points


def test_a_point_with_a_search_has_time_for_all_its_trials(build):
    """And its job has time for the point."""
    plan = build(f"  load: {{kind: drive, target: cache, load: {{{RATE}}}}}\n")
    (point,) = points_of(plan)
    recipe = load_recipe_text(HEAD + f"  load: {{kind: drive, target: cache, load: {{timeout: 10s, {RATE}}}}}\n", "r", REGISTRY)
    load = recipe.clients[0].load
    assert point.budget_s == search_budget_s(load.search, load) + PREPARE_MARGIN_S
    assert next(job.time_s for job in plan.jobs if job.name == "load") > point.budget_s
    assert (point.load["rate_per_s"], point.load["search"]["most"]) == (None, 400.0)
    assert plan.points[0].offered_per_s is None


def test_limits_about_the_generator_are_handed_on(build):
    """Those about anything else are the controller's."""
    plan = build(f"  load: {{kind: drive, target: cache, load: {{{RATE}}}}}\nlimits: {{client_bound: 95%, error_share: 5%}}\n")
    assert points_of(plan)[0].load["search"]["limits"] == {"client_bound": 0.95}


def test_a_search_is_alone(build):
    """Both are named, and how to part them is said; one after the other is well."""
    both = f"  load: {{kind: drive, target: cache, load: {{{RATE}}}}}\n  other: {{kind: drive, target: cacheAFTER}}\n"
    with pytest.raises(RecipeError) as caught:
        build(both.replace("AFTER", ""))
    assert "clients.load.load.search: a search must be alone at its point, and other would measure at the same time" in str(
        caught.value
    )
    assert "`after: load` in clients.other" in str(caught.value.hint)
    assert len(build(both.replace("AFTER", ", after: load")).points) == 2


def test_a_tool_cannot_search(build):
    """It would not know how."""
    with pytest.raises(RecipeError, match=r"clients.load.load.search: tool is a program of its own"):
        build(f"  load: {{kind: tool, target: cache, load: {{{RATE}}}}}\n")


def test_every_worker_has_a_request_to_begin_with(build):
    """In closed loop the least value counts, or, where it is left out, the most."""
    text = "  load: {{kind: drive, target: cache, replicas: 4, load: {{workers: 2, {}}}}}\n"
    (point,) = points_of(build(text.format(CONCURRENCY.replace("LEAST", ""))))
    assert point.load["concurrency"] is None
    with pytest.raises(RecipeError, match=r"clients.load.load.search.least: 4 leaves workers without a connection"):
        build(text.format(CONCURRENCY.replace("LEAST", ", least: 4")))
    with pytest.raises(RecipeError, match=r"clients.load.load.search.most: 6 leaves workers without a connection"):
        build(text.format(CONCURRENCY.replace("LEAST", "").replace("64", "6")))
