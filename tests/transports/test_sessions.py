"""The limit of commands at a time, without any connection."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from aifactory_bench.transports.sessions import SessionLimit


def _check(body: Callable[[SessionLimit], Awaitable[None]]) -> None:
    async def run() -> None:
        await body(SessionLimit())

    asyncio.run(run())


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_it_starts_at_four_and_ends_at_eight() -> None:
    limit = SessionLimit()
    seen = []
    for _ in range(500):
        limit.worked()
        seen.append(limit.limit)
    assert (seen[48], seen[49], seen[99], seen[149], seen[199], seen[-1]) == (4, 5, 6, 7, 8, 8)


def test_refusals_halve_it_and_begin_the_count_anew() -> None:
    limit = SessionLimit()
    for _ in range(49):
        limit.worked()
    limits = []
    for _ in range(3):
        limit.refused()
        limits.append(limit.limit)
    assert limits == [2, 1, 1]
    for _ in range(49):
        limit.worked()
    assert limit.limit == 1
    limit.worked()
    assert limit.limit == 2


def test_who_came_first_is_served_first_and_never_too_many() -> None:
    async def body(limit: SessionLimit) -> None:
        order, most = [], 0

        async def use(number: int) -> None:
            nonlocal most
            async with limit.slot():
                order.append(number)
                most = max(most, limit.in_use)
                await asyncio.sleep(0)

        await asyncio.gather(*(use(number) for number in range(50)))
        assert order == list(range(50))
        assert (most, limit.in_use) == (4, 0)

    _check(body)


def test_a_lower_limit_holds_at_once_and_a_higher_one_wakes() -> None:
    async def body(limit: SessionLimit) -> None:
        ends = [asyncio.Event() for _ in range(8)]

        async def use(number: int) -> None:
            async with limit.slot():
                await ends[number].wait()

        tasks = [asyncio.create_task(use(number)) for number in range(8)]
        await _settle()
        assert limit.in_use == 4
        limit.refused()
        for number in range(3):
            ends[number].set()
        await _settle()
        assert limit.in_use == 2  # one of the first four, and one that waited
        for _ in range(100):
            limit.worked()
        await _settle()
        assert limit.in_use == 4
        for end in ends:
            end.set()
        await asyncio.gather(*tasks)
        assert limit.in_use == 0

    _check(body)


@pytest.mark.parametrize("given", [False, True])
def test_who_is_cancelled_takes_nothing_along(given: bool) -> None:
    """Neither while waiting, nor in the moment after a session was given and before it was taken."""

    async def body(limit: SessionLimit) -> None:
        end = asyncio.Event()

        async def use() -> None:
            async with limit.slot():
                await end.wait()

        holders = [asyncio.create_task(use()) for _ in range(4)]
        await _settle()
        waiter, last = asyncio.create_task(use()), asyncio.create_task(use())
        await _settle()
        if given:
            holders[0].cancel()
            await asyncio.wait({holders[0]})  # its session is the waiter's now, who has not run since
        waiter.cancel()
        await asyncio.wait({waiter})
        await _settle()
        assert waiter.cancelled()
        assert limit.in_use == 4
        end.set()
        await asyncio.gather(last, *holders, return_exceptions=True)
        assert limit.in_use == 0

    _check(body)
