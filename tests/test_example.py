"""The example plugin, installed as a stranger's distribution beside ours."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "plugins" / "example"
LOOSE = """\
from aifactory_bench import hookimpl
from aifactory_bench_echo.echo import EchoService


class Mine(EchoService):
    kind = "mine"
    node_module = "mine_node"


@hookimpl
def register_jobs():
    return [Mine]
"""


@pytest.fixture
def installed(tmp_path):
    """Put the distribution where an installer would: the package, and its metadata with the entry points of its project."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    shutil.copytree(
        EXAMPLE / "aifactory_bench_echo", folder / "aifactory_bench_echo", ignore=shutil.ignore_patterns("__pycache__")
    )
    info = folder / f"aifactory_bench_echo-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def python(installed, tmp_path):
    """Run our Python with the distribution on its path; returns standard output."""

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
        ended = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


def test_its_kinds_are_listed(python):
    """`aifactory-bench jobs` shows kinds, roles and where they come from."""
    listed = python("-m", "aifactory_bench", "jobs")
    assert "echo-load" in listed
    assert "aifactory-bench-echo 0.1.0" in listed


def test_its_own_tests_pass(python):
    """They run the recipe with a real server."""
    shown = python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        EXAMPLE,
        "-c",
        EXAMPLE / "pyproject.toml",
        EXAMPLE / "tests",
    )
    assert "24 passed" in shown


def test_a_loose_file_from_the_command_line(python, tmp_path):
    """`--plugin ./mine.py` brings a kind, with its node module beside it, for this call only."""
    (tmp_path / "mine.py").write_text(LOOSE)
    (tmp_path / "mine_node.py").write_text((EXAMPLE / "aifactory_bench_echo" / "echo_node.py").read_text())
    assert "mine" in python("-m", "aifactory_bench", "jobs", "--plugin", "./mine.py").split()
    assert "mine" not in python("-m", "aifactory_bench", "jobs").split()


def test_it_imports_public_names_only():
    """What a stranger may rely on: `aifactory_bench`, and `aifactory_bench.node` in the node module."""
    text = (EXAMPLE / "aifactory_bench_echo" / "echo.py").read_text()
    assert [line.split()[1] for line in text.splitlines() if line.startswith("from aifactory_bench")] == ["aifactory_bench"]


def test_without_it_nothing_is_left(tmp_path):
    """Our own installation does not know the example."""
    ended = subprocess.run(
        [sys.executable, "-m", "aifactory_bench", "jobs"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "echo" not in ended.stdout
