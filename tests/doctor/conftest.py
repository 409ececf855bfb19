"""A site that can be broken: a login node within this process, a simulated Slurm behind it, programs before the real ones."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from aifactory_bench.doctor import Diagnosis, examine
from aifactory_bench.sites.model import Login, Site
from aifactory_bench.testing.fake_slurm import Execute, FakeSlurm
from aifactory_bench.testing.ssh_server import SshServer


class Place:
    """The site. What a test changes before `examine` is what is broken."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.runs = folder / "shared"
        self.runs.mkdir()
        self.slurm = FakeSlurm(folder / "slurm", jobs=Execute(), real_clock=True, partitions={"batch": 3600.0})
        self.environment = {
            "PATH": f"{self.bin}:{self.slurm.bin}:/usr/bin:/bin",
            "HOME": str(self.home),
            "SHELL": "/bin/sh",
            "AIFACTORY_BENCH_TEST": os.environ.get("AIFACTORY_BENCH_TEST", ""),
        }
        self.server: dict[str, Any] = {}
        """Arguments of the login node."""
        self.after: list[Callable[[SshServer], object]] = []
        """What is done to the login node once it is there and we may log in."""
        self.servers: list[asyncio.Server] = []
        """Closed at the end of `examine`."""
        self.site = Site(
            name="lab",
            submitter="slurm",
            runs=str(self.runs),
            python=sys.executable,
            login=Login("login"),
            file_lag_s=1.0,
            scheduler={"partition": "batch"},
        )

    def program(self, name: str, text: str) -> Path:
        """Put a program of sh before the real one; what it does not know it hands on to that with `real`."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nreal() {{ PATH=/usr/bin:/bin exec {name} "$@"; }}\n{text}\n')
        path.chmod(0o755)
        return path

    def change(self, **changes: Any) -> None:
        """Change the profile."""
        self.site = evolve(self.site, **changes)

    @property
    def ssh_config(self) -> Path:
        """The user's, which is there once the login node is."""
        return self.home / ".ssh" / "config"

    def examine(self, *, job: bool = False, **options: Any) -> Diagnosis:
        """Examine it."""

        async def work() -> Diagnosis:
            async with SshServer(environment=self.environment, **self.server) as server:
                server.admit(self.home)
                for change in self.after:
                    done = change(server)
                    if asyncio.iscoroutine(done):
                        await done
                try:
                    return await examine(self.site, job=job, **options)
                finally:
                    for one in self.servers:
                        one.close()
                        await one.wait_closed()

        with self.slurm:
            return asyncio.run(work())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A site with nothing wrong."""
    one = Place(tmp_path)
    yield one
    with contextlib.suppress(Exception):
        one.slurm.close()
