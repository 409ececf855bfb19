"""Metrics agree with a slow and obvious reading of their definitions, tokens are neither lost nor made, and parts add up."""

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.load.histogram import Histogram, bucket_of
from aifactory_bench.node.load.own import add_results
from aifactory_bench.node.measurement import Counts, Measurement
from aifactory_bench_services.llm_answer_node import Answer
from aifactory_bench_services.llm_records_node import Records, spread

START = 10**15
SECOND = 10**9
MS = 10**6
DISTRIBUTIONS = (
    *("ttft", "ttfo", "ttft_schedule", "header", "chunk_gap", "itl", "tpot", "stall"),
    *("e2e", "e2e_schedule", "e2e_body", "output_tokens", "prompt_tokens", "ttft_failed"),
)


def tokens_of(answer: Answer) -> list[int]:
    """Return how many tokens each chunk has."""
    chunks = len(answer.chunk_ns)
    if answer.chunk_tokens is not None:
        return list(answer.chunk_tokens)
    tokens = chunks if answer.output_tokens is None else answer.output_tokens
    if tokens in (chunks, chunks + 1):
        return [1] * chunks
    given, result = 0, []
    for number in range(chunks):
        upto = int(Fraction(tokens * (number + 1), chunks))
        result.append(upto - given)
        given = upto
    return result


def output_of(answer: Answer) -> int:
    """Return the tokens of an answer."""
    return max(answer.output_tokens or 0, sum(tokens_of(answer)))


