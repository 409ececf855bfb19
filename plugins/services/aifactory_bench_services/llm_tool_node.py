"""What the reducers of load tools for OpenAI servers have in common: requests as our own answers, one measurement out of them.

A tool's requests become `Answer` values and go through the same records as those of our own load, so that every figure has
the definition of docs/llm-records.md; what a tool does not tell is taken out again, with the reason.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from aifactory_bench.node.contract import Context, PrepareError, ToolOutcome
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.load.own import add_results
from aifactory_bench.node.measurement import Measurement

from .llm_answer_node import Answer
from .llm_records_node import Records
from .tool_result_node import failed, how_it_ended, how_it_was_stopped, last_words, output_of

NS_PER_S = 1_000_000_000
_LATEST_S = 9e9
"""Since 1970, or since the machine was started."""
_SLACK_S = 60.0
"""A clock that is set while the tool runs moves its times."""
_MOST_TOKENS = 1 << 31
_FRAMES = "│┃╭╰╮╯─━•"
"""Of boxes and lists that tools print around what they say."""
_CLASS = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)(?::| |\(|$)")
_ERROR_CLASS = 60
_MOST_CLASSES = 100


class Unusable(Exception):
    """The tool's document is not what it should be; the text says what is wrong."""


@dataclass
class Requests:
    """All requests that a tool tells of, times in ns of whatever clock it has."""

    answers: List[Answer] = field(default_factory=list)
    """In the warm-up or not; `due_ns` says what they belong to."""
    is_open: bool = False
    """`due_ns` is when a schedule wanted a request sent."""
    ones: bool = False
    """Chunks are content alone, so that as many chunks as tokens are one token each."""
    steps: int = 0
    """Requests whose times ran backwards: the tool's clock was set."""

    def add(self, answer: Answer) -> None:
        """Keep a request, its times put in order."""
        times = [answer.due_ns, answer.sent_ns]
        times += [time for time in (answer.header_ns, answer.first_ns, answer.last_ns) if time is not None]
        if sorted(times) != times or answer.end_ns < times[-1]:
            self.steps += 1
            answer.sent_ns = max(answer.due_ns, answer.sent_ns)
            floor = answer.sent_ns
            for name in ("header_ns", "first_ns", "first_output_ns", "last_ns", "end_ns"):
                time = getattr(answer, name)
                if time is not None:
                    floor = max(floor, time)
                    setattr(answer, name, floor)
            answer.chunk_ns = [max(answer.first_ns or 0, time) for time in answer.chunk_ns]
        self.answers.append(answer)

    def check(self, outcome: ToolOutcome) -> None:
        """See that these can be the requests of the tool that has run.

        Raises:
            Unusable: there is none, or they took longer than the tool.
        """
        if not self.answers:
            raise Unusable("it tells of no request")
        first_ns = min(answer.due_ns for answer in self.answers)
        took_s = (max(answer.end_ns for answer in self.answers) - first_ns) / NS_PER_S
        if took_s > outcome.duration_s + _SLACK_S:
            raise Unusable(f"its requests took {took_s:g} s, and it ran for {outcome.duration_s:.1f} s")

    def first_sent_ns(self) -> int:
        """Return when the first request was sent."""
        return min(answer.sent_ns for answer in self.answers)


def check_endpoints(context: Context, name: str) -> None:
    """Refuse what a tool cannot spread its load over.

    Raises:
        PrepareError: the service has several replicas.
    """
    count = len(context.endpoints["main"])
    if count > 1:
        raise PrepareError(f"{name} asks one server, and the service has {count} replicas; use the kind openai-load")


def begin(context: Context, outcome: ToolOutcome, name: str, version: Optional[str]) -> Measurement:
    """Return a measurement that has no numbers yet."""
    load = context.load
    rate_per_s = load.get("rate_per_s")
    measurement = Measurement(
        point=context.point,
        client=context.client,
        kind=context.kind,
        rank=context.rank,
        status="ok",
        process=str(load["process"]),
        window_asked_s=float(load["duration_s"]),
        start_wall_ns=outcome.start_wall_ns,
        offered_per_s=None if load["process"] == "closed" or rate_per_s is None else rate_per_s / context.ranks,
        tool={"name": name, "version": version},
    )
    measurement.absent["health.observation_age_p99_us"] = f"{name} does not ask the kernel when an answer came"
    measurement.health.workers = max(1, int(load.get("workers") or 1))
    return measurement


