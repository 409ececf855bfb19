"""The plugin as its users get it: needs aifactory-bench and this distribution installed."""

from pathlib import Path

import pytest

from aifactory_bench import BenchmarkOrchestrator, load_registry
from aifactory_bench.testing.conformance import checks

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


@pytest.mark.parametrize(*checks("echo", recipes=[RECIPE], run=RECIPE))
def test_the_server_does_what_every_service_must(check):
    """The conformance suite, with a real start and stop."""
    check()


@pytest.mark.parametrize(*checks("echo-load", recipes=[RECIPE]))
def test_the_load_does_what_every_client_must(check):
    """The same for the client; `test_the_recipe_measures_a_real_server` runs it."""
    check()
