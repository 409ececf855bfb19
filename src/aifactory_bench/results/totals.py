"""The server's own count against what the clients say they sent.

One rank reads the server's counters for all: before any warm-up, and after every drain. So they enclose all that the clients
of a point sent, and are compared with the sum over all of them.
"""

from collections.abc import Sequence

from attrs import frozen

from ..node.measurement import Measurement
from ..plan import PlannedPoint

OPERATIONS = "operations"
FIELD = "server_operations"
"""A rank that lists it in `absent` says that its counts and the server's are not comparable."""
_SENT = ("ok", "error", "timeout")
_SECOND_NS = 1_000_000_000


@frozen
class ClientTotals:
    """What one client did at a point."""

    point: PlannedPoint
    ranks: tuple[Measurement, ...]

    @property
    def sent(self) -> int:
        """Requests that reached the server or may have, those of the warm-up included."""
        window: int = sum(getattr(rank.counts, name) for rank in self.ranks for name in _SENT)
        return window + sum(rank.phase_counts.get("warmup", {}).get(name, 0) for rank in self.ranks for name in _SENT)

    @property
    def whole(self) -> bool:
        """Whether every rank has a measurement."""
        return len(self.ranks) == self.point.ranks

    @property
    def active_ns(self) -> tuple[int, int]:
        """Wall clock from the beginning of the warm-up to the end of the drain; nothing without a measurement."""
        if not self.ranks:
            return 0, 0
        before_s = max(rank.phases_s.get("warmup", 0) for rank in self.ranks)
        after_s = max(rank.phases_s.get("drain", 0) for rank in self.ranks)
        start = min(rank.start_wall_ns for rank in self.ranks) - round(before_s * _SECOND_NS)
        return start, max(rank.end_wall_ns for rank in self.ranks) + round(after_s * _SECOND_NS)


def compare(client: ClientTotals, clients: Sequence[ClientTotals]) -> tuple[float | None, float | None, str]:
    """Return what all clients of a service sent, what the server counted, and, where there is nothing to compare, why.

    Args:
        client: Whose measurement is to be checked.
        clients: All clients of the point, this one included.
    """
    group, why = _comparable(client, clients)
    if why:
        return None, None, why
    ranks = [rank for other in group for rank in other.ranks]
    for rank in ranks:
        if FIELD in rank.absent:
            return None, None, str(rank.absent[FIELD])
    counted = _counted(ranks, OPERATIONS)
    if counted is None:
        return None, None, "the server's operations were not counted"
    if counted < 0:
        return None, None, "the server's count went back while it was measured"
    return float(sum(other.sent for other in group)), counted, ""


def compare_more(client: ClientTotals, clients: Sequence[ClientTotals]) -> dict[str, tuple[float, float]]:
    """Return name -> (clients, server) of every other total that both sides know, such as tokens.

    Args:
        client: Whose measurement is to be checked.
        clients: All clients of the point, this one included.
    """
    group, why = _comparable(client, clients)
    if why:
        return {}
    ranks = [rank for other in group for rank in other.ranks]
    found = {}
    for name in sorted(set.intersection(*(set(rank.totals) for rank in ranks)) if ranks else ()):
        counted = _counted(ranks, name)
        if counted is not None and counted >= 0:
            found[name] = (sum(rank.totals[name] for rank in ranks), counted)
    return found


def _comparable(client: ClientTotals, clients: Sequence[ClientTotals]) -> tuple[list[ClientTotals], str]:
    """Return all clients that used the same service at the same time, and why nothing can be said of them together."""
    group = [other for other in clients if other is client or _together(client, other)]
    for other in group:
        if not other.whole:
            return group, f"not all replicas of {other.point.client} have a measurement"
        if len(other.point.services) > 1:
            return group, f"{other.point.client} uses several services, and their counters are not told apart"
    return group, ""


def _counted(ranks: Sequence[Measurement], name: str) -> float | None:
    """Return by how much the server's counter rose; None where no rank has read it."""
    pairs = [
        (rank.server_before[name], rank.server_after[name])
        for rank in ranks
        if name in rank.server_before and name in rank.server_after
    ]
    return max(after for _, after in pairs) - min(before for before, _ in pairs) if pairs else None


def _together(one: ClientTotals, other: ClientTotals) -> bool:
    """Return whether two clients used the same service at the same time; one that failed may have."""
    if not set(one.point.services) & set(other.point.services):
        return False
    (start, end), (other_start, other_end) = one.active_ns, other.active_ns
    return not other.ranks or min(end, other_end) > max(start, other_start)
