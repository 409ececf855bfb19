"""Files that others read at the same time, or have damaged."""

import os
import subprocess
import sys

import pytest

from aifactory_bench.node.files import make_private_folder, read_json, read_text, write_atomic, write_json


def test_what_is_written_comes_back_and_is_private(tmp_path):
    """JSON and text survive; the file is the owner's alone, and no temporary one is left."""
    path = make_private_folder(tmp_path / "folder") / "a.json"
    write_json(path, {"b": [1, None]})
    assert read_json(path) == {"b": [1, None]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    """An object that is not JSON spoils nothing."""
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == 1
    with pytest.raises(OSError, match=r"denied|directory"):
        write_atomic(tmp_path / "none" / "a", "x")


def test_a_missing_file_is_none(tmp_path):
    """Not there, or not there as a file's child: None."""
    assert read_json(tmp_path / "a.json") is None
    (tmp_path / "file").write_text("")
    assert read_text(tmp_path / "file" / "a") is None


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00", ""])
def test_a_damaged_file_is_named(tmp_path, text):
    """Whatever stands in it, the error is a ValueError with the path."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_the_limit_takes_no_room_of_its_own(tmp_path):
    """A small file is read where little memory is left, however high the limit."""
    write_json(tmp_path / "a.json", {"a": 1})
    program = (
        "import resource, sys; from aifactory_bench.node.files import read_json;"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2);"
        "print(read_json(sys.argv[1], limit_bytes=1 << 33))"
    )
    out = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.json")], capture_output=True, text=True, check=True)
    assert out.stdout == "{'a': 1}\n"


def test_text_past_the_limit_is_not_read(tmp_path):
    """A file that somebody else fills does not fill our memory."""
    (tmp_path / "log").write_text("x" * 100)
    assert read_text(tmp_path / "log", limit_bytes=10) == "x" * 10


def test_every_folder_that_is_made_is_private(tmp_path):
    """Parents too, whatever the umask; what exists is left as it is."""
    old = os.umask(0o022)
    try:
        made = make_private_folder(tmp_path / "a" / "b")
    finally:
        os.umask(old)
    assert [folder.stat().st_mode & 0o777 for folder in (made, made.parent)] == [0o700, 0o700]
    assert make_private_folder(made) == made
