"""The Redis plugin on the controller: what a recipe says becomes a configuration that a real server takes."""

import shutil
import socket
import subprocess
import time

import pytest
from attrs import evolve

from aifactory_bench import JobFactory, RecipeError, ServiceEntry, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.placeholders import resolve
from aifactory_bench_services.redis import Operations, RedisLoadClient, RedisLoadParameters, RedisParameters, RedisService
from aifactory_bench_services.redis_resp_node import Client, ErrorReply

SECRET = "throw-away"


@pytest.fixture
def compose(tmp_path):
    """What the node is told about a server with these parameters."""

    def compose(site=None, **parameters):
        job = RedisService("cache", RedisParameters(**parameters))
        return job.compose(site or load_site("local", runs=tmp_path), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))

    return compose


@pytest.fixture
def serve(compose, tmp_path):
    """Start redis-server as the node side would; returns a connection with the password."""
    started = []

    def serve(**parameters):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = tmp_path / "work folder"
        folder.mkdir()
        values = {"port": str(port), "bind": "127.0.0.1", "secret": SECRET, "folder": str(folder)}
        script = compose(**parameters)
        for file in script.spec.files:
            (folder / file.name).write_text("\n".join(resolve(line, values) for line in file.lines) + "\n")
        log = (tmp_path / "log").open("wb")
        argv = [resolve(part, values) for part in script.argv]
        started.append((subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder), log))
        deadline = time.monotonic() + 10
        while True:
            try:
                client = Client("127.0.0.1", port, SECRET, 2.0)
                client.ask("PING")
            except (OSError, ErrorReply):
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.02)
            else:
                return client, port, folder

    yield serve
    for server, log in started:
        server.terminate()
        server.wait(10)
        log.close()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server")
@pytest.mark.parametrize(
    ("persistence", "snapshots", "log"),
    [("none", False, "no"), ("rdb", True, "no"), ("aof", False, "yes"), ("both", True, "yes")],
)
def test_a_real_server_takes_the_configuration(serve, persistence, snapshots, log):
    """Persistence, memory limit, folder and password are what the recipe says; nobody gets in without."""
    client, port, folder = serve(persistence=persistence, max_memory_bytes=64 << 20)
    with client:
        settings = {
            name: client.ask("CONFIG", "GET", name)[1].decode() for name in ("save", "appendonly", "maxmemory", "dir", "bind")
        }
    assert bool(settings["save"]) is snapshots
    assert settings["appendonly"] == log
    assert settings["maxmemory"] == str(64 << 20)
    assert settings["dir"] == str(folder)
    assert settings["bind"] == "127.0.0.1"
    with pytest.raises(ErrorReply, match=r"NOAUTH|WRONGPASS"), Client("127.0.0.1", port, "", 2.0) as stranger:
        stranger.ask("GET", "x")


def test_the_password_is_in_no_argument(compose):
    """Arguments can be read by everybody on the node: it stands in the private file only."""
    script = compose()
    assert script.argv == ("redis-server", "@{folder}/redis.conf")
    (config,) = script.spec.files
    assert "requirepass @{secret}" in config.lines
    assert "@{secret}" not in script.text().replace("requirepass @{secret}", "")
    assert script.spec.environment == {}


def test_in_a_container(compose):
    """The same command inside the image."""
    site = evolve(load_site("local"), runtime="apptainer", images={"docker://redis:7.4": "/redis.sif"})
    assert compose(site).argv[-3:] == ("/redis.sif", "redis-server", "@{folder}/redis.conf")


def test_public_names():
    """What users of the class look for."""
    service = RedisService("cache", RedisParameters(persistence="aof"))
    assert service.persistence == "aof"
    assert "appendonly yes" in service.get_redis_config()
    assert RedisLoadClient("load").target_endpoint.port.name == "endpoint.main.0.port"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"persistence": "disk"}, "persistence: must be none, rdb, aof or both; found 'disk'"),
        ({"max_memory": "1KiB"}, "max_memory: must be at least 1MiB"),
        ({"max_memory": 64}, "max_memory: must be a size"),
        ({"port": 6379}, "unknown key"),
    ],
)
def test_wrong_parameters_of_the_server(parameters, text):
    """Each with its place."""
    with pytest.raises(RecipeError) as raised:
        JobFactory().create_service(ServiceEntry("cache", kind="redis", parameters=parameters))
    assert text in raised.value.text


@pytest.mark.parametrize(
    "parameters",
    [{"keys": 0}, {"pipeline": 0}, {"value_size_bytes": 0}, {"value_size_bytes": 1 << 40}, {"keys": 10**10}],
)
def test_wrong_parameters_of_the_load(parameters):
    """Bounds hold in Python too."""
    with pytest.raises(ValueError, match="must be"):
        RedisLoadParameters(**parameters)


@pytest.mark.parametrize("weights", [{}, {"get": 0}, {"get": -1, "set": 2}])
def test_a_mix_has_something_in_it(weights):
    """No operation at all, or less than none, is no load."""
    with pytest.raises(ValueError, match="must be"):
        Operations(**weights)
