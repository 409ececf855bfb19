"""The verdict: every code of the table is provoked here, and is at peace with a measurement without fault."""

import re
from pathlib import Path

import pytest

from aifactory_bench.node import trust
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Counts, Health
from aifactory_bench.results.merge import merge, merge_point
from aifactory_bench.results.statistics import samples_needed
from aifactory_bench.results.validity import CHECKS, CODES, LIMITS, judge, worst

DOCUMENT = Path(__file__).parents[2] / "docs" / "measuring.md"

DEAD = {"main": {"died": True, "restarted": False, "text": "process 12 ended with -9"}}
RESTARTED = {"main": {"died": False, "restarted": True, "text": "another nonce"}}

# Code -> (changes of the point, changes of each rank's document, limits, verdict)
PROVOKED = {
    "no_measurement": ({}, [{"status": "failed", "reason": "the keys could not be written"}], {}, "invalid"),
    "nothing_succeeded": ({}, [{"counts": Counts(ok=0, error=5), "latency": {}, "achieved_per_s": 0.0}], {}, "invalid"),
    "service_died": ({}, [{"services": DEAD}], {}, "invalid"),
    "service_restarted": ({}, [{"services": RESTARTED}], {}, "invalid"),
    "tool_failed": ({}, [{"tool": {"name": "redis-benchmark", "exit_code": 1}}], {}, "invalid"),
    "cut": ({}, [{"status": "cut", "reason": "the job was stopped"}], {}, "invalid"),
    "window_short": ({}, [{"seconds": 9.7}], {}, "invalid"),
    "replicas_missing": ({"ranks": 2, "offered_per_s": 2000.0}, [{}], {}, "invalid"),
    "replicas_differ": ({"ranks": 2, "offered_per_s": 2000.0}, [{}, {"unit": "query"}], {}, "invalid"),
    "windows_apart": ({"ranks": 2, "offered_per_s": 2000.0}, [{}, {"start_s": 1.5}], {}, "invalid"),
    "error_share": ({}, [{"counts": Counts(ok=9880, error=60, timeout=60), "errors": {"ERR": 60}}], {}, "invalid"),
    "rate_not_achieved": ({}, [{"achieved_per_s": 979.0, "counts": Counts(ok=9790, skipped=210)}], {}, "invalid"),
    "lateness": ({}, [{"lateness_us": 1500.0}], {}, "degraded"),
    "observation_age": ({}, [{"age_us": 3500.0}], {}, "degraded"),
    "client_errors": ({}, [{"counts": Counts(ok=9990, error=10), "errors": {"client:ports": 10}}], {}, "invalid"),
    "generator_stalled": ({}, [{"stalled": (0.6, 0.3)}], {}, "invalid"),
    "client_bound": ({}, [{"health": None, "cpu_share": [0.3, 0.95]}], {}, "invalid"),
    "totals_mismatch": ({}, [{"server_before": {"operations": 5.0}, "server_after": {"operations": 10205.0}}], {}, "degraded"),
    "server_disagrees": (
        {},
        [
            {
                "totals": {"ttft_s": 12.0, "ttft_count": 100.0},
                "server_before": {"ttft_s": 3.0, "ttft_count": 10.0},
                "server_after": {"ttft_s": 12.0, "ttft_count": 110.0},
            }
        ],
        {},
        "degraded",
    ),
    "input_length": (
        {},
        [
            {
                "metrics": {
                    "prompt_tokens_by_asked": {
                        "value": 1.06,
                        "unit": "token/token",
                        "merge": "ratio",
                        "numerator": 1060,
                        "denominator": 1000,
                    }
                }
            }
        ],
        {},
        "degraded",
    ),
    "output_length": ({}, [{"metrics": {"other_length": {"value": 150, "unit": "request", "merge": "sum"}}}], {}, "degraded"),
    "search_unresolved": ({}, [{"provenance": {"search": {"status": "client_bound", "why": "it sent late"}}}], {}, "degraded"),
    "unchecked": ({}, [{"unchecked": ["error_share"]}], {}, "degraded"),
}


@pytest.fixture
def build(make_document, make_histogram):
    """Return a builder of documents that knows shorthands for the generator's health."""

    def make(rank, changes):
        changes = dict(changes)
        lateness = make_histogram([changes.pop("lateness_us", 20.0)])
        shares = changes.pop("cpu_share", [0.4])
        changes.pop("health", None)
        age = make_histogram([changes.pop("age_us", 30.0)])
        stalled_s, stalled_max_s = changes.pop("stalled", (0.0, 0.0))
        health = Health(
            workers=len(shares),
            cpu_share=shares,
            lateness=lateness,
            loop_lag=make_histogram([50.0]),
            observation_age=age,
            stalled_s=stalled_s,
            stalled_max_s=stalled_max_s,
        )
        return make_document(rank, health=health, **changes)

    return make


