"""What the definitions mean on streams whose figures are plain, and what the file of records holds."""

from copy import copy
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import llm_records_node
from aifactory_bench_services.llm_answer_node import Answer
from aifactory_bench_services.llm_records_node import Records

START = 10**15
SECOND = 10**9
MS = 10**6


def stream(
    sent: int = START, first: int = 100 * MS, gaps: tuple[int, ...] = (20 * MS,) * 4, due: int | None = None, **fields: Any
) -> Answer:
    """An answer that ended well: one token a chunk, the body's end 1 ms behind the last."""
    answer = Answer(sent, sent if due is None else due)
    answer.chunk_ns = list(accumulate(gaps, initial=sent + first))
    answer.status = 200
    answer.header_ns = sent + first // 2
    answer.first_ns = answer.first_output_ns = answer.chunk_ns[0]
    answer.last_ns = answer.chunk_ns[-1]
    answer.end_ns = answer.last_ns + MS
    answer.prompt_tokens = 10
    answer.output_tokens = len(answer.chunk_ns)
    answer.token_source = "usage"
    for name, value in fields.items():
        setattr(answer, name, value)
    return answer


def records_of(some: list[Answer], length: int, **options: Any) -> Records:
    records = Records(START, START + length, **options)
    for answer in some:
        records.add(answer)
    return records


def value(found: dict[str, Any], name: str) -> float | None:
    """The median in ms."""
    median_us = Histogram.from_json(found["distributions"][name]["histogram"]).percentile_us(50)
    return None if median_us is None else round(median_us / 1000, 1)


def test_four_tokens_a_chunk_are_a_quarter_of_the_gap_each() -> None:
    """What tools that count chunks overstate by the factor of four."""
    answer = stream(gaps=(40 * MS,) * 24, output_tokens=100, chunk_tokens=[4] * 25, token_source="chunk_usage")
    found = records_of([answer], SECOND).results(START + SECOND)
    assert (value(found, "chunk_gap"), value(found, "itl"), value(found, "tpot")) == (40.0, 10.0, 10.0)
    assert Histogram.from_json(found["distributions"]["itl"]["histogram"]).count == 96
    assert found["metrics"]["tokens_per_chunk"]["value"] == 4.0


def test_bundled_tokens_of_which_only_the_sum_is_known() -> None:
    answer = stream(gaps=(40 * MS,) * 24, output_tokens=100)
    found = records_of([answer], SECOND).results(START + SECOND)
    assert (value(found, "chunk_gap"), value(found, "itl")) == (40.0, 10.0)
    # The first chunk's tokens are not known to be four, so it is taken for one: 960 ms by 99 in the place of 96.
    assert value(found, "tpot") == pytest.approx(9.7, abs=0.05)


def test_one_chunk_has_no_time_per_token() -> None:
    found = records_of([stream(gaps=(), output_tokens=50)], SECOND).results(START + SECOND)
    assert not {"tpot", "chunk_gap", "itl", "stall"} & set(found["distributions"])


def test_a_stall_is_ten_times_the_median_of_its_stream_and_more_than_the_slo() -> None:
    steady, stalled = (20 * MS,) * 30, (*(20 * MS,) * 15, 201 * MS, *(20 * MS,) * 15)
    assert records_of([stream(gaps=steady)], SECOND).results(START + SECOND)["metrics"]["stalls"]["value"] == 0
    found = records_of([stream(gaps=stalled)], SECOND).results(START + SECOND)
    assert found["metrics"]["stalls"]["value"] == 1
    assert value(found, "stall") == pytest.approx(201, abs=0.5)
    lenient = records_of([stream(gaps=stalled)], SECOND, slo={"stall": 0.25}).results(START + SECOND)
    assert lenient["metrics"]["stalls"]["value"] == 0


def test_chunks_of_one_read_are_no_measure_of_a_stall() -> None:
    """Half of the gaps are 0 as two chunks come with each read; none of the others is a stall."""
    gaps = (0, 20 * MS) * 20
    assert records_of([stream(gaps=gaps)], SECOND).results(START + SECOND)["metrics"]["stalls"]["value"] == 0


def test_waiting_for_a_connection_counts_against_the_slo_in_open_loop() -> None:
    answer = stream(sent=START + 500 * MS, due=START, first=100 * MS)
    found = records_of([answer], SECOND, is_open=True, slo={"ttft": 0.2}).results(START + SECOND)
    assert (value(found, "ttft"), value(found, "ttft_schedule")) == (pytest.approx(100, abs=0.2), pytest.approx(600, abs=1))
    assert found["metrics"]["slo_attainment"]["value"] == 0
    assert found["metrics"]["goodput"]["value"] == 0


def test_a_failed_request_is_a_miss_and_in_no_percentile_but_its_own() -> None:
    broken = stream(error="eof", first=700 * MS, output_tokens=None, prompt_tokens=None, token_source="none")
    found = records_of([stream(), broken], SECOND, slo={"ttft": 1.0}).results(START + SECOND)
    assert found["metrics"]["slo_attainment"]["value"] == 0.5
    assert Histogram.from_json(found["distributions"]["ttft"]["histogram"]).count == 1
    assert value(found, "ttft_failed") == pytest.approx(700, abs=1)
    assert found["metrics"]["failed_output_tokens"]["value"] == 5
    assert sum(found["sums"]["output_tokens"]["per_second"]) == 5


