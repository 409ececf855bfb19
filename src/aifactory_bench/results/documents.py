"""Reading the documents of ranks. They come from a site, so nothing in them is taken on trust."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from ..node import measurement as documents
from ..node.load.histogram import Histogram
from ..node.measurement import Measurement
from ..plan import PlannedPoint

TEXT_LIMIT = 2000
"""Characters of any one text that are kept."""
NAME_LIMIT = 100
LARGEST = 1e300
"""No number that means anything is larger; whole numbers that no float can hold are not."""
_MOST_SECONDS = 8 * 86400
"""Of a window: no load lasts longer."""
COUNTS = ("ok", "error", "timeout", "skipped")
_NUMBERS = ("window_asked_s", "window_s", "start_wall_ns", "end_wall_ns")
_OPTIONAL_NUMBERS = ("offered_per_s", "achieved_per_s")
_MAPPINGS = (
    *("errors", "latency", "quantiles", "phases_s", "server_before", "server_after"),
    *("phase_counts", "services", "metrics", "distributions", "sums", "totals", "absent", "tool", "prepare", "provenance"),
)
_LISTS = ("slices", "unchecked")
_TEXTS = ("reason", "process", "unit", "histogram_quality")


class DocumentError(ValueError):
    """A document is not the measurement that it should be; the text says what does not fit."""


CLOCKS = ("send", "schedule")

Histograms = Mapping[str, Mapping[str, Histogram]]
"""Operation -> clock -> histogram; a clock that was not kept is not there."""


@frozen
class Slice:
    """One second of a rank's window."""

    second: int
    ok: int
    error: int
    others: int
    """Timeouts and what was never sent, where they are told by the second."""
    histograms: Histograms
    """Of the sum of all operations; of each operation only where it was asked for: reading them takes most of the time."""

    @property
    def due(self) -> int:
        """Requests of the second, however they ended."""
        return self.ok + self.error + self.others


@frozen(eq=False)
class Rank:
    """One rank's document, read and checked."""

    measurement: Measurement
    histograms: Histograms
    slices: tuple[Slice, ...]
    lateness: Histogram | None
    gate: Histogram | None
    loop_lag: Histogram | None
    observation_age: Histogram | None
    distributions: Mapping[str, tuple[str, Histogram]]
    """Name -> unit and histogram."""


def read_ranks(
    point: PlannedPoint, found: Sequence[Mapping[str, Any]], *, whole_slices: bool = False
) -> tuple[dict[int, Rank], dict[int, str], tuple[str, ...]]:
    """Return the measurements by rank, why the other ranks have none, and what does not fit.

    A rank whose document says `failed` has no measurement. A document that cannot be read counts for the rank it names.

    Args:
        point: What was planned.
        found: The documents, in any order.
        whole_slices: Whether the histograms of each operation are needed second by second.
    """
    ranks: dict[int, Rank] = {}
    absent: dict[int, str] = {}
    strange: list[str] = []
    for document in found:
        rank = document.get("rank") if isinstance(document, Mapping) else None
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank < point.ranks:
            strange.append(f"a document of rank {str(rank)[:NAME_LIMIT]}, planned are 0 to {point.ranks - 1}")
            continue
        if rank in ranks or rank in absent:
            strange.append(f"two documents of rank {rank}, the second was left out")
            continue
        try:
            parsed = _parsed(_checked(document, point), whole_slices=whole_slices)
        except ValueError as error:
            absent[rank] = f"its document cannot be read: {error}"[:TEXT_LIMIT]
            continue
        if parsed.measurement.status == "failed":
            absent[rank] = parsed.measurement.reason
        else:
            ranks[rank] = parsed
    for rank in range(point.ranks):
        if rank not in ranks and rank not in absent:
            absent[rank] = "there is no document"
    return dict(sorted(ranks.items())), dict(sorted(absent.items())), tuple(strange)


