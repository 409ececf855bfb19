"""What all connected transports do about connections, with lines that do as they are told and a clock that a test moves."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from aifactory_bench.errors import AccessError, NotExecutedError
from aifactory_bench.transports.connected import ConnectedTransport, Line, NoSessionError
from aifactory_bench.transports.framing import Reply


class _Line(Line):
    def __init__(self, refusals: int = 0, lost_after: int | None = None) -> None:
        self.refusals = refusals
        self.lost_after = lost_after
        self.served = 0
        self.closed = False

    @property
    def lost(self) -> bool:
        return self.closed or (self.lost_after is not None and self.served >= self.lost_after)

    async def exchange(self, reply: Reply) -> int:
        if self.lost:
            raise NoSessionError("lost")
        if self.refusals:
            self.refusals -= 1
            raise NoSessionError("open failed")
        await asyncio.sleep(0)
        self.served += 1
        nonce = reply.request.nonce.encode()
        reply.feed_stdout(b"\x1e%b begin node\n\x1e%b end 0\n" % (nonce, nonce))
        return 0

    async def close(self) -> None:
        self.closed = True


class _Transport(ConnectedTransport):
    """Opens what it was given, one after the other; the last one again and again."""

    def __init__(self, *opened: "Line | Exception") -> None:
        self.now_s = 100.0
        self.slept_s: list[float] = []
        self.attempts_s: list[float] = []
        self.opened = list(opened)
        super().__init__("alice@login", clock=lambda: self.now_s, sleep=self.pause)

    async def pause(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.now_s += duration_s
        await asyncio.sleep(0)

    async def _open(self) -> Line:
        self.attempts_s.append(self.now_s)
        await asyncio.sleep(0)
        result = self.opened.pop(0) if len(self.opened) > 1 else self.opened[0]
        if isinstance(result, Exception):
            raise result
        return result


def _check(transport: _Transport, body: Callable[[_Transport], Awaitable[None]]) -> _Transport:
    async def run() -> None:
        await body(transport)
        await transport.close()

    asyncio.run(run())
    return transport


def _gaps(transport: _Transport) -> list[float]:
    """Return the times between attempts at connecting."""
    return [later - earlier for earlier, later in pairwise(transport.attempts_s)]


def test_one_connection_serves_all() -> None:
    async def body(transport: _Transport) -> None:
        await asyncio.gather(*(transport.run("true") for _ in range(30)))

    transport = _check(_Transport(_Line()), body)
    assert len(transport.attempts_s) == 1
    assert transport.opened[0].closed


def test_attempts_keep_their_distance() -> None:
    """1, 2, 4 ... 60 s between the beginnings; who asks meanwhile waits for the same attempt."""

    async def body(transport: _Transport) -> None:
        for _ in range(9):
            results = await asyncio.gather(*(transport.run("true") for _ in range(4)), return_exceptions=True)
            assert {type(result) for result in results} == {NotExecutedError}

    transport = _check(_Transport(NotExecutedError("refused")), body)
    assert _gaps(transport) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_time_that_has_passed_counts() -> None:
    async def body(transport: _Transport) -> None:
        for _ in range(2):
            with pytest.raises(NotExecutedError):
                await transport.run("true")
            transport.now_s += 50
        assert transport.slept_s == [0]

    _check(_Transport(NotExecutedError("refused")), body)


def test_a_connection_that_was_of_use_ends_the_wait() -> None:
    async def body(transport: _Transport) -> None:
        for _ in range(3):
            with pytest.raises(NotExecutedError):
                await transport.run("true")
        for _ in range(3):
            await transport.run("true")
        assert _gaps(transport) == [1, 2, 4, 1, 1]

    refused = NotExecutedError("refused")
    _check(_Transport(refused, refused, refused, *(_Line(lost_after=1) for _ in range(3))), body)


def test_one_that_is_lost_at_once_does_not() -> None:
    """Otherwise a site that drops every login is logged in to each second."""

    async def body(transport: _Transport) -> None:
        for _ in range(3):
            with pytest.raises(NotExecutedError, match="no session for a command: lost"):
                await transport.run("true")
        assert _gaps(transport) == [1, 2, 4, 8, 16]

    _check(_Transport(_Line(lost_after=0)), body)


def test_refused_sessions_are_asked_for_again_at_half_the_number() -> None:
    async def body(transport: _Transport) -> None:
        done = await transport.run("true")
        assert done.exit_code == 0
        assert transport.sessions.limit == 1
        assert transport.slept_s == [0.02, 0.04, 0.08]

    _check(_Transport(_Line(refusals=3)), body)


def test_refused_for_ever_is_not_executed() -> None:
    async def body(transport: _Transport) -> None:
        with pytest.raises(NotExecutedError, match="alice@login: no session for a command: open failed"):
            await transport.run("true")
        assert 10 < sum(transport.slept_s) < 60
        assert transport.sessions.in_use == 0

    _check(_Transport(_Line(refusals=10_000)), body)


def test_who_is_not_let_in_does_not_knock_again() -> None:
    """Until `close`: each failed login counts with the site."""

    async def body(transport: _Transport) -> None:
        for _ in range(5):
            with pytest.raises(AccessError, match="refused") as raised:
                await transport.run("true")
            assert raised.value.hint == "see"
        assert len(transport.attempts_s) == 1
        await transport.close()
        assert (await transport.run("true")).exit_code == 0

    _check(_Transport(AccessError("refused", "see"), _Line()), body)


def test_an_attempt_outlives_those_who_wait() -> None:
    """The next one finds the connection made."""

    async def body(transport: _Transport) -> None:
        first = asyncio.create_task(transport.run("true"))
        while not transport.attempts_s:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        await transport.run("true")
        assert len(transport.attempts_s) == 1

    _check(_Transport(_Line()), body)


def test_closing_ends_an_attempt() -> None:
    class Slow(_Transport):
        async def _open(self) -> Line:
            await super()._open()
            await asyncio.Event().wait()
            raise AssertionError

    async def body(transport: _Transport) -> None:
        waiting = asyncio.create_task(transport.run("true"))
        while not transport.attempts_s:
            await asyncio.sleep(0)
        await transport.close()
        with pytest.raises(NotExecutedError, match="was closed"):
            await waiting

    _check(Slow(_Line()), body)


def test_who_has_begun_does_not_connect_again_after_closing() -> None:
    async def body(transport: _Transport) -> None:
        running = [asyncio.create_task(transport.run("true")) for _ in range(10)]
        while not transport.slept_s:
            await asyncio.sleep(0)
        await transport.close()
        for one in running:
            with pytest.raises(NotExecutedError, match="was closed"):
                await one
        assert len(transport.attempts_s) == 1

    _check(_Transport(_Line(refusals=10_000)), body)


def test_nobody_left_to_hear_of_a_failure_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def body(transport: _Transport) -> None:
        waiting = asyncio.create_task(transport.run("true"))
        while not transport.attempts_s:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})

    _check(_Transport(NotExecutedError("refused")), body)
    assert "never retrieved" not in caplog.text
