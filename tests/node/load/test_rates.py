"""Profiles of rates: exact counts, exact inverses, and ends."""

from collections.abc import Mapping, Sequence
from itertools import count, islice, takewhile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.load.rates import Profile

SECOND = 10**9
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "for_s": st.floats(0.01, 50),
            "rate_per_s": st.floats(0, 2000),
            "to_per_s": st.none() | st.floats(0, 2000),
        }
    ),
    min_size=1,
    max_size=5,
)


def step(for_s: float, rate_per_s: float, to_per_s: "float | None" = None) -> dict[str, Any]:
    return {"for_s": for_s, "rate_per_s": rate_per_s, "to_per_s": to_per_s}


def test_a_ramp_has_the_requests_of_its_area() -> None:
    """From 0 to 10/s in 10 s are 50 requests, half of them in the last 2.93 s; then it stays at 10/s."""
    profile = Profile([step(10, 0, 10)])
    assert [profile.count(at_s) for at_s in (0, 5, 10, 12)] == [0, 12.5, 50, 70]
    due = list(islice(profile.due_ns(map(float, count())), 71))
    assert (due[0], due[50], due[70]) == (0, 10 * SECOND, 12 * SECOND)
    assert due[25] == pytest.approx(50**0.5 * SECOND, abs=1)


def test_the_warm_up_runs_at_the_first_rate() -> None:
    """Steps begin at the window's start."""
    profile = Profile([step(1, 4, 8), step(1, 100)], warmup_s=2)
    due = list(takewhile(lambda due_ns: due_ns < 4 * SECOND, profile.due_ns(map(float, count()))))
    assert due[:8] == [number * SECOND // 4 for number in range(8)]
    assert sum(2 * SECOND <= due_ns < 3 * SECOND for due_ns in due) == 6
    assert sum(due_ns >= 3 * SECOND for due_ns in due) == 100
    assert profile.mean_per_s(2) == pytest.approx(53)
    assert profile.mean_per_s(4) == pytest.approx(76.5)


def test_pauses_are_skipped_and_an_end_at_0_ends() -> None:
    """Nothing is due where the rate is 0."""
    profile = Profile([step(1, 0), step(1, 3), step(1, 0), step(1, 2), step(1, 0)], warmup_s=5)
    assert list(profile.due_ns(map(float, count()))) == [
        6 * SECOND,
        6 * SECOND + round(SECOND / 3),
        6 * SECOND + round(2 * SECOND / 3),
        8 * SECOND,
        8 * SECOND + SECOND // 2,
    ]
    assert list(Profile([step(2, 2, 0)]).due_ns(map(float, count()))) == [0, round((2 - 2**0.5) * SECOND)]


@given(STEPS, st.floats(0, 20), st.lists(st.floats(0, 1), max_size=20))
def test_due_times_are_the_inverse_of_the_count(
    steps: Sequence[Mapping[str, Any]], warmup_s: float, shares: Sequence[float]
) -> None:
    """To the nanosecond that it is rounded to; and they never fall."""
    if not any(one["rate_per_s"] or one["to_per_s"] for one in steps):
        with pytest.raises(ValueError, match="all are 0/s"):
            Profile(steps, warmup_s)
        return
    profile = Profile(steps, warmup_s)
    total = profile.count(warmup_s + sum(one["for_s"] for one in steps))
    wanted = sorted(share * total for share in shares)
    due = list(profile.due_ns(iter(wanted)))
    assert due == sorted(due)
    assert len(due) == len(wanted) or wanted[len(due)] >= total * (1 - 1e-12)
    for due_ns, number in zip(due, wanted, strict=False):
        assert profile.count(due_ns / SECOND) == pytest.approx(number, rel=1e-9, abs=1e-4)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([], "at least one step"),
        ([step(1, 0), step(2, 0, 0)], "all are 0/s"),
        ([step(1, 1), step(0, 1)], r"rates\[1\]: `for` must be above 0 s .* found for 0 s"),
        ([step(1, -1)], "at least 0/s"),
        ([step(1, 1, float("nan"))], "to nan/s"),
    ],
)
def test_what_makes_no_profile_is_refused(steps: Sequence[Mapping[str, Any]], text: str) -> None:
    """With the step."""
    with pytest.raises(ValueError, match=text):
        Profile(steps)
