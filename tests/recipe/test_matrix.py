"""The matrix: every value checked where it is written, and points in the order in which they are run."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest

from aifactory_bench.errors import RecipeError
from aifactory_bench.recipe.matrix import MOST_POINTS, expand
from aifactory_bench.recipe.model import Factor, Variant

Load = Callable[..., Any]
OPEN = "    load: {process: poisson}\n"


def said(load: Load, text: str) -> list[str]:
    """Return the lines of the error that a text gives."""
    with pytest.raises(RecipeError) as caught:
        load(text)
    return str(caught.value).splitlines()


def test_without_a_matrix(load: Load, base: str, registry: Any) -> None:
    """There is one point, the recipe itself."""
    recipe = load(base)
    assert expand(recipe, registry) == (
        Variant(parameters={}, services=recipe.services, clients=recipe.clients, repetition=1, service_key="s0", index=0),
    )


def test_order(load: Load, base: str, registry: Any) -> None:
    """Service factors are outermost, then repetitions, then load factors in another order each time."""
    recipe = load(
        base
        + OPEN
        + "matrix:\n"
        + "  clients.load.load.rate: [1/s, 2/s, 3/s, 4/s]\n"
        + "  services.cache.parameters.persistence: [none, aof]\n"
        + "  clients.load.parameters.keys: [10, 20]\n"
        + "repetitions: 3\n"
    )
    variants = expand(recipe, registry)
    assert len(variants) == 48
    assert [variant.service_key for variant in variants] == ["s0"] * 24 + ["s1"] * 24
    assert [variant.repetition for variant in variants] == ([1] * 8 + [2] * 8 + [3] * 8) * 2
    blocks = [[variant.index for variant in variants[start : start + 8]] for start in range(0, 48, 8)]
    assert [sorted(block) for block in blocks] == [list(range(8))] * 3 + [list(range(8, 16))] * 3
    assert len({tuple(index % 8 for index in block) for block in blocks}) == 6
    for variant in variants:
        assert list(variant.parameters) == [factor.path for factor in recipe.matrix]
        client, service = variant.clients[0], variant.services[0]
        assert f"{client.load.rate_per_s:.0f}/s" == variant.parameters["clients.load.load.rate"]
        assert client.parameters.keys == variant.parameters["clients.load.parameters.keys"]
        assert service.parameters.persistence == variant.parameters["services.cache.parameters.persistence"]
    by_index = {variant.index: variant.parameters for variant in variants}
    assert by_index[0] == {
        "clients.load.load.rate": "1/s",
        "services.cache.parameters.persistence": "none",
        "clients.load.parameters.keys": 10,
    }
    assert len({str(parameters) for parameters in by_index.values()}) == 16


def test_seed(load: Load, base: str, registry: Any) -> None:
    """The order is the seed's, and the same each time."""
    text = base + "matrix: {clients.load.load.concurrency: [1, 2, 3, 4, 5, 6, 7, 8]}\n"
    orders = [[variant.index for variant in expand(load(text, [f"seed={seed}"]), registry)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_fresh_service(load: Load, base: str, registry: Any) -> None:
    """With `reset: service` every repetition has services of its own."""
    text = base + "matrix: {services.cache.parameters.persistence: [none, aof]}\nrepetitions: {count: 2, reset: service}\n"
    assert [variant.service_key for variant in expand(load(text), registry)] == ["s0-r1", "s0-r2", "s1-r1", "s1-r2"]


def test_points_of_one_job_stay_together(load: Load, base: str, registry: Any) -> None:
    """Points that differ in the client's resources need jobs of their own, and no more jobs than that."""
    text = base + "matrix:\n  clients.load.load.concurrency: [1, 2, 3, 4, 5]\n  clients.load.replicas: [1, 2, 3]\n"
    replicas = [variant.clients[0].replicas for variant in expand(load(text), registry)]
    assert sorted(replicas) == [1] * 5 + [2] * 5 + [3] * 5
    assert sum(one != next_ for one, next_ in pairwise(replicas)) == 2


def test_whole_mappings(load: Load, base: str, registry: Any) -> None:
    """A value may be a mapping, which takes the place of what stands there."""
    loads = "[{process: closed, concurrency: 5}, {process: constant, rate: 5/s}]"
    recipe = load(base + f"    load: {{duration: 1s}}\nmatrix: {{clients.load.load: {loads}}}\n")
    variants = sorted(expand(recipe, registry), key=lambda variant: variant.index)
    assert [(variant.clients[0].load.process, variant.clients[0].load.duration_s) for variant in variants] == [
        ("closed", 30.0),
        ("constant", 30.0),
    ]
    assert variants[1].parameters == {"clients.load.load": {"process": "constant", "rate": "5/s"}}


def test_first_values_complete_the_recipe(load: Load, base: str) -> None:
    """What the matrix sets need not be in the recipe, not even where it is needed."""
    recipe = load(base + OPEN + "matrix: {clients.load.load.rate: [5/s, 6/s]}\n")
    assert recipe.clients[0].load.rate_per_s == 5.0
    assert recipe.matrix == (Factor("clients.load.load.rate", ("5/s", "6/s")),)


def test_values_that_the_matrix_replaces_are_checked(load: Load, base: str) -> None:
    """What stands in the recipe is right or wrong, whether a factor takes its place or not."""
    text = base + "    load: {process: poisson, rate: quick}\nmatrix: {clients.load.load.rate: [5/s]}\n"
    assert [line.split(": must")[0] for line in said(load, text)] == ["r.yaml:10:36: clients.load.load.rate"]


@pytest.mark.parametrize(
    ("matrix", "line"),
    [
        (
            "clients.load.load.concurrency: [1, a, 2]",
            "r.yaml:11:38: matrix.clients.load.load.concurrency[1]: must be a whole number",
        ),
        (
            "clients.load.load.concurrency: [1, 2, 0]",
            "r.yaml:11:41: matrix.clients.load.load.concurrency[2]: must be at least 1; found 0",
        ),
        (
            "clients.load.load.concurency: [1, 2]",
            "matrix.clients.load.load.concurency[0]: unknown key; did you mean concurrency?",
        ),
        ("clients.load.parameters.a.b: [1, 2]", "matrix.clients.load.parameters.a.b[0]: unknown key; known: operations"),
        ("clients.load.image.a: [1]", "matrix.clients.load.image.a[0]: must be text; found a mapping"),
        (
            "clients.lod.load.rate: [1/s]",
            "r.yaml:11:3: matrix.clients.lod.load.rate: there is no clients.lod; did you mean load?",
        ),
        ("client.load.load.rate: [1/s]", "must begin with services. or clients.; did you mean clients?"),
        (
            "clients.load.kind: [driver]",
            "a matrix can vary image, resources, replicas, environment, parameters, load of clients.load",
        ),
        ("services.cache.load: [1]", "a matrix can vary image, resources, replicas, environment, parameters of services.cache"),
        ("clients.load: [1]", "a matrix can vary"),
        ("clients: [1]", "there is no clients; known: load"),
        ("clients.load.load.: [1]", "has an empty part"),
        ("clients.load.load.concurrency: 5", "r.yaml:11:34: matrix.clients.load.load.concurrency: must be a list of values"),
        ("clients.load.load.concurrency: []", "must be a list of values, such as [1, 2]; found an empty list"),
        ("clients.load.load.concurrency: [1, 2, 1]", "matrix.clients.load.load.concurrency[2]: the same value as [0]"),
        (
            "{clients.load.load.seed: [1], clients.load.load: [{}]}",
            "clients.load.load: sets a part of what clients.load.load.seed sets",
        ),
        (
            "clients.load.load.process: [closed, poisson]",
            "[1]: with this value clients.load.load.rate: missing; process: poisson needs",
        ),
        ("clients.load.load.seed: [{secret: a}]", "must be a whole number; found a mapping"),
    ],
)
def test_refused(load: Load, base: str, matrix: str, line: str) -> None:
    """Each value is tried, and what is wrong with it is said where it stands."""
    lines = said(load, f"{base}matrix:\n  {matrix}\n")
    assert len(lines) == 1, lines
    assert line in lines[0]


def test_values_that_do_not_go_together(load: Load, base: str) -> None:
    """What is right one by one may be wrong together; that is found before anything runs."""
    text = base + "matrix:\n  clients.load.parameters.keys: [100, 2]\n  clients.load.parameters.pipeline: [1, 2, 3]\n"
    assert said(load, text) == [
        (
            "r.yaml:12:44: matrix.clients.load.parameters.pipeline[2]: with this value "
            "matrix.clients.load.parameters.keys[1]: pipeline must not be more than keys"
        )
    ]


def test_expansion_checks_too(load: Load, base: str, registry: Any) -> None:
    """A recipe that was put together in Python is checked when it is expanded."""
    recipe = load(base + "matrix: {clients.load.parameters.keys: [1]}\n")
    broken = attrs.evolve(recipe, matrix=(Factor("clients.load.parameters.keys", (1, -1)),))
    with pytest.raises(RecipeError, match=r"base: clients.load.parameters.keys: must be at least 1; found -1"):
        expand(broken, registry)


def test_too_many_points(load: Load, base: str) -> None:
    """A matrix that nobody can run is refused before it is expanded."""
    values = ", ".join(str(number) for number in range(1, 401))
    lines = said(load, base + f"matrix:\n  clients.load.parameters.keys: [{values}]\n  clients.load.load.seed: [{values}]\n")
    assert f"at most {MOST_POINTS} are possible; found 160000 points x 1 repetitions = 160000 measurements" in lines[0]
    assert "repetitions: at most 100000 are possible" in said(load, base + "repetitions: 100001\n")[0]


def test_entries_are_shared(load: Load, base: str, registry: Any) -> None:
    """An entry that is the same at several points is one object, so that a large matrix stays small."""
    text = base + "matrix:\n  services.cache.parameters.persistence: [none, aof]\n  clients.load.load.concurrency: [1, 2, 3]\n"
    variants = expand(load(text), registry)
    assert len({id(variant.clients[0]) for variant in variants}) == 3
    assert len({id(variant.services[0]) for variant in variants}) == 2


def test_large_matrix(load: Load, base: str, registry: Any) -> None:
    """A thousand points take well under the two seconds that expanding and rendering may; the bar is wide for busy machines."""
    values = ", ".join(f"{number}/s" for number in range(1, 101))
    text = (
        base + OPEN + f"matrix:\n  clients.load.load.rate: [{values}]\n  clients.load.parameters.keys: {list(range(10, 20))}\n"
    )
    recipe = load(text)
    begun = time.process_time()
    assert len(expand(recipe, registry)) == 1000
    assert time.process_time() - begun < 2.0
