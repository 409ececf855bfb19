"""Whether a node takes an image for what the plan was made with."""

import hashlib
import json
import os

import pytest

from aifactory_bench.node.image import what_is_wrong
from aifactory_bench.node.spec import ImageSpec

CONTENT = b"image" * 100


@pytest.fixture
def image(tmp_path):
    """An image with its record."""
    path = tmp_path / "redis@0.sif"
    path.write_bytes(CONTENT)
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    path.with_suffix(".json").write_text(json.dumps({"digest": digest}))
    return ImageSpec("redis", str(path), digest, len(CONTENT), int(path.stat().st_mtime))


def test_as_it_was(image):
    assert what_is_wrong(image) is None


def test_touched_is_read_as_a_whole(image):
    os.utime(image.path, (1, 1))
    assert what_is_wrong(image) is None


def test_changed_with_another_time(image):
    with open(image.path, "r+b") as file:
        file.write(b"other")
    os.utime(image.path, (1, 1))
    assert "was changed: it is sha256:" in what_is_wrong(image)


def test_another_size(image):
    with open(image.path, "ab") as file:
        file.write(b"x")
    assert what_is_wrong(image) == "was changed: it has 501 bytes in place of 500"


def test_found_changed_before(image, tmp_path):
    (tmp_path / "redis@0.changed").touch()
    assert "was verified" in what_is_wrong(image)


def test_replaced(image, tmp_path):
    (tmp_path / "redis@0.json").write_text(json.dumps({"digest": f"sha256:{'0' * 64}"}))
    assert "was replaced" in what_is_wrong(image)


@pytest.mark.parametrize("record", ["{", "[]", None])
def test_without_a_record_the_file_counts(image, tmp_path, record):
    path = tmp_path / "redis@0.json"
    path.unlink() if record is None else path.write_text(record)
    assert what_is_wrong(image) is None


def test_gone(image):
    os.unlink(image.path)
    assert what_is_wrong(image) == "cannot be used: No such file or directory"
