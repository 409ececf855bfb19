"""LLM measurements as the JSON that `vllm bench serve` writes, which most other programs read.

What the keys mean here and where that differs is described in docs/llm-records.md.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError, UsageError
from ..node.load.histogram import Histogram
from ..node.paths import RunPaths
from ..plan import PlannedPoint
from ..results.model import MergedMeasurement, PointResult, Summary
from ..runs.collect import documents
from ..runs.store import read_plan
from .names import clean_line
from .request_records import RecordsError, RequestRecords, find_records

NAMES = {"ttft": "ttft", "tpot": "tpot", "itl": "chunk_gap", "e2el": "e2e"}
"""Theirs -> ours. Their inter-token latency is the time between chunks."""
_PERCENTILES = {"p50": "p50", "p90": "p90", "p99": "p99", "p99.9": "p999"}
_WINDOW = 1
"""In the column `phase`."""


def export_vllm_bench(summary: Summary, *, detailed: bool = False) -> list[dict[str, Any]]:
    """Return the LLM measurements of a run as `vllm bench serve` writes its results, one object each.

    Args:
        summary: Of the run; its folder is read for what a summary does not hold.
        detailed: With the arrays of `--save-detailed`, one value a request, from the records of the clients.

    Raises:
        UsageError: the run has no measurement of an LLM server.
        RunError: the run folder cannot be read; or arrays are asked for, and there are no records, or damaged ones.
    """
    found = [(point, one) for point in summary.points for one in point.measurements if "output_tokens" in one.metrics]
    if not found:
        raise UsageError(
            f"run {summary.run_id} has no measurement of a server of language models",
            "results of other services are shown as text or with --json",
        )
    paths = RunPaths(Path(summary.run_folder))
    planned = {(point.client, point.id): point for point in read_plan(paths).points}
    exported = []
    for point, one in found:
        where = planned.get((one.client, point.id))
        documents_of_ranks = documents(paths, where) if where is not None else ()
        result = _summary(summary, point, one, documents_of_ranks)
        if detailed:
            records = [] if where is None else _records(summary, where)
            if not records:
                raise RunError(
                    f"{one.client}/{point.id} has no records of its requests in {clean_line(summary.run_folder)}",
                    "they lie on the site, jobs/*/*/raw in the run folder there; without --detailed they are not needed",
                )
            result.update(_detailed(records))
        exported.append(result)
    return exported


def _summary(
    summary: Summary, point: PointResult, one: MergedMeasurement, ranks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    load = one.provenance.get("load", {})
    duration_s = one.window_s or 0.0
    completed = one.counts.get("ok", 0)
    failed = sum(one.counts.get(name, 0) for name in ("error", "timeout", "skipped"))
    closed = one.process == "closed"
    started_ns = min((document.get("start_wall_ns") or 0 for document in ranks), default=0)
    result: dict[str, Any] = {
        "date": time.strftime("%Y%m%d-%H%M%S", time.gmtime(started_ns / 1e9)) if started_ns else None,
        "endpoint_type": one.kind,
        "backend": one.kind,
        "label": None,
        "model_id": _model(one, ranks),
        "tokenizer_id": None,
        "num_prompts": completed + failed,
        "request_rate": "inf" if one.offered_per_s is None else one.offered_per_s,
        "burstiness": "inf" if one.process == "constant" else load.get("burstiness") or 1.0,
        "max_concurrency": load.get("concurrency" if closed else "connections"),
        "duration": duration_s,
        "completed": completed,
        "failed": failed,
        "total_input_tokens": _value(one, "prompt_tokens"),
        "total_output_tokens": _value(one, "output_tokens"),
        "request_throughput": completed / duration_s if duration_s else None,
        "request_goodput": _value(one, "goodput"),
        "output_throughput": _value(one, "output_tokens_per_s"),
        "total_token_throughput": _value(one, "total_tokens_per_s"),
        "max_output_tokens_per_s": _peak(one, "output_tokens"),
        "max_concurrent_requests": _peak(one, "in_flight"),
    }
    for theirs, ours in NAMES.items():
        values = one.distributions.get(ours, {})
        result[f"mean_{theirs}_ms"] = _ms(values.get("mean"))
        result[f"median_{theirs}_ms"] = _ms(values.get("p50"))
        result[f"std_{theirs}_ms"] = _ms(_deviation_us(ours, ranks))
        for percent, name in _PERCENTILES.items():
            result[f"{percent}_{theirs}_ms"] = _ms(values.get(name))
    # Further keys, as their --metadata would have added them.
    return {
        **result,
        "run_id": summary.run_id,
        "point": point.id,
        "parameters": dict(point.parameters),
        "client": one.client,
        "verdict": one.verdict,
        "reasons": [reason.code for reason in one.reasons],
    }


def _model(one: MergedMeasurement, ranks: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the model's name: as the client found it, or as the recipe has it."""
    prepared = [document.get("prepare") for document in ranks]
    known = [entry["model"] for entry in prepared if isinstance(entry, Mapping) and entry.get("model")]
    asked = [one.provenance.get("parameters", {}), *one.provenance.get("services", {}).values()]
    names = [*known, *(values.get("model") for values in asked if values.get("model"))]
    return str(names[0]) if names else None


