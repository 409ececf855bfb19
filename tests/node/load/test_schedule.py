"""Arrivals: absolute, seeded, and whole when put together."""

import heapq
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise, takewhile
from math import sqrt
from statistics import fmean, pvariance
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.load import arrivals
from aifactory_bench.node.load.schedule import OPEN, offered_per_s

SECOND = 10**9
PROFILE = [
    {"for_s": 20.0, "rate_per_s": 50.0},
    {"for_s": 40.0, "rate_per_s": 50.0, "to_per_s": 250.0},
    {"for_s": 10.0, "rate_per_s": 0.0},
    {"for_s": 20.0, "rate_per_s": 400.0, "to_per_s": 100.0},
]
"""1000, 6000, 0 and 5000 requests; 400 more at 50/s in a warm-up of 8 s, and then 100/s for ever."""


def at(process: str, rate_per_s: float, **more: Any) -> dict[str, Any]:
    return {"process": process, "rate_per_s": rate_per_s, **more}


def merged(load: Mapping[str, Any], seed: int, parts: int) -> Iterator[int]:
    return heapq.merge(*(arrivals(load, seed, part, parts) for part in range(parts)))


@given(st.floats(0.5, 50_000), st.integers(1, 9))
def test_the_parts_of_a_constant_schedule_are_evenly_spaced_together(rate_per_s: float, parts: int) -> None:
    """The merged stream is the schedule of one generator."""
    each = [list(islice(arrivals(at("constant", rate_per_s), 1, part, parts), 40)) for part in range(parts)]
    assert sorted(due for part in each for due in part) == list(islice(arrivals(at("constant", rate_per_s), 1), 40 * parts))


