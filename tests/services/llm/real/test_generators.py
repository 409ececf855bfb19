"""Several generators are one measurement: what is merged is what one recording of all of them says."""

import numpy as np
import pytest

from aifactory_bench.node.load.histogram import Histogram

RECIPE = """\
schema: aifactory-bench/1
name: four
services:
  llm: {kind: truth-llm, parameters: {ttft: "uniform:5ms:40ms", gap: "exponential:3ms"}}
clients:
  load:
    kind: openai-load
    target: llm
    replicas: 4
    parameters: {api: chat, input_tokens: 20, output_tokens: {least: 4, most: 24}}
    load: {process: poisson, rate: 80/s, warmup: 300ms, duration: 3s}
"""
QUANTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


def test_four_generators_are_one_recording(run):
    """Equal counts, equal histograms, and percentiles as numpy finds them in all records, to the width of a bucket."""
    done = run(RECIPE)
    assert done.code in {0, 3}, done.errors
    measurement, parts = done.measurement, done.records()
    assert len(parts) == measurement["replicas"] == 4
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if parts[0][name].ndim == 1}
    window = whole["phase"] == 1
    assert measurement["counts"]["ok"] == np.count_nonzero(window) > 150
    assert not whole["error"].any()
    assert min(np.count_nonzero(part["phase"] == 1) for part in parts) > 30

    first, sent, due, last = (whole[name][window] for name in ("first_ns", "sent_ns", "scheduled_ns", "last_ns"))
    gaps = [np.diff(part["chunk_ns"][begin:end]) for part in parts for begin, end in _chunks_of_window(part)]
    values = {
        "ttft": first - sent,
        "ttft_schedule": first - due,
        "e2e": last - sent,
        "e2e_schedule": last - due,
        "chunk_gap": np.concatenate(gaps),
        "output_tokens": whole["output_tokens"][window],
    }
    for name, recording in values.items():
        one = Histogram()
        one.record_many([int(value) for value in recording])
        merged = Histogram()
        for rank in done.ranks():
            merged.add(Histogram.from_json(rank["distributions"][name]["histogram"]))
        assert merged == one, name
        told, scale = measurement["distributions"][name], 1 if name == "output_tokens" else 1000
        assert told["count"] == len(recording)
        assert told["max"] == pytest.approx(recording.max() / scale, abs=0.1)
        assert told["mean"] == pytest.approx(recording.mean() / scale, rel=1e-3)
        for label, percent in QUANTILES.items():
            found = np.percentile(recording, percent, method="inverted_cdf") / scale
            assert told[label] == pytest.approx(found, rel=0.002, abs=0.1), (name, label)

    assert measurement["metrics"]["output_tokens"]["value"] == whole["output_tokens"][window].sum()
    server = done.ranks()[0]
    rose = server["server_after"]["output_tokens"] - server["server_before"]["output_tokens"]
    assert sum(rank["totals"]["output_tokens"] for rank in done.ranks()) == rose == whole["output_tokens"].sum()


def _chunks_of_window(part):
    """Return where the chunks of each request of the window begin and end."""
    offsets = part["chunk_offset"]
    return [(offsets[number], offsets[number + 1]) for number in np.flatnonzero(part["phase"] == 1)]
