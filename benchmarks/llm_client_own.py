"""Our own generator, one worker, as a recipe's client drives it. Run by llm_load.py; prints one JSON object.

    python benchmarks/llm_client_own.py URL STREAMS SECONDS TOKENS [plain]

`plain`: without the truth server's stamps, which take time to read and which no other server sends.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from aifactory_bench.jobs.base import parameters_to_json
from aifactory_bench.node.contract import Context
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.events import EventLog
from aifactory_bench.node.load import Histogram, run_load
from aifactory_bench_services.llm_driver_node import LlmLoad, Server
from aifactory_bench_services.llm_prompts_node import Prompts
from aifactory_bench_services.llm_request_node import expected, head_of
from aifactory_bench_services.openai_load import OpenaiLoadParameters
from aifactory_bench_services.openai_load_node import _dialect

WARMUP_S = 0.0


def main() -> None:
    url, streams, seconds, tokens = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    truth = sys.argv[5:] != ["plain"]
    workers = 1
    parts = urlsplit(url)
    endpoint = Endpoint("truth", 0, str(parts.hostname), int(parts.port or 0), url)
    parameters = parameters_to_json(
        OpenaiLoadParameters(model="truth", input_tokens=32, output_tokens=tokens, truth=truth, tokens_per_word=1.0)
    )
    load = {
        "process": "closed",
        "concurrency": streams,
        "warmup_s": WARMUP_S,
        "duration_s": seconds,
        "timeout_s": 600.0,
        "seed": 1,
        "workers": workers,
    }
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            client="load",
            kind="openai-load",
            rank=0,
            ranks=1,
            seed=1,
            endpoints={"main": (endpoint,)},
            secrets={},
            service_parameters={},
            parameters=parameters,
            load=load,
            point="p0000-r1",
            repetition=1,
            reset="none",
            first=True,
            folder=Path(folder),
            events=EventLog(Path(folder) / "events.jsonl", "load", 0),
        )
        driver = LlmLoad(
            [Server(endpoint.host, endpoint.port, head_of(endpoint, "/v1/chat/completions", "", stream=True))],
            _dialect(context, "truth"),
            lambda part: Prompts(parameters, load, 1, part, workers),
            load=load,
            own_parts=range(workers),
            ahead=expected(load, workers),
            exact_output=True,
            truth=truth,
        )
        ready_cpu_s = sum(os.times()[:4])
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        measurement = run_load(context, driver, time.monotonic_ns() + round(1e9 * (0.2 + streams * 0.0002)), lambda: None)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        kept = sum(path.stat().st_size for path in Path(folder).glob("*.npz"))
    assert measurement.status == "ok", measurement.reason
    assert not measurement.errors, measurement.errors
    named = {name: Histogram.from_json(entry["histogram"]) for name, entry in measurement.distributions.items()}

    def ms(name: str, percent: float) -> float:
        return (named[name].percentile_us(percent) or 0.0) / 1000 if name in named else 0.0

    # Tokens of the whole load, its end included, as the CPU time is.
    all_tokens = measurement.totals["output_tokens"]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    age = Histogram.from_json(measurement.health.observation_age)
    print(
        json.dumps(
            {
                "client": "aifactory-bench",
                "version": "",
                "requests": measurement.counts.ok,
                "tokens": all_tokens,
                "cpu_us_per_token": cpu_s * 1e6 / all_tokens,
                "ttft_p50_ms": ms("ttft", 50),
                "ttft_p99_ms": ms("ttft", 99),
                "gap_p50_ms": ms("chunk_gap", 50),
                "gap_p99_ms": ms("chunk_gap", 99),
                "added_ttft_p50_ms": ms("added_ttft", 50),
                "added_ttft_p99_ms": ms("added_ttft", 99),
                "added_gap_p99_ms": ms("added_gap", 99),
                "age_p50_ms": (age.percentile_us(50) or 0) / 1000,
                "age_p99_ms": (age.percentile_us(99) or 0) / 1000,
                "cpu_share": measurement.health.cpu_share,
                "records_bytes": kept,
                "ready_cpu_s": ready_cpu_s,
            }
        )
    )


if __name__ == "__main__":
    main()
