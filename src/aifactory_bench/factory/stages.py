"""Grouping the points of a matrix: which share their services, and which share a client's job."""

from collections.abc import Sequence
from itertools import groupby

from attrs import evolve, frozen

from ..errors import RecipeError
from ..recipe.load_model import Load
from ..recipe.model import ClientEntry, Variant


@frozen
class Segment:
    """Points that one job of one client makes, one after another."""

    client: str
    number: int
    """Of this client's jobs in the stage: 0, 1, ..."""
    first: int
    """Position of its first variant in the stage."""
    entries: "tuple[ClientEntry, ...]"
    """The client's entry at each of its points."""


@frozen
class Stage:
    """Points that share their services' jobs."""

    number: int
    variants: "tuple[Variant, ...]"
    segments: "tuple[Segment, ...]"
    """A client with `after` stands behind the one it waits for."""
    depths: "dict[str, int]"
    """Client -> length of its chain of `after`; clients of one depth meet at a barrier before each point."""


def stages_of(variants: Sequence[Variant]) -> list[Stage]:
    """Return the stages of a run, in order.

    Raises:
        RecipeError: clients wait for each other in a circle.
    """
    groups = [tuple(group) for _, group in groupby(variants, key=lambda variant: variant.service_key)]
    return [_stage(number, group) for number, group in enumerate(groups)]


def _stage(number: int, variants: tuple[Variant, ...]) -> Stage:
    depths = _depths(variants[0].clients)
    order = sorted(range(len(variants[0].clients)), key=lambda position: depths[variants[0].clients[position].name])
    segments: list[Segment] = []
    for position in order:
        segments.extend(_segments([variant.clients[position] for variant in variants]))
    return Stage(number, variants, tuple(segments), depths)


def _segments(entries: Sequence[ClientEntry]) -> list[Segment]:
    """Cut a client's points where what its job takes changes."""
    found: list[Segment] = []
    first = 0
    for number, (_, group) in enumerate(groupby(entries, key=_job_key)):
        inside = tuple(group)
        found.append(Segment(inside[0].name, number, first, inside))
        first += len(inside)
    return found


def _job_key(entry: ClientEntry) -> ClientEntry:
    return evolve(entry, parameters={}, load=_SAME_LOAD)


_SAME_LOAD = Load()


def _depths(clients: Sequence[ClientEntry]) -> dict[str, int]:
    after = {client.name: client.after for client in clients}
    depths: dict[str, int] = {}
    for name in after:
        chain = [name]
        while (before := after[chain[-1]]) is not None:
            if before not in after:
                raise RecipeError(f"clients.{chain[-1]}.after: there is no client {before!r}; there is: {', '.join(after)}")
            if before in chain:
                raise RecipeError(
                    f"clients.{name}.after: clients wait for each other in a circle: {' -> '.join([*chain, before])}"
                )
            chain.append(before)
        depths[name] = len(chain) - 1
    return depths
