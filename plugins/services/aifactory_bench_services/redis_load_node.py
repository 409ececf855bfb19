"""GET and SET on the load core: requests made ahead as templates, and the replies to them known ahead."""

from bisect import bisect
from itertools import accumulate, islice
from math import exp, lgamma, log
from random import Random
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from aifactory_bench.node.load import ALL, Batch, Driver, Outcome, Outcomes, Protocol, ProtocolError, RefusedError

from .redis_cluster_node import owned, owners
from .redis_data_node import Sizes, value_of
from .redis_keys_node import Popularity, numbers
from .redis_resp_node import INCOMPLETE, ErrorReply, RespError, encode, parse

_TEMPLATE_BYTES = 32 << 20
"""For all arrangements of a mix together."""
_ARRANGEMENTS = 16
"""Different orders of the same number of SETs in a batch, drawn once."""
_MISS = Outcome(note="miss")
_GONE = Outcome("reply:nil", "a key is not there that was written before the window")
_STORED = b"+OK\r\n"
_NIL = b"$-1\r\n"


class _Template(NamedTuple):
    request: bytes
    """With `%012d` in place of every key's number."""
    batch: Batch
    reply: bytes
    """If all is well and every key is there."""


class _Mix:
    """Draws batches: how many SETs by chance and weight, in an order by chance."""

    def __init__(self, weights: Mapping[str, int], value: bytes, pipeline: int, expire_ms: int, forgets: bool) -> None:
        self.miss = _MISS if forgets else _GONE
        """How a GET of a key that is not there ends."""
        words, self.expire = (5, b"$2\r\nPX\r\n$%d\r\n%d\r\n" % (len(str(expire_ms)), expire_ms)) if expire_ms else (3, b"")
        self._get = self.ask = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:%012d\r\n"
        self.head = b"*%d\r\n$3\r\nSET\r\n$16\r\nkey:%%012d\r\n" % words
        """Of a SET; the value and `expire` follow."""
        self._set = self.head + b"$%d\r\n%b\r\n" % (len(value), value) + self.expire
        self._hit = b"$%d\r\n%b\r\n" % (len(value), value)
        self.hit_head = b"$%d\r\n" % len(value)
        self.hit_bytes = len(self._hit)
        self.value_bytes = len(value)
        self.set_share = weights.get("set", 0) / (weights.get("get", 0) + weights.get("set", 0))
        self.get, self.set = self._template([False]), self._template([True])
        """A batch of one, the hot path."""
        self._random = Random(0)
        most = (len(self._get) + len(self._hit) + len(self._set)) * pipeline
        self._arrangements = max(1, min(_ARRANGEMENTS, _TEMPLATE_BYTES // most // (min(pipeline, 64) + 1)))
        self._counts: "Dict[int, Tuple[List[float], List[List[_Template]]]]" = {}

    def start(self, random: Random) -> None:
        """Use this worker's own chance."""
        self._random = random

    def draw(self, count: int) -> _Template:
        """Return a batch of so many requests."""
        chances, arranged = self._counts.get(count) or self._prepare(count)
        random = self._random.random
        sets = bisect(chances, random())
        templates = arranged[sets] or self._arrange(arranged, sets)
        return templates[int(random() * len(templates))]

    def _prepare(self, count: int) -> "Tuple[List[float], List[List[_Template]]]":
        """Return the binomial distribution of the number of SETs in a batch, and a place for the templates of each number."""
        share = self.set_share
        if 0 < share < 1:
            ways = [lgamma(count + 1) - lgamma(sets + 1) - lgamma(count - sets + 1) for sets in range(count)]
            each = [exp(way + sets * log(share) + (count - sets) * log(1 - share)) for sets, way in enumerate(ways)]
        else:
            each = [1.0 - share] + [0.0] * (count - 1)
        self._counts[count] = list(accumulate(each)), [[] for _ in range(count + 1)]
        return self._counts[count]

    def _arrange(self, arranged: "List[List[_Template]]", sets: int) -> "List[_Template]":
        count = len(arranged) - 1
        plain = [True] * sets + [False] * (count - sets)
        for _ in range(self._arrangements if 0 < sets < count else 1):
            self._random.shuffle(plain)
            arranged[sets].append(self._template(plain))
        return arranged[sets]

    def _template(self, sets: Sequence[bool]) -> _Template:
        return _Template(
            b"".join(self._set if is_set else self._get for is_set in sets),
            Batch(["set" if is_set else "get" for is_set in sets]),
            b"".join(_STORED if is_set else self._hit for is_set in sets),
        )


class _Connection(Protocol):
    """One connection; whole expected replies are compared, anything else is read reply by reply."""

    __slots__ = (
        "_buffer",
        "_draw",
        "_expected",
        "_get",
        "_mix",
        "_needed",
        "_numbers",
        "_pending",
        "_random",
        "_secret",
        "_set",
        "_share",
    )

    def __init__(self, mix: _Mix, random: Random, numbers: Iterator[int], secret: str) -> None:
        self._mix = mix
        self._draw = mix.draw
        self._get, self._set, self._share = mix.get, mix.set, mix.set_share
        self._random = random.random
        self._numbers = numbers
        self._secret = secret
        self._pending = 0
        """Requests without a reply."""
        self._expected = b""
        """All that is to come if all is well; empty: not known as one piece."""
        self._buffer = bytearray()
        self._needed = 0
        """Nothing is to be learned from the buffer before it is so long."""

    def hello(self) -> bytes:
        return encode("AUTH", self._secret) if self._secret else b""

    def welcome(self, data: bytes) -> bool:
        self._buffer += data
        reply, after = _parse(self._buffer, 0)
        if reply is INCOMPLETE:
            return False
        del self._buffer[:after]
        if isinstance(reply, ErrorReply):
            raise RefusedError(f"reply:{reply.code}", str(reply))
        return True

    def request(self, count: int) -> Tuple[bytes, Batch]:
        if count == 1:
            template, batch, reply = self._set if self._random() < self._share else self._get
            data = template % next(self._numbers)
        else:
            template, batch, reply = self._draw(count)
            data = template % tuple(islice(self._numbers, count))
        if not self._pending:
            self._expected = reply
        elif self._expected:
            self._expected += reply
        self._pending += count
        return data, batch

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        if data == self._expected:
            self._pending = 0
            return ALL
        self._expected = b""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return ()
            data = bytes(self._buffer)
        outcomes, at = self._read(data)
        self._buffer = bytearray(data[at:])
        self._pending -= len(outcomes)
        if not self._pending and not self._buffer and not any(outcomes):
            return ALL
        return outcomes

    def _read(self, data: bytes) -> "Tuple[List[Outcome | None], int]":
        """Return the outcomes of all replies that are there as a whole, and where they end."""
        outcomes: "List[Outcome | None]" = []
        head, size, end = self._mix.hit_head, self._mix.hit_bytes, len(data)
        at = 0
        while at < end:
            # The three replies that come by the thousand, then whatever else there is.
            if at + size <= end and data.startswith(head, at) and data.startswith(b"\r\n", at + size - 2):
                outcomes.append(None)
                at += size
            elif data.startswith(_STORED, at):
                outcomes.append(None)
                at += len(_STORED)
            elif data.startswith(_NIL, at):
                outcomes.append(self._mix.miss)
                at += len(_NIL)
            else:
                reply, after = _parse(data, at)
                if reply is INCOMPLETE:
                    self._needed = after - at
                    break
                at = after
                outcomes.append(self._unusual(reply))
        return outcomes, at

    def _unusual(self, reply: Any) -> Optional[Outcome]:
        """Return how a request ended whose answer is none of those that come by the thousand.

        A value of a size that this load never writes is somebody else's, and reading it is not what was to be measured.
        """
        if isinstance(reply, ErrorReply):
            return Outcome(f"reply:{reply.code}", str(reply))
        if reply is None:
            return self._mix.miss
        if isinstance(reply, bytes) and not self._may_be_read(len(reply)):
            return Outcome("reply:size", f"a value of {len(reply)} bytes; this load writes none of that size")
        return None

    def _may_be_read(self, size: int) -> bool:
        """Return whether this load writes values of a size."""
        return size == self._mix.value_bytes


class _Apart(_Connection):
    """One whose SETs go to keys of their own, or have values of several sizes: every request is made for itself."""

    __slots__ = ("_head", "_sizes", "_tail", "_value", "_writes")

    def __init__(
        self,
        mix: _Mix,
        random: Random,
        reads: Iterator[int],
        secret: str,
        writes: Iterator[int],
        sizes: Iterator[int],
        value: bytes,
    ) -> None:
        super().__init__(mix, random, reads, secret)
        self._head, self._tail = mix.head, mix.expire
        self._writes, self._sizes, self._value = writes, sizes, value

    def request(self, count: int) -> Tuple[bytes, Batch]:
        one = self._set if self._random() < self._share else self._get
        batch = (one if count == 1 else self._draw(count)).batch
        parts = []
        for operation in batch.operations:
            if operation == "set":
                size = next(self._sizes)
                parts.append(self._head % next(self._writes))
                parts.append(b"$%d\r\n%b\r\n%b" % (size, self._value[:size], self._tail))
            else:
                parts.append(self._mix.ask % next(self._numbers))
        self._pending += count
        return b"".join(parts), batch

    def _may_be_read(self, size: int) -> bool:
        return size <= self._mix.value_bytes  # of several sizes it knows the largest


def _parse(data: Union[bytes, bytearray], at: int) -> Tuple[Any, int]:
    try:
        return parse(data, at)
    except RespError as error:
        raise ProtocolError(str(error)) from None


class RedisLoad(Driver):
    """GET and SET of drawn keys."""

    unit = "command"

    def __init__(
        self,
        addresses: Sequence[Tuple[str, int]],
        secret: str,
        weights: Mapping[str, int],
        keys: int,
        sizes: Sizes,
        pipeline: int,
        popularity: Popularity = Popularity(),  # noqa: B008 - immutable
        expire_ms: int = 0,
        writes: Optional[range] = None,
        cluster: bool = False,
        forgets: bool = False,
    ) -> None:
        """Make a load.

        Args:
            addresses: of the servers.
            secret: password; empty: none.
            weights: operation -> weight.
            keys: size of the key space.
            sizes: of values.
            pipeline: requests outstanding on a connection.
            popularity: how keys are drawn.
            expire_ms: how long a value lives that is written; 0: for ever.
            writes: keys that are written, drawn like all; None: every key may be.
            cluster: the servers are one cluster, and each is asked for its own keys only.
            forgets: keys may go, by their time or for want of memory; else one that is not there is an error.
        """
        self.pipeline = pipeline
        self.read_bytes = min(max(4096, pipeline * (sizes.largest + 32)), 1 << 18)
        self._addresses = tuple(addresses)
        self._secret = secret
        self._keys, self._sizes, self._popularity, self._cluster = keys, sizes, popularity, cluster
        self._writes = writes
        self.aimed = cluster and len(self._addresses) > 1
        self._value = value_of(sizes.largest)
        self._mix = _Mix(weights, self._value, pipeline, expire_ms, forgets or expire_ms > 0)
        self.start(0)

    def addresses(self) -> Sequence[Tuple[str, int]]:
        return self._addresses

    def start(self, seed: int) -> None:
        self._random = Random(seed)
        self._reads = self._drawn(range(self._keys))
        self._written = None if self._writes is None else self._drawn(self._writes)
        self._aims = owners(self._popular(range(self._keys)), len(self._addresses))
        self._drawn_sizes = self._sizes.drawn(self._random)
        self._mix.start(self._random)

    def _drawn(self, within: range) -> "List[Iterator[int]]":
        """Return where each server's keys come from; servers that are not parts of a whole share one."""
        servers = len(self._addresses)
        if not self._cluster:
            return [self._popular(within)] * servers
        return [owned(self._popular(within), place, servers) for place in range(servers)]

    def _popular(self, within: range) -> Iterator[int]:
        return numbers(self._popularity, self._random, within, self.part, self.parts)

    def aim(self) -> int:
        """Draw a key, and say whose it is: how often each server is asked is then what its keys are asked for."""
        return next(self._aims)

    def protocol(self, index: int) -> Protocol:
        reads = self._reads[index]
        if self._written is None and self._sizes.constant:
            return _Connection(self._mix, self._random, reads, self._secret)
        writes = reads if self._written is None else self._written[index]
        return _Apart(self._mix, self._random, reads, self._secret, writes, self._drawn_sizes, self._value)

    def metrics(self, ok: Mapping[str, int], notes: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
        if not ok.get("get"):
            return {}
        misses = notes.get("miss", 0)
        return {"hits": {"value": ok["get"] - misses, "unit": "command"}, "misses": {"value": misses, "unit": "command"}}
