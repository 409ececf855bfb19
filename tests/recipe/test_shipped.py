"""The recipes that come with the project, and those in its documentation, are right."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.plugins import load_registry
from aifactory_bench.recipe.document import parse
from aifactory_bench.recipe.load import load_recipe, load_recipe_text
from aifactory_bench.recipe.matrix import expand
from aifactory_bench.recipe.problems import Place, Problems

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipes.md"
BLOCK = re.compile(r"```yaml\n(schema: .*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def installed() -> Any:
    """Return the registry of what is installed."""
    return load_registry()


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_recipes(installed: Any, path: Path) -> None:
    """Every recipe loads without notes, and expands."""
    recipe = load_recipe(path, installed)
    assert recipe.notes == ()
    assert expand(recipe, installed)


def test_quickstart_is_quick(installed: Any) -> None:
    """The first recipe a user runs takes a few seconds."""
    recipe = load_recipe(ROOT / "recipes" / "quickstart.yaml", installed)
    load = recipe.clients[0].load
    assert load.warmup_s + load.duration_s <= 10


def test_chain_of_tools(installed: Any) -> None:
    """Three clients of one server, one after another."""
    recipe = load_recipe(ROOT / "recipes" / "redis-tools.yaml", installed)
    assert [(client.kind, client.after) for client in recipe.clients] == [
        ("redis-load", None),
        ("redis-benchmark", "own"),
        ("memtier", "benchmark"),
    ]


@pytest.mark.parametrize("text", BLOCK.findall(PAGE.read_text(encoding="utf-8")))
def test_documentation(installed: Any, text: str) -> None:
    """Every whole recipe on the page loads."""
    assert expand(load_recipe_text(text, "recipes.md", installed), installed)


def tables() -> Any:
    """Return the module that writes the page's tables."""
    spec = importlib.util.spec_from_file_location("recipe_tables", ROOT / "docs" / "recipe_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_the_model() -> None:
    """The pages' tables say what the classes say; `python docs/recipe_tables.py` writes them."""
    module = tables()
    for place in module.PAGES:
        page = place.read_text(encoding="utf-8")
        assert module.filled(page) == page
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("| `duration` | duration, more than 0s, at most 7d | `30s` |") == 1


def test_quoted_messages(installed: Any) -> None:
    """The messages that the page quotes are those that are said."""
    quoted = re.findall(r"^    r\.yaml:(\d+:\d+): (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    text = BLOCK.findall(PAGE.read_text(encoding="utf-8"))[0].replace("kind: redis}", "kind: reddis}").replace("5000/s", "5000")
    problems = Problems()
    assert parse(text, Place(0, "r.yaml", 1, 1), problems)
    with pytest.raises(Exception, match="reddis") as caught:
        load_recipe_text(text, "r.yaml", installed)
    lines = str(caught.value).splitlines()
    assert [line.partition("; known: ")[0] for line in lines] == [
        f"r.yaml:{place}: {said}".partition("; known: ")[0] for place, said in quoted
    ]
