"""The event loop of the truth server: one epoll, one heap of what is due, one send for each thing that is sent.

What is sent next on a connection is made right after the one before has gone out, so that nothing but the stamp is left
to do when it is due. Requests are stamped by the kernel when they arrive: how busy this process is does not show in them.
"""

import contextlib
import gc
import select
import socket
import time
from collections import deque
from heapq import heappop, heappush, heapreplace
from typing import Callable, Deque, Dict, List, Tuple

from .truth_api import Api, Settings
from .truth_connection import Answer, Connection
from .truth_http import CONTINUE, MOST_BODY_BYTES, MOST_HEAD_BYTES, BadRequest, Head, Heads, json_answer
from .truth_metrics import Metrics
from .truth_plan import ABORT, ERROR
from .truth_record import Log, Record
from .truth_render import STAMP

_BURST = 64
"""So many are sent before the loop looks for requests again."""
_IDLE_S = 0.5
_SECOND_NS = 1_000_000_000
_COLLECT_EVERY = 10_000
"""Requests between two collections of garbage, made only while nothing is being answered."""
_COUNT_S = 0.0005
"""So long nothing must be due for a request to be counted."""

clock = time.monotonic_ns
Request = Tuple["Connection", Head, bytes, int, int]


class Server:
    """Listens, reads, sends."""

    def __init__(self, listener: socket.socket, settings: Settings, slots: int, log: Log) -> None:
        """slots: requests that are answered at a time, 0: any number."""
        self._listener = listener
        self._log = log
        self._metrics = Metrics(settings.model)
        self._api = Api(settings, log, self._metrics, self._running)
        self._slots = slots
        self._active: "Dict[int, Answer]" = {}
        """Those with a slot, by descriptor."""
        self._queue: "Deque[Answer]" = deque()
        self._heads = Heads()
        self._connections: "Dict[int, Connection]" = {}
        self._requests: "Deque[Request]" = deque()
        """Read and not yet understood: reading goes first, since stamps depend on it."""
        self._heap: "List[Tuple[int, int, Answer]]" = []
        self._turn = 0
        """Breaks ties in the heap."""
        self._ended = 0
        self._uncounted: "Deque[Tuple[Record, str, int]]" = deque()
        """Have ended, and are not in the metrics yet: they are put there while nothing is due."""
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def run(self, stopped: "Callable[[], bool]", wake: int) -> None:
        """Serve until `stopped`; wake: a descriptor that becomes readable when that is to be asked."""
        self._epoll.register(wake, select.EPOLLIN)
        epoll, heap, requests = self._epoll, self._heap, self._requests
        listener = self._listener.fileno()
        self._api.rehearse()
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while not stopped():
                self._send_due()
                while requests:
                    self._take(*requests.popleft())
                    if heap and heap[0][0] <= clock():
                        break
                wait_s = (heap[0][0] - clock()) / _SECOND_NS if heap else _IDLE_S
                if wait_s > _COUNT_S and self._uncounted and not requests:
                    self._metrics.add(*self._uncounted.popleft())
                # epoll itself can only wait for whole milliseconds.
                elif wait_s > 0 and not requests and not select.select((epoll,), (), (), min(wait_s, _IDLE_S))[0]:
                    self._tidy()
                    continue
                for descriptor, event in epoll.poll(0, len(self._connections) + 2):
                    connection = self._connections.get(descriptor)
                    if connection is not None:
                        self._attend(connection, event)
                    elif descriptor == listener:
                        self._accept()
        finally:
            gc.enable()
            gc.unfreeze()

    def close(self) -> None:
        """End all connections; requests that are being answered are logged as far as they came."""
        for connection in list(self._connections.values()):
            if connection.answer is not None:
                self._finish(connection.answer, "stopped")
            self._drop(connection)
        self._listener.close()
        self._epoll.close()

    # Reading.

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # none is left, or it has gone already, or there are too many
                return
            connection = Connection(sock)
            self._connections[connection.descriptor] = connection
            self._epoll.register(connection.descriptor, select.EPOLLIN)

    def _attend(self, connection: Connection, event: int) -> None:
        if event & select.EPOLLOUT:
            self._flush(connection)
        if event & ~select.EPOLLOUT and connection.socket.fileno() >= 0:
            self._read(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(connection)
            return
        connection.buffer += data
        if not connection.busy:
            self._parse(connection)
        elif len(connection.buffer) > MOST_BODY_BYTES:
            self._lose(connection)

    def _parse(self, connection: Connection) -> None:
        """Take the next request out of what was read, if it is there as a whole."""
        buffer = connection.buffer
        end = buffer.find(b"\r\n\r\n")
        try:
            if end < 0:
                if len(buffer) > MOST_HEAD_BYTES:
                    raise BadRequest(431, "the head is too long")
                return
            head = self._heads.read(bytes(buffer[:end]))
        except BadRequest as error:
            connection.busy, connection.keep = True, False
            self._write(connection, json_answer(error.status, {"error": str(error)}, keep=False))
            self._next(connection)
            return
        size = end + 4 + head.size_bytes
        if len(buffer) < size:
            if head.expects and not connection.told:
                connection.told = True
                self._write(connection, CONTINUE)
            return
        body = bytes(buffer[end + 4 : size])
        del buffer[:size]
        connection.busy, connection.told, connection.keep = True, False, head.keep and head.chunked
        self._requests.append((connection, head, body, connection.received_ns, connection.read_late_ns))

    def _take(self, connection: Connection, head: Head, body: bytes, received_ns: int, read_late_ns: int) -> None:
        if connection.socket.fileno() < 0:
            return
        reply = self._api.reply(head, body, received_ns, read_late_ns)
        if isinstance(reply, bytes):
            self._write(connection, reply)
            self._next(connection)
            return
        answer = Answer(connection, reply)
        connection.answer = answer
        if self._slots and reply.ask is not None and len(self._active) >= self._slots:
            self._queue.append(answer)
        else:
            self._begin(answer, received_ns)

    def _begin(self, answer: Answer, start_ns: int) -> None:
        if answer.job.ask is not None:
            self._active[answer.connection.descriptor] = answer
        answer.record.start_ns = answer.due_ns = start_ns
        self._schedule(answer)

    # Sending.

    def _schedule(self, answer: Answer, not_before_ns: int = 0) -> None:
        """Make what is sent next, and have it sent when it is due."""
        piece = next(answer.job.pieces, None)
        if piece is None:
            self._finish(answer, answer.job.end if answer.kind != ERROR else "error")
            return
        gap_ns, answer.kind, answer.tokens, answer.parts = piece
        answer.due_ns = max(answer.due_ns + gap_ns, not_before_ns)
        self._push(answer.due_ns, answer)

    def _push(self, due_ns: int, answer: Answer) -> None:
        self._turn += 1
        heappush(self._heap, (due_ns, self._turn, answer))

    def _send_due(self) -> None:
        heap = self._heap
        for _ in range(_BURST):
            if not heap:
                return
            due_ns, turn, answer = heap[0]
            now_ns = clock()
            if due_ns > now_ns:
                return
            if answer.gone or answer.odd or answer.kind == ABORT:
                heappop(heap)
                if not answer.gone:
                    self._send_oddly(answer)
                continue
            data = (STAMP % now_ns).join(answer.parts)
            try:
                count = answer.send(data)
            except BlockingIOError:
                count = 0
            except OSError:
                heappop(heap)
                self._lose(answer.connection)
                continue
            record = answer.record
            record.kinds.append(answer.kind)
            record.due_ns.append(due_ns)
            record.sent_ns.append(now_ns)
            record.tokens.append(answer.tokens)
            if count < len(data):
                heappop(heap)
                self._block(answer.connection, data[count:])
                continue
            piece = next(answer.job.pieces, None)
            if piece is None:
                heappop(heap)
                self._finish(answer, answer.job.end if answer.kind != ERROR else "error")
                continue
            gap_ns, answer.kind, answer.tokens, answer.parts = piece
            answer.due_ns = due_ns + gap_ns
            heapreplace(heap, (answer.due_ns, turn, answer))

    def _send_oddly(self, answer: Answer) -> None:
        """Give the connection up, or send a part of what is to be sent in cuts."""
        ask, now_ns, record = answer.job.ask, clock(), answer.record
        if ask is None:
            raise AssertionError("only answers with tokens are cut or given up")
        options, source = ask.options, ask.random_of
        if answer.kind == ABORT:
            self._finish(answer, "aborted", reset=options.abort == "reset")
            return
        if not answer.cuts:
            data = (STAMP % now_ns).join(answer.parts)
            at = 0
            while at < len(data):
                size = source.randint(1, options.segment_bytes)
                answer.cuts.append(data[at : at + size])
                at += size
            record.kinds.append(answer.kind)
            record.due_ns.append(answer.due_ns)
            record.sent_ns.append(now_ns)
            record.tokens.append(answer.tokens)
        part = answer.cuts.popleft()
        try:
            count = answer.send(part)
        except BlockingIOError:
            count = 0
        except OSError:
            self._lose(answer.connection)
            return
        if count < len(part):
            self._block(answer.connection, part[count:])
        elif answer.cuts:
            self._push(now_ns + options.segment_gap.draw_ns(source), answer)
        else:
            self._schedule(answer, clock())

    def _write(self, connection: Connection, data: bytes) -> None:
        """Send what belongs to no answer in its time."""
        try:
            count = connection.socket.send(data) if not connection.pending else 0
        except BlockingIOError:
            count = 0
        except OSError:
            self._lose(connection)
            return
        if count < len(data):
            self._block(connection, data[count:])

    def _block(self, connection: Connection, rest: bytes) -> None:
        if connection.answer is not None:
            connection.answer.record.blocked = True
        connection.pending += rest
        self._epoll.modify(connection.descriptor, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, connection: Connection) -> None:
        try:
            count = connection.socket.send(connection.pending)
        except BlockingIOError:
            return
        except OSError:
            self._lose(connection)
            return
        connection.pending = connection.pending[count:]
        if connection.pending:
            return
        self._epoll.modify(connection.descriptor, select.EPOLLIN)
        answer = connection.answer
        if connection.waiting:
            connection.waiting = False
            self._next(connection)
        elif answer is not None and answer.cuts:
            self._push(clock(), answer)
        elif answer is not None:
            # What is next is put off by a client that did not read: that does not make us late.
            self._schedule(answer, clock())

    # Ends.

    def _finish(self, answer: Answer, end: str, *, reset: bool = False) -> None:
        """Take account of an answer that is over, and give its slot to another."""
        connection, record, ask = answer.connection, answer.record, answer.job.ask
        connection.answer, answer.gone, answer.job.pieces = None, True, iter(())
        record.end = end
        if ask is not None:
            self._active.pop(connection.descriptor, None)
            self._log.add(record)
            reason = {"done": ask.finish_reason, "error": "error"}.get(end, "abort")
            self._uncounted.append((record, reason, ask.options.cached_tokens or 0))
            self._ended += 1
        if end == "aborted":
            if reset:
                connection.reset_at_close()
            self._drop(connection)
        elif end in {"done", "error"}:
            self._next(connection)
        while self._queue and len(self._active) < self._slots:
            waiting = self._queue.popleft()
            if not waiting.gone:
                self._begin(waiting, clock())

    def _next(self, connection: Connection) -> None:
        """Turn to the next request of a connection, or close it, once all has been taken."""
        if connection.socket.fileno() < 0:
            return
        if connection.pending:
            connection.waiting = True
        elif connection.keep:
            connection.busy = False
            if connection.buffer:
                connection.received_ns, connection.read_late_ns = clock(), 0
                self._parse(connection)
        else:
            self._drop(connection)

    def _lose(self, connection: Connection) -> None:
        """The client has gone."""
        if connection.answer is not None:
            self._finish(connection.answer, "client_closed")
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.descriptor, None) is None:
            return
        with contextlib.suppress(OSError):
            self._epoll.unregister(connection.descriptor)
        connection.socket.close()

    def _running(self) -> "Tuple[List[Record], int]":
        while self._uncounted:
            self._metrics.add(*self._uncounted.popleft())
        waiting = sum(not answer.gone for answer in self._queue)
        return [answer.record for answer in self._active.values()], waiting

    def _tidy(self) -> None:
        """Collect garbage while nobody waits."""
        if not self._active and self._ended >= _COLLECT_EVERY:
            self._ended = 0
            gc.collect()