def test_measurement_without_fault_is_valid(make_point, make_document):
    """Nothing is said against a rank that did what was asked."""
    assert judge(merge(make_point(), [make_document()]), {}) == ("valid", (), ())


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_provoked(code, make_point, build, codes_of):
    """Each check speaks for its own cause, alone, with its own verdict."""
    point, ranks, limits, verdict = PROVOKED[code]
    documents = [build(rank, changes) for rank, changes in enumerate(ranks)]
    found = codes_of(make_point(**point), documents, limits)
    assert found[code] == verdict
    followers = {"nothing_succeeded": {"rate_not_achieved", "error_share"}, "replicas_missing": {"rate_not_achieved"}}
    assert set(found) - {code} == followers.get(code, set())


@pytest.mark.parametrize("code", CODES)
def test_reason_says_what_was_found(code, make_point, build):
    """A reason is one sentence without a hole in it; where there is a limit, it is named."""
    point, ranks, limits, _ = PROVOKED[code]
    merged = merge(make_point(**point), [build(rank, changes) for rank, changes in enumerate(ranks)])
    text = {reason.code: reason.text for reason in judge(merged, limits)[1]}[code]
    assert text
    assert "{" not in text
    assert "None" not in text
    check = next(check for check in CHECKS if check.code == code)
    assert not check.limits or re.search(r"(limit|allowed) [\d.]+ ?(%|ms|µs|s)", text), text


@pytest.mark.parametrize(
    ("key", "code", "changes"),
    [
        ("window_short", "window_short", {"seconds": 9.7}),
        ("error_share", "error_share", {"counts": Counts(ok=9880, error=120)}),
        ("rate_not_achieved", "rate_not_achieved", {"achieved_per_s": 970.0}),
        ("lateness_floor_s", "lateness", {"lateness_us": 1500.0}),
        ("lateness", "lateness", {"lateness_us": 1500.0}),
        ("client_bound", "client_bound", {"cpu_share": [0.95]}),
        ("totals_mismatch", "totals_mismatch", {"server_before": {"operations": 0}, "server_after": {"operations": 10300}}),
    ],
)
def test_limit_can_be_raised(key, code, changes, make_point, build, codes_of):
    """A limit of the recipe stands in for the default; found at the limit is still allowed."""
    documents = [build(0, changes)]
    assert code in codes_of(make_point(), documents)
    high = {"lateness": 100.0, "client_bound": 0.95}.get(key, 0.05)
    assert code not in codes_of(make_point(), documents, {key: high})


def test_windows_apart_can_be_raised(make_point, make_document, codes_of):
    """The limit for windows of replicas that do not agree is a limit like the others."""
    documents = [make_document(0), make_document(1, start_s=1.5)]
    assert "windows_apart" not in codes_of(make_point(ranks=2, offered_per_s=2000.0), documents, {"windows_apart": 0.2})


def test_unknown_limit_is_refused(make_point, make_document):
    """A limit that no check knows would be silently without effect."""
    with pytest.raises(KeyError, match="error_rate"):
        judge(merge(make_point(), [make_document()]), {"error_rate": 0.1})


def test_late_far_beyond_is_invalid(make_point, build, codes_of):
    """Beyond both the invalid floor and a fifth of the median, lateness is no longer a blemish."""
    assert codes_of(make_point(), [build(0, {"lateness_us": 5000.0})])["lateness"] == "invalid"


@pytest.mark.parametrize(
    ("late", "count", "verdict"), [(1, 80, None), (9, 80, "invalid"), (1, 20, "invalid"), (6, 700, None), (8, 700, "invalid")]
)
def test_a_late_request_or_two_among_few_are_chance(late, count, verdict, make_point, make_document, make_histogram, codes_of):
    """Of 80 requests p99 is the latest: p90 is judged. Of 700 p99 is. Of 20 nobody can say, and the latest counts."""
    times = Histogram.from_json(make_histogram([20.0], count - late))
    times.add(Histogram.from_json(make_histogram([9000.0], late)))
    health = Health(cpu_share=[0.4], lateness=times.to_json(), stalled_s=0.0, stalled_max_s=0.0)
    found = codes_of(make_point(), [make_document(health=health)])
    assert found == ({"lateness": verdict} if verdict else {})