def test_a_constant_schedule_does_not_drift() -> None:
    """After a million arrivals it is where it should be."""
    assert next(islice(arrivals(at("constant", 3000.0), 1), 999_999, None)) == pytest.approx(999_999 / 3000 * SECOND, abs=1)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_parts_of_a_poisson_schedule_make_the_rate(parts: int) -> None:
    """And vary from second to second as Poisson does."""
    counts = [0] * 40
    for part in range(parts):
        for due in takewhile(lambda due: due < 40 * SECOND, arrivals(at("poisson", 1000), 5, part, parts)):
            counts[due // SECOND] += 1
    assert sum(counts) == pytest.approx(40_000, abs=4 * sqrt(40_000))
    variance = sum((count - 1000) ** 2 for count in counts) / len(counts)
    assert 400 < variance < 2200


def test_a_poisson_schedule_is_seeded() -> None:
    """The same seed gives the same times; another seed or part gives others."""

    def first(seed: int, part: int) -> list[int]:
        return list(islice(arrivals(at("poisson", 100), seed, part, 2), 20))

    assert first(1, 0) == first(1, 0)
    assert len({tuple(first(seed, part)) for seed in (1, 2) for part in (0, 1)}) == 4
    assert first(1, 0) == sorted(first(1, 0))


def test_plain_rates_are_as_they_have_always_been() -> None:
    """Results of one seed can be compared over versions."""
    assert list(islice(arrivals(at("constant", 3000.0), 1, 1, 2), 3)) == [333333, 1000000, 1666666]
    assert list(islice(arrivals(at("poisson", 1000.0), 1), 3)) == [204312, 513417, 556132]
    assert list(islice(arrivals(at("poisson", 1000.0), 7, 1, 2), 3)) == [2878887, 6087459, 8427770]


@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("parts", [1, 3])
def test_gaps_of_gamma_vary_as_asked(shape: float, parts: int) -> None:
    """Mean 1/rate and a squared coefficient of variation of 1/shape, of the merged stream however many make it."""
    due = list(islice(merged(at("gamma", 200.0, burstiness=shape), 3, parts), 20_000))
    gaps = [(after - before) / SECOND for before, after in pairwise(due)]
    mean = fmean(gaps)
    # Five standard errors; the fourth moment of a gamma distribution makes that of the variance.
    assert mean == pytest.approx(1 / 200, rel=5 / sqrt(shape * len(gaps)))
    assert pvariance(gaps) / mean**2 == pytest.approx(1 / shape, rel=5 * sqrt((2 + 6 / shape) / len(gaps)))


def test_gamma_is_one_stream_dealt_out() -> None:
    """Not a sum of streams, which would be more like Poisson the more there are; burstiness is 1 where nothing is said."""
    load = at("gamma", 50.0, burstiness=0.1)
    whole = list(islice(arrivals(load, 9), 4000))
    assert list(islice(merged(load, 9, 4), 4000)) == whole
    assert list(islice(arrivals(load, 9, 2, 4), 1000)) == whole[2::4]
    assert list(islice(arrivals(at("gamma", 50.0), 9), 9)) == list(islice(arrivals(at("gamma", 50.0, burstiness=1.0), 9), 9))
    assert whole != list(islice(arrivals(load, 10), 4000))


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize(("process", "shape"), [("constant", None), ("poisson", 1.0), ("gamma", 0.5), ("gamma", 8.0)])
def test_every_piece_of_a_profile_has_its_requests(process: str, shape: "float | None", parts: int) -> None:
    """As many as the area under its rate: evenly spaced to one request, at random within five standard deviations."""
    load = {"process": process, "rates": PROFILE, "burstiness": shape, "warmup_s": 8.0, "duration_s": 90.0}
    edges = [0, 8, 28, 68, 78, 98, 118]
    due = list(takewhile(lambda due_ns: due_ns < edges[-1] * SECOND, merged(load, 11, parts)))
    for (begin, end), expected in zip(pairwise(edges), [400, 1000, 6000, 0, 5000, 2000], strict=True):
        found = sum(begin * SECOND <= due_ns < end * SECOND for due_ns in due)
        assert found == pytest.approx(expected, abs=5 * sqrt(expected / shape) if shape else 1 if expected else 0)
    assert offered_per_s(load) == pytest.approx(12_000 / 90)
    if process != "poisson":
        assert due == list(islice(arrivals(load, 11), len(due)))


def test_a_ramp_rises_within_its_piece() -> None:
    """Half of the time has a quarter of the requests when it begins at 0."""
    load = {"process": "poisson", "rates": [{"for_s": 100.0, "rate_per_s": 0.0, "to_per_s": 200.0}]}
    due = list(takewhile(lambda due_ns: due_ns < 100 * SECOND, arrivals(load, 2)))
    assert len(due) == pytest.approx(10_000, abs=500)
    assert sum(due_ns < 50 * SECOND for due_ns in due) == pytest.approx(2500, abs=250)


def test_a_burst_is_due_at_once_at_the_windows_start() -> None:
    """And then nothing more, from no part."""
    load = {"process": "burst", "burst_size": 10, "warmup_s": 1.5, "duration_s": 4.0}
    assert list(merged(load, 1, 3)) == [1_500_000_000] * 10
    assert [len(list(arrivals(load, 1, part, 4))) for part in range(4)] == [3, 3, 2, 2]
    assert offered_per_s(load) == 2.5


def test_bursts_come_again_and_in_the_warm_up() -> None:
    """One of them falls on the window's start; every one is dealt out alike."""
    load = {"process": "burst", "burst_size": 3, "burst_every_s": 0.4, "warmup_s": 1.0, "duration_s": 1.0}
    times = [200_000_000, 600_000_000, 1_000_000_000, 1_400_000_000]
    assert list(islice(merged(load, 1, 2), 12)) == [time_ns for time_ns in times for _ in range(3)]
    assert list(islice(arrivals(load, 1, 1, 2), 4)) == times
    assert list(arrivals(load, 1, 3, 4)) == []
    assert offered_per_s(load) == 9  # at 1.0, 1.4 and 1.8 s


def test_a_closed_loop_offers_no_rate() -> None:
    """And the open processes do."""
    assert offered_per_s({"process": "closed", "duration_s": 1.0}) is None
    assert offered_per_s(at("constant", 5.0, duration_s=1.0)) == 5
    assert {"closed", *OPEN} == {"closed", "constant", "poisson", "gamma", "burst", "trace"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((at("uniform", 1), 1), "unknown arrival process"),
        ((at("constant", 0), 1), "above 0"),
        ((at("constant", float("inf")), 1), "above 0"),
        ((at("poisson", float("nan")), 1), "above 0"),
        ((at("poisson", 1), 1, 2, 2), "does not exist"),
        (({"process": "poisson"}, 1), "rate_per_s must be above 0"),
        (({"process": "gamma", "rate_per_s": 1.0, "burstiness": 0.0}, 1), "burstiness must be above 0"),
        (({"process": "burst"}, 1), "burst_size must be at least 1"),
        (({"process": "burst", "burst_size": 1, "burst_every_s": 0.0}, 1), "burst_every_s must be above 0"),
        (({"process": "trace", "trace": "/nowhere/there.jsonl"}, 1), "there.jsonl: cannot be read"),
        (({"process": "closed"}, 1), "unknown arrival process 'closed'"),
    ],
)
def test_what_makes_no_schedule_is_refused(arguments: tuple[object, ...], text: str) -> None:
    """At once, not at the first arrival."""
    with pytest.raises(ValueError, match=text):
        arrivals(*arguments)  # type: ignore[arg-type]
