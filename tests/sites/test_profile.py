"""Site profiles as files: strict, and every problem told with its place."""

import pytest

from aifactory_bench.errors import RecipeError, UsageError
from aifactory_bench.sites.load import load_site, site_names
from aifactory_bench.sites.settings import config_folder

PROFILE = """\
schema: aifactory-bench/site/1
name: cluster
login: {host: login.example, user: alice, port: 2222, jump: gate.example}
runs: /scratch/alice/runs
slurm: {partition: gpu, account: p200, exclusive: true, nice: 10}
runtime: apptainer
images: {docker://redis:7.4: /images/redis.sif}
modules: [env/release, Apptainer]
setup: ["export OMP_NUM_THREADS=1"]
python: /opt/python/bin/python3
max_jobs: 200
submit_rate: 5/s
file_lag: 30s
"""


@pytest.fixture
def profile(tmp_path):
    """Write a profile into the user's settings; returns its path."""

    def write(text, name="cluster"):
        folder = config_folder() / "sites"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
        return folder / f"{name}.yaml"

    return write


def test_a_profile_becomes_a_site(profile):
    """By its name, and by its file."""
    path = profile(PROFILE)
    site = load_site("cluster")
    assert site == load_site(str(path))
    assert (site.name, site.submitter, site.runs, site.runtime) == ("cluster", "slurm", "/scratch/alice/runs", "apptainer")
    assert (site.login.host, site.login.user, site.login.port, site.login.jump) == (
        "login.example",
        "alice",
        2222,
        "gate.example",
    )
    assert site.login.transport == "ssh"
    assert site.scheduler == {"partition": "gpu", "account": "p200", "exclusive": "", "nice": "10"}
    assert site.images == {"docker://redis:7.4": "/images/redis.sif"}
    assert (site.max_jobs, site.submit_rate_per_s, site.file_lag_s, site.unsure_s) == (200, 5.0, 30.0, 60.0)
    assert site.setup == ("export OMP_NUM_THREADS=1",)


def test_every_problem_is_told_with_its_place(profile):
    """At once, with what is allowed."""
    text = PROFILE.replace("runs: /scratch/alice/runs", "runs: scratch/runs").replace("max_jobs: 200", "max_jobs: 0\nqueue: x")
    text = text.replace("partition: gpu", "partitions: gpu, job-name: x").replace("port: 2222", "port: 99999")
    path = profile(text)
    with pytest.raises(RecipeError) as caught:
        load_site("cluster")
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    told = "\n".join(lines)
    for part in ("runs: must be an absolute path", "max_jobs: must be at least 1", "queue: unknown key", "login.port"):
        assert part in told
    assert "partitions" in told
    assert "job-name" in told


@pytest.mark.parametrize("name", ["nowhere", "../etc/passwd", "UPPER"])
def test_a_site_that_is_not_there_names_those_that_are(profile, name):
    """With the folder in which they are looked for."""
    profile(PROFILE)
    with pytest.raises(UsageError, match="there is: local, cluster"):
        load_site(name)
    assert site_names() == ["cluster"]


def test_a_missing_or_empty_file_is_an_error_of_the_user(profile, tmp_path):
    """Not a traceback."""
    with pytest.raises(RecipeError, match="no such file"):
        load_site(str(tmp_path / "none.yaml"))
    profile("")
    with pytest.raises(RecipeError, match="the site profile is empty"):
        load_site("cluster")


@pytest.mark.parametrize("name", ["local", "Upper", "a b"])
def test_names_that_cannot_be(profile, name):
    """`local` is taken, and a name stands in messages and paths."""
    profile(PROFILE.replace("name: cluster", f"name: '{name}'"))
    with pytest.raises(RecipeError, match="name: must be"):
        load_site("cluster")
