"""Rules of the source tree that import-linter (`nox -s layers`) cannot see."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "src" / "aifactory_bench"
PLUGINS = ROOT / "plugins"
NODE = sorted((CORE / "node").rglob("*.py"))
PRODUCTS_ON_NODE = sorted(PLUGINS.rglob("*_node.py"))
EVERY_MODULE = sorted({*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")})
LONGEST = 400


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield level and name of each import, those inside of functions too."""
    for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(found, ast.Import):
            yield from ((0, name.name) for name in found.names)
        elif isinstance(found, ast.ImportFrom):
            yield found.level, found.module or ""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", NODE, ids=_name)
def test_node_side_is_standard_library_only(path: Path) -> None:
    """A compute node has a Python and nothing else; inside the package imports are relative, and stay inside."""
    depth = len(path.relative_to(CORE / "node").parts)
    for level, name in _imports(path):
        if level == 0:
            assert name.split(".")[0] in sys.stdlib_module_names, f"imports {name}"
        else:
            assert level <= depth, f"a relative import leaves the node package: {'.' * level}{name}"


@pytest.mark.parametrize("path", PRODUCTS_ON_NODE, ids=_name)
def test_node_module_of_product_needs_only_the_node_package(path: Path) -> None:
    """What a product runs on a node is packed with our node side, and imports nothing else of the controller."""
    for level, name in _imports(path):
        allowed = level > 0 or name.split(".")[0] in sys.stdlib_module_names or re.match(r"aifactory_bench\.node(\.|$)", name)
        beside = (path.parent / f"{name.rpartition('.')[2]}.py").exists() and name.endswith("_node")
        assert allowed or beside, f"imports {name}"


def test_products_are_kept_from_every_part_of_the_core() -> None:
    """The contract names each part, so that a new one is not forgotten."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (products,) = (contract for contract in contracts if contract["id"] == "products")
    parts = {path.stem for path in CORE.iterdir() if (path.suffix == ".py" or (path / "__init__.py").exists())}
    assert set(products["forbidden_modules"]) == {f"aifactory_bench.{part}" for part in parts - {"__init__", "node"}}


@pytest.mark.parametrize("path", EVERY_MODULE, ids=_name)
def test_module_is_short_and_has_a_name(path: Path) -> None:
    """One concern a file."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc"}


def test_architecture_page_has_the_layers_of_the_contract() -> None:
    """The page's list of layers and the contract's are the same, from top to bottom."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["id"] == "layers")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.search(r"## Layers[^#]*?\n\n((?:    .*\n)+)", page)
    assert listed
    page_layers = [set(re.findall(r"\w+", layer)) for layer in listed[1].split(">")]
    layers = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    assert page_layers == layers
