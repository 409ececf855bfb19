"""The Redis plugin on the controller: what a recipe says becomes a configuration that a real server takes."""

import shutil
import socket
import subprocess
import time

import pytest
from attrs import evolve

from aifactory_bench import ClientEntry, DurationS, JobFactory, Load, RecipeError, ServiceEntry, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.placeholders import resolve
from aifactory_bench_services.redis import (
    Operations,
    RedisLoadClient,
    RedisLoadParameters,
    RedisParameters,
    RedisService,
    Snapshot,
)
from aifactory_bench_services.redis_resp_node import Client, ErrorReply

SECRET = "throw-away"


@pytest.fixture
def compose(tmp_path):
    """What the node is told about a server with these parameters."""

    def compose(site=None, replicas=3, **parameters):
        job = RedisService("cache", RedisParameters(**parameters), replicas=replicas)
        return job.compose(site or load_site("local", runs=tmp_path), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))

    return compose


@pytest.fixture
def serve(compose, tmp_path):
    """Start redis-server as the node side would; returns a connection with the password."""
    started = []

    def serve(**parameters):
        with socket.socket() as probe, socket.socket() as another:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            another.bind(("127.0.0.1", 0))
            bus = another.getsockname()[1]
        folder = tmp_path / "work folder"
        folder.mkdir()
        values = {"port": str(port), "port.peers": str(bus), "bind": "127.0.0.1", "secret": SECRET, "folder": str(folder)}
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


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server")
def test_a_real_server_takes_what_is_said_of_durability(serve):
    """When snapshots are written, when the file is on disk, what is thrown away."""
    client, _, _ = serve(
        persistence="both",
        snapshots=(Snapshot(DurationS(60.0), 5), Snapshot(DurationS(3600.0), 1)),
        append_fsync="always",
        max_memory_bytes=64 << 20,
        max_memory_policy="volatile-ttl",
    )
    with client:
        names = ("save", "appendfsync", "maxmemory-policy", "cluster-enabled")
        found = {name: client.ask("CONFIG", "GET", name)[1] for name in names}
    assert found == {
        "save": b"60 5 3600 1",
        "appendfsync": b"always",
        "maxmemory-policy": b"volatile-ttl",
        "cluster-enabled": b"no",
    }


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server")
def test_a_real_server_of_a_cluster(serve):
    """Up, with no slots yet; the bus has a port of its own."""
    client, port, _ = serve(cluster=True)
    with client:
        assert b"cluster_slots_assigned:0" in client.ask("CLUSTER", "INFO")
        assert int(client.ask("CONFIG", "GET", "cluster-port")[1]) not in (0, port)


def test_a_cluster_of_too_few(compose):
    """Before anything is submitted."""
    with pytest.raises(RecipeError, match=r"services\.cache\.replicas: a cluster needs at least 3 servers, found 2"):
        compose(replicas=2, cluster=True)


def test_fewer_keys_than_replicas_to_write_them():
    """Some of them would have none."""
    parameters = RedisLoadParameters(keys=2, write_ranges="disjoint")
    with pytest.raises(RecipeError, match=r"clients\.load\.parameters\.keys: 2 keys leave some of 3 replicas none"):
        RedisLoadClient("load", parameters, replicas=3).get_benchmark_commands(Load(), parameters)


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
        ({"append_fsync": "no"}, "append_fsync has no meaning with persistence: none; write aof or both"),
        (
            {"snapshots": [{"after": "60s", "writes": 1}], "persistence": "aof"},
            "snapshots have no meaning with persistence: aof",
        ),
        ({"snapshots": [{"after": "1500ms", "writes": 1}], "persistence": "rdb"}, "after must be whole seconds; found 1.5s"),
        ({"snapshots": [{"after": "60s"}], "persistence": "rdb"}, "snapshots[0].writes: missing"),
        ({"max_memory_policy": "allkeys-lru"}, "max_memory_policy has no meaning without max_memory"),
        ({"max_memory": "64MiB", "max_memory_policy": "lru"}, "max_memory_policy: must be noeviction"),
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


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"distribution": "pareto"}, "distribution: must be uniform, zipf, hot-set or sequential"),
        ({"zipf_exponent": 1.1}, "zipf_exponent has no meaning with distribution: uniform; write zipf"),
        ({"distribution": "zipf", "zipf_exponent": 9.0}, "zipf_exponent: must be at most 5"),
        ({"distribution": "zipf", "hot_keys": "5%"}, "hot_keys has no meaning with distribution: zipf; write hot-set"),
        ({"distribution": "hot-set", "hot_requests": "100%"}, "hot_requests: must be less than 100%"),
        ({"value_range": {"least": "2KiB", "most": "1KiB"}}, "most must be at least least"),
        ({"value_sizes": [{"size": "0B"}]}, "value_sizes[0].size: must be at least 1B"),
        (
            {"value_sizes": [{"size": "1B"}], "value_range": {"least": "1B", "most": "2B"}},
            "give value_sizes or value_range, not both",
        ),
        ({"expire": "0s"}, "expire: must be at least 1ms"),
        ({"write_ranges": "own"}, "write_ranges: must be shared or disjoint"),
    ],
)
def test_wrong_combinations_of_the_load(parameters, text):
    """Each with its place."""
    with pytest.raises(RecipeError) as raised:
        JobFactory().create_client(ClientEntry("load", kind="redis-load", targets={"main": "cache"}, parameters=parameters))
    assert text in raised.value.text


@pytest.mark.parametrize("weights", [{}, {"get": 0}, {"get": -1, "set": 2}])
def test_a_mix_has_something_in_it(weights):
    """No operation at all, or less than none, is no load."""
    with pytest.raises(ValueError, match="must be"):
        Operations(**weights)
