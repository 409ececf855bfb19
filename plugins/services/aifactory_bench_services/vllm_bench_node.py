"""`vllm bench serve` on the node: prompts for it where it has no tokenizer, one measurement out of its detailed result."""

import json
import math
import time
from itertools import accumulate
from statistics import median
from typing import Any, Dict, List, Optional

from aifactory_bench.node.contract import Context, ToolOutcome
from aifactory_bench.node.files import write_atomic
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Measurement

from .llm_answer_node import Answer
from .llm_prompts_node import Prompts
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
from .tool_result_node import failed, version_of

NAME = "vllm bench serve"
PROGRAM = "vllm"
OUTPUT = "vllm-bench.json"
PROMPTS = "prompts.jsonl"
_COLUMNS = ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors")
_CONTENT_FROM = (0, 33)
"""Before this version the first chunk of a chat counts as the first token even when it holds the role alone."""
_FROM_FIRST = ("ttft", "ttft_schedule", "tpot", "chunk_gap", "stall")
_AT_ONCE_NS = 1_000_000
"""Chunks that come in one go are not further apart."""
_CLOCK_SLACK_NS = 2 * NS_PER_S


def prepare(context: Context) -> Dict[str, Any]:
    """Write the prompts, where the tool has no tokenizer to make its own with.

    Raises:
        PrepareError: the service has several replicas.
    """
    check_endpoints(context, NAME)
    if context.parameters.get("tokenizer"):
        return {"prompts": "made by the tool"}
    salt = f"{context.endpoints['main'][0].nonce}/{context.point}"
    made = Prompts(context.parameters, {}, int(context.load.get("seed", 0)), context.rank, context.ranks, salt)
    count = _count(context)
    lines = (
        json.dumps({"prompt": made.next().text, "output_tokens": context.parameters["output_tokens"]}) for _ in range(count)
    )
    write_atomic(context.folder / PROMPTS, "".join(f"{line}\n" for line in lines))
    return {"prompts": count}


def _count(context: Context) -> int:
    """Return how many requests the tool will send."""
    load = context.load
    if load["process"] == "closed":
        return context.share(int(context.parameters["requests"]))
    per_rank = float(load["rate_per_s"]) / context.ranks * float(load["warmup_s"] + load["duration_s"])
    return max(1, math.ceil(round(per_rank, 6)))


def reduce(context: Context, outcome: ToolOutcome) -> Measurement:
    """Return the measurement that the detailed result holds."""
    measurement = begin(context, outcome, NAME, version_of(outcome, PROGRAM))
    absent = measurement.absent
    absent["counts.timeout"] = f"{NAME} waits six hours for an answer, whatever the timeout of the load"
    absent["counts.error.in_stream"] = f"{NAME} takes an error inside of a stream for its end; see the metric short_answers"
    absent["metrics.tokens_by_usage"] = (
        "the server's usage; without one the tokenizer's count of the text, without a tokenizer 1 an answer"
    )
    if not context.parameters.get("tokenizer"):
        absent["input_tokens.exact"] = (
            "without a tokenizer prompts are made of words; the distribution prompt_tokens has the tokens"
        )
    if measurement.process == "closed":
        measurement.window_asked_s = 0.0
        absent["window_asked_s"] = f"in closed loop {NAME} ends after `requests`"
    try:
        document = document_of(context.folder / OUTPUT)
        requests = _requests(document, measurement.process != "closed")
        requests.check(outcome)
    except Unusable as error:
        return failed(measurement, f"{how(outcome, context)}; {error}")
    start_ns = requests.first_sent_ns() + round(context.load["warmup_s"] * NS_PER_S) - half_gap_ns(context)
    end_ns = start_ns + round(context.load["duration_s"] * NS_PER_S)
    if measurement.process == "closed":
        end_ns = max(start_ns, *(answer.end_ns for answer in requests.answers)) + 1
    else:
        for answer in requests.answers:
            # All were due by then; those that the tool made later are late.
            answer.due_ns = min(answer.due_ns, end_ns - 1)
    chat, release = context.parameters["api"] == "chat", _release(measurement.tool.get("version"))
    content = _take_content(requests, chat=chat, release=release)
    requests.ones = content == "exact"
    fill(measurement, context, outcome, requests, (start_ns, end_ns), _wall_ns(outcome, requests))
    if measurement.status != "failed":
        _complete(measurement, context, requests, (start_ns, end_ns), content)
    return measurement


def _requests(document: Dict[str, Any], is_open: bool) -> Requests:
    """Return the requests of a result.

    Raises:
        Unusable: it has not the arrays that `--save-detailed` gives, or they do not fit together.
    """
    columns = {name: document.get(name) for name in _COLUMNS}
    lacking = [name for name, values in columns.items() if not isinstance(values, list)]
    if lacking:
        raise Unusable(f"{OUTPUT} has no {', '.join(lacking)}: it is not the result of vllm bench serve --save-detailed")
    lengths = {name: len(values) for name, values in columns.items() if isinstance(values, list)}
    if len(set(lengths.values())) != 1:
        raise Unusable(f"{OUTPUT} does not fit together: it has {', '.join(f'{n} {name}' for name, n in lengths.items())}")
    waits = document.get("queue_times")
    known = isinstance(waits, list) and len(waits) == lengths["start_times"]
    found = Requests(is_open=is_open and known)
    for number, row in enumerate(zip(*(columns[name] or () for name in _COLUMNS))):
        wait_s = seconds(waits[number]) if known and waits and is_open else None
        found.add(_answer(number, row, wait_s or 0.0))
    return found


