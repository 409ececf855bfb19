"""What the cache of a site holds: building, sending, listing, verifying, finding."""

import asyncio
import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from attrs import evolve

from aifactory_bench.errors import SiteError, UsageError
from aifactory_bench.images import sending
from aifactory_bench.images.api import AsyncImages, Images
from aifactory_bench.images.reference import cache_folder, file_name, key_of
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports.ssh import SshTransport

SIF = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + b"content" * 1000


def run(coroutine):
    """Run a coroutine with a time limit."""

    async def limited():
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(limited())


@pytest.fixture
def sif(tmp_path: Path) -> Path:
    """A file that begins as SIF files do."""
    path = tmp_path / "tool.sif"
    path.write_bytes(SIF)
    return path


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """A definition file."""
    path = tmp_path / "load-tools.def"
    path.write_text("Bootstrap: docker\nFrom: redis:7\n\n%post\n    true\n")
    return path


class TestBuild:
    def test_once_for_a_text(self, lab, definition):
        image = run(lab.images().build(definition))
        assert image.reference == "load-tools"
        assert image.how == "build"
        assert image.definition == hashlib.sha256(definition.read_bytes()).hexdigest()
        assert run(lab.images().build(definition)) == image
        assert lab.calls == ["build recipe.def"]

    def test_another_text_is_built(self, lab, definition):
        old = run(lab.images().build(definition, name="mine"))
        definition.write_text(definition.read_text() + "    echo\n")
        new = run(lab.images().build(definition, name="mine"))
        assert new.digest != old.digest
        assert run(lab.images().find("mine"))["mine"] == new

    def test_files_of_this_machine_are_refused(self, lab, definition):
        definition.write_text(definition.read_text() + "%files\n    a b\n")
        with pytest.raises(UsageError, match="%files"):
            run(lab.images().build(definition))
        definition.write_text(definition.read_text().replace("%files", "%files from stage"))
        assert run(lab.images().build(definition)).how == "build"

    def test_no_definition(self, lab, sif):
        with pytest.raises(UsageError, match="no definition file"):
            run(lab.images().build(sif))

    def test_a_site_where_nobody_may(self, lab, definition):
        lab.fail(
            "FATAL:   While performing build: --fakeroot requires either being in /etc/subuid or unprivileged user namespaces"
        )
        with pytest.raises(SiteError, match="lets nobody build") as caught:
            run(lab.images().build(definition))
        assert "images push" in caught.value.hint


class TestPush:
    def test_in_pieces_and_verified(self, lab, sif, monkeypatch):
        monkeypatch.setattr(sending, "PIECE_BYTES", 1000)
        image = run(lab.images().push(sif, "docker://vllm/vllm-openai:v1"))
        assert Path(image.path).read_bytes() == SIF
        assert image.path == f"{lab.cache}/vllm_vllm-openai+v1@{hashlib.sha256(SIF).hexdigest()[:16]}.sif"
        assert image.how == "push"
        assert run(lab.images().push(sif, "vllm/vllm-openai:v1")) == image
        assert [path.name for path in (lab.cache / ".work/push").iterdir()] == []

    def test_lost_connections_and_what_was_sent_before(self, lab, sif, tmp_path, monkeypatch):
        monkeypatch.setattr(sending, "PIECE_BYTES", 1000)

        async def lossy():
            async with SshServer() as server:
                server.admit(tmp_path / "home")
                server.faults.drop_after.add(4)
                server.faults.drop_during.add(6)
                images = lab.images(transport=SshTransport(lab.site.login))
                image = await images.push(sif)
                await images.close()
                return image, server.counts.connections

        image, connections = run(lossy())
        assert Path(image.path).read_bytes() == SIF
        assert connections > 1

    def test_interrupted_is_taken_up(self, lab, sif, monkeypatch):
        monkeypatch.setattr(sending, "PIECE_BYTES", 1000)
        said = []

        async def twice():
            def stop(text):
                said.append(text)
                if len(said) == 4:
                    task.cancel()

            task = asyncio.create_task(lab.images(say=stop).push(sif))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(said) == 4
            assert lab.sifs == []
            return await lab.images().push(sif)

        assert Path(run(twice()).path).read_bytes() == SIF

    def test_what_arrives_as_something_else_is_no_image(self, lab, sif, monkeypatch):
        digest = hashlib.sha256(SIF).hexdigest()
        (lab.cache / ".work/push").mkdir(parents=True)
        (lab.cache / f".work/push/{digest}").write_bytes(b"x" * len(SIF))
        monkeypatch.setattr(sending, "PIECE_BYTES", 1000)  # all but the last piece is taken for sent
        with pytest.raises(SiteError, match="did not arrive as it was sent"):
            run(lab.images().push(sif))
        assert lab.sifs == []
        assert run(lab.images().push(sif)).size_bytes == len(SIF)

    def test_no_image(self, lab, definition):
        with pytest.raises(UsageError, match="is no image"):
            run(lab.images().push(definition))

    def test_no_room(self, lab, sif, tmp_path, monkeypatch):
        df = tmp_path / "bin/df"
        df.write_text("#!/bin/sh\necho head\necho fs 10 8 2 80% /\n")
        df.chmod(0o755)
        with pytest.raises(SiteError, match=r"it needs 7042 bytes, and .* has 2048"):
            run(lab.images().push(sif))


