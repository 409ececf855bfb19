"""Requests that go on: answered on one connection, and then sent on, on the partner of that connection.

A request stays outstanding on the connection where it began until the partner has brought its end. So nothing else is sent
there meanwhile, one time limit holds for all of it, and both clocks are those of its begin. A partner has no requests of its
own, and its events take no part of the loops' hot paths.
"""

import time
from typing import TYPE_CHECKING, Callable, List

from .connection import READY, Connection, class_of
from .driver import Driver, Onward, Outcomes, ProtocolError
from .plan import Plan

if TYPE_CHECKING:
    from .loop import Loop

_ONE_IN = 8
"""Of so many connections one tells how old what it reads is: asking the kernel costs some of a read's time."""


def places(driver: Driver, plan: Plan, ages: Callable[[int], None]) -> List[Connection]:
    """Return the connections of a worker, and behind them the partner of each, where the plan has any.

    Args:
        driver: of the product.
        plan: has the addresses.
        ages: told how old what is read is, in ns.
    """
    owners = [Connection(driver, address, None if number % _ONE_IN else ages) for number, address in enumerate(plan.addresses)]
    partners = [Connection(driver, address) for address in plan.partners]
    for owner, partner in zip(owners, partners):
        owner.partner, partner.owner = partner, owner
    return owners + partners


def begin(loop: "Loop", connection: Connection, onward: Onward) -> None:
    """Send a request on, at once or as soon as the partner is ready.

    Raises:
        ProtocolError: there is no partner.
    """
    if connection.partner is None:
        raise ProtocolError("a request is to go on, and there is no other server")
    connection.partner.onward = onward
    if connection.partner.state == READY:
        go_on(loop, connection.partner)


def go_on(loop: "Loop", partner: Connection) -> bool:
    """Send what waits for a partner that is ready now, if something does; return False for what is no partner."""
    if partner.onward is not None:
        try:
            loop.push(partner, partner.onward.request(partner.protocol))
        except OSError as error:
            loop.lose(partner, class_of(error), error.strerror or str(error), time.monotonic_ns())
    return partner.owner is not None


def take(loop: "Loop", partner: Connection, data: bytes, now_ns: int) -> bool:
    """Handle what was read from a partner, where nothing means that the server has closed it; return False for no partner.

    Raises:
        ProtocolError: the bytes make no sense.
    """
    if partner.owner is None:
        return False
    if data and partner.onward is None:
        raise ProtocolError(f"{len(data)} bytes came before anything was asked")
    if data:
        outcomes = partner.feed(data, now_ns)
        if outcomes:
            partner.onward = None
            _complete(loop, partner.owner, outcomes, now_ns)
        return True
    outcomes = partner.protocol.end() if partner.state == READY and partner.onward is not None else ()
    if not outcomes:
        loop.lose(partner, "eof", "the server closed the connection", now_ns)
        return True
    # That is how this protocol ends an answer: a new connection is no second attempt.
    partner.ended_well, partner.onward = True, None
    loop.drop(partner, now_ns)
    _complete(loop, partner.owner, outcomes, now_ns)
    return True


def lose(loop: "Loop", partner: Connection, error: str, text: str, now_ns: int) -> bool:
    """Give up a partner's connection, and what had gone on there; return False for what is no partner."""
    owner, was_needed = partner.owner, partner.onward is not None
    if owner is None:
        return False
    partner.onward = None
    loop.drop(partner, now_ns)
    if was_needed:
        loop.give_up(owner, error, text, now_ns)
        owner.flights.clear()
        owner.answered = 0
        if owner.state == READY:
            _complete(loop, owner, (), now_ns)
    return True


def give_up(loop: "Loop", connection: Connection, now_ns: int) -> None:
    """End what has gone on from a connection, whose request has taken too long."""
    partner = connection.partner
    if partner is not None and partner.onward is not None:
        partner.onward = None
        loop.drop(partner, now_ns)


def _complete(loop: "Loop", owner: Connection, outcomes: Outcomes, now_ns: int) -> None:
    """Record the end of a request; what its connection does next is not the partner's fault."""
    try:
        loop.complete(owner, outcomes, now_ns)
    except OSError as error:
        loop.lose(owner, class_of(error), error.strerror or str(error), time.monotonic_ns())
