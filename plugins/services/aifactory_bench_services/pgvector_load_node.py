"""Queries for nearest neighbours on the load core: made ahead, answers read when there is time."""

import struct
from random import Random
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from aifactory_bench.node.load import Batch, Driver, Histogram, Later, Outcome, Outcomes, Protocol, ProtocolError, RefusedError

from .pgvector_data_node import binary, queries_of, query_sql, settings_of
from .postgresql_node import DATABASE
from .postgresql_wire_node import Handshake, ServerError, WireError, error_of, message, split

_QUERY = Batch(["query"])
_STATEMENT = b"q\0"
_SYNC = message(b"S", b"")
_BOUND = message(b"2", b"")
_ROW_BYTES = 15
"""Head, one column of four bytes."""


def _ready(parameters: "Mapping[str, Any]") -> bytes:
    """Return what makes a session ready: settings, then the query as a prepared statement, in one transaction."""
    parts = []
    for sql in settings_of(parameters):
        parts.append(message(b"P", b"\0" + sql.encode() + b"\0\0\0"))
        parts.append(message(b"B", b"\0\0" + struct.pack(">hhh", 0, 0, 0)))
        parts.append(message(b"E", b"\0" + struct.pack(">i", 0)))
    parts.append(message(b"P", _STATEMENT + query_sql(parameters).encode() + b"\0\0\0"))
    return b"".join(parts) + _SYNC


def _request(vector: bytes) -> bytes:
    """Return the query for a vector; numbers in and out are binary."""
    bound = b"\0" + _STATEMENT + struct.pack(">hhhi", 1, 1, 1, len(vector)) + vector + struct.pack(">hh", 1, 1)
    return message(b"B", bound) + message(b"E", b"\0" + struct.pack(">i", 0)) + _SYNC


class _Answer(Later):
    """The neighbours that were found, compared with the right ones when there is time."""

    __slots__ = ("_driver", "_found", "_number")

    def __init__(self, driver: "PgvectorLoad", number: int, found: "Sequence[int]") -> None:
        self._driver = driver
        self._number = number
        self._found = found

    def settle(self, sent_ns: int, due_ns: int) -> Optional[Outcome]:
        self._driver.compare(self._number, self._found, due_ns)
        return None


class _Connection(Protocol):
    """One session."""

    def __init__(self, driver: "PgvectorLoad", handshake: Handshake) -> None:
        self._driver = driver
        self._handshake = handshake
        self._number = 0
        self._buffer = bytearray()

    def hello(self) -> bytes:
        return self._handshake.hello()

    def welcome(self, data: bytes) -> "Union[bool, bytes]":
        try:
            return self._handshake.take(data)
        except ServerError as error:
            raise RefusedError(f"server:{error.code}", error.text) from None
        except WireError as error:
            raise ProtocolError(str(error)) from None

    def request(self, count: int) -> Tuple[bytes, Batch]:
        if count != 1:
            raise AssertionError("one query at a time")
        self._number, data = self._driver.draw()
        return data, _QUERY

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        driver = self._driver
        if not self._buffer and len(data) == driver.answer_bytes and data.endswith(driver.answer_end):
            return [_Answer(driver, self._number, driver.unpack(data, len(_BOUND)))]
        self._buffer += data
        if not self._buffer.endswith(driver.ready_end):
            return ()
        try:
            messages, end = split(self._buffer)
        except WireError as error:
            raise ProtocolError(str(error)) from None
        if not messages or messages[-1][0] != b"Z":
            return ()
        del self._buffer[:end]
        return [self._outcome(messages)]

    def _outcome(self, messages: "Sequence[Tuple[bytes, bytes]]") -> "Union[Outcome, Later]":
        found: "List[int]" = []
        for kind, body in messages:
            if kind == b"E":
                error = error_of(body)
                return Outcome(f"server:{error.code}", error.text)
            if kind == b"D":
                if len(body) != _ROW_BYTES - 5:
                    raise ProtocolError(f"a row of {len(body)} bytes")
                found.append(struct.unpack_from(">i", body, 6)[0])
        return _Answer(self._driver, self._number, found)


class PgvectorLoad(Driver):
    """Queries drawn by chance from those whose right neighbours are known."""

    unit = "query"
    ready_end = message(b"Z", b"I")

    def __init__(
        self,
        addresses: "Sequence[Tuple[str, int]]",
        role: str,
        secret: str,
        parameters: "Mapping[str, Any]",
        data_seed: int,
        truth: "Sequence[Tuple[int, ...]]",
    ) -> None:
        self._addresses = tuple(addresses)
        self._role, self._secret = role, secret
        self._k = int(parameters["k"])
        self._then = _ready(parameters)
        self._requests = [_request(binary(vector)) for vector in queries_of(parameters, data_seed)]
        self._truth = [frozenset(neighbours) for neighbours in truth]
        self.answer_end = message(b"C", b"SELECT %d\0" % self._k) + self.ready_end
        self.answer_bytes = len(_BOUND) + _ROW_BYTES * self._k + len(self.answer_end)
        self.unpack = struct.Struct(">" + "11xi" * self._k).unpack_from
        self.read_bytes = max(4096, 2 * self.answer_bytes)
        self._hits = Histogram()
        self._short = 0
        self.start(0)

    def addresses(self) -> "Sequence[Tuple[str, int]]":
        return self._addresses

    def start(self, seed: int) -> None:
        self._random = Random(seed).random

    def protocol(self, index: int) -> Protocol:
        return _Connection(self, Handshake(self._role, DATABASE, self._secret, self._then))

    def draw(self) -> "Tuple[int, bytes]":
        """Return a query by chance: its number and its bytes."""
        number = int(self._random() * len(self._requests))
        return number, self._requests[number]

    def compare(self, number: int, found: "Sequence[int]", due_ns: int) -> None:
        """Count the right ones among the neighbours that were found, if the query belongs to the window."""
        if self.start_ns <= due_ns < self.end_ns:
            self._hits.record(len(self._truth[number].intersection(found)))
            self._short += len(found) < self._k

    def results(self, end_ns: int) -> Dict[str, Any]:
        """Return recall: the share of the right neighbours that were found, over all queries, and the right ones a query."""
        asked = self._hits.count * self._k
        return {
            "distributions": {"right_neighbours": {"unit": "neighbour", "histogram": self._hits.to_json()}},
            "metrics": {
                "recall": {
                    "value": self._hits.sum_ns / asked if asked else 0.0,
                    "unit": "share",
                    "merge": "ratio",
                    "numerator": self._hits.sum_ns,
                    "denominator": asked,
                },
                "short_answers": {"value": self._short, "unit": "query", "merge": "sum"},
            },
        }
