"""What a search found, on its way from the rank that decided to what a reader sees."""

import pytest

from aifactory_bench.node import trust
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Health, Measurement
from aifactory_bench.node.search import wilson
from aifactory_bench.results import statistics
from aifactory_bench.results.merge import merge
from aifactory_bench.results.search import search_line
from aifactory_bench.results.validity import LIMITS, judge


def found(**changes):
    values = {
        "status": "found",
        "find": "rate",
        "quantity": "rate",
        "value": 43.1,
        "at_least": None,
        "next_tried": 45.2,
        "next_why": "97.10% met the SLO (95.10% to 98.40%); ttft p99 231 ms, limit 200 ms",
        "why": "",
        "trials": [{"n": 1, "rate": 1.0, "verdict": "pass"}, {"n": 2, "rate": 43.1, "verdict": "pass"}],
    }
    return {**values, **changes}


@pytest.fixture
def merged(make_point, make_document):
    """A function that merges two ranks, the first of which decided a search."""

    def make(search, **changes):
        first = make_document(0, provenance={"seed": 1, "search": search}, **changes)
        return merge(make_point(ranks=2, offered_per_s=None), [first, make_document(1, start_s=0.0)])

    return make


def test_a_search_is_told_once(merged):
    """Beside the ranks, not within them; its figure is nobody's sum."""
    metrics = {"rate_in_slo": {"value": 43.1, "unit": "request/s"}}
    measurement = merged(found(), metrics=metrics).measurement
    assert measurement.provenance["search"] == found()
    assert all("search" not in rank for rank in measurement.provenance["ranks"])
    assert [rank["rank"] for rank in measurement.provenance["ranks"]] == [0, 1]
    assert measurement.metrics["rate_in_slo"] == {"value": 43.1, "unit": "request/s"}


def test_why_there_is_no_capacity_is_told_without_a_rank(merged):
    """One decides for all."""
    absent = {"metrics.rate_in_slo": "at 50/s the generator was the limit", "server_after": "the server gives none"}
    measurement = merged(found(status="client_bound", value=None), absent=absent).measurement
    assert measurement.absent["metrics.rate_in_slo"] == "at 50/s the generator was the limit"
    assert measurement.absent["server_after"] == "rank 0: the server gives none"


def test_without_a_search_nothing_changes(make_point, make_document):
    """Neither a key nor a line."""
    measurement = merge(make_point(), [make_document()]).measurement
    assert "search" not in measurement.provenance
    assert search_line(measurement) == ""


def test_what_a_site_sends_is_cut_to_size(merged):
    """Only plain JSON of bounded size is taken over."""
    deep: "dict[str, object]" = {}
    deep["deeper"] = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}
    evil = found(
        why="x" * 10_000, trials=[{"n": 1e400, "why": "y" * 10_000}] * 5000, next_why=object(), more=deep, value="z" * 9999
    )
    taken = merged(evil).measurement.provenance["search"]
    assert len(taken["why"]) == 500
    assert len(taken["value"]) == 500
    assert len(taken["trials"]) == 1000
    assert taken["trials"][0] == {"n": None, "why": "y" * 500}
    assert taken["next_why"] is None
    assert "f" not in str(taken["more"])
    assert search_line(merged(evil).measurement).startswith("search: 1000 trials, highest rate within SLO not known: xxx")