def test_answers_that_lay_in_the_kernel_for_long_are_no_numbers(make_point, build, codes_of):
    """In closed loop too, where nothing can be late: 13 ms beside a median of 100 us are the generator's."""
    point = make_point(offered_per_s=None, process="closed")
    assert codes_of(point, [build(0, {"age_us": 13_000.0, "process": "closed"})]) == {"observation_age": "invalid"}


def test_what_the_generator_adds_is_judged_by_the_first_answer_too(make_point, build, make_histogram, codes_of):
    """A stream of seconds forgives nothing when its first token comes after 20 ms."""
    slow = {"all": {"send": make_histogram([5e6], 10_000), "schedule": make_histogram([5e6], 10_000)}}
    first = {"ttft": {"unit": "us", "histogram": make_histogram([20_000.0], 10_000)}}
    document = build(0, {"age_us": 3500.0, "latency": slow})
    assert codes_of(make_point(), [document]) == {}
    document = build(0, {"age_us": 3500.0, "latency": slow, "distributions": first})
    assert codes_of(make_point(), [document]) == {"observation_age": "degraded"}


def test_tokens_must_agree_with_the_server(make_point, build, codes_of):
    """As operations must; a total that only one side knows is compared with nothing."""
    counters = {"server_before": {"output_tokens": 100.0}, "server_after": {"output_tokens": 1150.0}}
    assert codes_of(make_point(), [build(0, {"totals": {"output_tokens": 1045.0, "prompt_tokens": 7.0}, **counters})]) == {}
    assert codes_of(make_point(), [build(0, {"totals": {"output_tokens": 1000.0}, **counters})]) == {
        "totals_mismatch": "degraded"
    }


def test_lateness_is_judged_by_the_median_latency(make_point, build, make_histogram, codes_of):
    """A slow server forgives a late generator: 1.5 ms are nothing beside a median of 100 ms."""
    slow = {"all": {"send": make_histogram([100_000.0], 10_000), "schedule": make_histogram([101_000.0], 10_000)}}
    assert codes_of(make_point(), [build(0, {"lateness_us": 1500.0, "latency": slow})]) == {}


def test_busy_generator_in_closed_loop_is_degraded(make_point, build, codes_of):
    """In closed loop a busy generator still measured something, so the verdict is milder."""
    point = make_point(offered_per_s=None, process="closed")
    assert codes_of(point, [build(0, {"cpu_share": [1.0], "process": "closed"})]) == {"client_bound": "degraded"}


@pytest.mark.parametrize(
    ("stalled", "median_us", "verdict"),
    [
        ((0.1, 0.05), 100.0, None),
        ((0.11, 0.05), 100.0, "degraded"),
        ((0.51, 0.05), 100.0, "invalid"),
        ((0.1, 0.1), 100.0, None),
        ((0.1, 0.101), 100.0, "degraded"),
        ((0.1, 0.101), 110_000.0, None),
        ((None, None), 100.0, None),
    ],
)
def test_stalled_generator_is_judged_by_its_share_and_in_one_piece(
    stalled, median_us, verdict, make_point, build, make_histogram, codes_of
):
    """Of a window of 10 s; a request that takes as long anyway does not show one stall."""
    point = make_point(offered_per_s=None, process="closed")
    latency = {"all": {"send": make_histogram([median_us], 10_000), "schedule": None}}
    found = codes_of(point, [build(0, {"stalled": stalled, "process": "closed", "latency": latency})])
    assert found == ({"generator_stalled": verdict} if verdict else {})


def test_worst_replica_stalls_for_all(make_point, build):
    """A share and a stall are never averaged; one that does not tell makes both unknown."""
    point = make_point(ranks=2, offered_per_s=2000.0)
    merged = merge(point, [build(0, {"stalled": (0.2, 0.02)}), build(1, {"stalled": (0.1, 0.08)})]).measurement
    assert merged.health["stalled_share_max"] == pytest.approx(0.02)
    assert merged.health["stalled_max_s"] == 0.08
    merged = merge(point, [build(0, {"stalled": (0.2, 0.02)}), build(1, {"stalled": (None, None)})]).measurement
    assert merged.health["stalled_share_max"] is None
    assert merged.absent["health.stalled_share_max"] == "the generator does not report it"


@pytest.mark.parametrize("shares", [[], [None], [0.2, None]])
def test_unknown_cpu_is_unchecked(shares, make_point, build):
    """A generator that does not know its CPU may have been what was measured."""
    verdict, reasons, unchecked = judge(merge(make_point(), [build(0, {"cpu_share": shares})]), {})
    assert (verdict, unchecked) == ("degraded", ("client_bound",))
    assert "client_bound" in reasons[0].text


