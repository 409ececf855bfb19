"""A site with a cache of images and a stand-in for apptainer, which counts what it is asked for."""

import os
import shutil
from pathlib import Path

import pytest

from aifactory_bench.images.api import AsyncImages
from aifactory_bench.sites.model import Login, Site
from aifactory_bench.transports.local import LocalTransport

_DOUBLE = Path(__file__).with_name("apptainer")


class Lab:
    """A site on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "images"
        self.registry = folder / "registry"
        self.registry.mkdir()
        self.offer("redis:7", b"redis seven" * 10_000)
        self.site = Site(
            name="lab",
            submitter="slurm",
            runs=str(folder / "runs"),
            runtime="apptainer",
            images_cache=str(self.cache),
            login=Login("login"),
        )

    def offer(self, reference: str, content: bytes) -> None:
        """Let the registry have an image."""
        (self.registry / reference.replace("/", "_").replace(":", "_")).write_bytes(content)

    def slow(self, seconds: float) -> None:
        """Let the tool take so long for an image."""
        (self.registry / "slow_s").write_text(str(seconds))

    def fail(self, text: str) -> None:
        """Let the tool fail with a text."""
        (self.registry / "fail").write_text(text)

    @property
    def calls(self) -> "list[str]":
        """What the tool was asked for."""
        file = self.registry / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def images(self, site=None, transport=None, **options):
        """Return the cache of the site, over processes of this machine."""
        return AsyncImages(site or self.site, transport=transport or LocalTransport(), **options)

    @property
    def sifs(self) -> "list[Path]":
        """Files of images."""
        return sorted(self.cache.glob("*.sif"))

    @property
    def left(self) -> "list[str]":
        """What of unfinished work is in the cache."""
        return [
            str(path)
            for path in self.cache.glob(".work/*/*")
            if path.name.startswith(("draft", "lock", "taking")) and path.name != "lock.alive"
        ]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A site on this machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(_DOUBLE, programs / "apptainer")
    (programs / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    lab = Lab(tmp_path)
    monkeypatch.setenv("APPTAINER_REGISTRY", str(lab.registry))
    return lab
