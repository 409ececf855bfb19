"""Commands are found by name and cost nothing until they are asked for."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aifactory_bench.cli.group import OWN

HEAVY = ("asyncio", "attrs", "attr", "cattrs", "importlib.metadata", "pluggy", "rich", "ruamel.yaml", "json")


def _stranger(site: Path, name: str, command: str, source: str) -> None:
    """Install a distribution that declares a command."""
    info = site / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[aifactory_bench.commands]\n{command} = {name}_module:command\n")
    (site / f"{name}_module.py").write_text(source)


def test_nothing_is_imported_before_an_interrupt_can_be_dealt_with() -> None:
    """The console script imports this package only; what follows is within `main`."""
    code = "import sys; old = {*sys.modules}; import aifactory_bench.cli; print(*sorted({*sys.modules} - old))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["aifactory_bench", "aifactory_bench.cli"]


def test_help_imports_nothing_heavy() -> None:
    """Help is shown from the commands' own light modules."""
    code = (
        "import sys\nfrom aifactory_bench.cli import main\nassert main(['--help']) == 0\n"
        f"print('LOADED', *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "LOADED"


def test_help_lists_every_command_with_what_it_does(console: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Each of our commands has a line, in the order of use."""
    text = console("--help").stdout.split("Commands:")[1]
    lines = [line.split() for line in text.splitlines() if line.startswith("  ") and line.strip()]
    assert [words[0] for words in lines if words[0] in OWN] == list(OWN)
    assert all(len(words) > 3 for words in lines if words[0] in OWN)


@pytest.mark.parametrize("name", OWN)
def test_every_command_has_help(name: str, console: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """`COMMAND --help` works, and every option says what it does."""
    found = console(name, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    options = [line for line in found.stdout.splitlines() if line.startswith("  -")]
    assert options


@pytest.mark.parametrize("name", OWN)
def test_table_and_files_agree(name: str) -> None:
    """Each name of the table is a module with a command, and no module of a command is missing from the table."""
    from importlib import import_module

    import click

    import aifactory_bench.cli as package

    assert isinstance(import_module(f"aifactory_bench.cli.{name}").command, click.Command)
    folder = Path(package.__file__).parent
    assert {path.stem for path in folder.glob("*.py") if "\ndef command(" in path.read_text()} == set(OWN)


def test_unknown_command_names_the_one_that_was_meant(console: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A slip of the finger is answered with the nearest command and exit code 2."""
    found = console("vaildate")
    assert found.returncode == 2
    assert "did you mean 'validate'?" in found.stderr
    assert found.stdout == ""


def test_unknown_command_far_from_all_lists_them(console: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """What resembles nothing is answered with everything there is."""
    assert f"known: {', '.join(OWN)}" in console("qqqqqq").stderr


def test_strangers_command_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A distribution that declares a command in the group is listed and runs."""
    site = tmp_path / "site"
    _stranger(site, "hello", "hello", "import click\n@click.command()\ndef command():\n    '''Say hello.'''\n    print('hi')\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    assert "Say hello." in console("--help").stdout
    assert console("hello").stdout == "hi\n"


def test_strangers_broken_command_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """What a stranger broke is named with its distribution, and the rest works on."""
    site = tmp_path / "site"
    _stranger(site, "broken", "sparks", "raise RuntimeError('no good')\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    found = console("--help")
    assert found.returncode == 0
    assert "warning: broken 1.2: command 'sparks' cannot be loaded: RuntimeError: no good" in found.stderr
    assert console("sparks").returncode == 2


def test_stranger_cannot_take_our_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """`run` stays ours."""
    site = tmp_path / "site"
    _stranger(site, "thief", "run", "import click\n@click.command()\ndef command():\n    '''Steal.'''\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    found = console("--help")
    assert "thief 1.2: command 'run' is taken already" in found.stderr
    assert "Steal." not in found.stdout


def test_version_is_the_installed_one(console: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """`--version` prints name and version."""
    from importlib.metadata import version

    assert console("--version").stdout == f"aifactory-bench {version('aifactory-bench')}\n"
