"""`images`: on a site of this machine, with a stand-in for apptainer."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from aifactory_bench.cli.images import command
from aifactory_bench.errors import SiteError, UsageError

_DOUBLE = Path(__file__).parents[1] / "images/apptainer"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A profile's file."""
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "redis_7").write_bytes(b"redis seven" * 1000)
    (tmp_path / "bin").mkdir()
    shutil.copy(_DOUBLE, tmp_path / "bin/apptainer")
    monkeypatch.setenv("APPTAINER_REGISTRY", str(registry))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    path = tmp_path / "lab.yaml"
    path.write_text(
        "schema: aifactory-bench/site/1\nname: lab\nlogin: {host: localhost, transport: local}\n"
        f"runs: {tmp_path}/there/runs\nimages_cache: {tmp_path}/images\n"
    )
    return str(path)


def images(*arguments: object) -> "tuple[object, str]":
    """Run the command within this process; return what it returns, or raises, and what it prints."""
    result = CliRunner().invoke(command, [str(one) for one in arguments], standalone_mode=False)
    return result.exception or result.return_value, result.stdout


def test_pull_list_verify(site: str, tmp_path: Path) -> None:
    """One line an image; a table of what is there; a changed file is told and makes the exit code 1."""
    code, said = images("pull", "docker://redis:7", "--site", site)
    assert code == 0
    (line,) = said.splitlines()
    assert line.startswith("redis:7  sha256:")
    assert str(tmp_path / "images/redis+7@") in line
    code, said = images("list", "--site", site)
    assert code == 0
    header, row = said.splitlines()
    assert header.split() == ["REFERENCE", "DIGEST", "SIZE", "MADE", "STATE", "PATH"]
    assert row.split()[0] == "redis:7"
    assert " ok " in row
    assert images("verify", "redis:7", "--site", site)[0] == 0
    (sif,) = (tmp_path / "images").glob("*.sif")
    sif.write_bytes(b"x" * 11_000)
    code, said = images("verify", "--site", site)
    assert code == 1
    assert "refused: its file was changed" in said
    assert "its file was changed" in images("list", "--site", site)[1]


def test_what_a_recipe_needs(site: str, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text('schema: aifactory-bench/1\nname: small\nservices:\n  cache: {kind: redis, image: "docker://redis:7"}\n')
    code, said = images("pull", "--recipe", recipe, "--site", site)
    assert code == 0
    assert said.startswith("redis:7  sha256:")


def test_build_and_push(site: str, tmp_path: Path) -> None:
    definition = tmp_path / "tools.def"
    definition.write_text("Bootstrap: docker\nFrom: redis:7\n")
    code, said = images("build", definition, "--site", site)
    assert code == 0
    assert said.startswith("tools  sha256:")
    sif = tmp_path / "sent.sif"
    sif.write_bytes(b"hsqs" + b"x" * 1000)
    code, said = images("push", sif, "--name", "docker://vllm/vllm-openai:v1", "--site", site)
    assert code == 0
    assert said.startswith("vllm/vllm-openai:v1  sha256:")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["pull"], UsageError, "no image is named"),
        (["pull", "redis:7", "--through", "srun 'x"], UsageError, "--through: No closing quotation"),
        (["pull", "redis:nosuch"], SiteError, "no such image"),
        (["verify", "redis:8"], SiteError, "has no image redis:8"),
    ],
)
def test_mistakes(site: str, arguments: "list[str]", error: type, text: str) -> None:
    found, _said = images(*arguments, "--site", site)
    assert isinstance(found, error)
    assert text in str(found)


def test_a_site_without_images() -> None:
    found, _said = images("list", "--site", "local")
    assert isinstance(found, UsageError)
    assert "without images" in str(found)


def test_ctrl_c_stops_the_pull(site: str, tmp_path: Path) -> None:
    """Nothing is kept and nothing runs on."""
    (tmp_path / "registry/slow_s").write_text("30")
    argv = [sys.executable, "-m", "aifactory_bench", "images", "pull", "redis:7", "--site", site]
    child = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    calls = tmp_path / "registry/calls"
    deadline = time.monotonic() + 30
    while not calls.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(2)
    _out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "redis:7: stopping; nothing of it is kept" in err
    assert list((tmp_path / "images").glob("*.sif")) == []
    assert list((tmp_path / "images/.work/redis+7").glob("draft*")) == []
