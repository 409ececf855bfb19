"""Delays: how they are written, what is drawn, and that answers keep to them."""

import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.truth_delays import delay_of, duration_ns, stall_of

MS = 1_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("50ms", 50 * MS),
        ("1.5s", 1500 * MS),
        ("200us", 200_000),
        ("7ns", 7),
        ("1m", 60_000 * MS),
        ("0", 0),
        (0.25, 250 * MS),
        (0, 0),
    ],
)
def test_durations(text, ns):
    """Texts with a unit, or numbers of seconds."""
    assert duration_ns(text) == ns
    assert delay_of(text).constant_ns == ns


@pytest.mark.parametrize("text", ["50", "-1ms", "ms", "", "1h", None, True, -1, float("nan"), float("inf"), "2000m", []])
def test_no_durations(text):
    """What it could be is said."""
    with pytest.raises(ValueError, match=r"must be (a duration such as 50ms|from 0 to 1 hour)"):
        duration_ns(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("uniform:20ms:10ms", "lower end is above"),
        ("uniform:10ms", "must be one of"),
        ("normal:10ms:1ms", "must be one of"),
        ("constant:", "a duration such as"),
        ("lognormal:10ms:x", "sigma"),
        ("lognormal:10ms:-1", "sigma"),
        ("exponential:10ms:3", "must be one of"),
    ],
)
def test_no_delays(text, words):
    """Each with what is wrong."""
    with pytest.raises(ValueError, match=words):
        delay_of(text)


@pytest.mark.parametrize(
    ("text", "mean_ms", "least_ms", "most_ms"),
    [
        ("constant:10ms", 10, 10, 10),
        ("uniform:10ms:20ms", 15, 10, 20),
        ("exponential:20ms", 20, 0, 1000),
        ("lognormal:20ms:0.5", 22.66, 0, 1000),
        ("exponential:0ms", 0, 0, 0),
        ("lognormal:0ms:1", 0, 0, 0),
    ],
)
def test_what_is_drawn(text, mean_ms, least_ms, most_ms):
    """The distribution that the text names."""
    delay, source = delay_of(text), random.Random(5)
    drawn = [delay.draw_ns(source) for _ in range(20_000)]
    assert statistics.fmean(drawn) / MS == pytest.approx(mean_ms, rel=0.02)
    assert least_ms * MS <= min(drawn)
    assert max(drawn) <= most_ms * MS


def test_the_median_of_a_lognormal_delay():
    """Is what is written first."""
    source = random.Random(5)
    drawn = [delay_of("lognormal:20ms:1.0").draw_ns(source) for _ in range(20_000)]
    assert statistics.median(drawn) / MS == pytest.approx(20, rel=0.03)


@given(st.text(max_size=20) | st.integers() | st.floats() | st.none() | st.lists(st.integers(), max_size=2))
def test_any_value_is_understood_or_refused(value):
    """Nothing else is raised, whatever a request holds."""
    for convert in (delay_of, stall_of):
        try:
            convert(value)
        except (ValueError, OverflowError):
            continue


def test_stalls():
    """Tokens and a pause."""
    assert stall_of("8:500ms") == (8, 500 * MS)
    for text in ("8", "x:1s", "8:", "-1:1s", 8):
        with pytest.raises(ValueError, match=r"TOKENS:PAUSE"):
            stall_of(text)


def test_an_answer_keeps_to_constant_delays(truth):
    """What was planned is exact, and what was sent is the plan but for lateness; the reader sees the same."""
    answer = truth.complete(tokens=5, ttft="40ms", gap="10ms")
    record = truth.last()
    assert record["due_ns"] == [0, 40 * MS, 50 * MS, 60 * MS, 70 * MS, 80 * MS, 80 * MS]
    assert all(sent >= due for sent, due in zip(record["sent_ns"], record["due_ns"], strict=True))
    assert record["late_max_us"] * 1000 == pytest.approx(
        max(sent - due for sent, due in zip(record["sent_ns"][1:-1], record["due_ns"][1:-1], strict=True)), abs=100
    )
    first_ns = answer.pieces[1][0] - record["received_ns"]
    assert first_ns >= record["sent_ns"][1] >= 40 * MS


def test_the_same_seed_gives_the_same_delays(truth):
    """And another seed, or another request without one, others."""
    found = []
    for seed in (7, 7, 8, None, None):
        truth.complete(tokens=6, ttft="uniform:1ms:5ms", gap="exponential:1ms", **({} if seed is None else {"seed": seed}))
        found.append(tuple(truth.last()["due_ns"]))
    assert found[0] == found[1]
    assert len(set(found)) == 4


def test_stalls_of_an_answer(truth):
    """A pause after so many tokens, once, on top of the gap."""
    truth.complete(tokens=6, ttft="1ms", gap="1ms", stall=["2:30ms", "4:10ms"])
    due = truth.last()["due_ns"][1:7]
    assert [after - before for before, after in pairwise(due)] == [MS, 31 * MS, MS, 11 * MS, MS]
    truth.complete(tokens=2, ttft="1ms", gap="1ms", stall="0:20ms,9:1s")
    assert truth.last()["due_ns"][1] == 21 * MS
