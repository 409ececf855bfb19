"""What `new_service` writes works as it stands, as a stranger's distribution beside ours."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aifactory_bench import UsageError
from aifactory_bench.testing.new_service import main, new_service

FILES = [
    "README.md",
    "aifactory_bench_my_store/__init__.py",
    "aifactory_bench_my_store/my_store.py",
    "aifactory_bench_my_store/my_store_node.py",
    "pyproject.toml",
    "recipes/my-store.yaml",
    "tests/test_my_store.py",
]


@pytest.fixture
def written(tmp_path):
    """The plugin `my-store`, and beside it the metadata that an installer would write from its project."""
    new_service("my-store", tmp_path)
    folder = tmp_path / "my-store"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"aifactory_bench_my_store-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["aifactory_bench"]
    (info / "entry_points.txt").write_text(
        "[aifactory_bench]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    return folder


@pytest.fixture
def python(written):
    """Run our Python in the plugin's folder with the plugin on its path; returns standard output."""

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(written), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=written, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_its_recipe_is_valid_and_its_own_tests_pass(python):
    """Both kinds through the whole conformance suite, with a real start and a real measurement."""
    assert "recipes/my-store.yaml: valid: 2 jobs, 1 measurements" in python(
        "-m", "aifactory_bench", "validate", "recipes/my-store.yaml"
    )
    assert "22 passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_its_run_gives_numbers_that_agree_with_the_server(python, tmp_path):
    """The server's own count of answers is compared with ours; how fast a busy machine is does not matter."""
    code = """
import sys
from aifactory_bench import BenchmarkOrchestrator
with BenchmarkOrchestrator(runs_dir=sys.argv[1]) as bench:
    summary = bench.run("recipes/my-store.yaml", overrides=["clients.load.load.duration=1s"]).wait()
(measured,) = summary.points[0].measurements
print(measured.counts["ok"], measured.counts["error"], [reason.code for reason in measured.reasons], measured.unchecked)
"""
    said = python("-c", code, str(tmp_path / "own"))
    ok, error = said.split()[:2]
    assert int(ok) > 20
    assert error == "0"
    assert "totals_mismatch" not in said


def test_it_says_how_to_get_what_its_tests_need(written):
    """The command of the README installs an extra that the project has, with pytest in it."""
    assert "pip install -e '.[test]'\n" in (written / "README.md").read_text()
    (needed,) = tomllib.loads((written / "pyproject.toml").read_text())["project"]["optional-dependencies"]["test"]
    assert needed.startswith("pytest")


def test_it_says_what_to_delete(written):
    """Each name that the README speaks of is there, and below the note in the node module there is only the server."""
    readme = (written / "README.md").read_text()
    service, node = ((written / FILES[number]).read_text() for number in (2, 3))
    for name, text in (("get_container_command", service), ("get_environment", service), ("default_image", service)):
        assert f"`{name}`" in readme
        assert name in text
    for name in ("probe", "counters", "_Connection", "_Handler"):
        assert f"`{name}`" in readme
        assert re.search(rf"^(def|class) {name}\b", node, re.MULTILINE)
    kept = node.split("# From here on it is the server")[0]
    compile(kept, FILES[3], "exec")
    assert "_Handler" not in kept


def test_nothing_of_the_template_is_left(written):
    """Every name is the new one, and no text says that something is still to be done."""
    names = sorted(
        str(path.relative_to(written)) for path in written.rglob("*") if path.is_file() and ".dist-info" not in str(path)
    )
    assert names == FILES
    for name in FILES:
        text = (written / name).read_text()
        for trace in ("new_service", "new-service", "NewService", "NEW_SERVICE", "testing.template", "TODO", "NotImplemented"):
            assert trace not in text, name
        if name.endswith(".py"):
            compile(text, name, "exec")
    assert "class MyStoreLoad(Client):" in (written / FILES[2]).read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My Store", "cannot be the name of a service"),
        ("", "cannot be the name of a service"),
        ("../x", "cannot be the name of a service"),
        ("x" * 41, "at most 40"),
        ("class", "a word of Python's own"),
        ("redis", "the kind 'redis' is there already, from aifactory-bench"),
        ("openai", "the kind 'openai-load' is there already"),
    ],
)
def test_a_name_that_cannot_be(tmp_path, name, said):
    """One clear error, and nothing is written."""
    with pytest.raises(UsageError, match=said):
        new_service(name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_the_command(tmp_path, monkeypatch, capsys):
    """What was written and what comes next; a second time it refuses."""
    monkeypatch.chdir(tmp_path)
    assert main(["my-store"]) == 0
    said = capsys.readouterr().out
    assert sorted(said.splitlines()[:-1]) == sorted(f"my-store/{name}" for name in FILES)
    assert said.splitlines()[-1].startswith("next: pip install -e ./my-store")
    assert main(["my-store"]) == 2
    assert capsys.readouterr().err.startswith("new_service: ")


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """The operating system's word, and no traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Not a directory"):
        new_service("my-store", Path(tmp_path, "file"))