def test_tool_that_cannot_tell_lateness_is_unchecked(make_point, make_document):
    """An open loop without a record of its lateness is at best degraded."""
    document = make_document(health=Health(cpu_share=[0.1]))
    assert judge(merge(make_point(), [document]), {})[2] == ("lateness",)


def test_unknown_unchecked_code_is_left_out(make_point, make_document, codes_of):
    """A node module's slip of the pen is no check."""
    assert codes_of(make_point(), [make_document(unchecked=["moon_phase"])]) == {}


def test_poisson_arrivals_may_vary_by_chance(make_point, make_document, codes_of):
    """850 arrivals where 1000 were expected are chance if all of them ended well, and not if 3 % of them did not."""
    point = make_point(offered_per_s=100.0, process="poisson")
    changes = {"process": "poisson", "rate": 100}
    well = make_document(achieved_per_s=85.0, counts=Counts(ok=850), **changes)
    assert codes_of(point, [well]) == {}
    late = make_document(achieved_per_s=82.4, counts=Counts(ok=850), **changes)
    assert codes_of(point, [late]) == {"rate_not_achieved": "invalid"}


@pytest.mark.parametrize("skew_s", [0.0, 0.04, 0.09, 0.11, 0.3])
@pytest.mark.parametrize("process", ["poisson", "constant"])
def test_replicas_that_begin_apart_have_achieved_what_was_due(skew_s, process, make_point, make_document, codes_of):
    """What was due is counted per second of the same window as what was achieved, not of the shorter one of all."""
    point = make_point(ranks=2, offered_per_s=1000.0, process=process)
    changes = {"seconds": 5.0, "rate": 500, "window_asked_s": 5.0, "process": process}
    documents = [make_document(rank, start_s=rank * skew_s, **changes) for rank in range(2)]
    assert codes_of(point, documents) == {}


def test_what_was_due_is_of_the_seconds_that_count(make_point, make_document, codes_of):
    """The second that lies outside of the intersection was a busy one, by chance: that makes the others no worse."""
    point = make_point(ranks=2, offered_per_s=1000.0, process="poisson")
    changes = {"seconds": 5.0, "rate": 500, "window_asked_s": 5.0, "process": "poisson"}
    documents = [make_document(rank, start_s=rank * 0.2, **changes) for rank in range(2)]
    for document, busy in zip(documents, (0, 4), strict=True):
        for part in document["slices"]:
            part["ok"] = 600 if part["second"] == busy else 475
    assert codes_of(point, documents) == {}


@pytest.mark.parametrize("where", ["slices", "counts"])
def test_what_replicas_that_begin_apart_never_sent_counts_against_them(where, make_point, make_document, codes_of):
    """Whether it is told by the second or of the whole window alone, as tools do."""
    point = make_point(ranks=2, offered_per_s=1000.0, process="poisson")
    changes = {"seconds": 5.0, "rate": 500, "window_asked_s": 5.0, "process": "poisson"}
    changes |= {"counts": Counts(ok=2400, skipped=100), "achieved_per_s": 480.0}
    documents = [make_document(rank, start_s=rank * 0.2, **changes) for rank in range(2)]
    for document in documents:
        for part in document["slices"]:
            part.update({"ok": 480, "skipped": 20} if where == "slices" else {"ok": 480})
    assert codes_of(point, documents) == {"rate_not_achieved": "invalid"}


@pytest.mark.parametrize(
    ("told", "changes", "verdict"),
    [
        (9510, {}, None),
        (9490, {}, "invalid"),
        (5000, {}, "invalid"),
        (5000, {"absent": {"counts.skipped": "it ends where its trace does"}}, None),
        (5000, {"process": "gamma"}, None),
        (10_600, {}, None),
    ],
)
def test_a_tool_that_does_not_tell_of_its_backlog_is_caught(told, changes, verdict, make_point, make_document, codes_of):
    """All that it sent went well, and it was fewer than chance makes of 10,000: five standard deviations are 500."""
    changes = {"process": "poisson", **changes}
    document = make_document(counts=Counts(ok=told), achieved_per_s=told / 10, **changes)
    point = make_point(process=changes["process"])
    assert codes_of(point, [document]) == ({"rate_not_achieved": verdict} if verdict else {})


def test_a_shortfall_within_the_limit_is_no_backlog(make_point, make_document, codes_of):
    """Of a million even 1 % is no chance, and it is allowed."""
    point = make_point(process="poisson", offered_per_s=100_000.0)
    changes = {"process": "poisson", "rate": 100_000, "slices": []}
    assert codes_of(point, [make_document(counts=Counts(ok=985_000), achieved_per_s=98_500.0, **changes)]) == {}
    document = make_document(counts=Counts(ok=975_000), achieved_per_s=97_500.0, **changes)
    assert codes_of(point, [document]) == {"rate_not_achieved": "invalid"}


