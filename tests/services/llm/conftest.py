"""Bytes of answers as servers write them, cut into reads at any place; a server whose truth is known, and loads on it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.contract import Context
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import run_load
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Measurement
from aifactory_bench_services import ollama_load_node, openai_load_node
from aifactory_bench_services.llm_answer_node import Answer
from aifactory_bench_services.llm_framing_node import Arrival

STEP_NS = 1000
"""Read number i is stamped (i + 1) * STEP_NS."""


class Wire:
    """Writes responses."""

    step_ns = STEP_NS

    @staticmethod
    def event(data: "dict[str, Any] | str", *, line_end: str = "\n", space: str = " ") -> bytes:
        """Return one event of server-sent events."""
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        return f"data:{space}{text}{line_end}{line_end}".encode()

    @staticmethod
    def chat(text: "str | None" = None, *, finish: "str | None" = None, **delta: Any) -> dict[str, Any]:
        """Return a chunk of a chat as vLLM writes it."""
        if text is not None:
            delta["content"] = text
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}

    @staticmethod
    def completion(text: str, *, finish: "str | None" = None) -> dict[str, Any]:
        """Return a chunk of a completion as vLLM writes it."""
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "tiny", "choices": [choice]}

    @staticmethod
    def usage(prompt: int, output: int, **more: Any) -> dict[str, Any]:
        """Return the last chunk, with usage alone."""
        counts = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, **more}
        return {"id": "cmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": counts}

    @staticmethod
    def chunk(data: bytes) -> bytes:
        """Return one chunk of a chunked body."""
        return b"%x\r\n%b\r\n" % (len(data), data)

    def chunked(
        self, parts: Sequence[bytes], *, content_type: str = "text/event-stream; charset=utf-8", end: bytes = b"0\r\n\r\n"
    ) -> bytes:
        """Return a response whose body comes in these chunks."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        return head.encode() + b"".join(map(self.chunk, parts)) + end

    @staticmethod
    def sized(
        body: bytes, *, status: str = "200 OK", content_type: str = "application/json", more: str = "", length: bool = True
    ) -> bytes:
        """Return a response whose header says how long it is, or does not."""
        size = f"Content-Length: {len(body)}\r\n" if length else ""
        return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{size}{more}\r\n".encode() + body

    @staticmethod
    def deliver(raw: bytes, cuts: Sequence[int] = ()) -> tuple[Arrival, int]:
        """Return the response as read in pieces that end at these places, and the number of reads until it was whole or -1."""
        arrival = Arrival()
        places = sorted({cut for cut in cuts if 0 < cut < len(raw)} | {len(raw)})
        before = 0
        for number, place in enumerate(places, 1):
            if arrival.take(raw[before:place], number * STEP_NS):
                assert number == len(places), "it is said to be whole before its end"
                return arrival, number
            before = place
        return arrival, -1

    def read(self, reader: Callable[..., None], raw: bytes, cuts: Sequence[int] = (), **options: Any) -> Answer:
        """Return the answer that a reader makes of a response."""
        arrival, _ = self.deliver(raw, cuts)
        answer = Answer(0, 0)
        answer.header_ns, answer.end_ns = arrival.stamps[0], arrival.stamps[-1]
        reader(answer, arrival, **options)
        return answer


@pytest.fixture(scope="session")
def wire() -> Wire:
    return Wire()


@pytest.fixture
def truth() -> Iterator[Callable[..., Endpoint]]:
    """Returns a function: options of the truth server, such as ttft="50ms" -> a running one."""
    servers = []

    def start(**options: Any) -> Endpoint:
        argv = [sys.executable, "-m", "aifactory_bench.node.truth_server", "--port", "0"]
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        return Endpoint("llm", 0, "127.0.0.1", int(url.rpartition(":")[2]), url, nonce=str(server.pid))

    yield start
    for server in servers:
        server.terminate()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., Context]:
    """Returns a function: endpoint, secret, anything of load or parameters -> the context of a client."""
    loads: dict[str, Any] = {
        "process": "closed",
        "concurrency": 4,
        "connections": None,
        "rate_per_s": None,
        "burst_size": None,
        "burst_every_s": None,
        "warmup_s": 0.05,
        "duration_s": 0.4,
        "timeout_s": 5.0,
        "seed": 3,
        "workers": 1,
        "slo": {},
    }

    def make(*endpoints: Endpoint, secret: str = "", rank: int = 0, ranks: int = 1, **changes: Any) -> Context:
        load = dict(loads)
        parameters: dict[str, Any] = {"input_tokens": 20, "output_tokens": 8, "tokens_per_word": 1.0, "truth": True}
        for name, value in changes.items():
            (load if name in loads else parameters)[name] = value
        return Context(
            client="load",
            kind="openai-load",
            rank=rank,
            ranks=ranks,
            seed=3 + rank,
            endpoints={"main": endpoints},
            secrets={"main": secret},
            service_parameters={},
            parameters=parameters,
            load=load,
            point="p0000-r1",
            repetition=1,
            reset="none",
            first=True,
            folder=tmp_path,
            events=EventLog(tmp_path / "events.jsonl", "load", rank),
        )

    return make


class Measured:
    """A measurement, and its figures in a form for asserting."""

    def __init__(self, measurement: Measurement) -> None:
        self.measurement = measurement
        self.counts = measurement.counts
        self.errors = measurement.errors

    @property
    def texts(self) -> dict[str, str]:
        """Class of error -> what the server said."""
        return dict(self.measurement.provenance.get("error_texts", {}))

    def value(self, name: str) -> float:
        """Return a metric."""
        return float(self.measurement.metrics[name]["value"])

    def histogram(self, name: str) -> Histogram:
        """Return a distribution; empty where there is none."""
        entry = self.measurement.distributions.get(name)
        return Histogram() if entry is None else Histogram.from_json(entry["histogram"])

    def median_ms(self, name: str) -> float:
        """Return the median of a distribution of times."""
        median = self.histogram(name).percentile_us(50)
        assert median is not None, f"nothing was recorded as {name}"
        return median / 1000


@pytest.fixture
def measure() -> Callable[..., Measured]:
    """Returns a function: context, node module -> prepared and measured."""

    def run(context: Context, module: Any = openai_load_node, stop: "Callable[[], str | None]" = lambda: None) -> Measured:
        module.prepare(context)
        measurement = run_load(context, module.driver(context), time.monotonic_ns() + 60_000_000, stop)
        assert measurement.status == "ok", measurement.reason
        return Measured(measurement)

    return run


@pytest.fixture
def measure_ollama(measure: Callable[..., Measured]) -> Callable[[Context], Measured]:
    """Returns a function: context -> prepared and measured by Ollama's interface."""
    return lambda context: measure(context, ollama_load_node)