def _answer(number: int, row: Any, wait_s: float) -> Answer:
    start, ttft, gaps, prompt_tokens, output_tokens, error = row
    sent_s, ttft_s = seconds(start), seconds(ttft)
    if sent_s is None:
        raise Unusable(f"request {number} of {OUTPUT} was sent at {start!r:.40}")
    sent_ns = round(sent_s * NS_PER_S)
    answer = Answer(sent_ns, sent_ns - round(wait_s * NS_PER_S))
    if error or not ttft_s:
        # An answer without a reason phrase fails without a text.
        answer.error = error_class(error)
        return answer
    answer.prompt_tokens, answer.output_tokens = tokens(prompt_tokens), tokens(output_tokens)
    steps = _steps(number, gaps)
    answer.chunk_ns = list(accumulate([sent_ns + round(ttft_s * NS_PER_S), *steps]))
    answer.first_ns, answer.last_ns = answer.chunk_ns[0], answer.chunk_ns[-1]
    answer.end_ns = answer.last_ns
    return answer


def _steps(number: int, gaps: Any) -> List[int]:
    known = [seconds(gap) for gap in gaps] if isinstance(gaps, list) else [None]
    if None in known:
        raise Unusable(f"the gaps of request {number} of {OUTPUT} are no times")
    return [round((gap or 0.0) * NS_PER_S) for gap in known]


def _wall_ns(outcome: ToolOutcome, requests: Requests) -> int:
    """Return what makes wall clock times of the tool's: it reads the monotonic clock of this machine."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    first_ns, last_ns = requests.first_sent_ns(), max(answer.end_ns for answer in requests.answers)
    ended_ns = outcome.start_wall_ns + round(outcome.duration_s * NS_PER_S)
    if outcome.start_wall_ns - _CLOCK_SLACK_NS < first_ns + offset_ns and last_ns + offset_ns < ended_ns + _CLOCK_SLACK_NS:
        return offset_ns
    return ended_ns - last_ns  # another clock after all: the tool ends with its last answer


def _take_content(requests: Requests, *, chat: bool, release: Optional["tuple[int, int]"]) -> str:
    """Take chunks without a token, the role and the end, out of the answers, where their numbers tell which these are.

    Returns: `exact` (every chunk that is left is one token), `near` (the first chunk came with the first token), `unknown`.
    """
    answers = [answer for answer in requests.answers if answer.chunk_ns]
    more = {len(answer.chunk_ns) - (answer.output_tokens or 0) for answer in answers}
    if more == {0}:
        return "exact"
    with_role = chat and (release is None or release < _CONTENT_FROM)
    first_ns = median([answer.chunk_ns[1] - answer.chunk_ns[0] for answer in answers if len(answer.chunk_ns) > 1] or [0])
    if not with_role:
        cut = (0, 1) if more == {1} else None
    elif more == {2}:
        cut = (1, 1)
    else:
        last_ns = median([answer.chunk_ns[-1] - answer.chunk_ns[-2] for answer in answers if len(answer.chunk_ns) > 1] or [0])
        # The end of an answer comes with its last token; where it does not, the chunk too many is the role.
        cut = (1, 0) if more == {1} and (last_ns > _AT_ONCE_NS or first_ns <= _AT_ONCE_NS) else None
    if cut is None:
        return "near" if not with_role or first_ns <= _AT_ONCE_NS else "unknown"
    for answer in answers:
        answer.chunk_ns = answer.chunk_ns[cut[0] : len(answer.chunk_ns) - cut[1]]
        answer.first_ns, answer.last_ns = (answer.chunk_ns[0], answer.chunk_ns[-1]) if answer.chunk_ns else (None, None)
    return "exact"


def _complete(measurement: Measurement, context: Context, requests: Requests, window: "tuple[int, int]", content: str) -> None:
    """Say what the tool does not, or says otherwise than we do."""
    version = measurement.tool.get("version")
    leave_out(
        measurement,
        {
            "distributions.e2e_body": f"{NAME} stops its clock at the last chunk",
            "distributions.ttfo": f"{NAME} does not tell reasoning from output",
        },
    )
    if content != "exact":
        why = f"{NAME} counts chunks without a token as well, such as the role and the end of an answer"
        leave_out(measurement, {"metrics.tokens_per_chunk": why, "metrics.chunks": why})
        measurement.absent["distributions.chunk_gap.exact"] = why
    if content == "unknown":
        why = f"{NAME} {version} takes the first chunk for the first token, here one that came long before: that of the role"
        leave_out(measurement, {f"distributions.{name}": why for name in _FROM_FIRST})
        if set(context.load.get("slo") or {}) & set(_FROM_FIRST):
            leave_out(measurement, {f"metrics.{name}": why for name in ("slo_attainment", "goodput", "token_goodput")})
    if measurement.process == "closed":
        return
    if not requests.is_open:
        measurement.absent["latency.schedule"] = "this version does not tell how long a request waited in the tool"
        return
    gate = Histogram()
    gate.record_many([answer.sent_ns - answer.due_ns for answer in requests.answers if window[0] <= answer.due_ns < window[1]])
    measurement.health.gate = gate.to_json()
    measurement.absent["latency.schedule.exact"] = f"from when {NAME} made the request; how late that was it does not tell"


def _release(version: Optional[str]) -> Optional["tuple[int, int]"]:
    parts = (version or "").split(".")[:2]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdecimal() for part in parts) else None
