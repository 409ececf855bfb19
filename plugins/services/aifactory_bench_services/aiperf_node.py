"""AIPerf on the node: one measurement out of its records of each request."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any, Dict, List, Optional

from aifactory_bench.node.contract import Context, ToolOutcome
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Measurement

from .llm_answer_node import Answer
from .llm_tool_node import (
    NS_PER_S,
    Requests,
    Unusable,
    begin,
    check_endpoints,
    document_of,
    error_class,
    fill,
    half_gap_ns,
    how,
    seconds,
    tokens,
)
from .tool_result_node import failed, how_it_was_stopped, output_of

NAME = "aiperf"
RECORDS = "profile_export.jsonl"
SUMMARY = "profile_export_aiperf.json"
_NS_PER_MS = 1_000_000
_PHASE = "benchmark_phase"
_WARMUP, _WINDOW = "warmup", "profiling"
_TIMES = ("credit_issued_ns", "request_start_ns", "request_end_ns")


def prepare(context: Context) -> Dict[str, Any]:
    """See that the tool can reach all of the service.

    Raises:
        PrepareError: the service has several replicas.
    """
    check_endpoints(context, NAME)
    return {}


def reduce(context: Context, outcome: ToolOutcome) -> Measurement:
    """Return the measurement that the records hold."""
    measurement = begin(context, outcome, NAME, None)
    measurement.absent["health.cpu_share"] = f"{NAME} is many processes, and their start counts as well"
    measurement.health.cpu_share = [None]
    try:
        summary = document_of(context.folder / SUMMARY)
    except Unusable:
        summary = {}  # there is none where no request ended well
    version = summary.get("aiperf_version")
    measurement.tool["version"] = version if isinstance(version, str) else None
    try:
        records = _records(context.folder / RECORDS)
        _check_whole(records, summary)
        requests = Requests(ones=True)
        for record in records:
            requests.add(_answer(record))
        requests.check(outcome)
        start_ns = min(
            (answer.sent_ns for answer, record in zip(requests.answers, records) if record["metadata"][_PHASE] == _WINDOW),
            default=None,
        )
        if start_ns is None:
            raise Unusable(f"{RECORDS} tells of no request after the warm-up")
    except Unusable as error:
        return failed(measurement, f"{how(outcome, context)}; {error}")
    start_ns -= half_gap_ns(context)
    end_ns = start_ns + round(context.load["duration_s"] * NS_PER_S)
    if how_it_was_stopped(outcome):
        end_ns = min(end_ns, max(answer.end_ns for answer in requests.answers) + 1)
    fill(measurement, context, outcome, requests, (start_ns, end_ns), 0)
    if measurement.status != "failed":
        _complete(measurement, records, requests, (start_ns, end_ns))
    return measurement


def _check_whole(records: List[Dict[str, Any]], summary: Dict[str, Any]) -> None:
    """Look whether there is a record of every request that the tool itself counted as good.

    Raises:
        Unusable: there are fewer.
    """
    counted = summary.get("request_count")
    counted = counted.get("avg") if isinstance(counted, dict) else None
    good = sum(record["metadata"][_PHASE] == _WINDOW and not record.get("error") for record in records)
    if isinstance(counted, (int, float)) and good < counted:
        raise Unusable(f"{RECORDS} tells of {good} good requests, the tool counted {counted:.0f}: it is not whole")


def _records(path: Path) -> List[Dict[str, Any]]:
    """Return the records of all requests; a last line that is not whole is left out.

    Raises:
        Unusable: there are none, or not those of AIPerf.
    """
    lines = output_of(path).splitlines()
    if not lines:
        raise Unusable(f"it left no {path.name}")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines) > 1:
                break
            raise Unusable(f"line {number} of {path.name} is no whole JSON document") from None
        metadata = record.get("metadata") if isinstance(record, dict) else None
        phase = metadata.get(_PHASE) if isinstance(metadata, dict) else None
        if metadata is None or phase not in (_WARMUP, _WINDOW) or not isinstance(record.get("metrics"), dict):
            raise Unusable(f"line {number} of {path.name} is no record of a request of aiperf")
        for name in _TIMES:
            time_ns = metadata.get(name)
            if type(time_ns) is not int or not 0 < time_ns < 1 << 62:
                raise Unusable(f"line {number} of {path.name} has the {name} {time_ns!r:.40}")
        records.append(record)
    return records


def _answer(record: Dict[str, Any]) -> Answer:
    metadata, metrics = record["metadata"], record["metrics"]
    sent_ns = metadata["request_start_ns"]
    answer = Answer(sent_ns, sent_ns)
    answer.end_ns = metadata["request_end_ns"]
    answer.prompt_tokens = tokens(_value(metrics, "usage_prompt_tokens"))
    answer.output_tokens = tokens(_value(metrics, "usage_completion_tokens"))
    answer.cached_tokens = tokens(_value(metrics, "usage_prompt_cache_read_tokens"))
    answer.token_source = "none" if answer.output_tokens is None else "usage"
    if record.get("error") or metadata.get("was_cancelled"):
        answer.error = _error(record.get("error"))
        return answer
    ttft_ns, ttfo_ns = (_ns(_value(metrics, f"time_to_first_{name}", "ms")) for name in ("token", "output_token"))
    if ttft_ns is None:
        return answer
    acknowledged = metadata.get("request_ack_ns")
    if type(acknowledged) is int and sent_ns <= acknowledged <= sent_ns + ttft_ns:
        answer.header_ns = acknowledged
    answer.chunk_ns = list(accumulate([sent_ns + ttft_ns, *_gaps(_value(metrics, "inter_chunk_latency", "ms"))]))
    answer.first_ns, answer.last_ns = answer.chunk_ns[0], answer.chunk_ns[-1]
    answer.first_output_ns = None if ttfo_ns is None else sent_ns + ttfo_ns
    # The last chunk's time is the sum of many, each of them rounded.
    answer.end_ns = max(answer.end_ns, answer.last_ns)
    return answer


def _gaps(value: Any) -> List[int]:
    return [_ns(gap) or 0 for gap in value] if isinstance(value, list) else []


def _value(metrics: Dict[str, Any], name: str, unit: str = "") -> Any:
    entry = metrics.get(name)
    usable = isinstance(entry, dict) and (not unit or entry.get("unit") == unit)
    return entry.get("value") if usable and isinstance(entry, dict) else None


def _ns(milliseconds: Any) -> Optional[int]:
    known = seconds(milliseconds)
    return None if known is None else round(known * _NS_PER_MS)


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return "cancelled"
    name = error_class(error.get("type") or error.get("message"))
    return f"{name} {error['code']}" if type(error.get("code")) is int else name


def _complete(measurement: Measurement, records: List[Dict[str, Any]], requests: Requests, window: "tuple[int, int]") -> None:
    """Say what the tool does not, or says otherwise than we do."""
    in_window = [record["metadata"] for record in records if record["metadata"][_PHASE] == _WINDOW]
    prompts = {str(metadata.get("conversation_id")) for metadata in in_window}
    measurement.metrics["repeated_prompts"] = {"value": len(in_window) - len(prompts), "unit": "request", "merge": "sum"}
    measurement.absent["distributions.ttft.exact"] = (
        "aiperf opens connections as it goes, and that time is in the first requests'"
    )
    if measurement.process == "closed":
        return
    lateness = Histogram()
    lateness.record_many(
        [
            max(0, metadata["request_start_ns"] - metadata["credit_issued_ns"])
            for metadata in in_window
            if window[0] <= metadata["request_start_ns"] < window[1]
        ]
    )
    measurement.health.lateness = lateness.to_json()
    # It counts from when the tool let a request go, not from when that was due: what is too late is, the rest is not known.
    measurement.unchecked.append("lateness")
    measurement.absent["latency.schedule"] = "aiperf tells when it let a request go, not when that was due"
