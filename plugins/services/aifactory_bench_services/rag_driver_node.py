"""Retrieval, then generation, on the load core: one request over two connections, with the times of its stages."""

import json
import ssl
import time
from random import Random
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aifactory_bench.node.load import (
    Batch,
    Driver,
    Histogram,
    Later,
    Onward,
    Outcome,
    Outcomes,
    Protocol,
    ProtocolError,
)

from .chroma_driver_node import read_found, recall_metrics, recall_note
from .llm_answer_node import Answer
from .llm_framing_node import Arrival
from .llm_openai_node import read
from .llm_reading_node import ReadingError

_NOTHING: Outcomes = ()
_BATCH = Batch(("chain",))
_TOKENS = ("prompt_tokens", "output_tokens")
_TASK = "Answer the question from these texts alone."

clock = time.monotonic_ns


class Store(NamedTuple):
    """One server of vectors."""

    host: str
    port: int
    head: bytes
    """As `chroma_driver_node.head_of`."""


class Model(NamedTuple):
    """One server of the model."""

    host: str
    port: int
    head: bytes
    """As `llm_request_node.head_of`."""
    tls: Optional[ssl.SSLContext]


class Question(NamedTuple):
    """One search, and what the model is asked about what it finds."""

    body: bytes
    exact: Sequence[int]
    text: str


class Asking(NamedTuple):
    """What is asked."""

    questions: Sequence[Question]
    k: int
    common: Dict[str, Any]
    """What is the same in all requests to the model."""


class RagLoad(Driver):
    """Requests that begin at a store of vectors and end at a model."""

    unit = "request"
    read_bytes = 65536

    def __init__(self, stores: Sequence[Store], models: Sequence[Model], asking: Asking) -> None:
        self._stores = tuple(stores)
        self._models = tuple(models)
        self.asking = asking
        self._histograms: Dict[str, Histogram] = {}

    def addresses(self) -> Sequence[Tuple[str, int]]:
        return [(server.host, server.port) for server in self._stores]

    def partners(self) -> Sequence[Tuple[str, int]]:
        return [(server.host, server.port) for server in self._models]

    def secure(self, index: int) -> Optional[Tuple[ssl.SSLContext, str]]:
        if index < len(self._stores):
            return None
        server = self._models[index - len(self._stores)]
        return None if server.tls is None else (server.tls, server.host)

    def start(self, seed: int) -> None:
        self._order = list(self.asking.questions)
        Random(seed).shuffle(self._order)
        self._at = 0

    def protocol(self, index: int) -> Protocol:
        if index < len(self._stores):
            return _Retrieval(self, self._stores[index].head)
        return _Generation(self, self._models[index - len(self._stores)].head)

    def next_question(self) -> Question:
        """Return the next question; all of them in an order of this generator's own, again and again."""
        self._at = (self._at + 1) % len(self._order)
        return self._order[self._at]

    def add(self, chain: "_Chain", answer: Answer) -> None:
        """Keep the times of a request that ended well, if it belongs to the window."""
        if not self.start_ns <= answer.due_ns < self.end_ns:
            return
        last_ns = answer.end_ns if answer.last_ns is None else answer.last_ns
        first_ns = answer.first_ns
        ends = {"retrieve": chain.found_ns, "ttft": first_ns, "e2e": last_ns}
        times = {name: None if end_ns is None else end_ns - answer.sent_ns for name, end_ns in ends.items()}
        times["assemble"] = chain.asked_ns - chain.found_ns
        times["model_ttft"] = None if first_ns is None else first_ns - chain.asked_ns
        times["generate"] = last_ns - chain.asked_ns
        for name, end_ns in ends.items():
            times[f"{name}_schedule"] = None if end_ns is None else end_ns - answer.due_ns
        times.update(prompt_tokens=answer.prompt_tokens, output_tokens=answer.output_tokens)
        for name, value in times.items():
            if value is not None:
                self._histograms.setdefault(name, Histogram()).record(max(0, value))

    def results(self, end_ns: int) -> Dict[str, Any]:
        return {
            "distributions": {
                name: {"unit": "token" if name in _TOKENS else "us", "histogram": histogram.to_json()}
                for name, histogram in self._histograms.items()
            }
        }

    def metrics(self, ok: Mapping[str, int], notes: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
        return recall_metrics(notes)


class _Chain(Onward):
    """What was found, on its way to the model."""

    __slots__ = ("_documents", "_driver", "_question", "asked_ns", "found_ns", "note")

    def __init__(self, driver: RagLoad, question: Question, found: Mapping[str, Any], found_ns: int) -> None:
        self._driver = driver
        self._question = question
        self._documents: List[str] = [text for text in found["documents"] if isinstance(text, str)]
        self.note = recall_note(found["ids"], question.exact, driver.asking.k)
        self.found_ns = found_ns
        """The search's answer was read."""
        self.asked_ns = 0
        """The prompt was handed to the socket."""

    def request(self, protocol: Protocol) -> bytes:
        assert isinstance(protocol, _Generation)
        texts = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(self._documents, 1))
        prompt = f"{_TASK}\n\n{texts}\n\nQuestion: {self._question.text}"
        body = json.dumps({"messages": [{"role": "user", "content": prompt}], **self._driver.asking.common}).encode()
        data = protocol.begin(self, body)
        self.asked_ns = clock()
        return data