def test_tokens_of_the_warm_up_that_come_in_the_window_are_output_of_the_window() -> None:
    before = stream(sent=START - 100 * MS, first=90 * MS, gaps=(20 * MS,) * 9)
    found = records_of([before], SECOND).results(START + SECOND)
    assert sum(found["sums"]["output_tokens"]["per_second"]) == 9
    assert found["metrics"]["output_tokens"]["value"] == 0
    assert found["totals"]["output_tokens"] == 10
    assert "ttft" not in found["distributions"]


def test_a_window_that_was_cut_ends_there() -> None:
    some = [stream(sent=START + number * 500 * MS) for number in range(4)]
    found = records_of(some, 2 * SECOND, slo={"ttft": 1.0}).results(START + 900 * MS)
    assert found["metrics"]["slo_attainment"]["denominator"] == 2
    assert found["metrics"]["goodput"]["value"] == pytest.approx(2 / 0.9)
    assert len(found["sums"]["in_flight"]["per_second"]) == 1


def test_an_unknown_slo_is_refused() -> None:
    with pytest.raises(ValueError, match="an SLO of 'latency' is not known, known: ttft, ttfo, tpot, stall, e2e"):
        Records(START, START + SECOND, slo={"latency": 1.0})


def test_what_the_truth_server_says_is_compared() -> None:
    answer = stream(gaps=(20 * MS, 25 * MS))
    received = answer.sent_ns + MS
    answer.truth = [
        (received, answer.chunk_ns[0] - 2 * MS),
        (received, answer.chunk_ns[1] - MS),
        (received, answer.chunk_ns[2] - MS),
    ]
    found = records_of([answer, stream()], SECOND).results(START + SECOND)
    assert (value(found, "true_ttft"), value(found, "added_ttft")) == (97.0, 3.0)
    assert Histogram.from_json(found["distributions"]["added_gap"]["histogram"]).max_ns == MS
    assert Histogram.from_json(found["distributions"]["observed_age"]["histogram"]).max_ns == 2 * MS
    assert Histogram.from_json(found["distributions"]["observed_age"]["histogram"]).count == 3


@pytest.mark.parametrize("shift", [-(10**12), 10**12])
def test_the_age_of_observations_is_left_out_where_clocks_are_not_the_same(shift: int) -> None:
    answer = stream()
    answer.truth = [(answer.sent_ns + MS + shift, moment - MS + shift) for moment in answer.chunk_ns]
    found = records_of([answer], SECOND).results(START + SECOND)
    assert "observed_age" not in found["distributions"]
    assert "another host" in found["absent"]["distributions.observed_age"]
    assert value(found, "added_ttft") == 2.0


def test_the_longest_load_of_a_model_counts_although_it_is_before_the_window() -> None:
    cold = stream(sent=START - SECOND, load_ns=3 * SECOND, prompt_eval_ns=5 * MS, eval_ns=80 * MS)
    warm = stream(load_ns=20 * MS, prompt_eval_ns=5 * MS, eval_ns=80 * MS)
    found = records_of([cold, warm], SECOND).results(START + SECOND)
    assert found["metrics"]["cold_start"] == {"value": 3.0, "unit": "s", "merge": "max"}
    assert (value(found, "server_prompt_eval"), value(found, "server_eval")) == (
        pytest.approx(5, abs=0.1),
        pytest.approx(80, abs=0.2),
    )


def test_above_the_bound_stamps_are_dropped_and_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(llm_records_node, "_FOLD_REQUESTS", 3)
    some = [stream(sent=START + number * MS, gaps=(20 * MS,) * 4) for number in range(20)]
    records = records_of(some, SECOND, keep_chunks=12)
    assert len(records.columns.chunk_ns) < 12 + 5 + 3 * 5
    right = records_of([copy(answer) for answer in some], SECOND).results(START + SECOND)
    found = records.results(START + SECOND)
    assert found["metrics"] == right["metrics"]
    assert found["distributions"] == right["distributions"]
    assert records.absent == found["absent"]
    assert "the first 15 chunks" in found["absent"]["chunk_ns"]
    with np.load(records.write(tmp_path, 0), allow_pickle=False) as file:
        assert file["chunks"].tolist() == [5] * 20
        assert np.diff(file["chunk_offset"]).tolist() == [5] * 3 + [0] * 17
        assert len(file["chunk_ns"]) == 15


def test_many_error_classes_share_the_last_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(llm_records_node, "_MOST_ERRORS", 3)
    records = records_of([stream(error=f"reply:{number}") for number in range(5)], SECOND)
    with np.load(records.write(tmp_path, 0), allow_pickle=False) as file:
        assert file["error_names"][file["error"]].tolist() == [b"reply:0", b"reply:1", b"reply:1", b"reply:1", b"reply:1"]


def test_nothing_at_all_is_a_result(tmp_path: Path) -> None:
    records = Records(START, START + SECOND, slo={"ttft": 1.0})
    found = records.results(START + SECOND)
    assert found["metrics"]["slo_attainment"]["denominator"] == 0
    assert found["sums"]["in_flight"]["per_second"] == [0.0]
    assert found["distributions"] == {}
    with np.load(records.write(tmp_path, 0), allow_pickle=False) as file:
        assert len(file["sent_ns"]) == 0
