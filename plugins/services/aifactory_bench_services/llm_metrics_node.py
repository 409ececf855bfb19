"""Metrics out of the records of LLM requests; docs/llm-records.md defines every one of them.

Millions of stamps are summarised in pure Python, so what is done a chunk is done by `map`, `bisect` and the histogram's own
batches; what is done a request is plain.
"""

from array import array
from collections import defaultdict
from operator import sub
from typing import TYPE_CHECKING, Any, DefaultDict, Dict, List, Mapping, NamedTuple, Optional

from aifactory_bench.node.load.histogram import Histogram

from .llm_gaps_node import Gaps, Pool, gaps_of, stalls_of
from .llm_seconds_node import SECOND_NS, Seconds

if TYPE_CHECKING:
    from .llm_records_node import Columns

SLOS = ("ttft", "ttfo", "tpot", "stall", "e2e")
"""What can be promised, seconds. In open loop `ttft`, `ttfo` and `e2e` count from the schedule: a user waits there too."""
_SAME_HOST_NS = 10 * SECOND_NS
"""Stamps of the truth server that are older than this at best are of another host's clock."""
_OTHER_CLOCK = "the server's clock is another one: it runs on another host"
_SOURCE_NAMES = ((1, "chunk_usage"), (2, "usage"), (3, "chunks"))


class _Row(NamedTuple):
    """One request, as in the columns of these names."""

    scheduled_ns: int
    sent_ns: int
    header_ns: int
    first_ns: int
    first_output_ns: int
    last_ns: int
    end_ns: int
    error: int
    prompt_tokens: int
    prompt_asked: int
    output_tokens: int
    cached_tokens: int
    token_source: int
    chunks: int
    load_ns: int
    prompt_eval_ns: int
    eval_ns: int
    truth_received_ns: int


