"""LLM measurements as `vllm bench serve` writes them: the keys that others read, and values that follow from the requests."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from aifactory_bench.cli import main
from aifactory_bench.errors import RunError, UsageError
from aifactory_bench.node.files import write_json
from aifactory_bench.node.load.own import add_results
from aifactory_bench.node.measurement import Counts, Measurement
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import Plan, plan_to_json
from aifactory_bench.report.document import summary_to_json
from aifactory_bench.report.request_records import RecordsError, read_records
from aifactory_bench.report.summary import summarise
from aifactory_bench.report.vllm_dialect import export_vllm_bench
from aifactory_bench.results.model import JobOutcome, RunResult, Summary
from aifactory_bench.runs.collect import documents
from aifactory_bench_services.llm_answer_node import Answer
from aifactory_bench_services.llm_records_node import Records
from aifactory_bench_services.npz_node import write_npz
from aifactory_bench_services.vllm_bench_node import _requests

START = 10**15
SECOND = 10**9
MS = 10**6
WINDOW_S = 4
KEYS = (
    *("date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness"),
    *("max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput"),
    *("request_goodput", "output_throughput", "total_token_throughput", "max_output_tokens_per_s", "max_concurrent_requests"),
    *(f"{what}_{name}_ms" for what in ("mean", "median", "std", "p99") for name in ("ttft", "tpot", "itl", "e2el")),
)
"""Of `vllm bench serve` 0.32, as docs/llm-records.md lists them."""


def _answers(rank: int) -> list[Answer]:
    """Forty requests of a rank; the first ones in the warm-up, the last but one broken off."""
    random = Random(rank)
    answers = []
    for number in range(40):
        sent = START + (number - 5) * 80 * MS + rank * 40 * MS
        answer = Answer(sent, sent - 2 * MS)
        moment = sent + random.randrange(50 * MS, 150 * MS)
        for _ in range(random.randrange(2, 20)):
            answer.chunk_ns.append(moment)
            moment += random.randrange(10 * MS, 30 * MS)
        answer.header_ns = answer.first_ns = answer.first_output_ns = answer.chunk_ns[0]
        answer.last_ns, answer.end_ns, answer.status = answer.chunk_ns[-1], answer.chunk_ns[-1] + MS, 200
        answer.prompt_tokens, answer.output_tokens, answer.token_source = 100 + number, 2 * len(answer.chunk_ns), "usage"
        if number == 38:
            answer.error, answer.prompt_tokens, answer.output_tokens, answer.token_source = "eof", None, None, "none"
        answers.append(answer)
    return answers


class Run:
    """A finished run of two replicas in a folder."""

    def __init__(self, folder: Path, plan: Plan, document: Callable[..., dict[str, Any]]) -> None:
        point = evolve(
            plan.points[0], ranks=2, kind="openai-load", process="poisson", load={"connections": 64, "burstiness": 1.0}
        )
        jobs = tuple(evolve(job, after=()) for job in plan.jobs)
        self.plan = evolve(plan, jobs=jobs, points=(point,), run_folder=str(folder))
        self.paths = RunPaths(folder)
        folder.mkdir(parents=True)
        self.paths.plan.write_text(plan_to_json(self.plan))
        self.paths.recipe.write_text("")
        self.point = point
        for rank in range(2):
            own = self.paths.job(point.token).rank(rank)
            records = Records(START, START + WINDOW_S * SECOND, is_open=True, slo={"ttft": 0.1})
            for answer in _answers(rank):
                records.add(answer)
            window = [answer for answer in _answers(rank) if answer.due_ns >= START]
            counts = Counts(ok=len(window) - 1, error=1)
            measured = Measurement("", "", "", rank, "ok", counts=counts)
            add_results(measured, [records.results(START + WINDOW_S * SECOND)])
            measurement = document(
                point,
                rank,
                count=100,
                seconds=WINDOW_S,
                counts=measured.counts,
                distributions=measured.distributions,
                sums=measured.sums,
                metrics=measured.metrics,
                totals=measured.totals,
                prepare={"model": "tiny"},
            )
            own.measurements.mkdir(parents=True)
            write_json(own.measurement(point.id), measurement)
            own.raw(point.id).mkdir(parents=True)
            records.write(own.raw(point.id), rank)

    def summary(self) -> Summary:
        jobs = tuple(
            JobOutcome(job.name, job.role, job.kind, job.token, "1", "completed", "completed") for job in self.plan.jobs
        )
        found = {f"load/{self.point.id}": documents(self.paths, self.point)}
        return summarise(self.plan, RunResult("r1", "finished", jobs, found, run_folder=str(self.paths.folder)))

    def finish(self) -> Summary:
        summary = self.summary()
        write_json(self.paths.summary, summary_to_json(summary))
        return summary


@pytest.fixture
def run(tmp_path: Path, make_plan: Callable[..., Plan], make_document: Callable[..., dict[str, Any]]) -> Run:
    return Run(tmp_path / "runs" / "r1", make_plan(rates=(500,)), make_document)


@pytest.fixture
def measured() -> list[Answer]:
    """The requests of the window in the order of sending."""
    answers = [answer for rank in range(2) for answer in _answers(rank) if answer.due_ns >= START]
    return sorted(answers, key=lambda answer: answer.sent_ns)


def _ms(values: Sequence[int]) -> np.ndarray:
    return np.array(values) / MS


def test_every_key_that_others_read_is_there(run: Run) -> None:
    (result,) = export_vllm_bench(run.summary())
    assert set(KEYS) <= set(result)
    json.dumps(result, allow_nan=False)
    assert not {"ttfts", "itls", "generated_texts"} & set(result)


def test_figures_follow_from_the_requests(run: Run, measured: list[Answer]) -> None:
    (result,) = export_vllm_bench(run.summary())
    well = [answer for answer in measured if not answer.error]
    assert (result["num_prompts"], result["completed"], result["failed"]) == (len(measured), len(well), 2) == (69, 67, 2)
    assert result["duration"] == WINDOW_S
    assert result["request_throughput"] == len(well) / WINDOW_S
    assert result["total_input_tokens"] == sum(answer.prompt_tokens for answer in well)
    assert result["total_output_tokens"] == sum(answer.output_tokens for answer in well)
    tokens = sum(
        2
        for rank in range(2)
        for answer in _answers(rank)
        for moment in answer.chunk_ns
        if not answer.error and START <= moment < START + WINDOW_S * SECOND
    )
    assert result["output_throughput"] == pytest.approx(tokens / WINDOW_S)
    quick = sum(answer.first_ns - answer.due_ns <= 100 * MS for answer in well)
    assert result["request_goodput"] == pytest.approx(quick / WINDOW_S)
    values = {
        "ttft": _ms([answer.first_ns - answer.sent_ns for answer in well]),
        "itl": _ms([later - earlier for answer in well for earlier, later in pairwise(answer.chunk_ns)]),
        "tpot": _ms([(answer.last_ns - answer.first_ns) / (answer.output_tokens - 1) for answer in well]),
        "e2el": _ms([answer.last_ns - answer.sent_ns for answer in well]),
    }
    for name, own in values.items():
        assert result[f"mean_{name}_ms"] == pytest.approx(own.mean(), rel=1e-6), name
        assert result[f"std_{name}_ms"] == pytest.approx(own.std(), rel=0.01), name
        assert result[f"median_{name}_ms"] == pytest.approx(np.percentile(own, 50, method="inverted_cdf"), rel=0.002), name
        assert result[f"p99_{name}_ms"] == pytest.approx(np.percentile(own, 99, method="inverted_cdf"), rel=0.002), name


def test_what_was_asked_for_and_what_to_think_of_it_is_beside_the_figures(run: Run) -> None:
    (result,) = export_vllm_bench(run.summary())
    assert (result["backend"], result["model_id"], result["request_rate"], result["burstiness"]) == (
        "openai-load",
        "tiny",
        500.0,
        1.0,
    )
    assert (result["max_concurrency"], result["run_id"], result["client"], result["point"]) == (64, "r1", "load", "p0000-r1")
    assert result["verdict"] in {"valid", "degraded", "invalid"}
    assert (result["verdict"] == "valid") == (not result["reasons"])


def test_detailed_has_one_value_a_request_of_the_window(run: Run, measured: list[Answer]) -> None:
    (result,) = export_vllm_bench(run.summary(), detailed=True)
    assert result["input_lens"] == [answer.prompt_tokens or 0 for answer in measured]
    assert result["output_lens"] == [answer.output_tokens or 0 for answer in measured]
    assert result["ttfts"] == [(answer.first_ns - answer.sent_ns) / 1e9 for answer in measured]
    assert result["itls"] == [[(later - earlier) / 1e9 for earlier, later in pairwise(answer.chunk_ns)] for answer in measured]
    assert result["errors"] == [answer.error for answer in measured]
    assert result["latencies"] == [0.0 if answer.error else (answer.last_ns - answer.sent_ns) / 1e9 for answer in measured]
    assert result["queue_times"] == [0.002] * len(measured)
    starts = result["start_times"]
    assert starts[-1] - starts[0] == pytest.approx((measured[-1].sent_ns - measured[0].sent_ns) / 1e9, abs=1.0)
    assert result["mean_ttft_ms"] == pytest.approx(
        1000 * np.mean([ttft for ttft, error in zip(result["ttfts"], result["errors"], strict=True) if not error])
    )


def test_the_adapter_of_that_tool_reads_it(run: Run, measured: list[Answer]) -> None:
    (result,) = export_vllm_bench(run.summary(), detailed=True)
    read = _requests(json.loads(json.dumps(result)), is_open=True).answers
    assert [answer.output_tokens or 0 for answer in read] == [answer.output_tokens or 0 for answer in measured]
    for one, other in zip(read, measured, strict=True):
        assert bool(one.error) == bool(other.error)
        if not one.error:
            assert one.last_ns - one.sent_ns == pytest.approx(other.last_ns - other.sent_ns, abs=50)
            assert one.sent_ns - one.due_ns == 2 * MS


def test_records_on_a_site_that_can_be_seen_are_taken_from_there(run: Run, tmp_path: Path) -> None:
    summary = run.summary()
    folder = tmp_path / "site"
    run.paths.folder.joinpath("jobs").rename(tmp_path / "jobs")
    folder.mkdir()
    (tmp_path / "jobs").rename(folder / "jobs")
    with pytest.raises(RunError, match="load/p0000-r1 has no records of its requests"):
        export_vllm_bench(summary, detailed=True)
    (result,) = export_vllm_bench(evolve(summary, site_folder=str(folder)), detailed=True)
    assert len(result["ttfts"]) == 69
    assert result["std_ttft_ms"] is None


def test_damaged_records_are_one_clear_error(run: Run) -> None:
    path = run.paths.job(run.point.token).rank(1).raw(run.point.id) / "requests-1.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RunError, match=r"requests-1.npz: not records of requests"):
        export_vllm_bench(run.summary(), detailed=True)
    assert len(export_vllm_bench(run.summary())) == 1


def test_columns_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    records = Records(START, START + SECOND)
    records.add(_answers(0)[7])
    path = records.write(tmp_path, 0)
    assert len(read_records(path)) == 1
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}
    for change, said in (
        ({"sent_ns": columns["sent_ns"][:0]}, "scheduled_ns has 1 values, expected 0"),
        ({"chunk_offset": np.array([0, 10**6])}, "chunk_offset does not rise"),
        ({"error": np.array([7], np.uint16)}, "error has a number without a name"),
        ({"phase": np.array([0.5])}, "has no phase"),
        ({"error_names": np.array([7])}, "error_names are no texts"),
        ({"anchor": np.array([object()])}, "has no anchor"),
    ):
        np.savez(path, **{**columns, **change})
        with pytest.raises(RecordsError, match=said):
            read_records(path)
    np.savez(path, **{name: column for name, column in columns.items() if name != "chunk_ns"})
    with pytest.raises(RecordsError, match="has no chunk_ns"):
        read_records(path)
    write_npz(path, {})
    with pytest.raises(RecordsError, match="has no error_names"):
        read_records(path)


def test_a_run_of_another_service_has_no_such_results(make_summary: Callable[..., Summary]) -> None:
    with pytest.raises(UsageError, match="run r1 has no measurement of a server of language models"):
        export_vllm_bench(make_summary())


def test_the_command_prints_one_object_a_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run.finish()
    arguments = ["report", "r1", "--runs-dir", str(run.paths.folder.parent), "--format", "vllm-bench"]
    code = main(arguments)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == json.loads(json.dumps(export_vllm_bench(summary)[0]))
    assert main(["report", "r1", "--runs-dir", str(run.paths.folder.parent), "--json"]) == code
    capsys.readouterr()
    assert main([*arguments, "--detailed"]) == code
    assert len(json.loads(capsys.readouterr().out)["ttfts"]) == 69


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "vllm-bench", "--json"], "--json and --format vllm-bench are two ways to show the same"),
        (["--detailed"], "--detailed is part of a --format"),
        (["--format", "csv"], "'csv' is not 'vllm-bench'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], said: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.finish()
    assert main(["report", "r1", "--runs-dir", str(run.paths.folder.parent), *options]) == 2
    assert said in capsys.readouterr().err