def test_a_sample_varies_as_what_it_was_taken_from_does_not(make_point, make_document, make_histogram, codes_of):
    """100 of 10,000 were written down: what is reckoned from them may be off by half."""
    clocks = {"send": make_histogram([100.0], 80), "schedule": make_histogram([100.0], 80)}
    changes = {"process": "poisson", "latency": {"all": clocks}, "achieved_per_s": 800.0}
    assert codes_of(make_point(process="poisson"), [make_document(counts=Counts(ok=8000), **changes)]) == {}


def test_nothing_measured_leaves_other_checks_silent(make_point, make_document, codes_of):
    """Where there is no number, only causes are told: a dead service and a tool that failed."""
    document = make_document(status="failed", reason="gave up", services=DEAD, tool={"name": "memtier", "exit_code": 2})
    assert set(codes_of(make_point(), [document])) == {"no_measurement", "service_died", "tool_failed"}


@pytest.mark.parametrize(
    "tool", [{"name": "x", "exit_code": 0, "signal": 9}, {"name": "x", "exit_code": -15}, {"name": "x", "timed_out": True}]
)
def test_every_bad_end_of_a_tool_is_seen(tool, make_point, make_document, codes_of):
    """A signal and a spent budget are failures as an exit code is."""
    assert "tool_failed" in codes_of(make_point(), [make_document(tool=tool)])


def test_tool_that_ends_well_and_measured_nothing_is_invalid(make_point, make_document, codes_of):
    """Exit code 0 proves nothing: memtier gives it without a server."""
    document = make_document(tool={"name": "memtier", "exit_code": 0}, counts=Counts(), latency={}, achieved_per_s=0.0)
    assert codes_of(make_point(), [document])["nothing_succeeded"] == "invalid"


def test_totals_over_all_clients_agree(make_point, make_document):
    """The server counts what both clients sent; neither alone would agree."""
    points = [make_point(), make_point(client="other", token="afb-run-other-0")]
    counters = {"server_before": {"operations": 100}, "server_after": {"operations": 20_100}}
    documents = {"load": [make_document(**counters)], "other": [make_document(client="other", **counters)]}
    assert [judge(one, {})[0] for one in merge_point(points, documents)] == ["valid", "valid"]
    del documents["other"]
    assert [reason.code for reason in judge(merge_point(points, documents)[0], {})[1]] == ["totals_mismatch"]


def test_the_node_judges_by_the_same_numbers():
    """As quantiles are marked by, which the node does not compute."""
    assert (samples_needed(0.9), samples_needed(0.99)) == (trust._ENOUGH_FOR_P90, trust._ENOUGH_FOR_P99)
    assert [trust.judged_percent(count) for count in (0, 63, 64, 661, 662)] == [99, 99, 90, 90, 99]


def test_worst_of_verdicts():
    """Invalid beats degraded beats valid."""
    assert worst(["valid", "degraded"]) == "degraded"
    assert worst(["invalid", "degraded"]) == "invalid"
    assert worst([]) == "valid"


def test_every_code_is_documented_and_no_other():
    """Each code has its heading with its limits and defaults, and each heading below `The checks` has its code."""
    text = DOCUMENT.read_text(encoding="utf-8").split("## The checks", 1)[1].split("\n## ", 1)[0]
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    headings = [section.split("\n", 1)[0].strip("` ") for section in sections]
    assert headings == list(CODES)
    for check, section in zip(CHECKS, sections, strict=True):
        for key, default in check.limits.items():
            shown = f"{default * 1000:g}ms" if key.endswith("_s") else f"{default * 100:g}%"
            assert f"`{key}: {shown}`" in section, (check.code, key)
        for verdict in check.verdicts:
            assert verdict in section, (check.code, verdict)


def test_limits_are_those_of_the_checks():
    """A recipe's `limits:` may name exactly these."""
    assert set(LIMITS) == {
        *("window_short", "windows_apart", "error_share", "rate_not_achieved", "client_bound", "totals_mismatch"),
        *("lateness", "lateness_floor_s", "lateness_invalid", "lateness_invalid_floor_s"),
        *("observation_age", "observation_age_floor_s", "observation_age_invalid", "observation_age_invalid_floor_s"),
        *("generator_stalled", "generator_stalled_max_s", "generator_stalled_invalid"),
        *("server_disagrees", "server_disagrees_floor_s", "input_length", "output_length"),
    }