def _checked(document: Mapping[str, Any], point: PlannedPoint) -> Measurement:
    """Return the measurement of a document.

    Raises:
        DocumentError: not a measurement of this point, or a field of a wrong type.
    """
    measurement = documents.from_json(dict(document))
    if (measurement.client, measurement.point) != (point.client, point.id):
        raise DocumentError(f"it is of {measurement.client}/{measurement.point}, not of {point.client}/{point.id}")
    if measurement.status not in documents.STATUSES:
        raise DocumentError(f"status is {measurement.status!r}, not one of {', '.join(documents.STATUSES)}")
    for name in _TEXTS:
        setattr(measurement, name, _text(name, getattr(measurement, name)))
    for name in (*_NUMBERS, *(name for name in _OPTIONAL_NUMBERS if getattr(measurement, name) is not None)):
        _number(name, getattr(measurement, name))
    for name in COUNTS:
        _whole(f"counts.{name}", getattr(measurement.counts, name))
    for name in _MAPPINGS:
        _mapping(name, getattr(measurement, name), MEMBERS.get(name))
    for name in _LISTS:
        if not isinstance(getattr(measurement, name), list):
            raise DocumentError(f"{name} must be a list")
    _health(measurement.health)
    return measurement


def _health(health: documents.Health) -> None:
    if not isinstance(health.cpu_share, list):
        raise DocumentError("health.cpu_share must be a list")
    for share in health.cpu_share:
        if share is not None:
            _number("health.cpu_share", share)
    _whole("health.workers", health.workers)
    for name in ("stalled_s", "stalled_max_s"):
        if getattr(health, name) is not None:
            _number(f"health.{name}", getattr(health, name))


def _parsed(measurement: Measurement, *, whole_slices: bool) -> Rank:
    """Return the measurement with its histograms.

    Raises:
        ValueError: one cannot be read.
    """
    slices = []
    for entry in measurement.slices:
        _mapping("slices", entry)
        second, ok, error, timeout, skipped = (entry.get(name, 0) for name in ("second", *COUNTS))
        for value in (second, ok, error, timeout, skipped):
            _number("slices", value)
        latency = entry.get("latency", {})
        _mapping("slices.latency", latency)
        wanted = latency if whole_slices else {name: latency[name] for name in ("all",) if name in latency}
        others = int(timeout) + int(skipped)
        slices.append(Slice(int(second), int(ok), int(error), others, _histograms("slices.latency", wanted)))
    health = measurement.health
    lateness, gate, loop_lag, age = (
        None if document is None else Histogram.from_json(document)
        for document in (health.lateness, health.gate, health.loop_lag, health.observation_age)
    )
    distributions = {
        name: (str(entry.get("unit", "us"))[:NAME_LIMIT], Histogram.from_json(entry.get("histogram")))
        for name, entry in measurement.distributions.items()
    }
    return Rank(
        measurement, _histograms("latency", measurement.latency), tuple(slices), lateness, gate, loop_lag, age, distributions
    )


def _histograms(name: str, operations: Any) -> Histograms:
    _mapping(name, operations)
    read: dict[str, dict[str, Histogram]] = {}
    for operation, clocks in operations.items():
        _mapping(f"{name}.{operation}", clocks)
        read[operation] = {clock: Histogram.from_json(clocks[clock]) for clock in CLOCKS if clocks.get(clock) is not None}
    return read


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise DocumentError(f"{name} must be text")
    return value[:TEXT_LIMIT]


def _mapping(name: str, value: object, member: "Callable[[str, object], None] | None" = None) -> None:
    if not isinstance(value, dict):
        raise DocumentError(f"{name} must be a mapping")
    for key, entry in value.items():
        if len(key) > NAME_LIMIT:
            raise DocumentError(f"{name} has a name of {len(key)} characters, allowed are {NAME_LIMIT}")
        if member is not None:
            member(f"{name}.{key}", entry)


def is_number(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _number(name: str, value: object) -> None:
    if not is_number(value) or value < 0:  # type: ignore[operator]
        raise DocumentError(f"{name} must be a finite number from 0 on, got {value!r}")


def _whole(name: str, value: object) -> None:
    _number(name, value)
    if not isinstance(value, int):
        raise DocumentError(f"{name} must be a whole number, got {value!r}")


def _series(name: str, value: object) -> None:
    _mapping(name, value)
    numbers = value.get("per_second") if isinstance(value, dict) else None
    if not isinstance(numbers, list) or len(numbers) > _MOST_SECONDS:
        raise DocumentError(f"{name}.per_second must be a list of at most {_MOST_SECONDS} numbers")
    for number in numbers:
        _number(f"{name}.per_second", number)


MEMBERS: "Mapping[str, Callable[[str, object], None]]" = {
    **dict.fromkeys(("phases_s", "server_before", "server_after", "totals"), _number),
    "sums": _series,
    "errors": _whole,
    "phase_counts": lambda name, value: _mapping(name, value, _whole),
    **dict.fromkeys(("latency", "quantiles", "services", "metrics", "distributions"), _mapping),
}
"""What the values of a mapping must be."""
