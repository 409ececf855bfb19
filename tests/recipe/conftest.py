"""A registry of made-up kinds: recipes are read by what a class declares, not by what it is."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, Optional

import pytest
from attrs import field, frozen
from attrs.validators import ge, le

from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench.units import DurationS, RatePerS, Share, SizeBytes


@frozen
class StoreParameters:
    """Of a data store."""

    persistence: Literal["none", "rdb", "aof", "both"] = "none"
    """What is kept on disk."""
    max_memory_bytes: Optional[SizeBytes] = None
    """Largest data set."""


@frozen
class Retry:
    """How failed requests are tried again."""

    count: int = field(default=0, validator=ge(0))
    pause_s: DurationS = DurationS(0.1)


@frozen
class DriverParameters:
    """Of a load."""

    operations: Mapping[Literal["get", "set"], int] = field(factory=lambda: {"get": 1})
    """Weights."""
    keys: int = field(default=1000, validator=[ge(1), le(10**9)])
    value_size_bytes: SizeBytes = SizeBytes(64)
    pipeline: int = field(default=1, validator=ge(1))
    hits_share: Share = Share(1.0)
    limit_per_s: Optional[RatePerS] = None
    verbose: bool = False
    skew: float = 0.0
    label: Optional[str] = None
    tags: "tuple[str, ...]" = ()
    retry: Retry = field(factory=Retry)
    level: "int | Literal['auto']" = "auto"

    @operations.validator
    def _check_operations(self, _attribute: Any, value: Mapping[str, int]) -> None:
        if not any(value.values()):
            raise ValueError("at least one weight must be more than 0")

    def __attrs_post_init__(self) -> None:
        if self.pipeline > self.keys:
            raise ValueError("pipeline must not be more than keys")


@frozen
class NoParameters:
    """Of a kind that has none."""


def kind(name: str, parameters: type, **more: Any) -> type:
    """Return a class as the registry holds it."""
    return type(name, (), {"kind": name, "Parameters": parameters, **more})


class Registry(SimpleNamespace):
    """As `plugins.Registry`."""


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Return a registry with two services and three clients."""
    services = [kind("store", StoreParameters), kind("other", NoParameters)]
    clients = [
        kind("driver", DriverParameters, targets={"main": ("store",)}, slos=("latency",)),
        kind("any", NoParameters, targets={"main": ()}),
        kind("copier", NoParameters, targets={"source": ("store",), "sink": ("store", "other")}),
    ]
    return Registry(services={cls.kind: cls for cls in services}, clients={cls.kind: cls for cls in clients})


BASE = """schema: aifactory-bench/1
name: base
services:
  cache:
    kind: store
clients:
  load:
    kind: driver
    target: cache
"""


@pytest.fixture(scope="session")
def base() -> str:
    """Return the text of a small recipe."""
    return BASE


@pytest.fixture
def load(registry: Registry) -> Any:
    """Return a function that loads text, `r.yaml` in messages."""

    def load(text: str, overrides: Sequence[str] = ()) -> Any:
        return load_recipe_text(text, "r.yaml", registry, overrides)

    return load
