"""`logs` takes the run folder, too: it is what a run names at its end."""

from pathlib import Path

import pytest


@pytest.fixture
def run_folder(tmp_path: Path, inside) -> Path:
    """The folder of a run that has printed something, away from the default."""
    (tmp_path / "quick.yaml").write_text(
        "schema: aifactory-bench/1\nname: quick\nservices: {server: {kind: truth-llm}}\n"
        "clients: {load: {kind: openai-load, target: server, load: {process: closed, concurrency: 1, duration: 1s}}}\n"
    )
    inside("run", "quick.yaml", "--runs-dir", "elsewhere", "--run-id", "done")
    return tmp_path / "elsewhere" / "done"


def test_a_path(run_folder: Path, inside) -> None:
    """Relative, absolute, or with a separator at its end; its parent is the folder of runs."""
    expected = inside("logs", "done", "--runs-dir", "elsewhere")
    assert expected.returncode == 0
    for given in ("elsewhere/done", "./elsewhere/done/", str(run_folder)):
        assert inside("logs", given).stdout == expected.stdout
    assert "no run done2 in" in inside("logs", "elsewhere/done2").stderr
