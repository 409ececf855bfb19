"""Requests as templates, replies in any pieces."""

from collections import Counter
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.node.load import ALL
from aifactory_bench_services.redis_data_node import Sizes, value_of
from aifactory_bench_services.redis_keys_node import uniform
from aifactory_bench_services.redis_load_node import RedisLoad
from aifactory_bench_services.redis_resp_node import INCOMPLETE, ErrorReply, RespError, encode, parse


def connection(pipeline: int = 1, size: int = 5, keys: int = 10, sets: int = 1) -> Any:
    return RedisLoad([("127.0.0.1", 1)], "", {"get": 1, "set": sets}, keys, Sizes((), size, size), pipeline).protocol(0)


REPLIES = st.one_of(
    st.just((b"+OK\r\n", "")),
    st.just((b"$-1\r\n", "error")),
    st.binary(max_size=12).map(lambda value: (b"$%d\r\n%b\r\n" % (len(value), value), "" if len(value) == 5 else "error")),
    st.just((b"$5\r\n" + value_of(5) + b"\r\n", "")),
    st.sampled_from([b"-ERR no\r\n", b"-WRONGPASS no\r\n", b"-nothing\r\n", b"-OOM\r\n"]).map(lambda line: (line, "error")),
    st.just((b":12\r\n", "")),
    st.just((b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "")),
)


@given(st.lists(REPLIES, min_size=1, max_size=8), st.data())
def test_replies_are_read_the_same_however_they_are_cut(replies: list[tuple[bytes, str]], data: st.DataObject) -> None:
    """TCP keeps no boundaries."""
    protocol = connection()
    protocol.request(len(replies))
    stream = b"".join(reply for reply, _ in replies)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    edges = sorted({0, *cuts, len(stream)})
    seen: list[str] = []
    for start, end in pairwise(edges):
        outcomes = protocol.feed(stream[start:end], 0)
        if outcomes is ALL:
            outcomes = [None] * (len(replies) - len(seen))
        seen += ["" if outcome is None else "error" if outcome.error else outcome.note for outcome in outcomes]
    assert seen == [kind for _, kind in replies]


@given(st.integers(1, 40), st.integers(0, 3), st.data())
def test_a_batch_is_what_it_says_and_its_reply_is_known(count: int, sets: int, data: st.DataObject) -> None:
    """Read back as a server would; the right answer is `ALL`, in one piece or in several."""
    protocol = connection(pipeline=count, sets=sets)
    for _ in range(3):
        request, batch = protocol.request(count)
        at, answer = 0, b""
        for operation in batch.operations:
            command, at = parse(request, at)
            assert command[0] == operation.upper().encode()
            assert command[1][:4] == b"key:"
            assert 0 <= int(command[1][4:]) < 10
            assert command[2:] == ([value_of(5)] if operation == "set" else [])
            answer += b"+OK\r\n" if operation == "set" else b"$5\r\n%b\r\n" % value_of(5)
        assert at == len(request)
        cut = data.draw(st.integers(0, len(answer)))
        first = protocol.feed(answer[:cut], 0) if cut else []
        if cut < len(answer):
            rest = protocol.feed(answer[cut:], 0)
            assert rest is ALL or len(first) + len(rest) == count
        else:
            assert first is ALL


def test_requests_added_to_a_pipeline_are_answered_together_or_not() -> None:
    """Open loop sends one at a time on a connection that has others under way."""
    protocol = connection(sets=0)
    hit = b"$5\r\n%b\r\n" % value_of(5)
    for _ in range(3):
        protocol.request(1)
    assert protocol.feed(hit * 3, 0) is ALL
    for _ in range(3):
        protocol.request(1)
    assert list(protocol.feed(hit, 0)) == [None]
    protocol.request(1)
    assert protocol.feed(hit * 3, 0) is ALL


@pytest.mark.parametrize("keys", [1, 7, 100_000, 1 << 22, (1 << 22) + 1, 10**9])
def test_keys_are_drawn_uniformly(keys: int) -> None:
    """From the first to the last, by both widths of lanes."""
    drawn = list(islice(uniform(Random(1), keys), 20_000))
    assert 0 <= min(drawn) <= max(drawn) < keys
    deciles = Counter(number * 10 // keys for number in drawn)
    if keys >= 100_000:
        assert all(1800 < deciles[decile] < 2200 for decile in range(10))
    assert drawn == list(islice(uniform(Random(1), keys), 20_000))
    assert keys == 1 or drawn != list(islice(uniform(Random(2), keys), 20_000))


@pytest.mark.parametrize("pipeline", [1, 16, 1000])
def test_operations_are_mixed_by_weight(pipeline: int) -> None:
    """At any depth, also rare ones; batches differ in number and in order."""
    protocol = connection(pipeline=pipeline, sets=4)
    operations = Counter[str]()
    orders = set()
    for _ in range(24_000 // pipeline):
        _, batch = protocol.request(pipeline)
        operations.update(batch.operations)
        orders.add(batch.operations)
    assert operations["set"] / operations["get"] == pytest.approx(4, rel=0.12)
    assert len(orders) > 1


@given(
    st.recursive(st.binary(max_size=20) | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=4), max_leaves=8)
)
def test_parse_reads_what_resp_writes(value: Any) -> None:
    """And never more or less."""

    def written(item: Any) -> bytes:
        if item is None:
            return b"$-1\r\n"
        if isinstance(item, bytes):
            return b"$%d\r\n%b\r\n" % (len(item), item)
        if isinstance(item, int):
            return b":%d\r\n" % item
        return b"*%d\r\n" % len(item) + b"".join(map(written, item))

    if isinstance(value, int) and abs(value) >= 1 << 63:
        return
    data = written(value)
    try:
        found = parse(data + b"+more\r\n", 0)
    except RespError:
        assert "int" in str(type(value)) or any(len(part) > 20 for part in data.split(b"\r\n"))
        return
    assert found == (value, len(data))
    for cut in range(len(data)):
        assert parse(data[:cut], 0)[0] is INCOMPLETE


@given(st.binary(min_size=1, max_size=60))
def test_parse_survives_garbage(data: bytes) -> None:
    """With an error, an incomplete reply, or a reply."""
    try:
        reply, after = parse(data, 0)
    except RespError:
        return
    assert reply is INCOMPLETE or 0 < after <= len(data)


def test_commands_are_encoded_as_arrays() -> None:
    """Text, numbers and bytes."""
    assert encode("SET", b"k", 12) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n12\r\n"
    assert ErrorReply("ERR x").code == "ERR"
    assert ErrorReply("lower case").code == "ERR"
