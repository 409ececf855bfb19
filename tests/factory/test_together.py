"""Clients that measure at the same time, what a class refuses beforehand, and who asks a service that runs already."""

import json
from types import MappingProxyType
from typing import ClassVar

import pytest
from attrs import frozen

from aifactory_bench import PORT, Client, Command, JobFactory, RecipeError, Registry, Service, load_registry, load_site
from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench.recipe.problems import with_places

NODE = "aifactory_bench_services.redis_node"


@frozen
class Rows:
    """Of a table."""

    rows: int = 5


class Store(Service):
    kind = "store"
    Parameters = Rows
    node_module = NODE
    scheme = "redis"
    default_image = "docker://store:1"

    def get_container_command(self):
        return Command(["store", "--port", PORT])


class Other(Store):
    kind = "other"


class Drive(Client):
    kind = "drive"
    Parameters = Rows
    node_module = "aifactory_bench_services.redis_load_node"
    targets: ClassVar = {"main": ("store",)}
    seen: ClassVar = []

    def check_point(self, load, parameters, targets):
        self.seen.append((load.concurrency, parameters, targets))
        if parameters.rows == 13:
            raise RecipeError(f"clients.{self.name}.parameters.rows: 13 brings bad luck")

    def get_shared_data(self, parameters):
        return ("the rows", {"rows": parameters.rows})


class Any(Drive):
    kind = "any"
    targets: ClassVar = {"main": ("store", "other")}


REGISTRY = Registry(
    services=MappingProxyType({"store": Store, "other": Other}),
    clients=MappingProxyType({"drive": Drive, "any": Any}),
    sources=MappingProxyType(dict.fromkeys(("store", "other", "drive", "any"), "stub 1")),
)
HEAD = "schema: aifactory-bench/1\nname: small\nservices: {cache: {kind: store, replicas: 2}, more: {kind: store}}\nclients:\n"


@pytest.fixture
def build(tmp_path):
    """Plan a recipe given as text."""

    def build(text, registry=REGISTRY):
        Drive.seen.clear()
        recipe = load_recipe_text(text, "small.yaml", registry)
        return JobFactory(registry).build(recipe, load_site("local", runs=tmp_path / "runs"), "r")

    return build


def two(first, second):
    return f"{HEAD}  a: {{kind: drive, parameters: {{rows: 5}}, {first}}}\n  b: {{kind: drive, {second}}}\n"


def test_data_that_two_make_differently_is_refused(build):
    """Both are named, with what they make; the hint says how to part them."""
    with pytest.raises(RecipeError) as caught:
        build(two("target: cache", "target: cache, parameters: {rows: 6}"))
    assert "clients.b: it makes the rows in cache, and a makes them otherwise at the same time: rows 6 against rows 5" in str(
        caught.value
    )
    assert "`after: a` in clients.b" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("clients.a.parameters.rows: no", "small.yaml:5:39: "),
        ("clients.a.load.rate: missing\nclients.b: no", "small.yaml:5:6: "),
        ("clients.z: no", "small.yaml:5:3: "),
        ("matrix.clients.a[0]: no", ""),
        ("small.yaml:1:1: name: no", ""),
        ("no place", ""),
    ],
)
def test_what_a_plan_refuses_has_its_place(text, place):
    """The value's own, or that of what it is missing in."""
    recipe = load_recipe_text(HEAD + "  a: {kind: drive, parameters: {rows: 5}, target: cache}\n", "small.yaml", REGISTRY)
    assert with_places(text, recipe.places).startswith(place + text.split("\n")[0])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("target: cache", "target: cache"),
        ("target: cache", "target: more, parameters: {rows: 6}"),
        ("target: cache", "target: cache, after: a, parameters: {rows: 6}"),
    ],
)
def test_alike_apart_or_one_after_the_other_is_well(build, first, second):
    assert len(build(two(first, second)).points) == 2


def test_a_class_may_refuse_a_point(build):
    """It is given the load with its defaults, its parameters and what it is aimed at; every point of a matrix is asked."""
    text = f"{HEAD}  a: {{kind: drive, target: cache}}\nmatrix: {{clients.a.parameters.rows: [1, ROWS]}}\n"
    build(text.replace("ROWS", "2"))
    assert sorted((concurrency, parameters.rows) for concurrency, parameters, _ in Drive.seen) == [(50, 1), (50, 2)]
    target = Drive.seen[0][2]["main"]
    assert (target.name, target.kind, target.replicas, dict(target.parameters)) == ("cache", "store", 2, {"rows": 5})
    with pytest.raises(RecipeError, match=r"clients.a.parameters.rows: 13 brings bad luck"):
        build(text.replace("ROWS", "13"))


@pytest.mark.parametrize(("kind", "module"), [("drive", NODE), ("any", None)])
def test_who_asks_a_service_that_runs_already(build, kind, module):
    """The module of the only kind that speaks its protocol; of several nobody knows which it is."""
    text = "schema: aifactory-bench/1\nname: small\nservices: {s: {external: {url: 'redis://h:1'}}}\nclients:\n"
    plan = build(f"{text}  a: {{kind: {kind}, target: s}}\n")
    body = plan.jobs[0].script.split("<<'AFB_SPECIFICATION'\n")[1].split("\nAFB_SPECIFICATION\n")[0]
    assert json.loads(body)["client"]["targets"]["main"]["node_module"] == module
    assert (NODE in plan.node_modules) == (module is not None)


def test_redis_clients_agree_on_keys_and_values(build):
    text = "schema: aifactory-bench/1\nname: small\nservices: {s: {kind: redis}}\nclients:\n"
    text += "  a: {kind: redis-load, target: s}\n  b: {kind: redis-load, target: s, parameters: {PARAMETER}}\n"
    registry = load_registry()
    for parameter in ("keys: 10", "value_size: 1KiB", "value_range: {least: 1B, most: 9B}"):
        with pytest.raises(RecipeError, match=r"clients.b: it makes the keys key:N in s"):
            build(text.replace("PARAMETER", parameter), registry)
    assert len(build(text.replace("PARAMETER", "operations: {get: 1}, pipeline: 2"), registry).points) == 2
