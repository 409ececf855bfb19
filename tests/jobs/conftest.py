"""A service and two clients that do as little as possible."""

from typing import ClassVar

import pytest
from attrs import evolve, frozen

from aifactory_bench import PORT, Client, Command, DurationS, File, Service, load_site
from aifactory_bench.jobs.context import JobContext


@frozen
class StubParameters:
    """Of the stub service."""

    pause_s: DurationS = 0.5
    text: str = "a b"


class StubService(Service):
    """Uses every step."""

    kind = "stub"
    Parameters = StubParameters
    node_module = "aifactory_bench_services.redis_node"
    default_image = "docker://stub:1"
    scheme = "stub"
    stop_signal = "INT"

    def get_setup_commands(self):
        return [Command(["mkdir", "-p", "/tmp/stub x"])]

    def get_files(self):
        return [File("stub.conf", ("port", PORT))]

    def get_environment(self):
        return {"STUB": "own", "PORT": PORT}

    def get_service_setup_commands(self):
        return [Command(["stub-init", "--text", self.parameters.text])]

    def get_container_command(self):
        return Command(["stub-server", "--port", PORT], {"LEVEL": "3"})


class StubLoad(Client):
    """On the load core."""

    kind = "stub-load"
    node_module = "aifactory_bench_services.redis_node"
    targets: ClassVar = {"main": ("stub",)}


class StubTool(Client):
    """A program of its own."""

    kind = "stub-tool"
    mode = "tool"
    node_module = "aifactory_bench_services.redis_node"
    targets: ClassVar = {"store": ()}
    default_image = "docker://stub:1"

    def get_benchmark_commands(self, load, parameters):
        return [Command(["stub-bench", "-c", load.concurrency, "-p", self.target_endpoint.port])]


@pytest.fixture
def stub_service():
    return StubService


@pytest.fixture
def stub_load():
    return StubLoad


@pytest.fixture
def stub_tool():
    return StubTool


@pytest.fixture
def local(tmp_path):
    return load_site("local", runs=tmp_path / "runs")


@pytest.fixture
def apptainer(local):
    return evolve(local, name="cluster", submitter="slurm", runtime="apptainer", images={"docker://stub:1": "/images/stub.sif"})


@pytest.fixture
def context():
    return JobContext(run_id="r", node_digest="0" * 16, time_s=600.0, lease_s=60.0)