class TestVerify:
    def test_good_and_touched(self, lab):
        image = run(lab.images().pull("redis:7"))
        os.utime(image.path, (1_700_000_000, 1_700_000_000))
        (found,) = run(lab.images().verify("redis:7"))
        assert found.good
        (listed,) = run(lab.images().list())
        assert listed.modified_s == 1_700_000_000
        assert not listed.trouble

    def test_changed_is_refused_until_it_is_pulled_again(self, lab):
        image = run(lab.images().pull("redis:7"))
        Path(image.path).write_bytes(b"x" * image.size_bytes)
        (found,) = run(lab.images().verify())
        assert not found.good
        assert found.found == f"sha256:{hashlib.sha256(b'x' * image.size_bytes).hexdigest()}"
        with pytest.raises(SiteError, match="refused: its file was changed") as caught:
            run(lab.images().find("docker://redis:7"))
        assert "images pull docker://redis:7 --again --site lab" in caught.value.hint
        assert run(lab.images().pull("redis:7")).digest == image.digest
        assert run(lab.images().find("redis:7"))["redis:7"].digest == image.digest

    def test_another_size_is_seen_at_once(self, lab):
        image = run(lab.images().pull("redis:7"))
        with open(image.path, "ab") as file:
            file.write(b"x")
        with pytest.raises(SiteError, match="110001 bytes in place of 110000"):
            run(lab.images().find("redis:7"))

    def test_gone(self, lab):
        image = run(lab.images().pull("redis:7"))
        Path(image.path).unlink()
        (found,) = run(lab.images().verify("redis:7"))
        assert (found.good, found.found) == (False, "")

    def test_no_such_image(self, lab):
        with pytest.raises(SiteError, match="has no image redis:8"):
            run(lab.images().verify("redis:8"))


class TestList:
    def test_empty(self, lab):
        assert run(lab.images().list()) == []

    def test_what_is_no_record_is_left_out(self, lab):
        image = run(lab.images().pull("redis:7"))
        for number, text in enumerate(["", "{", "[]", '{"reference": 1}', json.dumps({"digest": "sha256:x"})]):
            (lab.cache / f"bad@{number}.json").write_text(text)
        (lab.cache / "half@0.sif").write_bytes(b"half of an image")
        assert run(lab.images().list()) == [image]

    def test_missing_ones_are_named_with_the_command(self, lab):
        with pytest.raises(SiteError) as caught:
            run(lab.images().find("docker://a:1", "docker://b:2"))
        assert "docker://a:1, docker://b:2" in caught.value.text
        assert caught.value.hint == "aifactory-bench images pull docker://a:1 docker://b:2 --site lab"

    def test_one_question_for_all(self, lab, tmp_path):
        for reference in ("redis:7", "redis:8", "redis:9"):
            lab.offer(reference, reference.encode())
            run(lab.images().pull(reference))

        async def asked():
            async with SshServer() as server:
                server.admit(tmp_path / "home")
                images = lab.images(transport=SshTransport(lab.site.login))
                await images.find("redis:7", "redis:8", "redis:9")
                await images.close()
                return server.counts.sessions

        assert run(asked()) == 1


def test_blocking_face_within_a_loop_and_without(lab):
    images = Images(evolve(lab.site, login=None))
    first = images.pull("redis:7")

    async def cell():
        return images.list()

    assert asyncio.run(cell()) == [first]


def test_an_interrupt_in_a_notebook_stops_the_pull(lab):
    """There the signal raises in the cell, which waits in a running loop."""
    lab.slow(30)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        while not lab.calls:
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    async def cell():
        threading.Thread(target=interrupt).start()
        Images(evolve(lab.site, login=None)).pull("redis:7")

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
    finally:
        signal.signal(signal.SIGINT, former)
        loop.close()
    assert lab.sifs == []
    assert lab.left == []


def test_both_faces_have_the_same_verbs():
    def verbs(cls):
        return {name for name, value in vars(cls).items() if not name.startswith("_") and callable(value)}

    assert verbs(AsyncImages) - {"close"} == verbs(Images)


def test_names_of_files():
    keys = ["a/b:c", "a_b+c", "a=5fb", "A/b:c", "a/b", "é", "." * 3, "x" * 400, "x" * 399 + "y", "a@sha256:" + "0" * 64]
    names = [file_name(key_of(key)) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(len(name) < 200 and not name.startswith((".", "-")) and "/" not in name for name in names)
    assert file_name("vllm/vllm-openai:v0.11") == "vllm_vllm-openai+v0.11"


def test_folder_of_the_cache(lab):
    assert cache_folder(lab.site) == str(lab.cache)
    assert cache_folder(evolve(lab.site, images_cache=None, runs="/scratch/p/runs")) == "/scratch/p/images"