def half_gap_ns(context: Context) -> int:
    """Return half the time between two requests of a constant rate, by which a window begins before its first request.

    So the first one of a second is in it, and the first one of the next second is not, whatever a microsecond does to them.
    Other loads have none.
    """
    load = context.load
    return round(NS_PER_S / 2 * context.ranks / load["rate_per_s"]) if load["process"] == "constant" else 0


def document_of(path: Path) -> Dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        Unusable: there is no file, or no whole JSON object in it.
    """
    text = output_of(path)
    if not text:
        raise Unusable(f"it left no {path.name}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise Unusable(f"{path.name} is no whole JSON document") from None
    if not isinstance(document, dict):
        raise Unusable(f"{path.name} holds no JSON object")
    return document


def how(outcome: ToolOutcome, context: Context) -> str:
    """Return how the tool ended and its last words, which some print to standard output."""
    words = last_words(outcome, context) or last_words(replace(outcome, stderr=outcome.stdout), context)
    words = " ".join(words.translate(dict.fromkeys(map(ord, _FRAMES), " ")).split())
    return f"{how_it_ended(outcome)}{': ' if words else ''}{words}"


def seconds(value: Any) -> Optional[float]:
    """Return a time in seconds from 0 on; None for anything else."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LATEST_S
    return float(value) if usable else None


def tokens(value: Any) -> Optional[int]:
    """Return a number of tokens from 0 on; None for anything else."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return int(value) if usable else None


def error_class(text: Any) -> str:
    """Return a short class for what a tool says of an error: an exception's name, or the first words."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    if not lines:
        return "unknown"
    if len(lines) > 1 or "Error" in lines[-1] or "Exception" in lines[-1]:
        named = _CLASS.match(lines[-1])
        if named and named[1][:1].isupper():
            return named[1][:_ERROR_CLASS]
    return lines[-1][:_ERROR_CLASS]


def fill(
    measurement: Measurement, context: Context, outcome: ToolOutcome, requests: Requests, window: Tuple[int, int], wall_ns: int
) -> Measurement:
    """Return the measurement with all that the requests say.

    Args:
        measurement: As `begin` made it.
        context: Of the rank.
        outcome: How the tool ended.
        requests: All that it tells of.
        window: Start and end, in the requests' clock.
        wall_ns: What to add to the requests' clock for the wall clock.
    """
    start_ns, end_ns = window
    before = [answer for answer in requests.answers if answer.due_ns < start_ns]
    within = [answer for answer in requests.answers if start_ns <= answer.due_ns < end_ns]
    after = len(requests.answers) - len(before) - len(within)
    good = [answer for answer in within if not answer.error]
    ended = how(outcome, context)
    if not good:
        return _nothing(measurement, within, len(requests.answers), ended)
    measurement.window_s = (end_ns - start_ns) / NS_PER_S
    measurement.start_wall_ns, measurement.end_wall_ns = start_ns + wall_ns, end_ns + wall_ns
    measurement.counts.ok, measurement.counts.error = len(good), len(within) - len(good)
    measurement.errors = _classes(within)
    measurement.achieved_per_s = sum(answer.sent_ns < end_ns for answer in good) / measurement.window_s
    late = [answer for answer in within if answer.end_ns >= end_ns]
    measurement.phase_counts = {"warmup": _ended(before), "drain": _ended(late)}
    last_ns = max(answer.end_ns for answer in requests.answers)
    measurement.phases_s.update(
        warmup=(start_ns - min(answer.due_ns for answer in requests.answers)) / NS_PER_S,
        measure=measurement.window_s,
        drain=max(0, last_ns - end_ns) / NS_PER_S,
    )
    api = str(context.parameters["api"])
    measurement.latency = _latency(api, good, requests.is_open)
    measurement.slices = _slices(within, window, requests.is_open, api)
    _take_own(measurement, context, requests, window)
    if after:
        measurement.absent["server_operations"] = f"{after} requests were sent after the window and belong to no count"
    asked = int(context.parameters["output_tokens"])
    short = sum(answer.output_tokens is not None and answer.output_tokens < asked for answer in good)
    if short:
        # An error inside of a stream looks like an answer that ended early, to some tools.
        measurement.unchecked.append("error_share")
    measurement.metrics["short_answers"] = {"value": short, "unit": "request", "merge": "sum"}
    if any(answer.error for answer in requests.answers):
        measurement.totals.clear()  # what a server did for those that failed, the tool does not tell
    if requests.steps:
        measurement.absent["clock"] = (
            f"the times of {requests.steps} requests ran backwards and were put in order: the clock was set"
        )
    if outcome.exit_code or how_it_was_stopped(outcome):
        measurement.status, measurement.reason = "cut", ended
    return measurement


