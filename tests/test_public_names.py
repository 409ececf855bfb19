"""What `aifactory_bench` offers."""

import importlib
import subprocess
import sys

import pytest

import aifactory_bench


@pytest.mark.parametrize("name", aifactory_bench.__all__)
def test_every_name_is_there(name):
    """Imported from where it is defined, and the same object as there."""
    module = importlib.import_module(f"aifactory_bench.{aifactory_bench._PLACE_OF[name]}")
    assert getattr(aifactory_bench, name) is getattr(module, name)


def test_the_list_is_whole():
    """What can be imported is listed, and the other way round."""
    assert set(aifactory_bench.__all__) == set(aifactory_bench._PLACE_OF)
    assert set(aifactory_bench.__all__) <= set(dir(aifactory_bench))


def test_type_checkers_see_the_same_names():
    """The block for type checkers imports every public name."""
    source = aifactory_bench.__file__
    with open(source, encoding="utf-8") as stream:
        block = stream.read().split("if TYPE_CHECKING:")[1].split("\n_PLACES")[0]
    words = set(block.replace(",", " ").replace("(", " ").replace(")", " ").split())
    assert set(aifactory_bench.__all__) <= words


def test_an_unknown_name_is_said():
    """As for any module."""
    with pytest.raises(AttributeError, match="module 'aifactory_bench' has no attribute 'Servise'"):
        _ = aifactory_bench.Servise


def test_importing_the_package_imports_nothing_of_it():
    """Names are loaded when they are first used, so that `--help` is quick."""
    code = "import sys, aifactory_bench; print([m for m in sys.modules if m.startswith('aifactory_bench.') or m == 'attrs'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_plugins_names_do_not_import_the_engine():
    """A product's module needs values and base classes only."""
    code = (
        "import sys; from aifactory_bench import Service, Client, Command, hookimpl;"
        "print([m for m in sys.modules if m in ('asyncio', 'ruamel.yaml', 'rich', 'click', 'aifactory_bench.orchestrator')])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
