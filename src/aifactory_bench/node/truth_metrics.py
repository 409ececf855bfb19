"""What the truth server has done since its start, as Prometheus reads it, under the names that vLLM gives."""

from bisect import bisect_left
from typing import Dict, Iterable, List, Sequence, Tuple

from .truth_record import Record

_NS = 1e9
_TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_ITL_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_E2E_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class _Histogram:
    def __init__(self, name: str, text: str, bounds_s: "Sequence[float]") -> None:
        self._name = name
        self._text = text
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def add(self, value_s: float) -> None:
        self._counts[bisect_left(self._bounds_s, value_s)] += 1
        self._sum_s += value_s

    def lines(self, labels: str) -> "List[str]":
        lines, total = _heading(self._name, "histogram", self._text), 0
        for bound, count in zip((*self._bounds_s, "+Inf"), self._counts):
            total += count
            lines.append(f'{self._name}_bucket{{{labels},le="{bound}"}} {total}')
        return [*lines, f"{self._name}_sum{{{labels}}} {self._sum_s!r}", f"{self._name}_count{{{labels}}} {total}"]


class Metrics:
    """Totals and histograms; a request is in them when it has ended, its tokens as they are sent."""

    def __init__(self, model: str) -> None:
        escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self._labels = f'model_name="{escaped}",engine="0"'
        self._ttft = _Histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.", _TTFT_S)
        self._itl = _Histogram("vllm:inter_token_latency_seconds", "Between chunks with tokens.", _ITL_S)
        self._e2e = _Histogram("vllm:e2e_request_latency_seconds", "From arrival to the last token.", _E2E_S)
        self._reasons = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        self._prompt_tokens = self._cached_tokens = self._output_tokens = 0
        self._requests = 0

    def add(self, record: Record, reason: str, cached_tokens: int) -> None:
        """Count a request that has ended; reason: `stop`, `length`, `abort`, `error`, or empty for one that was refused."""
        self._requests += 1
        if not reason:
            return
        self._reasons[reason] += 1
        self._prompt_tokens += record.prompt_tokens
        self._cached_tokens += cached_tokens
        self._output_tokens += record.output_tokens()
        stamps = record.token_stamps_ns()
        if stamps:
            self._ttft.add((stamps[0] - record.received_ns) / _NS)
            self._e2e.add((stamps[-1] - record.received_ns) / _NS)
            for before, after in zip(stamps, stamps[1:]):
                self._itl.add((after - before) / _NS)

    def text(self, running: "Iterable[Record]", waiting: int) -> bytes:
        """Return the exposition; running: requests that are being answered, whose tokens count already."""
        active = list(running)
        labels = self._labels
        values: "List[Tuple[str, str, str, float]]" = [
            ("vllm:num_requests_running", "gauge", "Requests with a slot.", len(active)),
            ("vllm:num_requests_waiting", "gauge", "Requests that wait for a slot.", waiting),
            ("vllm:prompt_tokens_total", "counter", "Prompt tokens of requests that have ended.", self._prompt_tokens),
            ("vllm:prompt_tokens_cached_total", "counter", "Of these, stated as cached.", self._cached_tokens),
            (
                "vllm:generation_tokens_total",
                "counter",
                "Tokens sent.",
                self._output_tokens + sum(record.output_tokens() for record in active),
            ),
            ("afb_truth:requests_total", "counter", "Requests for tokens that have ended, however.", self._requests),
        ]
        lines: "List[str]" = []
        for name, kind, text, value in values:
            lines += [*_heading(name, kind, text), f"{name}{{{labels}}} {value}"]
        lines += _heading("vllm:request_success_total", "counter", "Requests that have ended, by reason.")
        lines += [_reason_line(labels, self._reasons, reason) for reason in self._reasons]
        for histogram in (self._ttft, self._itl, self._e2e):
            lines += histogram.lines(labels)
        return ("\n".join(lines) + "\n").encode()


def _reason_line(labels: str, reasons: "Dict[str, int]", reason: str) -> str:
    return f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {reasons[reason]}'


def _heading(name: str, kind: str, text: str) -> "List[str]":
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
