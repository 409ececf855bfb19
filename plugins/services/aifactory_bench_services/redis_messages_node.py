"""Messages through Redis on the load core: PUBLISH to subscribers, XADD to the consumers of a stream.

The load core sends, closed or open loop. A process beside every worker receives (`redis_listener_node`). Every worker has
channels and streams of its own, so that sender and receiver of a message are on one host, whose clock stamps both ends.

A message that was sent well and is lost is an error: that of the request whose answer shows the loss. A rate of messages that
nobody got is no result, and only errors are judged. What is lost after the last answer is in the metric `lost` alone.
"""

import contextlib
import time
from abc import abstractmethod
from itertools import cycle
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from aifactory_bench.node.contract import Context, PrepareError
from aifactory_bench.node.load import ALL, Batch, Driver, Outcome, Outcomes, Protocol, ProtocolError, RefusedError

from .redis_data_node import value_of
from .redis_inbox_node import STAMP_DIGITS, Consumer, Inbox, Subscriber, make_streams, remove_streams
from .redis_listener_node import Listener
from .redis_node import counters, probe
from .redis_prepare_node import settings_of
from .redis_resp_node import INCOMPLETE, Client, ErrorReply, RespError, encode, parse

__all__ = ["counters", "driver", "prepare", "probe"]

_TIMEOUT_S = 10.0
_DROPPED = Outcome("lost", "the stream was full of entries that no consumer had read, and dropped one of them")
_RECEIVER_GONE = Outcome("receiver_gone", "the server had closed the connection of a consumer")


def prepare(context: Context) -> "Dict[str, Any]":
    """See that the server is there and one; messages need nothing in place.

    Raises:
        PrepareError: it is not.
    """
    endpoints = context.endpoints["main"]
    if len(endpoints) > 1:
        raise PrepareError(f"{context.kind} measures one server, and {endpoints[0].service} has {len(endpoints)} replicas")
    try:
        with Client(endpoints[0].host, endpoints[0].port, context.secrets.get("main", ""), _TIMEOUT_S) as client:
            client.ask("PING")
            return {"server_settings": settings_of(client)}
    except (OSError, ErrorReply, RespError) as error:
        raise PrepareError(f"{endpoints[0].url}: {error}") from None


def driver(context: Context) -> "Messages":
    """Return the load that the parameters ask for."""
    (endpoint,) = context.endpoints["main"]
    kind = PubSub if context.kind == "redis-pubsub" else Streams
    return kind(context.client, (endpoint.host, endpoint.port), context.secrets.get("main", ""), context.parameters)


class _Sender(Protocol):
    """One connection that sends messages."""

    __slots__ = ("_buffer", "_driver", "_pending", "_requests")

    def __init__(self, driver: "Messages", requests: "Iterator[Tuple[bytes, Batch]]") -> None:
        self._driver, self._requests = driver, requests
        self._buffer = b""
        self._pending = 0

    def hello(self) -> bytes:
        return encode("AUTH", self._driver.secret) if self._driver.secret else b""

    def welcome(self, data: bytes) -> bool:
        self._buffer += data
        reply, after = _parse(self._buffer, 0)
        if reply is INCOMPLETE:
            return False
        self._buffer = self._buffer[after:]
        if isinstance(reply, ErrorReply):
            raise RefusedError(f"reply:{reply.code}", str(reply))
        return True

    def request(self, count: int) -> Tuple[bytes, Batch]:
        self._pending += count
        if count == 1:
            template, batch = next(self._requests)
            return template % time.monotonic_ns(), batch
        templates = [next(self._requests) for _ in range(count)]
        data = b"".join([template for template, _ in templates]) % ((time.monotonic_ns(),) * count)
        return data, self._driver.batch_of(count)

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        if self._buffer:
            data = self._buffer + data
        outcomes: "List[Optional[Outcome]]" = []
        at, taken = 0, self._driver.take
        while at < len(data):
            reply, after = _parse(data, at)
            if reply is INCOMPLETE:
                break
            at = after
            outcomes.append(taken(reply))
        self._buffer = data[at:]
        self._pending -= len(outcomes)
        return outcomes if self._pending or self._buffer or any(outcomes) else ALL


def _parse(data: bytes, at: int) -> Tuple[Any, int]:
    try:
        return parse(data, at)
    except RespError as error:
        raise ProtocolError(str(error)) from None


