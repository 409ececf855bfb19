"""Merging: what several replicas measured is what one recorder would have seen."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Counts, Health, Measurement, to_json
from aifactory_bench.plan import PlannedPoint
from aifactory_bench.results.merge import merge, merge_point


def point_of(ranks=1):
    return PlannedPoint("p0000-r1", 0, 1, {}, "load", "demo", "t", ranks, None, "closed", {}, {}, {}, ("s",))


def histogram_of(values_us):
    one = Histogram()
    one.record_many([value * 1000 for value in values_us])
    return one


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(1, 10**7), min_size=1, max_size=200), min_size=1, max_size=5))
def test_merged_quantiles_are_those_of_one_recorder(parts):
    """Quantiles over ranks are those of all samples together, never averages."""
    documents = []
    for rank, values in enumerate(parts):
        latency = {"all": {"send": histogram_of(values).to_json(), "schedule": None}}
        counts = Counts(ok=len(values))
        one = Measurement(
            "p0000-r1", "load", "demo", rank, "ok", process="closed", window_s=1.0, counts=counts, latency=latency
        )
        documents.append(to_json(one))
    merged = merge(point_of(len(parts)), documents).measurement
    together = histogram_of([value for values in parts for value in values])
    send = merged.latency["all"]["send"]
    assert (send.p50_us, send.p99_us, send.max_us) == (
        together.percentile_us(50),
        together.percentile_us(99),
        together.max_us,
    )
    assert send.count == merged.counts["ok"] == together.count
    assert Histogram.from_json(merged.histograms["all"]["send"]) == together


def test_equal_windows_add_up(make_point, make_document):
    """Two replicas at 1000/s are one measurement at 2000/s, with the totals of both."""
    merged = merge(make_point(ranks=2, offered_per_s=2000.0), [make_document(0), make_document(1, start_s=0.02)])
    one = merged.measurement
    assert (one.achieved_per_s, one.replicas, one.counts["ok"]) == (2000.0, 2, 20_000)
    assert one.latency["all"]["schedule"].count == 20_000
    assert one.provenance["merge"]["origin"] == "totals"
    assert one.window_s == 10.0
    assert one.metrics["replica_rate_min"] == {"value": 1000.0, "unit": "request/s"}
    assert [rank["rank"] for rank in one.provenance["ranks"]] == [0, 1]


def test_windows_that_differ_count_in_their_intersection_only(make_point, make_document, make_histogram):
    """What one replica measured before the other began is in no rate and no quantile."""
    early, late = make_document(0), make_document(1, start_s=3.0)
    slow = {"all": {"send": make_histogram([9000.0], 1000), "schedule": make_histogram([9000.0], 1000)}}
    for second in range(3):
        early["slices"][second]["latency"] = slow
    merged = merge(make_point(ranks=2, offered_per_s=2000.0), [early, late])
    one = merged.measurement
    assert one.provenance["merge"]["origin"] == "slices"
    assert one.window_s == pytest.approx(7.0)
    assert merged.evidence.overlap_share == pytest.approx(0.7)
    assert one.latency["all"]["send"].count == 14_000
    assert one.latency["all"]["send"].max_us == 200.0
    assert one.achieved_per_s == pytest.approx(2000.0)
    assert [entry["second"] for entry in one.series] == list(range(7))
    assert {entry["ok"] for entry in one.series} == {2000}
    assert one.counts["ok"] == 20_000


def test_each_operation_is_taken_from_the_intersection(make_point, make_document, make_histogram):
    """Operations are cut to the intersection as their sum is; a slice that cannot be read costs its rank then."""
    documents = [make_document(rank, start_s=2.0 * rank) for rank in range(2)]
    for document in documents:
        for part in document["slices"]:
            part["latency"]["get"] = {"send": make_histogram([100.0], 600), "schedule": None}
    one = merge(make_point(ranks=2), documents).measurement
    assert one.latency["get"]["send"].count == 2 * 8 * 600
    documents[1]["slices"][3]["latency"]["get"] = {"send": {"v": 1}}
    assert set(merge(make_point(ranks=2), documents).evidence.ranks_absent) == {1}


def test_backlog_counts_against_the_rate_in_slices_too(make_point, make_document):
    """What was sent after the end is in the slices, and not in the achieved rate."""
    documents = [make_document(0), make_document(1, start_s=3.0, achieved_per_s=500.0)]
    merged = merge(make_point(ranks=2, offered_per_s=2000.0), documents)
    assert merged.measurement.achieved_per_s == pytest.approx(1500.0)


def test_windows_apart_altogether(make_point, make_document):
    """Without an intersection the totals are shown, and the overlap says what they are worth."""
    merged = merge(make_point(ranks=2), [make_document(0), make_document(1, start_s=60.0)])
    assert merged.evidence.overlap_share == 0
    assert merged.measurement.provenance["merge"]["origin"] == "totals"


def test_quantiles_of_one_replica_are_passed_on(make_point, make_document):
    """A tool's own quantiles are better than none; what it does not say is absent with the reason."""
    quantiles = {"get": {"p50_us": 110, "p99_us": 900.5, "max_us": 2000, "count": 500}}
    document = make_document(latency={}, slices=[], quantiles=quantiles, histogram_quality="none", process="closed")
    one = merge(make_point(offered_per_s=None), [document]).measurement
    send = one.latency["get"]["send"]
    assert (send.p50_us, send.p90_us, send.p99_us, send.p999_us, send.count) == (110, None, 900.5, None, 500)
    assert one.absent["latency.get.send.p90_us"] == "the tool does not report it"
    assert one.low_n == ("latency.get.send.p99_us",)
    assert one.histograms == {}


