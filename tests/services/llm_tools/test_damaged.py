"""Damaged output of a tool never raises: it is a failure with a reason, or a measurement that holds together."""

import copy
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aifactory_bench import Load
from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services import aiperf_node, guidellm_node, vllm_bench_node
from aifactory_bench_services.aiperf import AiperfClient, AiperfParameters
from aifactory_bench_services.guidellm import GuidellmClient, GuidellmParameters
from aifactory_bench_services.vllm_bench import VllmBenchClient, VllmBenchParameters

SAMPLES = Path(__file__).parent / "samples"
COMMON = {"model": "truth", "input_tokens": 16, "output_tokens": 8, "api": "completions", "tokenizer": "/models/tiny"}
OPEN = Load(process="poisson", rate_per_s=5.0, warmup_s=1.0, duration_s=2.0)
CASES = {
    "vllm": (
        VllmBenchClient("bench", VllmBenchParameters(**COMMON), load=OPEN),
        vllm_bench_node,
        {"vllm-bench.json": "vllm-bench-0.32.0-completions.json"},
    ),
    "guidellm": (
        GuidellmClient("bench", GuidellmParameters(**COMMON), load=OPEN),
        guidellm_node,
        {"guidellm.json": "guidellm-0.8.1-poisson.json"},
    ),
    "aiperf": (
        AiperfClient("bench", AiperfParameters(**COMMON), load=OPEN),
        aiperf_node,
        {
            "profile_export.jsonl": "aiperf-0.13.0-gamma-profile_export.jsonl",
            "profile_export_aiperf.json": "aiperf-0.13.0-gamma-profile_export_aiperf.json",
        },
    ),
}


def _documents(name, text):
    return [json.loads(line) for line in text.splitlines()] if name.endswith("jsonl") else [json.loads(text)]


def _damage(value, random_):
    """Replace or remove one thing somewhere in a document."""
    parent, key = None, None
    while isinstance(value, (dict, list)) and value and (parent is None or random_.random() < 0.9):
        parent = value
        key = random_.choice(sorted(value)) if isinstance(value, dict) else random_.randrange(len(value))
        value = value[key]
    if parent is None:
        return
    if random_.random() < 0.3:
        del parent[key]
    else:
        parent[key] = random_.choice(
            [None, -1, 0, 10**30, float("nan"), float("inf"), "x", [], {}, True, 1.5, 1e-9, [None], 3e9]
        )


@pytest.mark.parametrize("tool", CASES)
@given(seed=st.integers(0, 2**32), cut=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_output_never_raises_and_stays_a_document(context_of, outcome_of, checked, tool, seed, cut):
    client, module, files = CASES[tool]
    random_ = random.Random(seed)
    context = context_of(client)
    for name, sample in files.items():
        documents = copy.deepcopy(_documents(name, (SAMPLES / sample).read_text()))
        for _ in range(random_.randrange(1, 6)):
            _damage(documents, random_)
        text = "\n".join(json.dumps(document) for document in documents)
        (context.folder / name).write_text(text[: random_.randrange(len(text))] if cut and text else text)
    measurement = checked(module.reduce(context, outcome_of()))
    if measurement.status == "failed":
        assert measurement.reason.startswith("tool output is not a success: ")
        return
    assert measurement.status in {"ok", "cut"}
    assert measurement.counts.ok > 0
    assert measurement.window_s > 0
    for clocks in measurement.latency.values():
        assert Histogram.from_json(clocks["send"]).count == measurement.counts.ok
    for entry in measurement.distributions.values():
        Histogram.from_json(entry["histogram"])
    assert sum(part["ok"] for part in measurement.slices) == measurement.counts.ok
