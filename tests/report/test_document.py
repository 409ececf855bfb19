"""`summary.json`: the schema of the documentation, no NaN, and back without loss."""

import json
import re
from pathlib import Path

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.measurement import Measurement
from aifactory_bench.report.document import summary_from_json, summary_to_json
from aifactory_bench.results.model import (
    SCHEMA,
    JobOutcome,
    Latency,
    MergedMeasurement,
    PointResult,
    Reason,
    Summary,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"

_text = st.text(max_size=8)
_number = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
_plain = st.recursive(
    st.none() | st.booleans() | _number | _text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_text, inner, max_size=2),
    max_leaves=4,
)
_mapping = st.dictionaries(_text, _plain, max_size=2)
_us = st.none() | st.floats(0, 1e9)
_verdict = st.sampled_from(["valid", "degraded", "invalid"])
_latency = st.builds(Latency, _us, _us, _us, _us, _us, st.integers(0, 10**9), _us)
_texts = st.lists(_text, max_size=2).map(tuple)
_counts = st.dictionaries(_text, st.integers(0, 10**9), max_size=2)
_seconds = st.dictionaries(_text, st.floats(0, 1e6), max_size=2)
_measurement = st.builds(
    MergedMeasurement,
    client=_text,
    kind=_text,
    verdict=_verdict,
    reasons=st.lists(st.builds(Reason, _text, _text, _verdict), max_size=2).map(tuple),
    unchecked=_texts,
    unit=_text,
    process=_text,
    window_s=_us,
    counts=_counts,
    errors=_counts,
    offered_per_s=_us,
    achieved_per_s=_us,
    latency=st.dictionaries(_text, st.fixed_dictionaries({"send": _latency, "schedule": st.none() | _latency}), max_size=2),
    metrics=st.dictionaries(_text, _mapping, max_size=2),
    distributions=st.dictionaries(_text, _mapping, max_size=2),
    low_n=_texts,
    absent=st.dictionaries(_text, _text, max_size=2),
    replicas=st.integers(0, 9),
    phases_s=_seconds,
    health=_mapping,
    provenance=_mapping,
    series=st.lists(_mapping, max_size=2).map(tuple),
    histograms=st.dictionaries(_text, _mapping, max_size=2),
)
_summary = st.builds(
    Summary,
    run_id=_text,
    recipe=_text,
    site=_text,
    verdict=_verdict,
    status=_text,
    error=st.none() | st.fixed_dictionaries({"code": _text, "text": _text, "hint": _text}),
    points=st.lists(
        st.builds(PointResult, _text, _mapping, st.integers(1, 9), st.lists(_measurement, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    jobs=st.lists(
        st.builds(JobOutcome, _text, _text, _text, _text, st.none() | _text, _text, st.none() | _text, _text, _seconds),
        max_size=2,
    ).map(tuple),
    missing=_texts,
    run_folder=_text,
    schema=st.just(SCHEMA),
    pending=_texts,
    site_folder=st.none() | _text,
)


@settings(deadline=None, max_examples=60)
@given(_summary)
def test_round_trip(summary):
    """A summary comes back from its document as it was, through real JSON."""
    text = json.dumps(summary_to_json(summary), allow_nan=False)
    assert summary_from_json(json.loads(text)) == summary


def test_nan_and_infinity_become_null(make_summary):
    """Strict readers refuse NaN, so there is none."""
    summary = make_summary()
    one = summary.points[0].measurements[0]
    odd = evolve(one, metrics={"m": {"value": float("nan")}}, provenance={"x": [float("inf"), {1: object}]})
    document = summary_to_json(evolve(summary, points=(evolve(summary.points[0], measurements=(odd,)),)))
    json.dumps(document, allow_nan=False)
    written = document["points"][0]["measurements"][0]
    assert written["metrics"] == {"m": {"value": None}}
    assert written["provenance"]["x"][0] is None


def test_schema_of_the_design(make_summary):
    """The names that readers rely on."""
    document = summary_to_json(make_summary())
    assert document["schema"] == "aifactory-bench/results/1"
    assert {"run_id", "recipe", "site", "verdict", "error", "points"} <= set(document)
    point = document["points"][0]
    assert {"parameters", "repetition", "measurements"} <= set(point)
    one = point["measurements"][0]
    assert {
        *("client", "kind", "verdict", "reasons", "unchecked", "unit", "window_s", "counts", "errors", "offered_per_s"),
        *("achieved_per_s", "latency", "metrics", "distributions", "low_n", "absent", "replicas", "provenance"),
    } <= set(one)
    assert set(one["counts"]) == {"ok", "error", "timeout", "skipped"}
    quantiles = {"p50_us", "p90_us", "p99_us", "p999_us", "max_us", "count"}
    assert quantiles <= set(one["latency"]["get"]["send"])
    assert quantiles <= set(one["latency"]["get"]["schedule"])
    assert set(one["histograms"]["get"]) == {"send", "schedule"}


def test_closed_loop_has_null_for_schedule(make_summary):
    """Null, with a reason beside it."""
    one = summary_to_json(make_summary(rates=(None,)))["points"][0]["measurements"][0]
    assert one["latency"]["get"]["schedule"] is None
    assert one["absent"]["latency.get.schedule"]


@pytest.mark.parametrize("document", [None, [], {}, {"schema": "aifactory-bench/results/2"}, {"schema": SCHEMA, "run_id": "x"}])
def test_not_a_summary(document):
    """Anything else is refused in one sentence."""
    with pytest.raises(ValueError, match="not a summary"):
        summary_from_json(document)


def test_wrong_types_are_refused(make_summary):
    """A damaged file does not become a summary that breaks later."""
    document = summary_to_json(make_summary())
    with pytest.raises(ValueError, match="not a summary"):
        summary_from_json({**document, "points": 7})
    with pytest.raises(ValueError, match="not a summary"):
        summary_from_json({**document, "verdict": "splendid"})


def test_unknown_fields_are_ignored(make_summary):
    """Within a schema version fields are added; readers of today read files of tomorrow."""
    summary = make_summary()
    assert summary_from_json({**summary_to_json(summary), "novelty": 1}) == summary


def test_size_is_bearable(make_summary):
    """A point of three operations by two clocks with ten seconds of series stays in the order of 10 kB."""
    assert len(json.dumps(summary_to_json(make_summary()))) < 20_000


def _documented(section):
    text = DOCUMENT.read_text(encoding="utf-8").split(section + "\n", 1)[1].split("\n##", 1)[0]
    cells = re.findall(r"^\| (`[^|]+) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("## `summary.json`", {field.name for field in fields(Summary)}),
        ("### `points[]`", {field.name for field in fields(PointResult)}),
        ("### `points[].measurements[]`", {field.name for field in fields(MergedMeasurement)}),
        ("### `jobs[]`", {field.name for field in fields(JobOutcome)}),
        ("## Measurement documents", set(Measurement.__dataclass_fields__)),
    ],
)
def test_every_field_is_documented(section, expected):
    """docs/results.md has a row for each field, and none for a field that is not there."""
    assert _documented(section) == expected
