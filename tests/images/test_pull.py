"""Pulling images: once, whole, whatever is interrupted."""

import asyncio
import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from aifactory_bench.errors import SiteError, UsageError
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports.ssh import SshTransport


def run(coroutine):
    """Run a coroutine with a time limit."""

    async def limited():
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(limited())


def workers(lab) -> "list[int]":
    """Return the processes that fetch into the cache: those that look after it, then the tool and what it has started."""
    looking, fetching = [], []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            environment = (entry / "environ").read_bytes() if command else b""
        except OSError:
            continue
        if b"afb-image\0" + str(lab.cache).encode() in command:
            looking.append(int(entry.name))
        elif b"AFB_IMAGE=" in environment and str(lab.registry).encode() in environment:
            fetching.append(int(entry.name))
    return sorted(looking) + sorted(fetching)


class TestPull:
    def test_image_and_record(self, lab):
        image = run(lab.images().pull("docker://redis:7"))
        digest = hashlib.sha256(b"redis seven" * 10_000).hexdigest()
        assert image.path == f"{lab.cache}/redis+7@{digest[:16]}.sif"
        assert Path(image.path).read_bytes() == b"redis seven" * 10_000
        record = json.loads(Path(image.path.replace(".sif", ".json")).read_text())
        assert record["reference"] == "redis:7"
        assert record["digest"] == f"sha256:{digest}" == image.digest
        assert record["size_bytes"] == 110_000
        assert record["tool"].startswith("apptainer version 1.3.4")
        assert record["how"] == "pull"
        assert record["source_digest"] is None
        assert lab.calls == ["pull docker://redis:7"]
        assert lab.left == []

    def test_second_pull_asks_for_nothing(self, lab):
        first = run(lab.images().pull("docker://redis:7"))
        assert run(lab.images().pull("redis:7")) == first
        assert len(lab.calls) == 1

    def test_again_keeps_the_old_one(self, lab):
        old = run(lab.images().pull("redis:7"))
        lab.offer("redis:7", b"redis seven point one")
        new = run(lab.images().pull("redis:7", again=True))
        assert new.digest != old.digest
        assert len(lab.sifs) == 2
        assert Path(old.path).exists()

    def test_ten_at_once_are_one(self, lab):
        lab.slow(1.0)

        async def all_of_them():
            return await asyncio.gather(*(lab.images().pull("redis:7") for _ in range(10)))

        assert len({image.path for image in run(all_of_them())}) == 1
        assert lab.calls == ["pull docker://redis:7"]

    def test_two_references_do_not_wait_for_each_other(self, lab):
        lab.offer("redis:8", b"eight")
        lab.slow(0.5)

        async def both():
            return await asyncio.gather(lab.images().pull("redis:7"), lab.images().pull("redis:8"))

        seven, eight = run(both())
        assert seven.digest != eight.digest
        assert len(lab.calls) == 2

    def test_pinned_digest_is_kept(self, lab):
        reference = f"redis@sha256:{'ab' * 32}"
        lab.offer(reference, b"pinned")
        assert run(lab.images().pull(reference)).source_digest == f"sha256:{'ab' * 32}"

    def test_digest_of_a_label_is_kept_and_not_the_base_image_s(self, lab):
        labels = [
            f'"org.opencontainers.image.base.digest": "sha256:{"cd" * 32}",',
            f'"org.example.image.digest": "sha256:{"ef" * 32}"',
        ]
        (lab.registry / "labels").write_text("\n".join(labels))
        assert run(lab.images().pull("redis:7")).source_digest == f"sha256:{'ef' * 32}"

    def test_through_a_command_of_the_site(self, lab):
        image = run(lab.images().pull("redis:7", through=("env", "A=b")))
        assert image.size_bytes == 110_000

    def test_lines_of_the_profile_run_first(self, lab, monkeypatch):
        from attrs import evolve

        registry = os.environ["APPTAINER_REGISTRY"]
        monkeypatch.delenv("APPTAINER_REGISTRY")
        site = evolve(lab.site, setup=(f"export APPTAINER_REGISTRY='{registry}'", f"PATH='{os.environ['PATH']}'"))
        assert run(lab.images(site).pull("redis:7")).size_bytes == 110_000

    def test_awkward_reference(self, lab):
        reference = "docker://host.example/o'r_g/na;me:t&g"
        lab.offer(reference.removeprefix("docker://"), b"x")
        image = run(lab.images().pull(reference))
        assert image.reference == reference.removeprefix("docker://")
        assert lab.calls == [f"pull {reference}"]


