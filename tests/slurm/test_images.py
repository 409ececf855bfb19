"""Images on a real Slurm behind a real sshd: pulled on the login node, used on nodes that fetch nothing."""

import asyncio
import json
import shutil

import pytest

from aifactory_bench.errors import SiteError
from aifactory_bench.images.api import AsyncImages
from aifactory_bench.sites.load import load_site

pytestmark = pytest.mark.timeout(240)
needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")

RECIPE = """\
schema: aifactory-bench/1
name: small
services:
  cache: {kind: redis, image: "docker://redis:7.4", resources: {time: 5m, memory: 500MiB}}
clients:
  load:
    kind: redis-load
    target: cache
    resources: {time: 5m, memory: 500MiB}
    parameters: {keys: 500}
    load: {process: poisson, rate: 400/s, warmup: 200ms, duration: 1s}
"""


@pytest.fixture
def registry(cluster, tmp_path):
    """What the stand-in for apptainer fetches from; counts calls."""
    folder = cluster.here(cluster.shared) / f"registry-{tmp_path.name}"
    folder.mkdir()
    folder.chmod(0o777)
    # Without mksquashfs the bed's image is a text that names a folder beside it.
    program = 'if head -c 9 "$1" | grep -q sandbox; then sed "s|sandbox |&$(dirname "$1")/|" "$1"; else cat "$1"; fi > "$2"'
    cluster.run(["sh", "-c", program, "sh", cluster.image, f"{cluster.shared}/{folder.name}/redis_7.4"], check=True)
    return folder


@pytest.fixture
def profile(cluster, site, registry, tmp_path):
    """A site with a cache, and without images of its own."""
    lines = [line for line in site("apptainer").read_text().splitlines() if not line.startswith("images:")]
    path = tmp_path / "cached.yaml"
    path.write_text(
        "\n".join(lines) + f"\nimages_cache: {cluster.shared}/images-{tmp_path.name}\n"
        f"setup: [export APPTAINER_REGISTRY={cluster.shared}/{registry.name}]\n"
    )
    return path


def pull(profile, reference="docker://redis:7.4", **options):
    async def go():
        async with AsyncImages(load_site(str(profile))) as images:
            return await images.pull(reference, **options)

    return go()


@needs_redis
def test_two_runs_that_need_an_image_at_once(cluster, registry, profile, command, tmp_path):
    """One pull, on the login node; both run; nothing is pulled within a job."""
    (registry / "slow_s").write_text("2")

    async def both():
        return await asyncio.gather(pull(profile), pull(profile))

    first, second = asyncio.run(both())
    assert first == second
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    runs = [
        command("run", recipe, "--site", profile, "--run-id", f"cached-{number}", "--json", runs=f"runs{number}")
        for number in range(2)
    ]
    for run in runs:
        out, err = run.communicate(timeout=150)
        assert run.returncode in {0, 3}, err
        assert json.loads(out)["points"][0]["measurements"][0]["counts"]["ok"] > 100
    assert (registry / "calls").read_text() == "pull docker://redis:7.4\n"
    plan = json.loads((tmp_path / "runs0/cached-0/plan.json").read_text())
    assert plan["provenance"]["images"]["docker://redis:7.4"]["digest"] == first.digest


def test_through_a_node_and_without_the_image(cluster, registry, profile, cli, tmp_path):
    """`srun` as the command of the site; what is missing is told with its command before anything is submitted."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    code, _out, err = cli("run", recipe, "--site", profile, "--run-id", "missing")
    assert code == 1
    assert "aifactory-bench images pull docker://redis:7.4 --site testbed" in err
    image = asyncio.run(pull(profile, through=("srun", "--partition=debug", "--time=5")))
    assert image.tool.startswith("apptainer version")
    assert cluster.run(["sha256sum", image.path]).stdout.split()[0] == image.digest.removeprefix("sha256:")


def test_a_session_that_is_killed_does_not_end_a_pull(cluster, registry, profile):
    (registry / "slow_s").write_text("3")

    async def go():
        task = asyncio.create_task(pull(profile))
        while not (registry / "calls").exists():
            await asyncio.sleep(0.1)
        cluster.drop_ssh_sessions()
        return await task

    assert asyncio.run(go()).size_bytes == cluster.here(cluster.shared).joinpath(registry.name, "redis_7.4").stat().st_size
    assert (registry / "calls").read_text() == "pull docker://redis:7.4\n"


def test_no_such_image(cluster, registry, profile):
    with pytest.raises(SiteError, match="the registry has no such image"):
        asyncio.run(pull(profile, "docker://redis:nosuch"))