def leave_out(measurement: Measurement, reasons: Mapping[str, str]) -> None:
    """Take out what a tool does not tell: `distributions.x` or `metrics.x` -> why."""
    for path, why in reasons.items():
        section, _, name = path.partition(".")
        getattr(measurement, section).pop(name, None)
        measurement.absent[path] = why


def _nothing(measurement: Measurement, within: List[Answer], told: int, ended: str) -> Measurement:
    if within:
        classes = ", ".join(f"{name} ({count})" for name, count in _classes(within).items())
        return failed(measurement, f"{ended}; every one of {len(within)} requests of the window failed: {classes}")
    if told:
        text = f"all of the {told} requests that it tells of were sent in the warm-up: make it shorter, or the run longer"
        return failed(measurement, f"{ended}; {text}")
    return failed(measurement, f"{ended}; it tells of no request")


def _ended(answers: List[Answer]) -> Dict[str, int]:
    errors = sum(bool(answer.error) for answer in answers)
    return {"ok": len(answers) - errors, "error": errors, "timeout": 0, "skipped": 0}


def _classes(answers: List[Answer]) -> Dict[str, int]:
    return dict(Counter(answer.error for answer in answers if answer.error).most_common(_MOST_CLASSES))


def _latency(api: str, good: List[Answer], is_open: bool) -> "Dict[str, Dict[str, Any]]":
    """Return the latency of the requests by both clocks, to the last chunk; where there was none, to the end."""
    send = Histogram()
    send.record_many([_last(answer) - answer.sent_ns for answer in good])
    clocks: Dict[str, Any] = {"send": send.to_json(), "schedule": None}
    if is_open:
        schedule = Histogram()
        schedule.record_many([_last(answer) - answer.due_ns for answer in good])
        clocks["schedule"] = schedule.to_json()
    return {api: clocks, "all": dict(clocks)}


def _last(answer: Answer) -> int:
    return answer.end_ns if answer.last_ns is None else answer.last_ns


def _slices(within: List[Answer], window: Tuple[int, int], is_open: bool, api: str) -> List[Dict[str, Any]]:
    start_ns, end_ns = window
    by_second: "Dict[int, List[Answer]]" = {second: [] for second in range(-(-(end_ns - start_ns) // NS_PER_S))}
    for answer in within:
        by_second[(answer.due_ns - start_ns) // NS_PER_S].append(answer)
    slices = []
    for second, answers in by_second.items():
        good = [answer for answer in answers if not answer.error]
        latency = _latency(api, good, is_open) if good else {}
        slices.append({"second": second, "ok": len(good), "error": len(answers) - len(good), "latency": latency})
    return slices


def _take_own(measurement: Measurement, context: Context, requests: Requests, window: Tuple[int, int]) -> None:
    """Add distributions, sums, metrics and totals, made as those of our own load."""
    records = Records(*window, is_open=requests.is_open, slo=context.load.get("slo") or {})
    one_each = requests.ones
    for answer in requests.answers:
        records.add(answer)
        if not answer.error and answer.output_tokens not in (len(answer.chunk_ns), len(answer.chunk_ns) + 1):
            one_each = False
    add_results(measurement, [records.results(window[1])])
    if not one_each:
        leave_out(measurement, {"distributions.itl": "it needs the number of tokens in each chunk, which is not told"})
