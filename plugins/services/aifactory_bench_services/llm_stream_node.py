"""Events out of a body that arrived in pieces, each with the time of the read that made it whole.

Read, not parsed, is what a stamp belongs to: all events that one read completed share its time, whatever they were cut
into. An event of server-sent events is whole with the blank line behind it, a line of NDJSON with its line end.

The uniform case (one `data:` line an event, one event a chunk or not) takes a handful of calls for a whole stream; all
others go through the general way, which must give the same.
"""

import re
from bisect import bisect_left
from functools import partial
from itertools import accumulate
from typing import List, NamedTuple, Optional, Sequence, Tuple

from aifactory_bench.node.load import ProtocolError

from .llm_framing_node import SIZE_LINE, Arrival

_DATA = b"data: "
_EVENT_BYTES = len(_DATA) + len(b"\n\n")
"""Of an event, without its payload."""
_BEFORE_DATA = b"\r\n" + _DATA
_BETWEEN_CHUNKS = b"\n\n\r\n"
_BARE_RETURN = re.compile(rb"\r(?!\n)")
_LAST_CHUNK = b"0\r\n\r\n"


class Events(NamedTuple):
    """The events of one body in order; comments and keep-alive lines are not among them."""

    payloads: List[bytes]
    stamps: List[int]
    """When each was whole, CLOCK_MONOTONIC ns."""
    failed: Optional[bytes]
    """What an event named `error` said; it is not among the payloads."""


class Body(NamedTuple):
    """A body without the framing of its transfer."""

    data: bytes
    ends: Sequence[int]
    """How much of it had arrived with each read, rising."""


def server_sent_events(arrival: Arrival) -> Events:
    """Return the events of a whole `text/event-stream` response.

    Raises:
        ProtocolError: its chunks make no sense.
    """
    uniform = _uniform_chunks(arrival)
    if uniform is not None:
        return uniform
    return events_of(body(arrival), arrival.stamps)


def events_of(body: Body, stamps: Sequence[int]) -> Events:
    """Return the events of a body without framing."""
    parts = body.data.split(b"\n\n")
    payloads = [part[len(_DATA) :] for part in parts[:-1] if part.startswith(_DATA)]
    # One line an event: each has two line ends, and nothing else is in the body.
    failed = None
    if (
        len(payloads) == len(parts) - 1
        and not parts[-1]
        and body.data.count(b"\n") == 2 * len(payloads)
        and b"\r" not in body.data
    ):
        ends: Sequence[int] = list(accumulate([len(payload) + _EVENT_BYTES for payload in payloads]))
    else:
        payloads, ends, failed = _events(body.data)
    return Events(payloads, _times(ends, body.ends, stamps), failed)


def lines(arrival: Arrival) -> Events:
    """Return the lines of a whole NDJSON response; empty ones are left out.

    Raises:
        ProtocolError: its chunks make no sense.
    """
    content = body(arrival)
    payloads: List[bytes] = []
    ends: List[int] = []
    at = 0
    for line in content.data.split(b"\n"):
        at += len(line) + 1
        if line.strip():
            payloads.append(line)
            ends.append(min(at, len(content.data)))  # the last line may lack its end
    return Events(payloads, _times(ends, content.ends, arrival.stamps), None)


def body(arrival: Arrival) -> Body:
    """Return the body of a response; of one that was broken off, what is there.

    Raises:
        ProtocolError: its chunks make no sense.
    """
    head = arrival.head
    if head is None:
        return Body(b"", [0] * len(arrival.pieces))
    raw = b"".join(arrival.pieces)
    reads = accumulate(map(len, arrival.pieces))
    if not head.chunked:
        return Body(raw[head.at :], [max(0, end - head.at) for end in reads])
    parts, starts = _chunks(raw, head.at)
    before = [0, *accumulate(map(len, parts))]
    ends, chunk = [], 0
    for end in reads:
        while chunk < len(parts) and starts[chunk] + len(parts[chunk]) <= end:
            chunk += 1
        into = end - starts[chunk] if chunk < len(parts) else 0
        ends.append(before[chunk] + max(0, into))
    return Body(b"".join(parts), ends)


def _uniform_chunks(arrival: Arrival) -> Optional[Events]:
    """Return the events of a response whose every chunk is one event, or None for any other."""
    head = arrival.head
    if head is None or not head.chunked:
        return None
    raw = b"".join(arrival.pieces)
    chunks = raw[head.at :].split(_BETWEEN_CHUNKS)
    if chunks.pop() != _LAST_CHUNK or not chunks:
        return None
    found = [chunk.partition(_BEFORE_DATA) for chunk in chunks]
    payloads = [payload for _, _, payload in found]
    try:
        sizes = [int(size, 16) for size, _, _ in found]
    except ValueError:
        return None
    # One line a chunk: each has so many line ends, and there are no others.
    if sizes != [len(payload) + _EVENT_BYTES for payload in payloads] or raw.count(b"\n", head.at) != 4 * len(chunks) + 2:
        return None
    if raw.count(b"\r", head.at) != 2 * len(chunks) + 2:
        return None
    lengths = [len(chunk) + len(_BETWEEN_CHUNKS) for chunk in chunks]
    lengths[0] += head.at
    # The line end behind a chunk is framing: the event was whole without it.
    ends = [end - len(b"\r\n") for end in accumulate(lengths)]
    return Events(payloads, _times(ends, list(accumulate(map(len, arrival.pieces))), arrival.stamps), None)


def _times(ends: Sequence[int], reads: Sequence[int], stamps: Sequence[int]) -> List[int]:
    """Return the stamp of the read with which each offset had arrived."""
    return list(map(stamps.__getitem__, map(partial(bisect_left, reads), ends)))


def _chunks(raw: bytes, at: int) -> Tuple[List[bytes], List[int]]:
    """Return the data of each chunk and where it begins, as far as there is any."""
    parts: List[bytes] = []
    starts: List[int] = []
    while at < len(raw):
        line = SIZE_LINE.match(raw, at)
        if line is None:
            if raw.find(b"\r\n", at) >= 0:
                raise ProtocolError(f"no size of a chunk: {raw[at : at + 40]!r}")
            break
        size = int(line.group(1), 16)
        if size == 0:
            break
        start = line.end()
        at = start + size + 2
        parts.append(raw[start : start + size])
        starts.append(start)
        if raw[start + size : at] != b"\r\n"[: max(0, len(raw) - start - size)]:
            raise ProtocolError(f"a chunk of {size} bytes is longer than it says")
    return parts, starts


def _events(data: bytes) -> Tuple[List[bytes], List[int], Optional[bytes]]:
    """Return payloads, their ends and what a failure said, by the rules of server-sent events."""
    if b"\r" in data:
        data = _BARE_RETURN.sub(b"\n", data)  # each of \n, \r\n and \r ends a line
    payloads: List[bytes] = []
    ends: List[int] = []
    failed: Optional[bytes] = None
    waiting: List[bytes] = []
    name = b""
    at = 0

    def dispatch() -> None:
        nonlocal failed
        payload = b"\n".join(waiting)
        if name == b"error":
            failed = payload if failed is None else failed
        elif payload:
            payloads.append(payload)
            ends.append(min(at, len(data)))

    for line in data.split(b"\n"):
        at += len(line) + 1
        if line.endswith(b"\r"):
            line = line[:-1]  # noqa: PLW2901
        if line.startswith(b"data:"):
            waiting.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip()
        elif not line:
            if waiting or name:
                dispatch()
            waiting.clear()
            name = b""
    if waiting:
        dispatch()  # the blank line behind the last event is missing
    return payloads, ends, failed
