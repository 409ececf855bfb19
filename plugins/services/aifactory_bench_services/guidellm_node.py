"""GuideLLM on the node: one measurement out of its report."""

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
    leave_out,
    seconds,
    tokens,
)
from .tool_result_node import failed, how_it_was_stopped

NAME = "guidellm"
OUTPUT = "guidellm.json"
_REPORT_VERSION = 2
_GROUPS = ("successful", "errored", "incomplete")
_MOST_CHUNKS = 1 << 20


def prepare(context: Context) -> Dict[str, Any]:
    """See that the tool can reach all of the service.

    Raises:
        PrepareError: the service has several replicas.
    """
    check_endpoints(context, NAME)
    return {}


def reduce(context: Context, outcome: ToolOutcome) -> Measurement:
    """Return the measurement that the report holds."""
    measurement = begin(context, outcome, NAME, None)
    measurement.absent["health.cpu_share"] = f"{NAME} is several processes, and their start counts as well"
    measurement.health.cpu_share = [None]
    is_open = measurement.process != "closed"
    try:
        document = document_of(context.folder / OUTPUT)
        measurement.tool["version"] = _version(document)
        groups = _groups(document)
        requests = Requests(is_open=is_open)
        for record in groups["successful"]:
            requests.add(_answer(record, is_open=is_open))
        for record in groups["errored"]:
            answer = _answer(record, is_open=is_open)
            answer.error = error_class(_part(record, "info").get("error"))
            requests.add(answer)
        requests.check(outcome)
        start_ns = min(answer.due_ns for answer in requests.answers) - half_gap_ns(context)
        start_ns += round(context.load["warmup_s"] * NS_PER_S)
        end_ns = start_ns + round(context.load["duration_s"] * NS_PER_S)
        cancelled = _cancelled(groups["incomplete"], requests, end_ns)
    except Unusable as error:
        return failed(measurement, f"{how(outcome, context)}; {error}")
    if how_it_was_stopped(outcome):
        end_ns = min(end_ns, max(answer.end_ns for answer in requests.answers) + 1)
    fill(measurement, context, outcome, requests, (start_ns, end_ns), 0)
    if measurement.status != "failed":
        _complete(measurement, context, requests, (start_ns, end_ns), cancelled)
    return measurement


def _version(document: Dict[str, Any]) -> Optional[str]:
    """Return the version of GuideLLM.

    Raises:
        Unusable: not a report of the layout that is known.
    """
    metadata = _part(document, "metadata")
    if metadata.get("version") != _REPORT_VERSION:
        found = f"{OUTPUT} is a report of version {metadata.get('version')!r:.40}, known is {_REPORT_VERSION}"
        raise Unusable(f"{found}: that of GuideLLM 0.8")
    version = metadata.get("guidellm_version")
    return version if isinstance(version, str) else None


def _groups(document: Dict[str, Any]) -> Dict[str, List[Dict[str, Any]]]:
    """Return the requests by how they ended.

    Raises:
        Unusable: there are none.
    """
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list) or len(benchmarks) != 1 or not isinstance(benchmarks[0], dict):
        raise Unusable(f"{OUTPUT} does not hold one benchmark")
    requests = _part(benchmarks[0], "requests")
    groups = {name: requests.get(name) for name in _GROUPS}
    wrong = [name for name, group in groups.items() if not isinstance(group, list)]
    if wrong:
        raise Unusable(f"{OUTPUT} has no {wrong[0]} requests")
    return {name: [record for record in group or () if isinstance(record, dict)] for name, group in groups.items()}


def _part(record: Dict[str, Any], name: str) -> Dict[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _ns(record: Dict[str, Any], name: str) -> Optional[int]:
    known = seconds(_part(_part(record, "info"), "timings").get(name))
    return None if known is None else round(known * NS_PER_S)


def _answer(record: Dict[str, Any], *, is_open: bool) -> Answer:
    sent_ns = _ns(record, "request_start") or _ns(record, "resolve_start") or _ns(record, "dequeued")
    due_ns = _ns(record, "targeted_start") if is_open else sent_ns
    if sent_ns is None or due_ns is None:
        raise Unusable(f"a request of {OUTPUT} has no time of sending")
    answer = Answer(sent_ns, due_ns)
    answer.first_ns, answer.last_ns = _ns(record, "first_token_iteration"), _ns(record, "last_token_iteration")
    answer.first_output_ns = _ns(record, "first_output_token_iteration")
    answer.end_ns = _ns(record, "request_end") or _ns(record, "resolve_end") or answer.last_ns or sent_ns
    answer.prompt_tokens, answer.output_tokens = tokens(record.get("prompt_tokens")), tokens(record.get("output_tokens"))
    answer.cached_tokens = tokens(record.get("cached_tokens"))
    told = tokens(_part(record, "output_metrics").get("total_tokens"))
    answer.token_source = "usage" if told is not None else "none" if answer.output_tokens is None else "chunks"
    chunks = tokens(_part(_part(record, "info"), "timings").get("token_iterations")) or 0
    if answer.first_ns is not None and answer.last_ns is not None and 0 < chunks < _MOST_CHUNKS:
        # Between the first and the last one no times are kept: as the tool itself does, they are taken as even.
        span_ns = answer.last_ns - answer.first_ns
        answer.chunk_ns = [answer.first_ns + span_ns * number // max(1, chunks - 1) for number in range(chunks)]
    return answer


def _cancelled(incomplete: List[Dict[str, Any]], requests: Requests, end_ns: int) -> int:
    """Count those of the window as errors, and return how many there are in all; what had only been planned is none."""
    sent = [record for record in incomplete if _ns(record, "request_start") is not None]
    for record in sent:
        answer = _answer(record, is_open=requests.is_open)
        if answer.due_ns < end_ns:
            answer.error = "cancelled"
            requests.add(answer)
    return len(sent)


def _complete(
    measurement: Measurement, context: Context, requests: Requests, window: "tuple[int, int]", cancelled: int
) -> None:
    """Say what the tool does not, or says otherwise than we do."""
    why = f"{NAME} keeps the first and the last token's time alone"
    leave_out(
        measurement,
        {
            "distributions.chunk_gap": why,
            "distributions.itl": why,
            "distributions.stall": why,
            "metrics.stalls": why,
        },
    )
    measurement.absent["sums.output_tokens.exact"] = f"{why}; the tokens between are taken as even in time"
    if cancelled:
        text = f"{NAME} cancelled {cancelled} requests that were in flight at its end, after the cooldown"
        measurement.absent["server_operations"] = text
        measurement.totals.clear()
    if not requests.is_open:
        return
    within = [answer for answer in requests.answers if window[0] <= answer.due_ns < window[1]]
    waits = Histogram()
    waits.record_many([answer.sent_ns - answer.due_ns for answer in within])
    if _most_in_flight(requests.answers) < context.share(int(context.load["connections"])):
        measurement.health.lateness = waits.to_json()
    else:
        measurement.health.gate = waits.to_json()
        measurement.absent["health.lateness"] = f"at times all connections were taken, and {NAME} does not tell that wait apart"


def _most_in_flight(answers: List[Answer]) -> int:
    turns = sorted([(answer.sent_ns, 1) for answer in answers] + [(answer.end_ns, -1) for answer in answers])
    most = now = 0
    for _, change in turns:
        now += change
        most = max(most, now)
    return most
