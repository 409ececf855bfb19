"""What the load generator itself adds, on this node: measured against a server whose truth is known.

The server (`truth-llm`) says in every answer when it had the request and when it sent what; the client (`openai-load`) says
when it sent and read. What lies between the two is the network and the generator.
"""

import time
from pathlib import Path
from typing import Optional

import cattrs
from attrs import asdict, evolve, field, frozen

from ..errors import RunError
from ..node.files import make_private_folder, read_json, write_json
from ..results.model import MergedMeasurement, Summary

VERSION = 1
FOLDER = ".calibrations"
"""In the folder of runs, one file a host."""


@frozen
class CalibratedLoad:
    """What the generator adds at one load; times in microseconds, None where too little was seen."""

    streams: int
    """Connections."""
    rate_per_s: Optional[float]
    """Requests offered; None: closed loop."""
    tokens_per_s: Optional[float]
    added_ttft_p50_us: Optional[float]
    added_ttft_p99_us: Optional[float]
    added_gap_p99_us: Optional[float]
    """What a gap between two tokens is longer than it was sent."""
    observation_age_p99_us: Optional[float]
    """From the kernel's having an answer to the generator's reading it."""
    cpu_share_max: Optional[float]
    """Of the busiest worker, of one core."""
    verdict: str
    reasons: "tuple[str, ...]" = ()


@frozen
class Calibration:
    """One calibration of the generator on some hosts."""

    run_id: str
    site: str
    hosts: "tuple[str, ...]"
    """Where the generator ran."""
    measured_wall_s: float
    loads: "tuple[CalibratedLoad, ...]"
    version: int = field(default=VERSION)


def calibration_of(summary: Summary) -> Calibration:
    """Return what a run of `calibration_recipe` says.

    Raises:
        RunError: it measured nothing.
    """
    measured = [(point, one) for point in sorted(summary.points, key=lambda point: point.id) for one in point.measurements]
    if not measured:
        text = summary.error["text"] if summary.error else "nothing was measured"
        raise RunError(f"calibration {summary.run_id}: {text}", f"look at {summary.run_folder}")
    hosts = {str(rank.get("host")) for _, one in measured for rank in one.provenance.get("ranks", ()) if rank.get("host")}
    loads = tuple(_load(one) for _, one in measured)
    return Calibration(summary.run_id, summary.site, tuple(sorted(hosts)), time.time(), loads)


def _load(measurement: MergedMeasurement) -> CalibratedLoad:
    load = measurement.provenance.get("load", {})
    added, gap = (measurement.distributions.get(name, {}) for name in ("added_ttft", "added_gap"))
    tokens = measurement.metrics.get("output_tokens_per_s", {})
    return CalibratedLoad(
        streams=int(load.get("concurrency") or load.get("connections") or 0),
        rate_per_s=measurement.offered_per_s,
        tokens_per_s=tokens.get("value"),
        added_ttft_p50_us=added.get("p50"),
        added_ttft_p99_us=added.get("p99"),
        added_gap_p99_us=gap.get("p99"),
        observation_age_p99_us=measurement.health.get("observation_age_p99_us"),
        cpu_share_max=measurement.health.get("cpu_share_max"),
        verdict=measurement.verdict,
        reasons=tuple(f"{reason.code}: {reason.text}" for reason in measurement.reasons),
    )


def keep(runs: Path, calibration: Calibration) -> None:
    """Keep a calibration with each of its hosts, in the place of an older one."""
    for host in calibration.hosts:
        path = _path(runs, host)
        make_private_folder(path.parent)
        write_json(path, asdict(calibration))


def kept(runs: Path, host: str) -> Optional[Calibration]:
    """Return the last calibration of a host; None where there is none that can be read."""
    try:
        data = read_json(_path(runs, host))
        return None if data is None or data.get("version") != VERSION else cattrs.structure(data, Calibration)
    except (OSError, ValueError, AttributeError, cattrs.BaseValidationError):
        return None


def _path(runs: Path, host: str) -> Path:
    name = "".join(character if character.isalnum() or character in "-." else "_" for character in host)[:100]
    return runs / FOLDER / f"{name.lstrip('.') or '_'}.json"


def with_calibrations(summary: Summary, runs: Path) -> Summary:
    """Return the summary, each measurement with what its generators' hosts were found to add: `provenance.calibration`."""
    known: dict[str, Optional[Calibration]] = {}

    def told(measurement: MergedMeasurement) -> MergedMeasurement:
        found = {}
        for host in {str(rank.get("host")) for rank in measurement.provenance.get("ranks", ()) if rank.get("host")}:
            if host not in known:
                known[host] = kept(runs, host)
            if (calibration := known[host]) is not None:
                found[host] = asdict(calibration)
        provenance = {**measurement.provenance, "calibration": found}
        return evolve(measurement, provenance=provenance) if found else measurement

    points = tuple(evolve(point, measurements=tuple(map(told, point.measurements))) for point in summary.points)
    return evolve(summary, points=points)
