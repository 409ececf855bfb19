"""Argument vectors of container runtimes."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench import Site, SiteError
from aifactory_bench.node.placeholders import literal, resolve
from aifactory_bench.script.container import container_argv, container_environment

HOST = Site(name="here", submitter="local", runs="/runs")
APPTAINER = evolve(HOST, runtime="apptainer", images={"docker://redis:7.4": "/images/redis@7.sif"})


def test_host_leaves_the_command_alone():
    """No image is needed either."""
    assert container_argv(HOST, None, ["redis-server", "@{port}"], run_folder="/runs/r") == ["redis-server", "@{port}"]
    assert container_environment(HOST, {"A": "b"}) == {"A": "b"}


@pytest.mark.parametrize(("runtime", "prefix"), [("apptainer", "APPTAINERENV_"), ("singularity", "SINGULARITYENV_")])
def test_containers_see_the_run_folder_and_no_environment_but_ours(runtime, prefix):
    """Variables travel in the runtime's environment, so that none stands in an argument vector."""
    site = evolve(APPTAINER, runtime=runtime)
    argv = container_argv(site, "docker://redis:7.4", ["redis-server", "@{port}"], run_folder="/runs/r")
    assert argv[:6] == [runtime, "exec", "--cleanenv", "--no-home", "--bind", "/runs/r"]
    assert [resolve(part, {"port": "6379"}) for part in argv[6:]] == ["/images/redis@7.sif", "redis-server", "6379"]
    assert container_environment(site, {"A": "b,c"}) == {f"{prefix}A": "b,c"}


def test_gpus_are_handed_on():
    """`--nv` only where the job has any."""
    with_gpu = container_argv(APPTAINER, "docker://redis:7.4", ["x"], run_folder="/runs/r", gpus=1)
    assert "--nv" in with_gpu
    assert "--nv" not in container_argv(APPTAINER, "docker://redis:7.4", ["x"], run_folder="/runs/r")


def test_paths_of_a_job_are_bound_where_they_are():
    """A model is seen under the path that the recipe names; one that cannot be bound is refused, and `host` binds nothing."""
    argv = container_argv(APPTAINER, "docker://redis:7.4", ["x"], run_folder="/runs/r", binds=["/models/m", "/cache"])
    assert argv[4:10] == ["--bind", "/runs/r", "--bind", "/models/m", "--bind", "/cache"]
    assert container_argv(HOST, None, ["x"], run_folder="/runs/r", binds=["/models/m"]) == ["x"]
    for path in ("models", "/a:b", "/a,b"):
        with pytest.raises(SiteError, match="llm: apptainer cannot bind"):
            container_argv(APPTAINER, "docker://redis:7.4", ["x"], run_folder="/runs/r", binds=[path], job="llm")


def test_an_image_that_the_site_lacks_names_both():
    """The error says which image, which site, and where to add it."""
    with pytest.raises(SiteError, match=r"cache: site here has no image 'docker://mysql:8'; it has: docker://redis:7.4"):
        container_argv(APPTAINER, "docker://mysql:8", ["x"], run_folder="/runs/r", job="cache")
    with pytest.raises(SiteError, match="names an image"):
        container_argv(APPTAINER, None, ["x"], run_folder="/runs/r", job="cache")


@pytest.mark.parametrize("folder", ["/runs/a,b", "/runs/a:b"])
def test_a_run_folder_that_cannot_be_bound_is_refused(folder):
    """Both characters separate binds, and there is no way to quote them."""
    with pytest.raises(SiteError, match="cannot bind"):
        container_argv(APPTAINER, "docker://redis:7.4", ["x"], run_folder=folder)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_path_becomes_a_placeholder(path):
    """An image path with `@{...}` in it stays a path."""
    site = evolve(APPTAINER, images={"image": path})
    argv = container_argv(site, "image", [literal("x")], run_folder="/runs/r")
    assert [resolve(part, {}) for part in argv][6:] == [path, "x"]