def test_quantiles_of_several_replicas_are_bounded_not_merged(make_point, make_document):
    """No average, no maximum: the quantile is absent, and the reason says where it lies."""
    documents = [
        make_document(
            rank,
            latency={},
            slices=[],
            quantiles={"get": {"p50_us": 100.0 + rank, "max_us": 2000.0 + rank, "count": 500}},
            histogram_quality="none",
        )
        for rank in range(2)
    ]
    one = merge(make_point(ranks=2), documents).measurement
    send = one.latency["get"]["send"]
    assert (send.p50_us, send.max_us, send.count) == (None, 2001.0, 1000)
    assert "it lies between 100µs and 101µs" in one.absent["latency.get.send.p50_us"]
    assert one.provenance["histogram_quality"] == "none"


def test_closed_loop_has_no_schedule(make_point, make_document):
    """Each null of a closed loop has its reason."""
    document = make_document(process="closed", health=Health(cpu_share=[0.1]))
    one = merge(make_point(offered_per_s=None, process="closed"), [document]).measurement
    assert one.latency["all"]["schedule"] is None
    assert one.offered_per_s is None
    for path in ("latency.all.schedule", "offered_per_s", "health.lateness_p99_us", "health.gate_p99_us"):
        assert one.absent[path].startswith("closed loop")


def test_every_null_has_its_reason(make_point, make_document):
    """Absent is null, with an entry in `absent`."""
    document = make_document(health=Health())
    one = merge(make_point(), [document]).measurement
    for name, value in one.health.items():
        assert value is not None or f"health.{name}" in one.absent


def test_metrics_are_added_unless_told_otherwise(make_point, make_document):
    """Hits add up; a ratio is the mean by weight; a peak is the largest."""
    documents = [
        make_document(
            rank,
            metrics={
                "hits": {"value": 10 * (rank + 1), "unit": "requests"},
                "ratio": {"value": rank, "unit": "share", "merge": "mean"},
                "peak": {"value": rank, "unit": "bytes", "merge": "max"},
                "noise": {"value": float("nan") if rank else "many", "unit": ""},
            },
        )
        for rank in range(2)
    ]
    metrics = merge(make_point(ranks=2), documents).measurement.metrics
    assert metrics["hits"] == {"value": 30, "unit": "requests"}
    assert metrics["ratio"]["value"] == 0.5
    assert metrics["peak"]["value"] == 1
    assert "noise" not in metrics


def test_a_metric_with_a_strange_rule_is_added(make_point, make_document):
    """What comes from a site never ends in a traceback."""
    document = make_document(metrics={"hits": {"value": 3, "unit": "requests", "merge": ["max"]}})
    assert merge(make_point(), [document]).measurement.metrics["hits"]["value"] == 3


def test_absences_of_some_replicas_say_which(make_point, make_document):
    """One rank reads the server for all: that the others do not is no absence."""
    counters = {"server_before": {"operations": 0}, "server_after": {"operations": 20_000}}
    others = {"server_after": "read by one rank for all", "seed": "none"}
    one = merge(make_point(ranks=2), [make_document(0, **counters), make_document(1, absent=others)]).measurement
    assert "server_after" not in one.absent
    assert one.absent["seed"] == "rank 1: none"


