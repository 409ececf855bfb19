"""`calibrate`: measure what the load generator itself adds, on this node or on a site's.

The server (`truth-llm`) says in every answer when it had the request and when it sent what; the client (`openai-load`) says
when it sent and read. What lies between the two is the network and the generator.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from .errors import UsageError
from .recipe.load import load_recipe_text
from .report.calibrated import Calibration, calibration_of, keep
from .sync import BenchmarkOrchestrator

STREAMS = (1, 16, 64, 256)
"""Concurrencies that are measured where none are asked for."""
_TOKENS_PER_S = 50
"""Of each stream: what a reader of text sees as fast."""
_OUTPUT_TOKENS = 64
_TTFT_MS = 100
_MOST_STREAMS = 100_000


def calibration_recipe(streams: Sequence[int] = STREAMS, rate_per_s: Optional[float] = None, duration_s: float = 5.0) -> str:
    """Return the recipe that a calibration runs.

    Args:
        streams: concurrencies, each a point; with a rate: sizes of the connection pool.
        rate_per_s: requests offered by a Poisson process; None: closed loop.
        duration_s: window of each point.

    Raises:
        UsageError: there is nothing to measure.
    """
    if not streams or any(not 1 <= number <= _MOST_STREAMS for number in streams):
        raise UsageError(f"streams must be whole numbers from 1 to {_MOST_STREAMS:,}, got {list(streams)}")
    if rate_per_s is not None and not 0 < rate_per_s < float("inf"):
        raise UsageError(f"a rate must be above 0/s, got {rate_per_s:g}")
    if duration_s <= 0:
        raise UsageError(f"a duration must be above 0 s, got {duration_s:g}")
    process, key = ("closed", "concurrency") if rate_per_s is None else ("poisson", "connections")
    load: dict[str, Any] = {"process": process, "warmup": "2s", "duration": f"{duration_s:g}s"}
    if rate_per_s is not None:
        load["rate"] = f"{rate_per_s:g}/s"
    recipe = {
        "schema": "aifactory-bench/1",
        "name": "calibrate",
        "services": {
            "truth": {
                "kind": "truth-llm",
                "parameters": {"ttft": f"constant:{_TTFT_MS}ms", "gap": f"constant:{1000 // _TOKENS_PER_S}ms"},
            }
        },
        "clients": {
            "generator": {
                "kind": "openai-load",
                "target": "truth",
                "parameters": {"truth": True, "input_tokens": 32, "output_tokens": _OUTPUT_TOKENS},
                "load": {**load, key: streams[0]},
            }
        },
        "matrix": {f"clients.generator.load.{key}": list(streams)},
    }
    return json.dumps(recipe, indent=2)  # JSON is YAML


def calibrate(
    streams: Sequence[int] = STREAMS,
    *,
    rate_per_s: Optional[float] = None,
    duration_s: float = 5.0,
    site: str = "local",
    runs_dir: "Union[str, Path, None]" = None,
) -> Calibration:
    """Measure what the generator adds, keep it beside the runs, and return it.

    Args:
        streams: concurrencies, each measured for itself.
        rate_per_s: requests offered by a Poisson process; None: closed loop.
        duration_s: window of each.
        site: name of the site or path of its profile; the generator runs where its jobs do.
        runs_dir: folder of runs; default `$AIFACTORY_BENCH_RUNS`, or `runs`.

    Raises:
        UsageError: there is nothing to measure.
        SiteError: the site cannot be used.
        RunError: nothing was measured.
    """
    text = calibration_recipe(streams, rate_per_s, duration_s)
    with BenchmarkOrchestrator(site, runs_dir=runs_dir) as bench:
        summary = bench.run(load_recipe_text(text, "calibration", bench.registry)).wait()
        calibration = calibration_of(summary)
        keep(bench.runs_dir, calibration)
    return calibration