def _value(one: MergedMeasurement, name: str) -> float | None:
    value = one.metrics.get(name, {}).get("value")
    return value if isinstance(value, (int, float)) else None


def _peak(one: MergedMeasurement, name: str) -> float | None:
    return max((entry[name] for entry in one.series if entry.get(name) is not None), default=None)


def _ms(value_us: float | None) -> float | None:
    return None if value_us is None else value_us / 1000


def _deviation_us(name: str, ranks: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the standard deviation of a distribution over all replicas; None where one of them cannot be read."""
    total = Histogram()
    try:
        for document in ranks:
            entry = document.get("distributions", {}).get(name)
            if entry is not None:
                total.add(Histogram.from_json(entry["histogram"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return total.deviation_us


def _records(summary: Summary, point: PlannedPoint) -> list[RequestRecords]:
    """Return the records of a measurement, from the run folder or from the site's where that can be seen from here.

    Raises:
        RunError: they are damaged, or cannot be read.
    """
    for folder in filter(None, (summary.run_folder, summary.site_folder)):
        job = RunPaths(Path(folder)).job(point.token)
        try:
            records = find_records(job.rank(rank).raw(point.id) for rank in range(point.ranks))
        except RecordsError as error:
            raise RunError(str(error), "without --detailed the records are not needed") from None
        except OSError as error:
            raise RunError(f"{error.filename}: {error.strerror}", "without --detailed the records are not needed") from None
        if records:
            return records
    return []


def _detailed(parts: Iterable[RequestRecords]) -> dict[str, list[Any]]:
    """Return the arrays, of the requests of the window in the order of sending; times in seconds."""
    rows: list[dict[str, Any]] = []
    for part in parts:
        columns = part.columns
        for number in range(len(part)):
            if columns["phase"][number] != _WINDOW:
                continue
            sent, due = columns["sent_ns"][number], columns["scheduled_ns"][number]
            first, last, error = (columns[name][number] for name in ("first_ns", "last_ns", "error"))
            rows.append(
                {
                    "start_times": part.wall_s(sent),
                    "input_lens": max(0, columns["prompt_tokens"][number]),
                    "output_lens": 0 if error else max(0, columns["output_tokens"][number]),
                    "ttfts": (first - sent) / 1e9 if first >= 0 else 0.0,
                    "itls": part.gaps_s(number),
                    "latencies": 0.0 if error else ((last if last >= 0 else columns["end_ns"][number]) - sent) / 1e9,
                    "queue_times": (sent - due) / 1e9,
                    "errors": part.errors[error],
                }
            )
    rows.sort(key=lambda row: row["start_times"])
    names = ("input_lens", "output_lens", "ttfts", "itls", "latencies", "queue_times", "start_times", "errors")
    return {name: [row[name] for row in rows] for name in names}
