"""The load on servers of language models: one request at a time on a connection, its answer read when there is time.

While an answer arrives nothing is done but keeping what was read and when. Parsing, counting and making the next requests
ahead all happen in `settle`, which the loop calls when nothing else is to do.
"""

import ssl
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aifactory_bench.node.load import Batch, Driver, Later, Outcome, Outcomes, Protocol, ProtocolError

from .llm_answer_node import CHUNKS, Answer
from .llm_framing_node import Arrival
from .llm_prompts_node import Prompts
from .llm_reading_node import ReadingError
from .llm_records_node import Records
from .llm_request_node import Maker, Pool, Request

_NOTHING: Outcomes = ()
_OTHER_LENGTH = "other_length"
_NO_TEXT = "no_text"
_REFILL = 2
"""Requests made ahead for each answer read: one for the one that it used, one to catch up."""

clock = time.monotonic_ns


class Server(NamedTuple):
    """One server as requests see it."""

    host: str
    port: int
    head: bytes
    """Of every request, see `llm_request_node.head_of`."""
    tls: Optional[ssl.SSLContext] = None


class Dialect(NamedTuple):
    """How a kind of server is spoken to."""

    operation: str
    """Name of a request, such as `chat`."""
    maker: Maker
    read: Callable[..., None]
    """Fills in an answer: `read(answer, arrival, broken=, truth=)`."""


