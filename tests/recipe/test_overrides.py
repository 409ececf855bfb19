"""`--set path=value`: any value from outside, and nothing that is not there."""

from collections.abc import Callable
from typing import Any

import pytest

from aifactory_bench.errors import RecipeError

Load = Callable[..., Any]


def test_values(load: Load, base: str) -> None:
    """Values are YAML; keys that the recipe does not have yet are made, later overrides win."""
    recipe = load(
        base,
        [
            "clients.load.load.process=poisson",
            "clients.load.load.rate=50/s",
            "clients.load.load.rate=60/s",
            "clients.load.parameters.operations={set: 3}",
            "clients.load.parameters.operations.get=2",
            "services.cache.environment.FOO=a=b",
            "name=other",
            "lease=off",
            "monitors.node=off",
            "limits.error_share=3%",
        ],
    )
    client = recipe.clients[0]
    assert (client.load.process, client.load.rate_per_s) == ("poisson", 60.0)
    assert client.parameters.operations == {"set": 3, "get": 2}
    assert recipe.services[0].environment == {"FOO": "a=b"}
    assert (recipe.name, recipe.lease_s, recipe.monitors.node) == ("other", None, None)
    assert recipe.limits == {"error_share": 0.03}
    assert recipe.source == base


def test_short_forms_and_aliases(load: Load, base: str) -> None:
    """An override wins over the recipe by whichever name it comes."""
    text = base.replace("target: cache", "target: cache\n    image: a\n    resources: {gpus: 1}") + "repetitions: 3\n"
    text = text.replace("clients:", "  second: {kind: store}\nclients:")
    overrides = ["clients.load.container_image=b", "clients.load.target=second", "clients.load.gres=gpu:4"]
    recipe = load(text, [*overrides, "repetitions.reset=data", "clients.load.resources.time=5"])
    client = recipe.clients[0]
    assert (client.image, client.targets, client.resources.gpus, client.resources.time_s) == ("b", {"main": "second"}, 4, 300.0)
    assert (recipe.repetitions.count, recipe.repetitions.reset) == (3, "data")
    assert "clients.load.container_image is called image here" in recipe.notes


def test_matrix(load: Load, base: str) -> None:
    """A factor's path is one key; the whole matrix can be set or emptied."""
    text = base + "matrix: {clients.load.load.concurrency: [1, 2]}\n"
    recipe = load(text, ["matrix.clients.load.load.concurrency=[5]", "matrix.services.cache.parameters.persistence=[aof]"])
    assert [(factor.path, factor.values) for factor in recipe.matrix] == [
        ("clients.load.load.concurrency", (5,)),
        ("services.cache.parameters.persistence", ("aof",)),
    ]
    assert load(text, ["matrix={}"]).matrix == ()


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("clients.load.load.rat=5/s", "--set clients.load.load.rat: unknown key; did you mean rate?"),
        ("clients.lod.image=x", "--set clients.lod.image: there is no clients.lod; did you mean load?"),
        ("client.load.image=x", "--set client.load.image: unknown key 'client'; did you mean clients?"),
        ("services.zzz={kind: store}", "--set services.zzz: there is no services.zzz; known: cache"),
        ("clients.load.kind.x=1", "--set clients.load.kind.x: clients.load.kind is no mapping, so nothing can be set in it"),
        ("clients.load.replicas=0", "--set clients.load.replicas: must be at least 1; found 0"),
        ("clients.load.load={rate: x}", "--set clients.load.load: clients.load.load.rate: must be a rate"),
        ("clients.load.load={a: [}", "--set clients.load.load: not YAML: "),
        ("clients.load.image=&a x", "--set clients.load.image: anchors (&) and aliases (*) are not supported"),
        ('clients.load.image="\\x01"', "--set clients.load.image: the value holds the control character U+0001"),
        ("clients.load.image=a\n---\nb", "--set clients.load.image: a second YAML document begins here"),
        ("repetitions=x", "--set repetitions: must be a mapping of count, reset; found 'x'"),
        ("seed", "--set seed: write --set path=value"),
        ("=5", "--set : write --set path=value"),
        ("a..b=5", "--set a..b: write --set path=value"),
        ("", "--set : write --set path=value"),
        ("a\x1b=5", r"--set 'a\x1b': unknown key 'a\x1b'"),
        (
            "matrix.clients.load.load.rat=[1/s]",
            "--set matrix.clients.load.load.rat: matrix.clients.load.load.rat[0]: unknown key",
        ),
        ("matrix.=[1]", "--set matrix.: write --set path=value"),
        ("services=5", "--set services: must be a mapping; found 5"),
    ],
)
def test_refused(load: Load, base: str, override: str, line: str) -> None:
    """An override that is wrong is refused at its own place."""
    with pytest.raises(RecipeError) as caught:
        load(base, [override])
    assert any(found.startswith(line) for found in str(caught.value).splitlines()), str(caught.value)


def test_all_overrides_at_once(load: Load, base: str) -> None:
    """Problems of the recipe come first, then those of every override."""
    with pytest.raises(RecipeError) as caught:
        load(base + "bad: 1\n", ["x=1", "seed=-1"])
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["r.yaml", "--set seed", "--set x"]


@pytest.mark.parametrize("name", ["clients.load.parameters.keys", "clients.load.parameters"])
def test_what_the_matrix_varies_is_set_in_the_matrix(name: str, load: Load, base: str) -> None:
    """An override that the matrix would undo is refused, with what to write; the matrix itself can be set."""
    text = base + "matrix: {clients.load.parameters.keys: [1, 2]}\n"
    value = "7" if name.endswith("keys") else "{keys: 7}"
    with pytest.raises(RecipeError, match=r"--set clients.*the matrix varies clients\.load\.parameters\.keys.*--set 'matrix\."):
        load(text, [f"{name}={value}"])
    recipe = load(text, ["matrix.clients.load.parameters.keys=[7]"])
    assert recipe.matrix[0].values == (7,)
