"""Searches and writes on the load core: whole requests made ahead, answers read when there is time."""

import json
from bisect import bisect
from itertools import accumulate
from random import Random
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aifactory_bench.node.contract import Context
from aifactory_bench.node.load import Batch, Driver, Later, Outcome, Outcomes, Protocol, ProtocolError

from .chroma_api_node import ROOT
from .chroma_data_node import Data
from .chroma_writes_node import Writes
from .llm_framing_node import Arrival
from .vectors_node import fifth_percentile, hits, text_of

_NOTHING: Outcomes = ()
_QUERY, _INSERT, _UPSERT = "query", "insert", "upsert"
_RECALL = "recall "
"""Begin of the note of a search: `recall 9/10`."""
_OK = range(200, 300)
_SHOWN = 300
_SECOND_NS = 1_000_000_000


class Server(NamedTuple):
    """One server, and the collection there."""

    host: str
    port: int
    collection: str
    secret: str
    packed: bool


class Query(NamedTuple):
    """One search."""

    body: bytes
    exact: Sequence[int]


def head_of(server: Server, operation: str) -> bytes:
    """Return the header of a request but for the length of its body, which is what it ends with."""
    path = f"{ROOT}/collections/{server.collection}/{operation}"
    token = f"Authorization: Bearer {server.secret}\r\n" if server.secret else ""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{server.port}\r\n{token}Content-Type: application/json\r\nContent-Length: "
    ).encode()


def queries_of(data: Data, k: int, classes: int = 1, include: str = "") -> List[Query]:
    """Return all searches.

    Args:
        data: for what, among what.
        k: neighbours.
        classes: more than 1: each query searches in its own class.
        include: what comes with the ids, such as `"documents"`; empty: nothing.
    """
    found = []
    for number, (vector, exact) in enumerate(zip(data.queries, data.exact)):
        where = f',"where":{{"class":{number % classes}}}' if classes > 1 else ""
        body = f'{{"query_embeddings":[{text_of(vector)}],"n_results":{k},"include":[{include}]{where}}}'
        found.append(Query(body.encode(), exact))
    return found


