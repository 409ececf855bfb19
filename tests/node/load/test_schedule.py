"""Arrivals: absolute, seeded, and whole when put together."""

from itertools import islice, takewhile
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.load import arrivals

SECOND = 10**9


@given(st.floats(0.5, 50_000), st.integers(1, 9))
def test_the_parts_of_a_constant_schedule_are_evenly_spaced_together(rate_per_s: float, parts: int) -> None:
    """The merged stream is the schedule of one generator."""
    each = [list(islice(arrivals("constant", rate_per_s, 1, part, parts), 40)) for part in range(parts)]
    assert sorted(due for part in each for due in part) == list(islice(arrivals("constant", rate_per_s, 1), 40 * parts))


def test_a_constant_schedule_does_not_drift() -> None:
    """After a million arrivals it is where it should be."""
    assert next(islice(arrivals("constant", 3000.0, 1), 999_999, None)) == pytest.approx(999_999 / 3000 * SECOND, abs=1)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_parts_of_a_poisson_schedule_make_the_rate(parts: int) -> None:
    """And vary from second to second as Poisson does."""
    counts = [0] * 40
    for part in range(parts):
        for due in takewhile(lambda due: due < 40 * SECOND, arrivals("poisson", 1000, 5, part, parts)):
            counts[due // SECOND] += 1
    assert sum(counts) == pytest.approx(40_000, abs=4 * sqrt(40_000))
    variance = sum((count - 1000) ** 2 for count in counts) / len(counts)
    assert 400 < variance < 2200


def test_a_poisson_schedule_is_seeded() -> None:
    """The same seed gives the same times; another seed or part gives others."""

    def first(seed: int, part: int) -> list[int]:
        return list(islice(arrivals("poisson", 100, seed, part, 2), 20))

    assert first(1, 0) == first(1, 0)
    assert len({tuple(first(seed, part)) for seed in (1, 2) for part in (0, 1)}) == 4
    assert first(1, 0) == sorted(first(1, 0))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("uniform", 1, 1), "unknown arrival process"),
        (("constant", 0, 1), "above 0"),
        (("constant", float("inf"), 1), "above 0"),
        (("poisson", float("nan"), 1), "above 0"),
        (("poisson", 1, 1, 2, 2), "does not exist"),
    ],
)
def test_what_makes_no_schedule_is_refused(arguments: tuple[object, ...], text: str) -> None:
    """At once, not at the first arrival."""
    with pytest.raises(ValueError, match=text):
        arrivals(*arguments)  # type: ignore[arg-type]