@pytest.mark.parametrize(
    ("search", "line"),
    [
        (
            found(),
            f"search: 2 trials, highest rate within SLO 43.1/s (next tried 45.2/s: {found()['next_why']})",
        ),
        (
            found(quantity="concurrency", find="concurrency", value=12, next_tried=13, next_why="why"),
            "search: 2 trials, highest concurrency within SLO 12 in flight (next tried 13 in flight: why)",
        ),
        (
            found(status="client_bound", value=None, at_least=40.0, why="the generator"),
            "search: 2 trials, highest rate within SLO not known, at least 40/s",
        ),
        (
            found(status="none", value=None, why="not even the least", trials=[{}]),
            "search: 1 trial, highest rate within SLO not known",
        ),
        (
            found(status="limit", value=None, at_least=100.0, why="the limit lies above"),
            "search: 2 trials, highest rate within SLO not known, at least 100/s: the limit lies above",
        ),
        (found(find="knee", value=31.6, next_tried=None), "search: 2 trials, knee 31.6/s"),
        (
            found(find="knee", value=None, status="none", why="it hardly bends"),
            "search: 2 trials, knee not known: it hardly bends",
        ),
    ],
)
def test_one_line_for_the_reader(merged, search, line):
    """How many trials, what was found, and what came next or why nothing was."""
    assert search_line(merged(search).measurement) == line


@pytest.mark.parametrize(
    ("status", "find", "verdict"),
    [
        ("found", "rate", None),
        ("limit", "rate", None),
        ("client_bound", "rate", "degraded"),
        ("client_bound", "knee", "degraded"),
        ("unconfirmed", "concurrency", "degraded"),
        ("none", "rate", "degraded"),
        ("none", "knee", None),
    ],
)
def test_a_search_without_an_answer_is_told(merged, status, find, verdict):
    """A generator at its limit is never taken for a server at its own."""
    reasons = {reason.code: reason for reason in judge(merged(found(status=status, find=find, why="the reason")), {})[1]}
    told = reasons.get("search_unresolved")
    assert (told.verdict if told else None) == verdict
    if told:
        assert told.text == "the search did not find what it looked for: the reason"


# the same limits on both sides


@pytest.mark.parametrize(("met", "of"), [(0, 10), (1, 3), (98, 100), (10, 10), (12_345, 20_000)])
def test_both_sides_have_the_same_interval(met, of):
    """What decides a trial is what the result shows."""
    assert statistics.wilson(met, of) == pytest.approx(wilson(met, of), abs=1e-6)


def test_both_sides_have_the_same_limits():
    """What a search calls untrusted, the verdict does not call valid."""
    assert {key: LIMITS[key] for key in trust.LIMITS} == dict(trust.LIMITS)
    with_own = set(trust.limits_of("lateness"))
    assert with_own == {"lateness", "lateness_floor_s", "lateness_invalid", "lateness_invalid_floor_s"}


def _histogram(value_us, count=100):
    one = Histogram()
    one.record_many([round(value_us * 1000)] * count)
    return one.to_json()


@pytest.mark.parametrize(
    "health",
    [
        {},
        {"lateness": _histogram(1_100)},
        {"lateness": _histogram(5_000)},
        {"observation_age": _histogram(3_500)},
        {"observation_age": _histogram(20_000)},
        {"stalled_s": 0.2, "stalled_max_s": 0.0},
        {"stalled_s": 0.6, "stalled_max_s": 0.0},
        {"stalled_s": 0.09, "stalled_max_s": 0.09},
        {"stalled_s": 0.0, "stalled_max_s": 0.11},
        {"cpu_share": [0.2, 0.91]},
    ],
)
def test_both_sides_come_to_the_same_answer(health, make_point, make_document):
    """Node and controller, of one and the same document."""
    values = {"cpu_share": [0.4], "lateness": _histogram(10), "stalled_s": 0.0, "stalled_max_s": 0.0, **health}
    document = make_document(health=Health(**values))
    document["health"].setdefault("loop_lag", None)
    verdict = judge(merge(make_point(), [document]), {})[0]
    fields = {name: document[name] for name in Measurement.__dataclass_fields__ if name in document}
    rank = Measurement(**{**fields, "health": Health(**document["health"])})
    doubts = trust.doubts(trust.figures_of([rank]), trust.LIMITS)
    assert bool(doubts) == (verdict != "valid"), (doubts, verdict)
    assert bool(doubts) == bool(health) or health == {"stalled_s": 0.09, "stalled_max_s": 0.09}
