"""Framing and events: whole at the right read, and each event with the time of the read that completed it."""

import json
from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.load import ProtocolError
from aifactory_bench_services.llm_framing_node import Arrival
from aifactory_bench_services.llm_stream_node import body, lines, server_sent_events

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["0\r\n\r\n", "\n\r\n0\r\n\r\n", "data: [DONE]\n\n", "ü€😀", ""]
)
CUTS = st.lists(st.integers(1, 3000), max_size=40)


def cuts_between(wire: Any, events: list[bytes], sizes: list[int]) -> bytes:
    """Return a chunked response whose chunks end anywhere, also inside an event or a character."""
    whole = b"".join(events)
    places = sorted({size % len(whole) for size in sizes} - {0}) if whole else []
    parts = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True) if a < b]
    return bytes(wire.chunked(parts))


def expected_stamps(wire: Any, raw: bytes, events: list[bytes], cuts: list[int]) -> list[int]:
    """Return when each event was whole, found by reading one byte more at a time."""
    reads = sorted({cut for cut in cuts if 0 < cut < len(raw)} | {len(raw)})
    at = raw.index(b"\r\n\r\n") + 4
    place_of: list[int] = []  # offset in the body -> offset in what was read
    while at < len(raw):
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end], 16)
        place_of.extend(range(end + 2, end + 2 + size))
        at = end + 2 + size + 2
    stamps, done = [], 0
    for event in events:
        done += len(event)
        stamps.append((bisect_left(reads, place_of[done - 1] + 1) + 1) * wire.step_ns)
    return stamps


@given(
    st.lists(TEXTS, min_size=1, max_size=8), st.lists(st.integers(0, 5000), max_size=6), CUTS, st.sampled_from(["\n", "\r\n"])
)
@settings(max_examples=150, deadline=None)
def test_events_whatever_the_cuts(wire: Any, texts: list[str], sizes: list[int], cuts: list[int], line_end: str) -> None:
    events = [wire.event(wire.chat(text), line_end=line_end) for text in texts]
    raw = cuts_between(wire, events, sizes)
    arrival, reads = wire.deliver(raw, cuts)
    assert reads == len(arrival.stamps)
    found = server_sent_events(arrival)
    assert [json.loads(payload)["choices"][0]["delta"]["content"] for payload in found.payloads] == texts
    assert found.stamps == expected_stamps(wire, raw, events, cuts)


@given(st.lists(TEXTS, min_size=1, max_size=8), CUTS)
@settings(max_examples=100, deadline=None)
def test_one_event_a_chunk_is_no_other_case(wire: Any, texts: list[str], cuts: list[int]) -> None:
    events = [wire.event(wire.completion(text)) for text in texts]
    raw = wire.chunked(events)
    arrival, _ = wire.deliver(raw, cuts)
    found = server_sent_events(arrival)
    assert [json.loads(payload)["choices"][0]["text"] for payload in found.payloads] == texts
    assert found.stamps == expected_stamps(wire, raw, events, cuts)