class Metrics:
    """The metrics of one worker's requests.

    Raises:
        ValueError: an SLO that is not known.
    """

    def __init__(self, start_ns: int, end_ns: int, *, is_open: bool, slo: Mapping[str, float]) -> None:
        strange = sorted(set(slo) - set(SLOS))
        if strange:
            raise ValueError(f"an SLO of {strange[0]!r} is not known, known: {', '.join(SLOS)}")
        self.start_ns = start_ns
        self.end_ns = end_ns
        self._is_open = is_open
        self._slo_ns = {name: round(limit_s * 1e9) for name, limit_s in slo.items()}
        self._stall_floor_ns = self._slo_ns.get("stall", self._slo_ns.get("tpot", 0))
        self._pools: "DefaultDict[str, Pool]" = defaultdict(Pool)
        self._tokens: "DefaultDict[str, Pool]" = defaultdict(Pool)
        self._gaps = Gaps()
        self._seconds = Seconds(start_ns, end_ns)
        self._counts: "DefaultDict[str, int]" = defaultdict(int)
        """Whole numbers that the metrics are made of."""
        self._totals: "DefaultDict[str, float]" = defaultdict(float)
        self._ones = array("I")
        self._longest_load_ns = -1

    def end_at(self, end_ns: int) -> None:
        """Set the end of the window as it was, before requests are taken."""
        self.end_ns = end_ns
        self._seconds.end_at(end_ns)

    def take(self, columns: "Columns", first: int, last: int) -> None:
        """Take the requests from first to before last, each once."""
        rows = zip(*(columns.numbers[name][first:last] for name in _Row._fields))
        offsets = columns.chunk_offset
        for number, row in enumerate(rows, first):
            self._request(columns, offsets[number], offsets[number + 1], _Row._make(row))

    def _request(self, columns: "Columns", first: int, last: int, row: "_Row") -> None:
        counts, seconds = self._counts, self._seconds
        in_window = self.start_ns <= row.scheduled_ns < self.end_ns
        ended_well = not row.error
        seconds.add_flight(row.sent_ns, row.end_ns)
        counts["requests"] += in_window
        self._longest_load_ns = max(self._longest_load_ns, row.load_ns)
        tokens: "Optional[array[int]]" = columns.chunk_tokens[first:last]
        in_chunks = last - first
        if len(self._ones) < in_chunks:
            self._ones = array("I", [1]) * (2 * in_chunks)
        if tokens == self._ones[:in_chunks]:
            tokens = None
        else:
            in_chunks = sum(tokens or ())
        output = max(row.output_tokens, in_chunks)
        totals = self._totals
        totals["output_tokens"] += output
        totals["prompt_tokens"] += max(0, row.prompt_tokens)
        if row.first_ns >= 0:
            totals["ttft_s"] += (row.first_ns - row.sent_ns) / 1e9
            totals["ttft_count"] += 1
        if not ended_well:
            if in_window:
                counts["failed_tokens"] += output
                if row.first_ns >= 0:
                    self._pools["ttft_failed"].values.append(row.first_ns - row.sent_ns)
            return
        seconds.add_stream(columns.chunk_ns, first, last, tokens)
        if output > in_chunks:  # those without a chunk came with the last of them
            seconds.add(seconds.output, row.last_ns if row.last_ns >= 0 else row.end_ns, output - in_chunks)
        if row.prompt_tokens > 0:
            seconds.add(seconds.prompt, row.first_ns if row.first_ns >= 0 else row.end_ns, row.prompt_tokens)
        if in_window:
            self._good(columns, first, last, tokens, output, row)

    def _good(
        self, columns: "Columns", first: int, last: int, tokens: "Optional[array[int]]", output: int, row: "_Row"
    ) -> None:
        """Take a request of the window that ended well."""
        due, sent = row.scheduled_ns, row.sent_ns
        spans = {"e2e_body": row.end_ns - sent}
        if row.header_ns >= 0:
            spans["header"] = row.header_ns - sent
        if row.first_ns >= 0:
            spans["ttft"] = row.first_ns - sent
        if row.first_output_ns >= 0:
            spans["ttfo"] = row.first_output_ns - sent
        if row.last_ns >= 0:
            spans["e2e"] = row.last_ns - sent
        if self._is_open and row.first_ns >= 0:
            spans["ttft_schedule"] = row.first_ns - due
        if self._is_open and row.last_ns >= 0:
            spans["e2e_schedule"] = row.last_ns - due
        chunks = last - first
        kept = columns.chunk_tokens[first] if chunks and row.token_source == 1 else 1
        if row.chunks > 1 and output > kept:
            spans["tpot"] = (row.last_ns - row.first_ns) // (output - kept)
        gaps: List[int] = []
        if chunks > 1:
            stamps = columns.chunk_ns[first:last]
            gaps = gaps_of(stamps)
            self._gaps.add(gaps, None if tokens is None else tokens[1:])
            spans["stall"] = max(gaps)
            self._counts["stalls"] += stalls_of(gaps, spans["stall"], self._stall_floor_ns)
        if row.prompt_eval_ns >= 0:
            spans["server_prompt_eval"] = row.prompt_eval_ns
        if row.eval_ns >= 0:
            spans["server_eval"] = row.eval_ns
        if row.truth_received_ns >= 0 and columns.truth_sent_ns is not None and chunks:
            self._compare(columns.chunk_ns[first:last], columns.truth_sent_ns[first:last], gaps, row)
        for name, span in spans.items():
            self._pools[name].values.append(span)
        self._count(output, spans, row)

    def _count(self, output: int, spans: "Dict[str, int]", row: "_Row") -> None:
        counts = self._counts
        counts["ok"] += 1
        counts["chunks"] += row.chunks
        counts["output_tokens"] += output
        counts[f"source_{row.token_source}"] += output
        if row.output_tokens >= 0 or output:
            self._tokens["output_tokens"].values.append(output)
        if row.chunks:
            counts["chunked_tokens"] += output
        if row.prompt_tokens >= 0:
            counts["prompt_tokens"] += row.prompt_tokens
            self._tokens["prompt_tokens"].values.append(row.prompt_tokens)
            if row.prompt_asked > 0:
                counts["prompt_asked"] += row.prompt_asked
                counts["prompt_made"] += row.prompt_tokens
            if row.cached_tokens >= 0:
                counts["cached_known"] += row.prompt_tokens
                counts["cached_tokens"] += row.cached_tokens
        if self._slo_ns and self._meets(spans, row):
            counts["met"] += 1
            counts["met_tokens"] += output

    def _meets(self, spans: "Dict[str, int]", row: "_Row") -> bool:
        waited = row.sent_ns - row.scheduled_ns
        for name, limit in self._slo_ns.items():
            span = spans.get(name)
            if span is None:
                if name in {"ttft", "ttfo"}:
                    return False  # nothing ever came
                span = spans["e2e_body"] if name == "e2e" else 0
            if span + (waited if name in {"ttft", "ttfo", "e2e"} else 0) > limit:
                return False
        return True

    def _compare(self, stamps: "array[int]", truth: "array[int]", gaps: "List[int]", row: "_Row") -> None:
        """Compare a request with what the truth server says of it."""
        true_ttft = truth[0] - row.truth_received_ns
        pools = self._pools
        pools["true_ttft"].values.append(true_ttft)
        pools["added_ttft"].values.append(max(0, row.first_ns - row.sent_ns - true_ttft))
        true_gaps = gaps_of(truth)
        pools["true_gap"].extend(true_gaps)
        pools["added_gap"].extend(list(map(abs, map(sub, gaps, true_gaps))))
        ages = list(map(sub, stamps, truth))
        if min(ages) < 0:
            self._counts["other_clock"] += 1
        else:
            pools["observed_age"].extend(ages)

    def results(self) -> Dict[str, Any]:
        """Return everything as `load.Driver.results` has it."""
        histograms = {name: pool.fold() for name, pool in self._pools.items()}
        histograms.update(self._gaps.histograms())
        age = histograms.get("observed_age", Histogram())
        absent = {}
        if self._counts["other_clock"] or (age.min_ns or 0) > _SAME_HOST_NS:
            histograms.pop("observed_age", None)
            absent["distributions.observed_age"] = _OTHER_CLOCK
        distributions = {
            name: {"unit": "us", "histogram": histogram.to_json()} for name, histogram in histograms.items() if histogram.count
        }
        for name, pool in self._tokens.items():
            distributions[name] = {"unit": "token", "histogram": pool.fold().to_json()}
        return {
            "distributions": distributions,
            "sums": self._seconds.report(),
            "metrics": self._figures(),
            "totals": dict(self._totals),
            "absent": absent,
        }

    def _figures(self) -> "Dict[str, Dict[str, Any]]":
        counts = self._counts
        window_s = max(0, self.end_ns - self.start_ns) / 1e9
        figures = {
            "output_tokens": _sum(counts["output_tokens"], "token"),
            "prompt_tokens": _sum(counts["prompt_tokens"], "token"),
            "chunks": _sum(counts["chunks"], "chunk"),
            "stalls": _sum(counts["stalls"], "gap"),
        }
        if counts["failed_tokens"]:
            figures["failed_output_tokens"] = _sum(counts["failed_tokens"], "token")
        if counts["chunks"]:
            figures["tokens_per_chunk"] = _ratio(counts["chunked_tokens"], counts["chunks"], "token/chunk")
        if counts["prompt_asked"]:
            figures["prompt_tokens_by_asked"] = _ratio(counts["prompt_made"], counts["prompt_asked"], "token/token")
        if counts["cached_known"]:
            figures["cached_share"] = _ratio(counts["cached_tokens"], counts["cached_known"])
        for number, name in _SOURCE_NAMES:
            if counts[f"source_{number}"]:
                figures[f"tokens_by_{name}"] = _sum(counts[f"source_{number}"], "token")
        if self._longest_load_ns >= 0:
            figures["cold_start"] = {"value": self._longest_load_ns / 1e9, "unit": "s", "merge": "max"}
        if self._slo_ns and window_s:
            # What was lost with its connection, timed out or was never sent is a miss too, and not known here.
            figures["slo_attainment"] = {**_ratio(counts["met"], counts["requests"]), "of": "requests"}
            figures["goodput"] = _sum(counts["met"] / window_s, "request/s")
            figures["token_goodput"] = _sum(counts["met_tokens"] / window_s, "token/s")
        return figures


def _sum(value: float, unit: str) -> "Dict[str, Any]":
    return {"value": value, "unit": unit, "merge": "sum"}


def _ratio(numerator: int, denominator: int, unit: str = "ratio") -> "Dict[str, Any]":
    value = numerator / denominator if denominator else 0.0
    return {"value": value, "unit": unit, "merge": "ratio", "numerator": numerator, "denominator": denominator}