def test_warmup_is_part_of_the_totals(make_point, make_document):
    """The server's counters enclose the warm-up, so what was sent in it counts; what was skipped does not."""
    document = make_document(
        phase_counts={"warmup": {"ok": 900, "error": 50, "timeout": 50, "skipped": 7}, "drain": {"ok": 3}},
        server_before={"operations": 7},
        server_after={"operations": 11_007},
    )
    evidence = merge(make_point(), [document]).evidence
    assert (evidence.client_operations, evidence.server_operations) == (11_000, 11_000)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"absent": {"server_operations": "it also counted the warm-up"}}, "it also counted the warm-up"),
        ({"server_after": {"operations": 3}}, "went back"),
        ({"server_after": {}}, "were not counted"),
    ],
)
def test_totals_that_cannot_be_compared_say_why(changes, why, make_point, make_document):
    """A comparison that would mean nothing is not made."""
    document = make_document(**{"server_before": {"operations": 7}, "server_after": {"operations": 9999}, **changes})
    merged = merge(make_point(), [document])
    assert merged.evidence.server_operations is None
    assert why in merged.measurement.absent["server_operations"]


def test_client_after_another_is_not_part_of_its_totals(make_point, make_document):
    """Clients that follow each other do not share what the server counted."""
    points = [make_point(), make_point(client="later", token="u")]
    counters = {"server_before": {"operations": 0}, "server_after": {"operations": 10_000}}
    documents = {"load": [make_document(**counters)], "later": [make_document(client="later", start_s=60.0)]}
    first, second = merge_point(points, documents)
    assert first.evidence.client_operations == first.evidence.server_operations == 10_000
    assert second.evidence.server_operations is None


def test_totals_wait_for_all_clients(make_point, make_document):
    """A client that failed may have sent anything."""
    points = [make_point(), make_point(client="other", token="u")]
    counters = {"server_before": {"operations": 0}, "server_after": {"operations": 10_000}}
    documents = {"load": [make_document(**counters)], "other": [make_document(client="other", status="failed")]}
    assert "not all replicas of other" in merge_point(points, documents)[0].measurement.absent["server_operations"]


DAMAGE = [
    {"counts": {"ok": -1}},
    {"counts": {"ok": "many"}},
    {"counts": None},
    {"window_s": float("inf")},
    {"window_s": True},
    {"latency": {"all": {"send": {"v": 9}}}},
    {"latency": []},
    {"slices": [{"second": "one"}]},
    {"slices": {}},
    {"health": {"cpu_share": "all"}},
    {"health": {"lateness": {"count": 3}}},
    {"services": {"main": "dead"}},
    {"status": "splendid"},
    {"point": "p0009-r1"},
    {"v": 2},
    {"reason": 5},
    {"errors": {"E": 0.5}},
    {"quantiles": {"x" * 200: {}}},
    {"phase_counts": {"warmup": {"ok": -5}}},
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: json.dumps(damage)[:40])
def test_damaged_document_is_an_absent_rank(damage, make_point, make_document):
    """What comes from a site is not trusted: a document that does not fit costs its rank, and never a traceback."""
    merged = merge(make_point(ranks=2), [make_document(0), {**make_document(1), **damage}])
    assert set(merged.evidence.ranks_absent) == {1}
    assert "cannot be read" in merged.evidence.ranks_absent[1]
    assert merged.measurement.replicas == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(Measurement.__dataclass_fields__)), _JSON)
def test_no_value_of_any_field_breaks_the_merge(name, value):
    """Whatever stands in a field, merging ends with a measurement or an absent rank."""
    latency = {"all": {"send": histogram_of([5]).to_json(), "schedule": None}}
    one = Measurement("p0000-r1", "load", "demo", 0, "ok", process="closed", window_s=1.0, counts=Counts(ok=1), latency=latency)
    merged = merge(point_of(), [{**to_json(one), name: value}])
    assert merged.measurement.replicas in (0, 1)


def test_unplanned_and_double_documents_are_told(make_point, make_document):
    """A second document of a rank, or one of a rank that nobody planned, is left out and told."""
    merged = merge(make_point(), [make_document(0), make_document(0), make_document(7), "nonsense"])
    assert len(merged.evidence.differences) == 3
    assert merged.measurement.counts["ok"] == 10_000


def test_few_samples_are_marked(make_point, make_document, make_histogram):
    """With 100 samples p50 and p90 stand, p99 and p99.9 are marked, on both clocks."""
    clocks = {"send": make_histogram([100.0], 100), "schedule": make_histogram([100.0], 100)}
    one = merge(make_point(), [make_document(latency={"get": clocks}, counts=Counts(ok=100))]).measurement
    assert set(one.low_n) == {
        f"latency.get.{clock}.{field}" for clock in ("send", "schedule") for field in ("p99_us", "p999_us")
    }