@pytest.mark.parametrize("size", range(1, 12))
def test_read_by_read(wire: Any, size: int) -> None:
    raw = wire.chunked([wire.event(wire.chat("0\r\n\r\n")), wire.event("[DONE]")])
    arrival, reads = wire.deliver(raw, list(range(size, len(raw), size)))
    assert reads == -(-len(raw) // size)
    assert server_sent_events(arrival).payloads[-1] == b"[DONE]"


def test_a_body_that_looks_as_if_it_ended_is_read_on(wire: Any) -> None:
    """Chunks may hold what looks like framing; a read that ends there is not the end."""
    hidden = b"\n\r\n0\r\n\r\n"
    raw = wire.chunked([b"[1,", hidden, b"2]"], content_type="application/json")
    at = raw.index(hidden) + len(hidden)
    arrival, reads = wire.deliver(raw, [at])
    assert reads == 2
    assert body(arrival).data == b"[1," + hidden + b"2]"


def test_trailers_and_extensions_belong_to_the_framing(wire: Any) -> None:
    head = wire.chunked([], end=b"")
    raw = head + b'5;name="a"\r\ndata:\r\n4 \r\n x\n\n\r\n0\r\nChecksum: 1\r\n\r\n'
    for cut in range(len(head), len(raw)):
        arrival, reads = wire.deliver(raw, [cut])
        assert reads == 2
        assert server_sent_events(arrival).payloads == [b"x"]


def test_fields_and_comments_of_events(wire: Any) -> None:
    stream = (
        b": ping\n\n"
        b"retry: 10\n\n"
        b"event: message\nid: 7\ndata:no space\n\n"
        b"data: two\ndata: lines\n\n"
        b"event: error\ndata: it broke\n\n"
        b"data\n\n"
        b"data: bare\r\rdata: last without a blank line\n"
    )
    arrival, _ = wire.deliver(wire.chunked([stream]))
    found = server_sent_events(arrival)
    assert found.payloads == [b"no space", b"two\nlines", b"bare", b"last without a blank line"]
    assert found.failed == b"it broke"


def test_lines_have_the_time_of_their_end(wire: Any) -> None:
    first, last = b'{"response":"a\xc3\xbc","done":false}\n', b'{"done":true}'
    raw = wire.chunked([first, b"\n", last], content_type="application/x-ndjson")
    arrival, reads = wire.deliver(raw, [raw.index(b"\xbc"), raw.index(b'{"done":true')])
    found = lines(arrival)
    assert reads == 3
    assert found.payloads == [first[:-1], last]
    assert found.stamps == [2 * wire.step_ns, 3 * wire.step_ns]


@pytest.mark.parametrize("cut", [0, 5, 40, 80])
def test_a_length_says_where_the_end_is(wire: Any, cut: int) -> None:
    raw = wire.sized(b'{"a": "0\\r\\n\\r\\n"}\r\n\r\n')
    arrival, reads = wire.deliver(raw, [cut])
    assert reads == len(arrival.pieces)
    assert body(arrival).data.endswith(b"\r\n\r\n")


def test_without_a_length_the_end_is_the_servers_closing(wire: Any) -> None:
    raw = wire.sized(b"data: x\n\n", content_type="text/event-stream", length=False)
    arrival, reads = wire.deliver(raw, [70])
    assert reads == -1
    assert arrival.whole_at_close()
    assert server_sent_events(arrival).payloads == [b"x"]


@pytest.mark.parametrize("missing", [0, 1, 5, 20])
def test_a_connection_that_is_to_close_is_waited_for(wire: Any, missing: int) -> None:
    """A request behind the answer would be lost: the connection is used no more, and the answer is whole at its closing."""
    chunked = wire.chunked([wire.event("x")]).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    for raw in (wire.sized(b"{}" * 20, more="Connection: close\r\n"), chunked):
        arrival, reads = wire.deliver(raw[: len(raw) - missing], [30, 90])
        assert reads == -1
        assert arrival.whole_at_close() is (missing == 0)


def test_an_interim_response_is_skipped(wire: Any) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    raw = interim + wire.sized(b"{}")
    for cut in (0, 10, len(interim), len(interim) + 10):
        arrival, reads = wire.deliver(raw, [cut])
        assert reads > 0
        assert arrival.head is not None
        assert arrival.head.status == 200
        assert body(arrival).data == b"{}"


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 204 No Content\r\n\r\nab",
    ],
)
def test_nonsense_is_told(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        Arrival().take(raw, 1)


def test_a_chunk_that_is_longer_than_it_says_is_told(wire: Any) -> None:
    raw = wire.chunked([], end=b"") + b"3\r\ndata: x\n\n\r\n0\r\n\r\n"
    arrival, reads = wire.deliver(raw)
    assert reads == 1  # it ends as a stream of events ends; what is wrong inside is found when it is read
    with pytest.raises(ProtocolError, match="chunk"):
        server_sent_events(arrival)
