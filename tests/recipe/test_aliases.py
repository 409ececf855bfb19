"""Keys of earlier tools and short forms: read, noted, and never both."""

from collections.abc import Callable
from typing import Any

import pytest

from aifactory_bench.errors import RecipeError

Load = Callable[..., Any]


def test_container_image(load: Load, base: str) -> None:
    """`container_image` is `image`, of services and clients."""
    recipe = load(base.replace("kind: store", "kind: store\n    container_image: a") + "    container_image: b\n")
    assert (recipe.services[0].image, recipe.clients[0].image) == ("a", "b")
    assert recipe.notes == (
        "services.cache.container_image is called image here",
        "clients.load.container_image is called image here",
    )


def test_target_service(load: Load, base: str) -> None:
    """`target_service` is `target`, which is short for the role `main`."""
    recipe = load(base.replace("target:", "target_service:"))
    assert recipe.clients[0].targets == {"main": "cache"}
    assert recipe.notes == ("clients.load.target_service is called target here",)


def test_num_clients(load: Load, base: str) -> None:
    """`num_clients` is `replicas`."""
    recipe = load(base + "    num_clients: 3\n")
    assert recipe.clients[0].replicas == 3
    assert recipe.notes == ("clients.load.num_clients is called replicas here",)


@pytest.mark.parametrize("place", ["gres: gpu:2", "resources: {gres: 'gpu:2'}"])
def test_gres(load: Load, base: str, place: str) -> None:
    """`gres` is `resources.gpus`, wherever it was written."""
    recipe = load(base + f"    {place}\n")
    assert recipe.clients[0].resources.gpus == 2
    assert "is read as resources.gpus: 2" in recipe.notes[0]


def test_gres_of_one(load: Load, base: str) -> None:
    """`gpu` alone is one."""
    assert load(base + "    gres: gpu\n").clients[0].resources.gpus == 1


@pytest.mark.parametrize("gres", ["gpu:a100:2", "2", "fpga:1", "[]"])
def test_other_gres(load: Load, base: str, gres: str) -> None:
    """What is not a number of GPUs is refused with what to write."""
    with pytest.raises(
        RecipeError, match=r"r.yaml:10:11: clients.load.gres: must be gpu:COUNT, or better resources.gpus: COUNT"
    ):
        load(base + f"    gres: {gres}\n")


@pytest.mark.parametrize(("written", "seconds", "note"), [("30", 1800.0, "30 is read as 30m (minutes)")])
def test_minutes(load: Load, base: str, written: str, seconds: float, note: str) -> None:
    """A bare number of `resources.time` is minutes."""
    recipe = load(base + f"    resources: {{time: {written}}}\n")
    assert recipe.clients[0].resources.time_s == seconds
    assert recipe.notes == (f"clients.load.resources.time {note}",)


def test_clock(load: Load, base: str) -> None:
    """Hours, minutes and seconds are said to be these."""
    recipe = load(base + "    resources: {time: 01:30:00}\n")
    assert recipe.clients[0].resources.time_s == 5400.0
    assert recipe.notes == ("clients.load.resources.time 01:30:00 is read as 90m (hours, minutes, seconds)",)


def test_only_the_walltime_takes_minutes(load: Load, base: str) -> None:
    """Elsewhere a bare number is refused."""
    with pytest.raises(RecipeError, match=r"found 30"):
        load(base + "    load: {duration: 30}\n")
    with pytest.raises(RecipeError, match=r"found true"):
        load(base + "    resources: {time: true}\n")
    with pytest.raises(RecipeError, match=r"found -5"):
        load(base + "    resources: {time: -5}\n")


def test_matrix(load: Load, base: str) -> None:
    """Paths and values of the matrix are read the same way."""
    recipe = load(base + "matrix:\n  clients.load.num_clients: [1, 2]\n  services.cache.resources.time: [30, 1h]\n")
    assert [(factor.path, factor.values) for factor in recipe.matrix] == [
        ("services.cache.resources.time", ("30m", "1h")),
        ("clients.load.replicas", (1, 2)),
    ]
    assert len(recipe.notes) == 2


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (
            "image: a\n    container_image: b",
            "r.yaml:11:5: clients.load.container_image: is the same as clients.load.image, which is there",
        ),
        ("target_service: cache", "r.yaml:10:5: clients.load.target_service: is the same as clients.load.target"),
        ("targets: {main: cache}", "r.yaml:9:5: clients.load.target: is the same as clients.load.targets.main"),
        ("gres: gpu:1\n    resources: {gpus: 1}", "r.yaml:10:5: clients.load.gres: is the same as clients.load.resources.gpus"),
    ],
)
def test_not_both(load: Load, base: str, written: str, line: str) -> None:
    """Two keys for one thing are refused."""
    with pytest.raises(RecipeError) as caught:
        load(base + f"    {written}\n")
    assert str(caught.value).startswith(line)


def test_odd_shapes(load: Load, base: str) -> None:
    """Short forms in the wrong shape are problems of that shape."""
    with pytest.raises(RecipeError, match=r"clients.load.resources: must be a mapping"):
        load(base + "    resources: 5\n    gres: gpu:1\n")
    with pytest.raises(RecipeError, match=r"clients.load.targets: must be a mapping"):
        load(base + "    targets: 5\n")
    with pytest.raises(RecipeError, match=r"repetitions.count: must be at least 1; found 0"):
        load(base + "repetitions: 0\n")
    with pytest.raises(RecipeError, match=r"repetitions: must be a mapping of count, reset; found true"):
        load(base + "repetitions: true\n")


def test_short_forms_have_no_note(load: Load, base: str) -> None:
    """What the documentation shows is not worth a note."""
    recipe = load(base + "repetitions: 3\n")
    assert recipe.repetitions.count == 3
    assert recipe.notes == ()