class _Retrieval(Protocol):
    """A connection to a store: a search, whose answer is read at once, as the request goes on with it."""

    __slots__ = ("_arrival", "_driver", "_head", "_question")

    def __init__(self, driver: RagLoad, head: bytes) -> None:
        self._driver = driver
        self._head = head
        self._arrival: Optional[Arrival] = None
        self._question: Optional[Question] = None

    def request(self, count: int) -> Tuple[bytes, Batch]:
        self._question = question = self._driver.next_question()
        self._arrival = Arrival()
        return b"%b%d\r\n\r\n%b" % (self._head, len(question.body), question.body), _BATCH

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        arrival = self._arrival
        if arrival is None:
            raise ProtocolError(f"{len(data)} bytes came before anything was asked")
        return self._found(arrival) if arrival.take(data, now_ns) else _NOTHING

    def end(self) -> Outcomes:
        arrival = self._arrival
        return self._found(arrival) if arrival is not None and arrival.whole_at_close() else _NOTHING

    def _found(self, arrival: Arrival) -> Outcomes:
        question = self._question
        assert question is not None
        self._arrival = None
        found, failure = read_found(arrival)
        if found is None:
            assert failure is not None
            return [Outcome(f"retrieve:{failure.error}", failure.text)]
        return [_Chain(self._driver, question, found, arrival.stamps[-1])]


class _Generation(Protocol):
    """A connection to a model."""

    __slots__ = ("_arrival", "_chain", "_driver", "_head")

    def __init__(self, driver: RagLoad, head: bytes) -> None:
        self._driver = driver
        self._head = head
        self._arrival: Optional[Arrival] = None
        self._chain: Optional[_Chain] = None

    def request(self, count: int) -> Tuple[bytes, Batch]:
        raise AssertionError("requests begin at the store")

    def begin(self, chain: _Chain, body: bytes) -> bytes:
        """Return the request with this body, whose answer comes next."""
        self._arrival, self._chain = Arrival(), chain
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def feed(self, data: bytes, now_ns: int) -> Outcomes:
        arrival = self._arrival
        if arrival is None:
            raise ProtocolError(f"{len(data)} bytes came before anything was asked")
        return self._settled(arrival, broken=False) if arrival.take(data, now_ns) else _NOTHING

    def end(self) -> Outcomes:
        arrival = self._arrival
        if arrival is None or not arrival.pieces:
            return _NOTHING
        return self._settled(arrival, broken=not arrival.whole_at_close())

    def _settled(self, arrival: Arrival, *, broken: bool) -> Outcomes:
        chain = self._chain
        assert chain is not None
        self._arrival = self._chain = None
        return [_Reading(self._driver, chain, arrival, broken=broken)]


class _Reading(Later):
    """A whole answer of the model, which has yet to be read."""

    __slots__ = ("_arrival", "_broken", "_chain", "_driver", "size_bytes")

    def __init__(self, driver: RagLoad, chain: _Chain, arrival: Arrival, *, broken: bool) -> None:
        self.size_bytes = arrival.size_bytes()
        self._driver = driver
        self._chain = chain
        self._arrival = arrival
        self._broken = broken

    def settle(self, sent_ns: int, due_ns: int) -> Optional[Outcome]:
        arrival = self._arrival
        answer = Answer(sent_ns, due_ns)
        answer.header_ns, answer.end_ns = arrival.stamps[0], arrival.stamps[-1]
        try:
            read(answer, arrival, broken=self._broken)
        except ReadingError as error:
            answer.error, answer.error_text = error.error, str(error)
        except ProtocolError as error:
            answer.error, answer.error_text = "protocol", str(error)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            answer.error, answer.error_text = "stream:json", f"JSON of an unknown shape ({type(error).__name__}: {error})"
        if self._broken and not answer.error:
            answer.error, answer.error_text = "eof", "the server closed the connection inside an answer"
        if answer.error:
            return Outcome(f"generate:{answer.error}", answer.error_text)
        self._driver.add(self._chain, answer)
        return Outcome(note=self._chain.note, ended_ns=answer.end_ns if answer.last_ns is None else answer.last_ns)
