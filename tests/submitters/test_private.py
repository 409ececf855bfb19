"""What only the site may hold: it arrives once, private, and never comes back."""

import asyncio
import stat
from pathlib import Path

from aifactory_bench.plan import Plan
from aifactory_bench.runs.store import RunStore

TOKEN = "sk-only-for-the-site"
PRIVATE = {"endpoints/external-api/secret": TOKEN}


def holders(folder: Path) -> "list[Path]":
    """Return the files below a folder that have the token."""
    return [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_site_of_slurm_keeps_it_for_itself(lab):
    """One private file there, nothing of it on the controller's machine; later stages and polls leave it alone."""
    controller = lab.controller()
    plan = lab.plan([lab.job()])

    async def go():
        await controller.stage(plan, "recipe\n", b"program", PRIVATE)
        await controller.submit(plan.jobs[0])
        await controller.stage(plan, "recipe\n", b"program")
        return await controller.poll()

    assert set(asyncio.run(go())) == {lab.token()}
    secret = lab.run.external_secret("api")
    assert holders(lab.folder) == [secret]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700


def test_this_machine_keeps_it_in_one_file(submitter, paths):
    """And a further stage leaves it alone."""
    plan = Plan("r", "small", "local", str(paths.folder), (), (), {}, None, 1, (), "0" * 16)
    asyncio.run(submitter.stage(plan, "text", b"", PRIVATE))
    asyncio.run(submitter.stage(plan, "text", b""))
    secret = paths.external_secret("api")
    assert holders(paths.folder) == [secret]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700


def test_a_run_that_does_not_begin_leaves_none_of_it(tmp_path):
    """What staging has put there goes with the folder."""
    store = RunStore(tmp_path)
    paths = store.create("r")
    paths.external_secret("api").parent.mkdir(parents=True)
    paths.external_secret("api").write_text(TOKEN)
    store.discard(paths)
    assert not paths.folder.exists()