_OCI = "FATAL:   While making image from oci registry: error fetching image to cache: "
SAID = {
    "no room for a layer": (
        _OCI + "while building SIF from layers: conveyor failed to get: writing blob: write "
        "/tmp/bundle-temp-2094984273/oci-put-blob1495208066: no space left on device"
    ),
    "no room for the image": (
        "FATAL:   While performing build: while creating squashfs: create command failed: exit status 1: Write failed because "
        "No space left on device"
    ),
    "no way to the registry": (
        _OCI + "failed to get checksum for docker://gitlab.desy.de:5555/crystfel:latest: pinging container registry "
        'gitlab.desy.de:5555: Get "https://gitlab.desy.de:5555/v2/": dial tcp 131.169.5.213:5555: i/o timeout'
    ),
    "no name of the registry": (
        "FATAL:   Unable to handle docker://google/deepvariant:1.6.1 uri: failed to get checksum for "
        "docker://google/deepvariant:1.6.1: pinging container registry registry-1.docker.io: Get "
        '"https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 114.114.114.114:53: read udp '
        "172.16.10.108:58057->114.114.114.114:53: i/o timeout"
    ),
    "wrong token": (
        _OCI
        + "failed to get checksum for docker://git.herd.cloud.infn.it:5050/herd/herd-htc-frontend:latest: Requesting bearer "
        "token: invalid status code from registry 403 (Forbidden)"
    ),
    "no login": (
        "FATAL:   Unable to handle docker://bids-validator uri: failed to get SHA of docker://bids-validator: Error reading "
        "manifest latest in docker.io/library/bids-validator: errors:\ndenied: requested access to the resource is denied\n"
        "unauthorized: authentication required"
    ),
    "unknown": "FATAL:   something that nobody has seen",
}
"""As users have reported them."""


@pytest.mark.parametrize(
    ("said", "cause", "fix"),
    [
        ("no room for a layer", "no room for the image", "images_cache"),
        ("no room for the image", "no room for the image", "images_cache"),
        ("no way to the registry", "cannot be reached from the site", "images push"),
        ("no name of the registry", "cannot be reached from the site", "images push"),
        ("wrong token", "without a login", "registry login"),
        ("no login", "or there is no such image", "registry login"),
        ("unknown", "something that nobody has seen", "by hand"),
    ],
)
def test_failures_are_told_with_their_fix(lab, said, cause, fix):
    lab.fail(SAID[said])
    with pytest.raises(SiteError) as caught:
        run(lab.images().pull("redis:7"))
    assert cause in caught.value.text
    assert fix in caught.value.hint
    assert "\n" not in caught.value.text
    assert lab.sifs == []
    assert lab.left == []


def test_no_such_image(lab):
    with pytest.raises(SiteError, match="the registry has no such image"):
        run(lab.images().pull("redis:nosuch"))


def test_no_tool(lab, tmp_path):
    (tmp_path / "bin/apptainer").unlink()
    with pytest.raises(SiteError, match="no program apptainer") as caught:
        run(lab.images().pull("redis:7"))
    assert "modules" in caught.value.hint


def test_no_command_of_the_site(lab):
    with pytest.raises(SiteError, match="the command that is to run apptainer is not there"):
        run(lab.images().pull("redis:7", through=("nosuch-srun",)))


def test_folder_that_cannot_be_made(lab):
    lab.cache.write_text("a file")
    with pytest.raises(SiteError, match="cannot be used"):
        run(lab.images().pull("redis:7"))


@pytest.mark.parametrize("reference", ["", "-x", "a b", "/a/b.sif", "docker://u:p@host/x", "a\nb"])
def test_no_reference(lab, reference):
    with pytest.raises(UsageError) as caught:
        run(lab.images().pull(reference))
    assert "u:p" not in str(caught.value)


