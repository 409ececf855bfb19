"""The plugin as its users get it: needs aifactory-bench and this distribution installed."""

from pathlib import Path

import pytest

from aifactory_bench import BenchmarkOrchestrator, load_registry

RECIPE = Path(__file__).parent.parent / "recipes" / "echo.yaml"


def test_both_kinds_are_registered():
    """Found through the entry point, with no warning."""
    registry = load_registry()
    assert registry.sources["echo"] == registry.sources["echo-load"] == "aifactory-bench-echo 0.1.0"
    assert not [warning for warning in registry.warnings if "echo" in warning]


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_recipe_measures_a_real_server(tmp_path, replicas):
    """From recipe to numbers; every line comes back."""
    with BenchmarkOrchestrator(runs_dir=tmp_path) as bench:
        summary = bench.run(RECIPE, overrides=[f"clients.load.replicas={replicas}", "clients.load.load.duration=1s"]).wait()
    (measurement,) = summary.points[0].measurements
    assert measurement.counts["ok"] > 250
    assert measurement.counts["error"] == 0
    assert measurement.unit == "line"