class Messages(Driver):
    """What both ways have in common."""

    unit = "message"
    operation = ""
    """What a request is called."""

    def __init__(self, client: str, address: Tuple[str, int], secret: str, parameters: "Dict[str, Any]") -> None:
        self.pipeline = int(parameters["pipeline"])
        self.read_bytes = min(max(4096, self.pipeline * 64), 1 << 18)
        self.secret = secret
        self.parameters = parameters
        self.address = address
        self._client = client
        self._listener: Optional[Listener] = None
        self._batches: "Dict[int, Batch]" = {}
        self.accepted = 0
        """Messages that the server took."""
        self.expected = 0
        """Receipts that there must be for them."""
        self._filling = value_of(max(1, int(parameters["message_size_bytes"]) - STAMP_DIGITS))

    # what a subclass decides

    @abstractmethod
    def inboxes(self, names: "Sequence[str]") -> "List[Inbox]":
        """Return the connections that receive."""

    @abstractmethod
    def request(self, name: str, size: int, filling: bytes) -> bytes:
        """Return the request that sends a message: its size, and what comes after the stamp, for which stands `%020d`."""

    @abstractmethod
    def receipts(self) -> int:
        """Return by how many receivers a message is to be read."""

    @abstractmethod
    def loss(self, reply: Any, listener: Listener) -> Optional[Outcome]:
        """Return the error that the answer to a message shows: it, or one in its stead, will not be read by all."""

    # the load core's side

    def addresses(self) -> "Sequence[Tuple[str, int]]":
        return (self.address,)

    def batch_of(self, count: int) -> Batch:
        """Return a batch of so many messages."""
        return self._batches.get(count) or self._batches.setdefault(count, Batch([self.operation] * count))

    def names(self) -> "List[str]":
        """Return the channels or streams of this worker."""
        return [f"afb:{self._client}:{self.part}:{number}" for number in range(int(self.parameters["channels"]))]

    def start(self, seed: int) -> None:
        self._listener = Listener(self.inboxes(self.names()), self.start_ns, self.end_ns)

    def protocol(self, index: int) -> Protocol:
        size = STAMP_DIGITS + len(self._filling)
        one = self.batch_of(1)
        return _Sender(self, cycle([(self.request(name, size, self._filling), one) for name in self.names()]))

    def take(self, reply: Any) -> Optional[Outcome]:
        """Return how a sending ended."""
        if isinstance(reply, ErrorReply):
            return Outcome(f"reply:{reply.code}", str(reply))
        self.accepted += 1
        self.expected += self.receipts()
        return self.loss(reply, self._listener) if self._listener is not None else None

    def results(self, end_ns: int) -> "Dict[str, Any]":
        if self._listener is None:
            return {}
        report = self._listener.finish(self.expected)
        self._listener = None
        receivers = len(self.inboxes(self.names()))
        waiting = report["waiting"][: max(0, -(-(end_ns - self.start_ns) // 1_000_000_000))]
        metrics = {
            # Receipts. A message that was lost on its way to the server with a broken connection is an error, and not in here.
            "lost": {"value": max(0, self.expected - report["received"]), "unit": "message"},
            "unexpected": {"value": max(0, report["received"] - self.expected), "unit": "message"},
            "receivers": {"value": receivers, "unit": "connection"},
            "receivers_gone": {"value": len(report["gone"]), "unit": "connection"},
            "receiver_cpu_share": {"value": report["cpu_share"], "unit": "core", "merge": "max"},
            # The most of each worker, in whichever second, added up: together they had no more than that.
            "backlog_at_most": {"value": max(waiting, default=0), "unit": "message", "merge": "sum"},
            "backlog_end": {"value": waiting[-1] if waiting else 0, "unit": "message", "merge": "sum"},
        }
        return {
            "distributions": {
                "delivery": {"unit": "us", "histogram": report["delivery"]},
                # None where the kernel does not stamp.
                **({"receiver_age": {"unit": "us", "histogram": report["age"]}} if report["age"]["count"] else {}),
            },
            "sums": {"delivered": {"unit": "message", "per_second": report["per_second"]}},
            "metrics": metrics,
            **self.more(report),
        }

    def more(self, report: "Dict[str, Any]") -> "Dict[str, Any]":
        """Return further results."""
        return {}


class PubSub(Messages):
    """PUBLISH; every subscriber of a channel gets every message, if it is there."""

    operation = "publish"

    def inboxes(self, names: "Sequence[str]") -> "List[Inbox]":
        return [
            Subscriber(self.address, self.secret, name) for name in names for _ in range(int(self.parameters["subscribers"]))
        ]

    def request(self, name: str, size: int, filling: bytes) -> bytes:
        return encode("PUBLISH", name).replace(b"*2", b"*3", 1) + b"$%d\r\n%%020d%b\r\n" % (size, filling)

    def receipts(self) -> int:
        """All subscribers of the channel are to read it, also those that the server did not send it to."""
        return int(self.parameters["subscribers"])

    def loss(self, reply: Any, listener: Listener) -> Optional[Outcome]:
        """The server says how many subscribers it had for this very message."""
        wanted = self.receipts()
        if isinstance(reply, int) and reply < wanted:
            return Outcome("lost", f"the server sent it to {reply} of {wanted} subscribers")
        return None


class Streams(Messages):
    """XADD; one consumer of the stream's group gets an entry, and acknowledges it."""

    operation = "add"

    def inboxes(self, names: "Sequence[str]") -> "List[Inbox]":
        consumers, count = int(self.parameters["consumers"]), int(self.parameters["read_count"])
        return [
            Consumer(self.address, self.secret, name, f"consumer-{number}", count)
            for name in names
            for number in range(consumers)
        ]

    def request(self, name: str, size: int, filling: bytes) -> bytes:
        head = encode("XADD", name, "MAXLEN", "~", int(self.parameters["max_length"]), "*", "m").replace(b"*7", b"*8", 1)
        return head + b"$%d\r\n%%020d%b\r\n" % (size, filling)

    def receipts(self) -> int:
        return 1

    def loss(self, reply: Any, listener: Listener) -> Optional[Outcome]:
        """An entry beyond what streams can hold unread has pushed out another one, which is the one that is lost."""
        received, gone = listener.told
        if gone:
            return _RECEIVER_GONE
        if self.accepted - received - self._room > self._dropped:
            self._dropped += 1
            return _DROPPED
        return None

    def start(self, seed: int) -> None:
        names, consumers = self.names(), int(self.parameters["consumers"])
        a_node = make_streams(self.address, self.secret, names)
        # Unread entries at most: those that a stream keeps, and those on their way to its consumers.
        self._room = len(names) * (int(self.parameters["max_length"]) + a_node + consumers * int(self.parameters["read_count"]))
        self._dropped = 0
        super().start(seed)

    def more(self, report: "Dict[str, Any]") -> "Dict[str, Any]":
        with contextlib.suppress(OSError, ErrorReply, RespError):  # a server that has died has none left
            remove_streams(self.address, self.secret, self.names())
        return {"totals": {"acknowledgements": report["commands"]}}
