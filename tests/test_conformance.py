"""Every kind of ours keeps what the conformance suite asks for, as a stranger's kind has to."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

import pytest

from aifactory_bench import load_registry
from aifactory_bench.testing.conformance import Check, checks
from aifactory_bench.testing.conformance_subject import kinds_in

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
SAMPLES = Path(__file__).parent / "conformance"
"""`<kind>.json`: recorded output of each tool, with what is known of it."""
REGISTRY = load_registry()
OURS = [kind for kind, source in sorted(REGISTRY.sources.items()) if source.startswith("aifactory-bench ")]
TOOLS = [kind for kind in OURS if kind in REGISTRY.clients and REGISTRY.clients[kind].mode == "tool"]
RUN = {"redis": "quickstart", "truth-llm": "llm-truth", "mysql": "mysql"}
"""Kind of service -> the recipe with which it is started and stopped."""


def _checks(kind: str) -> list[Check]:
    samples = SAMPLES / f"{kind}.json"
    run = RECIPES / f"{RUN[kind]}.yaml" if kind in RUN else None
    return checks(kind, recipes=[RECIPES], samples=samples if samples.exists() else None, run=run)[1]


@pytest.mark.parametrize("check", [check for kind in OURS for check in _checks(kind)])
def test_conformance(check: Check) -> None:
    try:
        check()
    except SkipTest as skipped:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true: {skipped}")
        raise


def test_node_modules_are_imported_by_the_oldest_python(
    python_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(python_of('3.9')).parent}:{os.environ['PATH']}")
    for cls in {cls.node_module: cls for cls in (*REGISTRY.services.values(), *REGISTRY.clients.values())}.values():
        (packed,) = [check for check in checks(cls.kind)[1] if check.name == "packed"]
        packed()


@pytest.mark.parametrize("kind", OURS)
def test_each_kind_has_a_recipe(kind: str) -> None:
    assert [path for path in RECIPES.glob("*.yaml") if kind in kinds_in(path)], f"recipes/ has none with {kind}"


@pytest.mark.parametrize("kind", TOOLS)
def test_each_tool_has_a_recorded_sample(kind: str) -> None:
    path = SAMPLES / f"{kind}.json"
    assert path.exists(), f"{path.name} is missing: list what the tool printed once, and what is known of it"
    assert any(sample["expect"]["status"] == "ok" for sample in json.loads(path.read_text()).values())