def test_site_without_containers():
    from aifactory_bench.images.api import AsyncImages

    with pytest.raises(UsageError, match="without images"):
        AsyncImages("local")


class TestInterrupted:
    @pytest.mark.parametrize("seed", range(20))
    def test_kill_at_any_moment_leaves_no_image(self, lab, seed):
        """What is killed is drawn: the process that looks after it, the tool, or all of it."""
        dice = random.Random(seed)
        lab.slow(0.4)

        async def killed():
            pull = asyncio.create_task(lab.images().pull("redis:7"))
            await asyncio.sleep(dice.uniform(0.0, 0.9))
            there = workers(lab)
            for pid in dice.choice([there[:1], there[-1:], there]):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            for sif in lab.sifs:  # an image only if it is whole
                record = sif.with_suffix(".json")
                assert not record.exists() or sif.read_bytes() == b"redis seven" * 10_000
            try:
                return await pull
            except SiteError as error:
                if "killed" not in error.text and "was ended" not in error.text:
                    raise
                return await lab.images().pull("redis:7")

        image = run(killed())
        assert Path(image.path).read_bytes() == b"redis seven" * 10_000
        lab.slow(0)
        assert run(lab.images().pull("redis:7", again=True)).digest == image.digest
        assert lab.left == []

    def test_ctrl_c_leaves_nothing(self, lab):
        lab.slow(20)

        async def interrupted():
            pull = asyncio.create_task(lab.images().pull("redis:7"))
            while not lab.calls:
                await asyncio.sleep(0.05)
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull

        run(interrupted())
        assert lab.sifs == []
        assert lab.left == []
        deadline = time.monotonic() + 5
        while workers(lab):
            assert time.monotonic() < deadline

    def test_who_waits_for_another_stops_nothing(self, lab):
        lab.slow(2)

        async def interrupted():
            first = asyncio.create_task(lab.images().pull("redis:7"))
            while not lab.calls:
                await asyncio.sleep(0.05)
            second = asyncio.create_task(lab.images().pull("redis:7"))
            await asyncio.sleep(0.5)
            second.cancel()
            return await first

        assert run(interrupted()).size_bytes == 110_000
        assert len(lab.calls) == 1

    def test_who_waits_hears_that_it_was_stopped(self, lab):
        lab.slow(20)

        async def interrupted():
            first = asyncio.create_task(lab.images().pull("redis:7"))
            while not lab.calls:
                await asyncio.sleep(0.05)
            second = asyncio.create_task(lab.images().pull("redis:7"))
            await asyncio.sleep(0.5)
            first.cancel()
            with pytest.raises(SiteError, match="whoever began it has stopped it"):
                await second

        run(interrupted())

    def test_lock_of_another_machine(self, lab):
        """One that shows life is waited for; one that has shown none for minutes is replaced."""
        work = lab.cache / ".work/redis+7"
        work.mkdir(parents=True)
        (work / "lock").symlink_to("elsewhere:1:1:boot")
        (work / "lock.alive").touch()

        async def patient():
            pull = asyncio.create_task(lab.images().pull("redis:7"))
            await asyncio.sleep(1.0)
            assert not pull.done()
            old = 1_700_000_000
            os.utime(work / "lock.alive", (old, old))
            os.utime(work / "lock", (old, old), follow_symlinks=False)
            return await pull

        assert run(patient()).size_bytes == 110_000

    def test_lost_connections(self, lab, tmp_path):
        """The pull goes on, and is followed again."""
        lab.slow(1.5)
        said = []

        async def through_losses():
            async with SshServer() as server:
                server.admit(tmp_path / "home")
                server.faults.drop_after.add(2)
                transport = SshTransport(lab.site.login)
                images = lab.images(transport=transport, say=said.append)
                pull = asyncio.create_task(images.pull("redis:7"))
                while not lab.calls:
                    await asyncio.sleep(0.05)
                server.drop()
                image = await pull
                await images.close()
                return image

        assert run(through_losses()).size_bytes == 110_000
        assert lab.calls == ["pull docker://redis:7"]
        assert any("trying again" in text for text in said)