class Reference:
    """What is to come out, computed one value at a time."""

    def __init__(
        self, answers: Sequence[Answer], start: int, end: int, *, is_open: bool = False, slo: dict[str, float] | None = None
    ) -> None:
        self.start, self.end = start, end
        self.values: dict[str, list[int]] = {}
        seconds = -(-(end - start) // SECOND)
        self.output = [0] * seconds
        self.prompt = [0] * seconds
        self.busy = [0] * seconds
        self.counts: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        for answer in answers:
            self._answer(answer, is_open, slo or {})

    def _keep(self, name: str, value: int) -> None:
        self.values.setdefault(name, []).append(value)

    def _at(self, series: list[int], moment: int, tokens: int) -> None:
        if self.start <= moment < self.end:
            series[(moment - self.start) // SECOND] += tokens

    def _answer(self, answer: Answer, is_open: bool, slo: dict[str, float]) -> None:
        for second in range(len(self.busy)):
            begin = self.start + second * SECOND
            end = min(begin + SECOND, self.end)
            self.busy[second] += max(0, min(answer.end_ns, end) - max(answer.sent_ns, begin))
        in_window = self.start <= answer.due_ns < self.end
        self.counts["requests"] += in_window
        tokens, stamps = tokens_of(answer), answer.chunk_ns
        self.totals["output_tokens"] += output_of(answer)
        self.totals["prompt_tokens"] += answer.prompt_tokens or 0
        if answer.first_ns is not None:
            self.totals["ttft_ns"] += answer.first_ns - answer.sent_ns
            self.totals["ttft_count"] += 1
        if answer.error:
            if in_window:
                self.counts["failed_tokens"] += output_of(answer)
                if answer.first_ns is not None:
                    self._keep("ttft_failed", answer.first_ns - answer.sent_ns)
            return
        for moment, count in zip(stamps, tokens, strict=True):
            self._at(self.output, moment, count)
        ended = answer.end_ns if answer.last_ns is None else answer.last_ns
        self._at(self.output, ended, output_of(answer) - sum(tokens))
        self._at(self.prompt, answer.end_ns if answer.first_ns is None else answer.first_ns, answer.prompt_tokens or 0)
        if in_window:
            self._good(answer, tokens, is_open, slo)

    def _gaps(self, gaps: list[int], tokens: list[int]) -> None:
        before = 0
        for gap, count in zip(gaps, tokens, strict=True):
            self._keep("chunk_gap", gap)
            before += gap
            for _ in range(count):
                self._keep("itl", before // count)
            before = 0 if count else before

    def _good(self, answer: Answer, tokens: list[int], is_open: bool, slo: dict[str, float]) -> None:
        sent, stamps, own = answer.sent_ns, answer.chunk_ns, {}
        for name, moment in (
            ("header", answer.header_ns),
            ("ttft", answer.first_ns),
            ("ttfo", answer.first_output_ns),
            ("e2e", answer.last_ns),
            ("e2e_body", answer.end_ns),
        ):
            if moment is not None:
                own[name] = moment - sent
        if is_open and answer.first_ns is not None:
            own["ttft_schedule"] = answer.first_ns - answer.due_ns
            own["e2e_schedule"] = answer.last_ns - answer.due_ns
        gaps = [later - earlier for earlier, later in pairwise(stamps)]
        self._gaps(gaps, tokens[1:])
        output = output_of(answer)
        first = tokens[0] if tokens and answer.token_source == "chunk_usage" else 1
        if len(stamps) > 1 and output > first:
            own["tpot"] = (answer.last_ns - answer.first_ns) // (output - first)
        if gaps:
            own["stall"] = max(gaps)
            positive = [gap for gap in gaps if gap]
            limit = max(10 * median(positive) if positive else 0, round(slo.get("stall", slo.get("tpot", 0)) * 1e9))
            self.counts["stalls"] += sum(gap > limit for gap in gaps)
        for name, value in own.items():
            self._keep(name, value)
        if answer.output_tokens is not None or stamps:
            self._keep("output_tokens", output)
        self.counts["output_tokens"] += output
        self.counts["chunks"] += len(stamps)
        if answer.prompt_tokens is not None:
            self._keep("prompt_tokens", answer.prompt_tokens)
            self.counts["prompt_tokens"] += answer.prompt_tokens
            if answer.prompt_asked is not None:
                self.counts["prompt_asked"] += answer.prompt_asked
                self.counts["prompt_made"] += answer.prompt_tokens
            if answer.cached_tokens is not None:
                self.counts["cached_of"] += answer.prompt_tokens
                self.counts["cached"] += answer.cached_tokens
        late = answer.sent_ns - answer.due_ns
        judged = {
            "ttft": own["ttft"] + late if "ttft" in own else None,
            "ttfo": own["ttfo"] + late if "ttfo" in own else None,
            "e2e": own.get("e2e", own["e2e_body"]) + late,
            "tpot": own.get("tpot", 0),
            "stall": own.get("stall", 0),
        }
        if all(judged[name] is not None and judged[name] <= round(limit * 1e9) for name, limit in slo.items()):
            self.counts["met"] += 1
            self.counts["met_tokens"] += output

    def buckets(self, name: str) -> Counter[int]:
        """Return a distribution as counts of the histogram's buckets."""
        return Counter(map(bucket_of, self.values.get(name, [])))


def buckets_of(entry: dict[str, Any]) -> Counter[int]:
    """Return the counts of a histogram in JSON."""
    return Counter(Histogram.from_json(entry["histogram"])._buckets)


@st.composite
def answers(draw: Callable[..., Any], start: int, end: int, *, is_open: bool) -> Answer:
    """Anything that a server may do: failed, bundled, reasoning first, without tokens, before, in and after the window."""
    due = draw(st.one_of(st.integers(start, end - 1), st.integers(start - 2 * SECOND, end + SECOND)))
    sent = due + (draw(st.integers(0, SECOND)) if is_open else 0)
    gap = st.sampled_from([0, 1000, 20 * MS]) | st.integers(0, SECOND)
    gaps = draw(st.lists(gap, max_size=8))
    answer = Answer(sent, due)
    answer.chunk_ns = list(accumulate(gaps, initial=sent + draw(st.integers(0, 100 * MS) | st.integers(0, SECOND))))
    answer.first_ns, answer.last_ns = answer.chunk_ns[0], answer.chunk_ns[-1]
    answer.header_ns = draw(st.integers(sent, answer.first_ns))
    chunks = len(answer.chunk_ns)
    answer.end_ns = answer.last_ns + draw(st.integers(0, MS))
    answer.first_output_ns = draw(st.sampled_from([None, *answer.chunk_ns]))
    answer.prompt_tokens = draw(st.none() | st.integers(0, 9999))
    answer.prompt_asked = draw(st.none() | st.integers(1, 9999))
    answer.cached_tokens = None if answer.prompt_tokens is None else draw(st.none() | st.integers(0, answer.prompt_tokens))
    source = draw(st.sampled_from(["usage", "chunk_usage", "chunks", "none", "silent"]))
    if source == "usage":
        answer.output_tokens = draw(st.integers(0, 5 * chunks))
    elif source == "chunk_usage":
        answer.chunk_tokens = draw(st.lists(st.sampled_from([0, 0, 1, 4]), min_size=chunks, max_size=chunks))
        answer.output_tokens = sum(answer.chunk_tokens) + draw(st.integers(0, 1))
    elif source == "silent":  # an answer without a single chunk of content
        answer.chunk_ns = []
        answer.first_ns = answer.first_output_ns = answer.last_ns = None
        answer.output_tokens = draw(st.none() | st.integers(0, 3))
        source = "none" if answer.output_tokens is None else "usage"
    else:
        answer.output_tokens = None
    answer.token_source = source
    if draw(st.integers(0, 4)) == 0:
        answer.error = draw(st.sampled_from(["http:503", "eof", "stream:error"]))
    return answer


@st.composite
def loads(draw: Callable[..., Any]) -> tuple[int, bool, dict[str, float], list[Answer]]:
    """The window's length, whether there is a schedule, SLOs, and what came."""
    length = draw(st.sampled_from([SECOND, 2500 * MS, 4 * SECOND]) | st.integers(1, 4 * SECOND))
    is_open = draw(st.booleans())
    names = st.sampled_from(["ttft", "ttfo", "tpot", "stall", "e2e"])
    slo = draw(st.dictionaries(names, st.sampled_from([0.0005, 0.02, 0.5, 2.0]), max_size=3))
    some = draw(st.lists(answers(START, START + length, is_open=is_open), max_size=12))
    return length, is_open, slo, some


def records_of(some: list[Answer], length: int, **options: Any) -> Records:
    records = Records(START, START + length, **options)
    for answer in some:
        records.add(answer)
    return records


@settings(max_examples=60, deadline=None)
@given(load=loads(), keep=st.sampled_from([10**9, 20, 1]))
def test_metrics_are_what_their_definitions_say(load: tuple[int, bool, dict[str, float], list[Answer]], keep: int) -> None:
    length, is_open, slo, some = load
    found = records_of(some, length, is_open=is_open, slo=slo, keep_chunks=keep).results(START + length)
    right = Reference(some, START, START + length, is_open=is_open, slo=slo)
    for name in DISTRIBUTIONS:
        entry = found["distributions"].get(name)
        assert (buckets_of(entry) if entry else {}) == right.buckets(name), name
        if entry:
            histogram = Histogram.from_json(entry["histogram"])
            values = right.values[name]
            assert (histogram.sum_ns, histogram.min_ns, histogram.max_ns) == (sum(values), min(values), max(values)), name
            assert entry["unit"] == ("token" if name.endswith("_tokens") else "us")
    sums, counts = found["sums"], right.counts
    assert sums["output_tokens"]["per_second"] == right.output
    assert sums["prompt_tokens"]["per_second"] == right.prompt
    assert sums["total_tokens"]["per_second"] == [one + other for one, other in zip(right.output, right.prompt, strict=True)]
    whole = [min(SECOND, length - second * SECOND) for second in range(len(right.busy))]
    busy = [one / other for one, other in zip(right.busy, whole, strict=True)]
    assert sums["in_flight"]["per_second"] == pytest.approx(busy)
    metrics = found["metrics"]
    assert metrics["output_tokens"]["value"] == counts["output_tokens"]
    assert metrics["prompt_tokens"]["value"] == counts["prompt_tokens"]
    asked = metrics.get("prompt_tokens_by_asked", {"numerator": 0, "denominator": 0})
    assert (asked["numerator"], asked["denominator"]) == (counts["prompt_made"], counts["prompt_asked"])
    assert metrics.get("failed_output_tokens", {"value": 0})["value"] == counts["failed_tokens"]
    assert metrics["stalls"]["value"] == counts["stalls"]
    assert metrics["chunks"]["value"] == counts["chunks"]
    if counts["cached_of"]:
        assert metrics["cached_share"]["value"] == counts["cached"] / counts["cached_of"]
    if slo:
        assert (metrics["slo_attainment"]["numerator"], metrics["slo_attainment"]["denominator"]) == (
            counts["met"],
            counts["requests"],
        )
        assert metrics["goodput"]["value"] == pytest.approx(counts["met"] / (length / 1e9))
        assert metrics["token_goodput"]["value"] == pytest.approx(counts["met_tokens"] / (length / 1e9))
    else:
        assert not {"slo_attainment", "goodput", "token_goodput"} & set(metrics)
    totals = found["totals"]
    assert totals.get("output_tokens", 0) == right.totals["output_tokens"]
    assert totals.get("prompt_tokens", 0) == right.totals["prompt_tokens"]
    assert totals.get("ttft_count", 0) == right.totals["ttft_count"]
    assert totals.get("ttft_s", 0) == pytest.approx(right.totals["ttft_ns"] / 1e9)


@settings(max_examples=30, deadline=None)
@given(load=loads())
def test_tokens_are_neither_lost_nor_made(load: tuple[int, bool, dict[str, float], list[Answer]]) -> None:
    length, is_open, _, some = load
    found = records_of(some, length, is_open=is_open).results(START + length)
    end = START + length
    with_stamps = sum(
        count
        for answer in some
        if not answer.error
        for moment, count in zip(answer.chunk_ns, tokens_of(answer), strict=True)
        if START <= moment < end
    )
    without = sum(
        output_of(answer) - sum(tokens_of(answer))
        for answer in some
        if not answer.error and START <= (answer.end_ns if answer.last_ns is None else answer.last_ns) < end
    )
    assert sum(found["sums"]["output_tokens"]["per_second"]) == with_stamps + without
    by_source = [metric["value"] for name, metric in found["metrics"].items() if name.startswith("tokens_by_")]
    assert sum(by_source) == found["metrics"]["output_tokens"]["value"]
    flights = sum(max(0, min(answer.end_ns, end) - max(answer.sent_ns, START)) for answer in some)
    whole = [min(SECOND, length - second * SECOND) for second in range(-(-length // SECOND))]
    mean = found["sums"]["in_flight"]["per_second"]
    assert sum(one * other for one, other in zip(mean, whole, strict=True)) == pytest.approx(flights)


@given(tokens=st.integers(0, 500), chunks=st.integers(1, 100))
def test_tokens_spread_over_chunks_are_all_of_them_and_even(tokens: int, chunks: int) -> None:
    counts = spread(tokens, chunks)
    assert len(counts) == chunks
    assert max(counts) - min(counts) <= 1
    # The one token more than chunks has no text and is in none of them.
    assert sum(counts) == (chunks if tokens == chunks + 1 else tokens)


@settings(max_examples=30, deadline=None)
@given(load=loads(), parts=st.integers(2, 4), data=st.data())
def test_parts_together_are_what_one_would_have_been(
    load: tuple[int, bool, dict[str, float], list[Answer]], parts: int, data: st.DataObject
) -> None:
    length, is_open, slo, some = load
    options = {"is_open": is_open, "slo": slo}
    whole = _measurement(records_of(some, length, **options))
    owners = [data.draw(st.integers(0, parts - 1)) for _ in some]
    each = [
        records_of([answer for answer, owner in zip(some, owners, strict=True) if owner == part], length, **options)
        for part in range(parts)
    ]
    split = _measurement(*each)
    assert split.distributions.keys() == whole.distributions.keys()
    for name, entry in whole.distributions.items():
        assert Histogram.from_json(split.distributions[name]["histogram"]) == Histogram.from_json(entry["histogram"]), name
    for name, entry in whole.sums.items():
        assert split.sums[name]["per_second"] == pytest.approx(entry["per_second"]), name
    assert split.metrics.keys() == whole.metrics.keys()
    for name, metric in whole.metrics.items():
        assert split.metrics[name]["value"] == pytest.approx(metric["value"]), name
    assert split.totals == pytest.approx(whole.totals)


def _measurement(*records: Records) -> Measurement:
    measurement = Measurement(point="p0000-r1", client="load", kind="openai-load", rank=0, status="ok", counts=Counts(ok=99))
    ends = [one._end_ns for one in records]
    add_results(measurement, [one.results(end) for one, end in zip(records, ends, strict=True)])
    return measurement


@settings(max_examples=25, deadline=None)
@given(load=loads())
def test_the_file_holds_every_request_as_it_was(
    load: tuple[int, bool, dict[str, float], list[Answer]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    length, is_open, _, some = load
    records = records_of(some, length, is_open=is_open)
    records.results(START + length)
    path = records.write(tmp_path_factory.mktemp("records"), 3)
    assert path.name == "requests-3.npz"
    with np.load(path, allow_pickle=False) as found:
        assert found["scheduled_ns"].tolist() == [answer.due_ns for answer in some]
        assert found["sent_ns"].tolist() == [answer.sent_ns for answer in some]
        assert found["end_ns"].tolist() == [answer.end_ns for answer in some]
        for name in ("header_ns", "first_ns", "first_output_ns", "last_ns", "prompt_tokens", "cached_tokens"):
            expected = [getattr(answer, name) for answer in some]
            assert found[name].tolist() == [-1 if one is None else one for one in expected], name
        assert [name.decode() for name in found["error_names"][found["error"]]] == [answer.error for answer in some]
        end = START + length
        phases = [0 if answer.due_ns < START else 1 if answer.due_ns < end else 2 for answer in some]
        assert found["phase"].tolist() == phases
        assert found["window_ns"].tolist() == [START, end]
        offset = found["chunk_offset"]
        for number, answer in enumerate(some):
            own = slice(offset[number], offset[number + 1])
            assert found["chunk_ns"][own].tolist() == answer.chunk_ns
            assert found["chunk_tokens"][own].tolist() == tokens_of(answer)
        assert found["chunks"].tolist() == [len(answer.chunk_ns) for answer in some]
        (wall_0, mono_0), (wall_1, mono_1) = found["anchor"].tolist()
        assert 0 <= wall_1 - wall_0 < 60 * SECOND
        assert abs((wall_1 - wall_0) - (mono_1 - mono_0)) < 50 * MS