class ChromaLoad(Driver):
    """Searches, inserts and upserts on one or more equal servers."""

    unit = "request"
    read_bytes = 65536

    def __init__(self, context: Context, servers: Sequence[Server], data: Data) -> None:
        """Make the driver with all searches.

        Args:
            context: of the rank.
            servers: connections are spread over them; all of them hold the same vectors.
            data: what is there, and what is searched for.
        """
        parameters = context.parameters
        self.servers = tuple(servers)
        self.k = int(parameters["k"])
        self.insert_batch = int(parameters["insert_batch"])
        self.queries = queries_of(data, self.k, int(parameters["filter_classes"]))
        weights = {name: int(weight) for name, weight in parameters["operations"].items() if int(weight)}
        self.operations = tuple(weights)
        self._bounds = list(accumulate(weights.values()))
        self.batches = {name: Batch((name,)) for name in weights}
        self.inserted: List[int] = []
        self.inserted_in_all = 0
        workers = int(context.load.get("workers", 1))
        packed = all(server.packed for server in servers)
        self._all_writes = {
            part: Writes(context, data, part, context.ranks * workers, packed=packed)
            for part in range(context.rank * workers, (context.rank + 1) * workers)
        }

    def addresses(self) -> Sequence[Tuple[str, int]]:
        return [(server.host, server.port) for server in self.servers]

    def start(self, seed: int) -> None:
        self._random = Random(seed)
        self._order = list(range(len(self.queries)))
        self._random.shuffle(self._order)
        self._at = 0
        self._writes = self._all_writes[self.part]
        self.inserted = [0] * -(-(self.end_ns - self.start_ns) // _SECOND_NS)

    def next_request(self) -> Tuple[str, bytes, Sequence[int]]:
        """Return operation and body of the next request; of a search its exact neighbours, of an insert nothing."""
        bounds = self._bounds
        operation = self.operations[0 if len(bounds) == 1 else bisect(bounds, self._random.random() * bounds[-1])]
        if operation == _QUERY:
            query = self.queries[self._order[self._at]]
            self._at = (self._at + 1) % len(self._order)
            return operation, query.body, query.exact
        return operation, self._writes.upsert() if operation == _UPSERT else self._writes.insert(), ()

    def count_inserted(self, now_ns: int) -> None:
        """Count vectors whose insert was answered well, and use the time to make the next ones."""
        self.inserted_in_all += self.insert_batch
        second = (now_ns - self.start_ns) // _SECOND_NS
        if 0 <= second < len(self.inserted):
            self.inserted[second] += self.insert_batch
        if now_ns < self.end_ns:
            self._writes.refill_inserts()

    def follow_upsert(self, now_ns: int) -> None:
        """Use the time after an answer to make the next body."""
        if now_ns < self.end_ns:
            self._writes.refill_upserts()

    def protocol(self, index: int) -> Protocol:
        return _Connection(
            self, {name: head_of(self.servers[index], name if name != _INSERT else "add") for name in self.batches}
        )

    def results(self, end_ns: int) -> Dict[str, Any]:
        late = {_INSERT: self._writes.inserts_made_late, _UPSERT: self._writes.upserts_made_late}
        metrics = {
            f"{name}s_made_late": {"value": number, "unit": "request", "merge": "sum"}
            for name, number in late.items()
            if name in self.batches
        }
        found: Dict[str, Any] = {"totals": {"vectors_inserted": self.inserted_in_all}, "metrics": metrics}
        if _INSERT in self.batches:
            seconds = self.inserted[: max(0, -(-(end_ns - self.start_ns) // _SECOND_NS))]
            found["sums"] = {"vectors_inserted": {"unit": "vector", "per_second": seconds}}
        return found

    def metrics(self, ok: Mapping[str, int], notes: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
        return recall_metrics(notes)


def recall_note(found: Sequence[Any], exact: Sequence[int], k: int) -> str:
    """Return the note of a search that found these ids; those of vectors added by the load are no numbers."""
    numbers = [int(name) if isinstance(name, str) and name.isdigit() else None for name in found]
    return f"{_RECALL}{'%d/%d' % hits(numbers, exact, k)}"


def recall_metrics(notes: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
    """Return recall of all searches of the window: the mean, and what 95 % of them reach.

    The mean is that of neighbours, not of searches; the two differ only where a class has fewer vectors than were asked for.
    """
    own = [(name[len(_RECALL) :].partition("/"), count) for name, count in notes.items() if name.startswith(_RECALL)]
    pairs = [(int(found), int(wanted), count) for (found, _, wanted), count in own if int(wanted)]
    if not pairs:
        return {}
    found = sum(number * count for number, _, count in pairs)
    wanted = sum(number * count for _, number, count in pairs)
    p5 = fifth_percentile([(number / of, count) for number, of, count in pairs])
    return {
        "recall_at_k": {"value": found / wanted, "unit": "", "merge": "ratio", "numerator": found, "denominator": wanted},
        "recall_at_k_p5": {"value": p5, "unit": "", "merge": "min"},
    }


class _Connection(Protocol):
    """One connection; one request at a time."""

    __slots__ = ("_arrival", "_driver", "_exact", "_heads", "_operation")

    def __init__(self, driver: ChromaLoad, heads: Mapping[str, bytes]) -> None:
        self._driver = driver
        self._heads = heads
        self._arrival: Optional[Arrival] = None
        self._operation = ""
        self._exact: Sequence[int] = ()

    def request(self, count: int) -> Tuple[bytes, Batch]:
        self._operation, body, self._exact = self._driver.next_request()
        self._arrival = Arrival()
        return b"%b%d\r\n\r\n%b" % (self._heads[self._operation], len(body), body), self._driver.batches[self._operation]

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        arrival = self._arrival
        if arrival is None:
            raise ProtocolError(f"{len(data)} bytes came before anything was asked")
        if not arrival.take(data, now_ns):
            return _NOTHING
        self._arrival = None
        return [_Reading(self._driver, arrival, self._operation, self._exact)]

    def end(self) -> Outcomes:
        arrival = self._arrival
        if arrival is None or not arrival.whole_at_close():
            return _NOTHING
        self._arrival = None
        return [_Reading(self._driver, arrival, self._operation, self._exact)]


class _Reading(Later):
    """An answer that has arrived and has yet to be read."""

    __slots__ = ("_arrival", "_driver", "_exact", "_operation", "size_bytes")

    def __init__(self, driver: ChromaLoad, arrival: Arrival, operation: str, exact: Sequence[int]) -> None:
        self.size_bytes = arrival.size_bytes()
        self._driver = driver
        self._arrival = arrival
        self._operation = operation
        self._exact = exact

    def settle(self, sent_ns: int, due_ns: int) -> Optional[Outcome]:
        if self._operation == _QUERY:
            found, outcome = read_found(self._arrival)
            if found is None:
                return outcome
            return Outcome(note=recall_note(found["ids"], self._exact, self._driver.k))
        _, failure = body_of(self._arrival)
        if self._operation == _UPSERT:
            self._driver.follow_upsert(self._arrival.stamps[-1])
        elif failure is None:
            self._driver.count_inserted(self._arrival.stamps[-1])
        return failure


def body_of(arrival: Arrival) -> Tuple[bytes, Optional[Outcome]]:
    """Return the body of an answer, and the failure that it is, if it is one."""
    head = arrival.head
    assert head is not None
    body = b"".join(arrival.pieces)[head.at :]
    if head.status in _OK:
        return body, None
    return body, Outcome(f"http:{head.status}", " ".join(body.decode("utf-8", "replace").split())[:_SHOWN])


def read_found(arrival: Arrival) -> Tuple[Optional[Dict[str, Any]], Optional[Outcome]]:
    """Return what a search for one vector found, such as `ids` and `documents`, or the failure."""
    body, failure = body_of(arrival)
    if failure is not None:
        return None, failure
    try:
        answer = json.loads(body)
        documents = answer.get("documents")
        return {"ids": answer["ids"][0], "documents": documents[0] if documents else []}, None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None, Outcome("reply:json", f"no answer to a search: {body[:_SHOWN].decode('utf-8', 'replace')}")