class LlmLoad(Driver):
    """Prompts to one or more equal servers."""

    unit = "request"
    read_bytes = 16384

    def __init__(
        self,
        servers: Sequence[Server],
        dialect: Dialect,
        prompts: Callable[[int], Prompts],
        *,
        load: Mapping[str, Any],
        own_parts: Sequence[int],
        ahead: int,
        exact_output: bool = False,
        truth: bool = False,
    ) -> None:
        """Make the driver, with the first requests of every worker of this rank: there is no time for it later.

        Args:
            servers: connections are spread over them.
            dialect: of all of them.
            prompts: a generator's number -> its prompts.
            load: as `Context.load`.
            own_parts: numbers of the generators of this rank.
            ahead: requests that each generator has ready.
            exact_output: every answer is to have as many tokens as were asked for.
            truth: the servers are truth servers, and are asked for their stamps.
        """
        self._servers = tuple(servers)
        self._left: "List[Deque[_Reading]]" = [deque() for _ in servers]
        """Of each server: conversations that go on when their connection has been made anew."""
        self.dialect = dialect
        self.exact_output = exact_output
        self.truth = truth
        self._load = load
        self._prompts = {part: prompts(part) for part in own_parts}
        self._pools = {part: Pool(dialect.maker, own.next, ahead) for part, own in self._prompts.items()}
        for pool in self._pools.values():
            pool.fill(ahead)
        self.batch = Batch((dialect.operation,))

    def addresses(self) -> Sequence[Tuple[str, int]]:
        return [(server.host, server.port) for server in self._servers]

    def secure(self, index: int) -> Optional[Tuple[ssl.SSLContext, str]]:
        server = self._servers[index]
        return None if server.tls is None else (server.tls, server.host)

    def start(self, seed: int) -> None:
        self.pool = self._pools[self.part]
        self.prompts = self._prompts[self.part]
        self.records = Records(
            self.start_ns,
            self.end_ns,
            is_open=self._load.get("process", "closed") != "closed",
            slo=self._load.get("slo") or {},
        )

    def protocol(self, index: int) -> Protocol:
        return _Connection(self, self._servers[index].head, self._left[index])

    def keep(self, answer: Answer) -> None:
        """Take an answer that has been read, and use the time to make requests ahead."""
        self.records.add(answer)
        if clock() < self.end_ns:
            self.pool.fill(_REFILL)

    def results(self, end_ns: int) -> Dict[str, Any]:
        results = self.records.results(end_ns)
        late = {"value": self.pool.made_late, "unit": "request", "merge": "sum"}
        results["metrics"] = {**results.get("metrics", {}), "requests_made_late": late}
        try:
            self.records.write(self.folder, self.part)
        except OSError as error:
            results["absent"] = dict(results.get("absent", {}))
            results["absent"]["records"] = f"the records of the requests could not be written: {error.strerror or error}"
        return results

    def metrics(self, ok: Mapping[str, int], notes: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
        figures = {name: {"value": notes[name], "unit": "request"} for name in (_NO_TEXT,) if notes.get(name)}
        if self.exact_output:
            figures[_OTHER_LENGTH] = {"value": notes.get(_OTHER_LENGTH, 0), "unit": "request"}
        return figures


class _Connection(Protocol):
    """One connection: keeps what arrives and looks whether it is whole."""

    __slots__ = ("_arrival", "_asked", "_driver", "_head", "_left", "_said")

    def __init__(self, driver: LlmLoad, head: bytes, left: "Deque[_Reading]") -> None:
        self._driver = driver
        self._head = head
        self._arrival: Optional[Arrival] = None
        """Of the request that is under way."""
        self._asked: Optional[Request] = None
        self._left = left
        self._said: Optional[_Reading] = left.popleft() if left else None
        """The last answer, where a conversation may go on with it."""

    def request(self, count: int) -> Tuple[bytes, Batch]:
        driver = self._driver
        asked = self._next_turn() if self._said is not None else None
        self._asked = asked = asked or driver.pool.take()
        self._arrival = Arrival()
        return self._head + asked.rest, driver.batch

    def _next_turn(self) -> Optional[Request]:
        said, self._said = self._said, None
        if said is None or said.asked.prompt.conversation is None:
            return None
        answer = said.answer()
        if answer.error:
            return None  # what would be replied to is not there; another conversation begins
        prompt = self._driver.prompts.follow(said.asked.prompt, answer.text)
        return None if prompt is None else self._driver.pool.make(prompt)

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        arrival = self._arrival
        if arrival is None:
            raise ProtocolError(f"{len(data)} bytes came before anything was asked")
        if arrival.take(data, now_ns):
            return self._settled(arrival, broken=False)
        return _NOTHING

    def end(self) -> Outcomes:
        arrival = self._arrival
        if arrival is None or not arrival.pieces:
            return _NOTHING
        outcomes = self._settled(arrival, broken=not arrival.whole_at_close())
        if self._said is not None:
            self._left.append(self._said)
        return outcomes

    def lost(self, error: str, sent_ns: int, due_ns: int, now_ns: int) -> None:
        arrival, asked, self._arrival = self._arrival, self._asked, None
        if arrival is not None and asked is not None:
            reading = _Reading(self._driver, asked, arrival, broken=True)
            answer = reading.answer() if arrival.stamps else Answer(0, 0)
            answer.sent_ns, answer.due_ns, answer.end_ns = sent_ns, due_ns, now_ns
            answer.error = error
            self._driver.records.add(answer)

    def _settled(self, arrival: Arrival, *, broken: bool) -> List["_Reading"]:
        asked = self._asked
        assert asked is not None
        reading = _Reading(self._driver, asked, arrival, broken=broken)
        self._arrival = None
        if asked.prompt.conversation is not None:
            self._said = reading
        return [reading]


class _Reading(Later):
    """An answer that has arrived and has yet to be read."""

    __slots__ = ("_answer", "_arrival", "_broken", "_driver", "asked", "size_bytes")

    def __init__(self, driver: LlmLoad, asked: Request, arrival: Arrival, *, broken: bool) -> None:
        self.asked = asked
        self.size_bytes = arrival.size_bytes()
        self._driver = driver
        self._arrival = arrival
        self._broken = broken
        self._answer: Optional[Answer] = None

    def settle(self, sent_ns: int, due_ns: int) -> Optional[Outcome]:
        answer = self.answer()
        answer.sent_ns, answer.due_ns = sent_ns, due_ns
        driver = self._driver
        driver.keep(answer)
        if answer.error:
            return Outcome(answer.error, answer.error_text)
        note = _NO_TEXT if answer.empty_text else ""
        asked = answer.output_asked
        if driver.exact_output and asked is not None and answer.output_tokens != asked and answer.token_source != CHUNKS:
            note = _OTHER_LENGTH
        return Outcome(note=note, ended_ns=answer.end_ns if answer.last_ns is None else answer.last_ns)

    def answer(self) -> Answer:
        """Return what came, read once."""
        if self._answer is None:
            self._answer = self._read()
        return self._answer

    def _read(self) -> Answer:
        arrival, prompt = self._arrival, self.asked.prompt
        answer = Answer(0, 0)
        answer.header_ns, answer.end_ns = arrival.stamps[0], arrival.stamps[-1]
        answer.prompt_asked, answer.output_asked = prompt.input_tokens, prompt.output_tokens
        try:
            self._driver.dialect.read(answer, arrival, broken=self._broken, truth=self._driver.truth)
        except ReadingError as error:
            answer.error, answer.error_text = error.error, str(error)
        except ProtocolError as error:
            answer.error, answer.error_text = "protocol", str(error)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # JSON of another shape than any server's: what is missing where does not matter.
            answer.error, answer.error_text = "stream:json", f"JSON of an unknown shape ({type(error).__name__}: {error})"
        if self._broken and not answer.error:
            answer.error = "eof"
            answer.error_text = f"the server closed the connection inside an answer, after {len(answer.chunk_ns)} chunks"
        return answer
