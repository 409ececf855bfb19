"""Plain values to attrs instances: no coercion, and every problem where it is."""

from collections.abc import Mapping
from typing import Any, Optional

import pytest
from attrs import field, frozen
from attrs.validators import instance_of
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.errors import PluginError
from aifactory_bench.recipe.converter import BAD, structure
from aifactory_bench.recipe.fields import keys_of, texts_of
from aifactory_bench.recipe.load_model import Load
from aifactory_bench.recipe.model import Resources, ServiceEntry
from aifactory_bench.recipe.problems import Problems
from aifactory_bench.units import DurationS, Share, SizeBytes


def tried(type_: Any, value: Any) -> tuple[Any, list[str]]:
    """Return what comes out, and what was said."""
    problems = Problems()
    built = structure(type_, value, ("x",), problems)
    assert (built is BAD) == bool(problems.found)
    return built, [f"{'.'.join(map(str, problem.path))}: {problem.text}" for problem in problems.found]


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        (int, True, "x: must be a whole number; found true"),
        (int, 1.0, "x: must be a whole number; found 1.0"),
        (int, "1", "x: must be a whole number; found '1' (text)"),
        (float, True, "x: must be a number; found true"),
        (float, "1", "x: must be a number; found '1' (text)"),
        (bool, "yes", "x: must be true or false; found 'yes': write true or false"),
        (bool, 1, "x: must be true or false; found 1: write true or false"),
        (str, 1, "x: must be text; found 1: put it in quotes"),
        (str, None, "x: must be text; found nothing (null)"),
        (str, {"secret": "env:X"}, "x: must be text; found a mapping: no value here takes a secret; of an external service"),
        ("tuple[int, ...]", 1, "x: must be a list; found 1: write [a, b]"),
        ("tuple[int, ...]", [1, "a"], "x.1: must be a whole number"),
        (Mapping[str, int], [], "x: must be a mapping; found a list"),
        (
            DurationS,
            30,
            "x: must be a duration, such as 500ms, 5s, 30m, 2h, 1d or 01:30:00; found 30 (a number without its unit)",
        ),
        (Share, 1, "x: must be a share, and 1 could be 1% or 100%"),
        (Resources, [], "x: must be a mapping of nodes, cpus, memory, gpus, time, slurm; found a list"),
        (Resources, {"cpu": 1}, "x.cpu: unknown key; did you mean cpus?"),
        (Resources, {"zzz": 1}, "x.zzz: unknown key; known: nodes, cpus, memory, gpus, time"),
        (Resources, {"nodes": 0}, "x.nodes: must be at least 1; found 0"),
        (Resources, {"nodes": None}, "x.nodes: must be a whole number; found nothing (null)"),
        (Resources, {"time": "0s"}, "x.time: must be more than 0s; found 0s"),
        (Resources, {"memory_bytes": 5}, "x.memory_bytes: unknown key; did you mean memory?"),
        (
            Load,
            {"process": "poison", "rate": "1/s"},
            "x.process: must be closed, constant, poisson, gamma, burst or trace; found 'poison'; did you mean poisson?",
        ),
        (Load, {"process": "poisson"}, "x.rate: missing; process: poisson needs the requests per second"),
        (Load, {"rate": "5/s"}, "x.rate: has no meaning with process: closed"),
        (Load, {"process": "constant", "rate": "5/s", "concurrency": 5}, "x.concurrency: is for process: closed only"),
        (Load, {"connections": 5}, "x.connections: is for open loop only"),
    ],
)
def test_refused(type_: Any, value: Any, said: str) -> None:
    """Nothing is coerced, and the sentence says what is allowed."""
    type_ = tuple[int, ...] if isinstance(type_, str) else type_
    _, problems = tried(type_, value)
    assert len(problems) == 1
    assert problems[0].startswith(said), problems


def test_taken() -> None:
    """Values become fields with their units resolved."""
    built, _ = tried(Resources, {"memory": "16GiB", "time": "01:30:00", "cpus": None})
    assert built == Resources(memory_bytes=SizeBytes(16 << 30), time_s=DurationS(5400.0))
    assert tried(float, 3)[0] == 3.0
    assert tried(tuple[Optional[int], ...], [1, None])[0] == (1, None)
    assert tried(Mapping[str, Any], {"a": [1]})[0] == {"a": [1]}


def test_all_problems_of_a_class() -> None:
    """Validators of good fields speak although other fields are bad; those that need a bad field are silent."""
    _, problems = tried(Load, {"process": "x", "rate": "1/s", "duration": "0s", "workers": 0, "warmup": "a"})
    assert [problem.split(":")[0] for problem in problems] == ["x.process", "x.warmup", "x.duration", "x.workers"]


@frozen
class Odd:
    """Validators of all sorts."""

    name: str = field(default="a", validator=instance_of(str))
    even: int = field(default=0)
    small_s: DurationS = DurationS(1.0)
    """Rather
    small."""

    @even.validator
    def _check(self, attribute: Any, value: int) -> None:
        if value % 2:
            raise ValueError(f"'{attribute.name}' must be even, found {value}")

    def __attrs_post_init__(self) -> None:
        if self.name == "never":
            raise ValueError("never is no name")


def test_validators_of_attrs() -> None:
    """What a class's own validators raise becomes a problem at its field, or at the class."""
    assert tried(Odd, {"even": 1})[1] == ["x.even: must be even, found 1"]
    assert tried(Odd, {"name": "never"})[1] == ["x: never is no name"]


def test_texts_and_keys() -> None:
    """Keys are names without units, and the text behind a field is its description."""
    assert list(keys_of(Odd)) == ["name", "even", "small"]
    assert texts_of(Odd) == {"small_s": "Rather\nsmall."}
    assert "name" not in keys_of(ServiceEntry)
    assert list(keys_of(Load))[:2] == ["process", "rate"]


@frozen
class Clash:
    """Two fields, one key."""

    wait: int = 1
    wait_s: DurationS = DurationS(1.0)


@frozen
class Strange:
    """A type that no recipe can hold."""

    what: complex = 0j


@frozen
class Unread:
    """An annotation that leads nowhere."""

    what: "Nowhere" = 0  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Clash, "wait_s and wait would both be 'wait'"),
        (Strange, "Strange.what: a recipe cannot hold"),
        (int, "not an attrs class"),
        (Unread, "annotations cannot be read: NameError"),
    ],
)
def test_classes_that_break_the_rule(cls: type, said: str) -> None:
    """A class that recipes cannot fill is the plugin's error."""
    with pytest.raises(PluginError, match=said):
        keys_of(cls)


def test_instances_are_kept() -> None:
    """Parameters made in Python need no reading."""
    odd = Odd(even=2)
    assert structure(Odd, odd, (), Problems()) is odd


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["process", "rate"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from([Load, Resources, Odd, ServiceEntry, int, float, str, bool, DurationS, tuple[int, ...]]), PLAIN)
def test_any_value(type_: Any, value: Any) -> None:
    """Any plain value is built or refused."""
    tried(type_, value)
