"""Three real servers as one cluster: made by the clients, and each asked for its own keys only."""

import threading
from typing import Any

import pytest

from aifactory_bench import Joined
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.placeholders import resolve
from aifactory_bench.node.spec import ServiceSpec
from aifactory_bench.node.values import service_values
from aifactory_bench_services import redis_node
from aifactory_bench_services.redis import RedisParameters, RedisService
from aifactory_bench_services.redis_cluster_node import SLOTS, form, owner_of, slot_of, slots_of

SERVICE = {"cluster": True}


def test_slots_are_redis_s(cluster: list[Any]) -> None:
    """As the server computes them; dealt out to the last one."""
    for key in (b"key:000000000000", b"key:000000099999", b"123456789"):
        assert cluster[0].ask("CLUSTER", "KEYSLOT", key) == slot_of(key)
    for count in (3, 5, 7):
        assert sorted(slot for place in range(count) for slot in slots_of(place, count)) == list(range(SLOTS))


@pytest.mark.parametrize("pipeline", [1, 16])
def test_a_load_on_a_cluster(
    cluster: list[Any], context_of: Any, measure: Any, drive: Any, pipeline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key at its server, no redirection, and the servers count what the client counts."""
    monkeypatch.setattr("aifactory_bench_services.redis_prepare_node._prepared", {})
    context = context_of(*cluster, service=SERVICE, pipeline=pipeline, keys=1000, concurrency=6)
    assert redis_node.prepare(context)["keys_written"] == 1000
    assert redis_node.prepare(context)["keys_written"] == 0
    counts = [server.ask("DBSIZE") for server in cluster]
    assert counts == [sum(owner_of(number, 3) == place for number in range(1000)) for place in range(3)]
    before = sum(redis_node.counters(server.endpoint, server.secret)["operations"] for server in cluster)
    result = drive(context)
    after = sum(redis_node.counters(server.endpoint, server.secret)["operations"] for server in cluster)
    assert result.errors == {}
    assert result.metrics["misses"]["value"] == 0
    assert {"get", "set"} <= result.latency.keys()
    assert after - before == result.counts.ok + result.phase_counts["warmup"]["ok"] > 100
    assert min(redis_node.counters(server.endpoint, server.secret)["keyspace_hits"] for server in cluster) > 0
    # Fresh data, of two clients, in a smaller key space.
    removed = [
        redis_node.prepare(context_of(*cluster, rank=rank, ranks=2, service=SERVICE, keys=600, reset="data"))["keys_removed"]
        for rank in (0, 1)
    ]
    assert sum(removed) == 400
    assert sum(server.ask("DBSIZE") for server in cluster) == 600


def test_several_clients_make_it_at_a_time(cluster: list[Any]) -> None:
    """And it is one cluster afterwards."""
    failed: list[BaseException] = []

    def make() -> None:
        try:
            form([server.endpoint for server in cluster], cluster[0].secret)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for server in cluster:
        assert b"cluster_known_nodes:3" in server.ask("CLUSTER", "INFO")


def test_a_key_of_another_server_is_an_error_by_its_name(cluster: list[Any], context_of: Any, drive: Any) -> None:
    """A client that takes the cluster for independent ones."""
    redis_node.prepare(context_of(*cluster, service=SERVICE))
    result = drive(context_of(*cluster, operations={"get": 1}))
    assert result.errors == {"reply:MOVED": result.counts.error}
    assert result.counts.error / (result.counts.ok + result.counts.error) == pytest.approx(2 / 3, abs=0.2)


def test_what_cannot_be(cluster: list[Any], server: Any, context_of: Any) -> None:
    """A server that is none of a cluster; keys too few for all; the order of another cluster."""
    with pytest.raises(PrepareError, match=r"are no cluster: .*cluster support disabled"):
        redis_node.prepare(context_of(server, cluster[0], cluster[1], service=SERVICE))
    with pytest.raises(PrepareError, match="a cluster that runs already cannot be measured"):
        redis_node.prepare(context_of(cluster[0], service=SERVICE))
    with pytest.raises(PrepareError, match="have none; use more keys"):
        redis_node.prepare(context_of(*cluster, service=SERVICE, keys=2))
    form([one.endpoint for one in cluster], cluster[0].secret)
    with pytest.raises(PrepareError, match="server 0 has the slots"):
        redis_node.prepare(context_of(*reversed(cluster), service=SERVICE))


@pytest.mark.parametrize(("port", "bus"), [(40000, 50000), (55535, 65535), (55536, 45536), (60999, 50999)])
def test_the_port_of_the_bus(port: int, bus: int) -> None:
    """The usual distance above, or below where there is none above."""
    lines = RedisService("cache", RedisParameters(cluster=True), replicas=3).get_redis_config()
    (line,) = [Joined(line.parts) for line in lines if isinstance(line, Joined) and line.parts[0] == "cluster-port "]
    service = ServiceSpec(clients={}, ready_timeout_s=1.0, bind="127.0.0.1")
    text = "".join(map(str, line.parts))
    assert resolve(text, service_values(service, port, "s")) == f"cluster-port {bus}"


def test_in_open_loop_a_server_is_asked_as_often_as_its_keys_are(
    cluster: list[Any], context_of: Any, drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With zipf the one with the hottest key most, whatever connections there are."""
    monkeypatch.setattr("aifactory_bench_services.redis_prepare_node._prepared", {})
    load = {"process": "constant", "rate_per_s": 1000.0, "connections": 9, "duration_s": 1.0, "warmup_s": 0.0}
    keys = {"keys": 300, "distribution": "zipf", "zipf_exponent": 1.0, "operations": {"get": 1}}
    context = context_of(*cluster, service=SERVICE, **keys, **load)
    redis_node.prepare(context)
    before = [redis_node.counters(server.endpoint, server.secret)["keyspace_hits"] for server in cluster]
    result = drive(context)
    assert (result.errors, result.counts.ok) == ({}, 1000)
    asked = [
        redis_node.counters(server.endpoint, server.secret)["keyspace_hits"] - had
        for server, had in zip(cluster, before, strict=True)
    ]
    assert sum(asked) == 1000
    weights = [sum(1 / (number + 1) for number in range(300) if owner_of(number, 3) == place) for place in range(3)]
    assert max(weights) > 1.2 * min(weights)
    for found, weight in zip(asked, weights, strict=True):
        assert found / 1000 == pytest.approx(weight / sum(weights), abs=0.05)
