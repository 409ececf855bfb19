"""Bringing files into place: whole or not at all, once, and with a reason when it cannot be."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aifactory_bench.node import place


@pytest.fixture(autouse=True)
def handler_given_back():
    """The program takes SIGTERM for the rest of its process's life, which here is not its own."""
    former = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def model(tmp_path):
    """A folder as hubs keep them: files that are links to files elsewhere."""
    folder = tmp_path / "archive" / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "blob").write_bytes(b"x" * 1000)
    (folder / "weights").symlink_to(tmp_path / "blob")
    (folder / "sub" / "config.json").write_text("{}")
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder(model, tmp_path, capsys):
    """Links become files, folders above are made, nothing else is left."""
    target = tmp_path / "scratch" / "models" / "m"
    assert place.main([str(model), str(target)]) == 0
    assert f"{target}: 1002 bytes in " in capsys.readouterr().out
    assert names(tmp_path / "scratch") == ["models", "models/m", "models/m/sub", "models/m/sub/config.json", "models/m/weights"]
    assert not (target / "weights").is_symlink()
    assert (target / "weights").read_bytes() == b"x" * 1000


def test_a_file_and_a_folder_in_one_call(model, tmp_path):
    """Pairs, one after another."""
    a, b = tmp_path / "a", tmp_path / "b"
    assert place.main([str(tmp_path / "blob"), str(a), str(model), str(b)]) == 0
    assert a.stat().st_size == 1000
    assert (b / "weights").exists()


def test_what_is_there_is_left_alone(model, tmp_path, capsys):
    """Whatever it holds, and even when the source has gone."""
    target = tmp_path / "there"
    target.mkdir()
    assert place.main([str(model) + "-gone", str(target)]) == 0
    assert "is there already" in capsys.readouterr().out
    assert names(target) == []


@pytest.mark.parametrize("arguments", [[], ["/a"], ["/a", "/b", "/c"]])
def test_a_wrong_command_line(arguments, capsys):
    """Pairs are needed."""
    assert place.main(arguments) == 2
    assert "usage" in capsys.readouterr().err


def test_a_source_that_is_not_there(tmp_path, capsys):
    """Named, with the target and the node."""
    assert place.main([f"{tmp_path}/no", f"{tmp_path}/to"]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/no cannot be brought to {tmp_path}/to: there is no such file or folder" in said
    assert os.uname().nodename in said


def test_no_room(model, tmp_path, monkeypatch, capsys):
    """Told before anything is copied."""
    monkeypatch.setattr(place, "_size_bytes", lambda _path: 1 << 62)
    assert place.main([str(model), str(tmp_path / "to")]) == 1
    assert "has room for" in capsys.readouterr().err
    assert not list(tmp_path.glob(".to*"))


def test_a_copy_that_fails_leaves_nothing(model, tmp_path, monkeypatch, capsys):
    """Neither target nor a part of it."""

    def copy(source, part):
        monkeypatch.undo()  # it calls itself for the folders inside
        shutil.copytree(source, part)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place.shutil, "copytree", copy)
    target = tmp_path / "scratch" / "m"
    assert place.main([str(model), str(target)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert names(tmp_path / "scratch") == []


def test_two_jobs_at_once(model, tmp_path, monkeypatch):
    """The one that ends second leaves the target of the first."""
    target = tmp_path / "m"

    def copy(source, part):
        monkeypatch.undo()
        shutil.copytree(source, part)
        target.mkdir()
        (target / "of the other").touch()

    monkeypatch.setattr(place.shutil, "copytree", copy)
    assert "by another job" in place.place(model, target)
    assert names(target) == ["of the other"]
    assert not list(tmp_path.glob(".m*"))


def test_a_stop_leaves_nothing(tmp_path):
    """TERM in the middle of a large file."""
    (tmp_path / "big").mkdir()
    for number in range(3000):
        (tmp_path / "big" / str(number)).write_bytes(b"x" * 4096)
    package = str(Path(place.__file__).parents[2])
    argv = [sys.executable, "-m", "aifactory_bench.node", "place", str(tmp_path / "big"), str(tmp_path / "to" / "big")]
    process = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": package})
    end = time.monotonic() + 20
    while not list(tmp_path.glob("to/.big*/*")) and process.poll() is None:
        assert time.monotonic() < end
    process.send_signal(signal.SIGTERM)
    code = process.wait(20)
    # On a quick machine it may have been done before the signal came; then it is whole.
    assert names(tmp_path / "to") == [] if code == 1 else len(names(tmp_path / "to" / "big")) == 3000
