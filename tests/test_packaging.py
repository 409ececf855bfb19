"""What is installed: the wheel, the entry points, the names, and how little else."""

import re
import subprocess
import sys
import zipfile
from importlib import import_module, metadata
from pathlib import Path

import pytest

import aifactory_bench

ROOT = Path(__file__).parent.parent
NAME = "aifactory-bench"
MOST_DISTRIBUTIONS = 16


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(folder / built.stdout.split()[-1])


def test_wheel_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Core and services, all of them; no test, no recipe, no plugin of the examples."""
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    parts = (ROOT / "src" / "aifactory_bench", ROOT / "plugins" / "services" / "aifactory_bench_services")
    modules = {str(path.relative_to(part.parent)) for part in parts for path in part.rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    programs = {str(path.relative_to(part.parent)) for part in parts for path in part.rglob("*.sh")}
    assert {name for name in names if name.endswith(".sh")} == programs
    profiles = {str(path.relative_to(parts[0].parent)) for path in (parts[0] / "sites" / "profiles").glob("*.yaml")}
    assert {name for name in names if name.endswith(".yaml")} == profiles
    assert {Path(name).name for name in names if not name.endswith((".py", ".sh", ".yaml"))} <= {"py.typed", "ruff.toml"}
    assert "aifactory_bench/py.typed" in names


def test_wheel_has_licence_and_entry_points(wheel: zipfile.ZipFile) -> None:
    """The licence's whole text travels, and so do the console script and the products."""
    (licence,) = (name for name in wheel.namelist() if name.endswith("/licenses/LICENSE"))
    assert b"Apache License" in wheel.read(licence)
    (entries,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert b"aifactory-bench = aifactory_bench.cli:main" in wheel.read(entries)


@pytest.mark.parametrize("entry", metadata.distribution(NAME).entry_points, ids=lambda entry: f"{entry.group}:{entry.name}")
def test_entry_point_resolves(entry: metadata.EntryPoint) -> None:
    """What the distribution declares is there."""
    assert entry.load() is not None


def test_few_distributions_are_installed() -> None:
    """The core brings at most 16 distributions, itself counted."""
    found: set[str] = set()
    wanted = [NAME]
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for requirement in metadata.requires(name) or ():
            needed, _, marker = requirement.partition(";")
            # Markers of other systems and Pythons are counted too, so that the number holds everywhere; extras are not.
            if "extra ==" not in marker:
                wanted.append(re.match(r"[\w.-]+", needed)[0])  # type: ignore[index]
                try:
                    metadata.distribution(wanted[-1])
                except metadata.PackageNotFoundError:
                    found.add(re.sub(r"[-_.]+", "-", wanted.pop()).lower())
    assert len(found) <= MOST_DISTRIBUTIONS, sorted(found)


def test_every_public_name_is_there() -> None:
    """`__all__` is sorted as ruff sorts it, and each name of it can be had."""
    assert len(set(aifactory_bench.__all__)) == len(aifactory_bench.__all__)
    for name in aifactory_bench.__all__:
        assert getattr(aifactory_bench, name) is not None
    assert set(aifactory_bench.__all__) <= set(dir(aifactory_bench))


def test_unknown_name_is_an_attribute_error() -> None:
    """A slip is told as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'BenchmarkOrchestra'"):
        _ = aifactory_bench.BenchmarkOrchestra  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_else() -> None:
    """Importing it is free; names are loaded when they are used."""
    code = "import sys, aifactory_bench; print(*(name for name in sys.modules if name.startswith('aifactory_bench.')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_module_run_is_the_console_script() -> None:
    """`python -m aifactory_bench` and `aifactory-bench` are one program."""
    assert import_module("aifactory_bench.__main__").main is import_module("aifactory_bench.cli").main


def test_version_of_changelog() -> None:
    """The changelog speaks of the version that the package has, or of what comes next."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text or f"## [{metadata.version(NAME)}]" in text
