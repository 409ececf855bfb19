"""One rank's measurement of one point: split the load, run the workers, put their reports together."""

import math
import platform
import time
from collections import Counter
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ..contract import Context
from ..measurement import Counts, Health, Measurement
from .connection import Address, resolve
from .driver import Driver
from .histogram import Histogram
from .objectives import add_attainment
from .own import add_results
from .plan import Plan
from .schedule import OPEN, arrivals, offered_per_s
from .worker import WorkerError, Workers

DEFAULT_CONNECTIONS = 50
DEFAULT_TIMEOUT_S = 10.0


class _Unfit(Exception):
    """The load cannot be run as asked; the text says why."""


def run_load(context: Context, driver: Driver, window_start_mono_ns: int, stop: "Callable[[], Optional[str]]") -> Measurement:
    """Drive a load and return what was measured; never raises for what a server or a worker does.

    `achieved_per_s` is requests of the window that ended well and were sent before its end, a second of the window. So it
    equals the offered rate when the server kept up, also when it stalled and caught up within the window or answers slowly,
    and it shows a backlog that was still there at the end, although the backlog's latencies are recorded.

    Args:
        context: the rank and the load; totals are split over ranks and workers.
        driver: of the product.
        window_start_mono_ns: CLOCK_MONOTONIC time at which the warm-up begins. Connections are opened before.
        stop: asked about every 0.2 s; a text ends the measurement with the status `cut` and that reason.
    """
    load = context.load
    measurement = Measurement(
        point=context.point,
        client=context.client,
        kind=context.kind,
        rank=context.rank,
        status="failed",
        process=str(load.get("process", "closed")),
        unit=driver.unit,
        window_asked_s=float(load["duration_s"]),
        provenance={"seed": load.get("seed", 1), "python": platform.python_version(), "pipeline": driver.pipeline},
    )
    wall_less_mono_ns = time.time_ns() - time.monotonic_ns()
    driver.folder = context.folder
    try:
        plans = split(context, driver, window_start_mono_ns)
        measurement.start_wall_ns = plans[0].start_ns + wall_less_mono_ns
        with Workers(plans, driver) as workers:
            reports, reason = workers.collect(stop, _Phases(context, plans[0]))
    except (_Unfit, WorkerError) as error:
        measurement.reason = str(error)
        return measurement
    _fill(measurement, driver, plans[0], reports)
    add_attainment(measurement, load.get("slo") or {})
    measurement.end_wall_ns = measurement.start_wall_ns + round(measurement.window_s * 1e9)
    measurement.status, measurement.reason = ("cut", reason) if any(report["cut"] for report in reports) else ("ok", "")
    return measurement


def split(context: Context, driver: Driver, warmup_ns: int) -> "List[Plan]":
    """Return what each worker of this rank is to do."""
    load = context.load
    process = load.get("process", "closed")
    is_open = process in OPEN
    if not is_open and process != "closed":
        raise _Unfit(f"unknown arrival process {process!r}, known: closed, {', '.join(sorted(OPEN))}")
    name = "connections" if is_open else "concurrency"
    total = load.get(name)
    total = DEFAULT_CONNECTIONS if total is None else int(total)
    workers = int(load.get("workers", 1))
    least = context.ranks * workers
    if workers < 1 or total < least:
        raise _Unfit(
            f"{name} {total} over {context.ranks} replicas with {workers} workers each leaves some of them none; "
            f"at least {least} are needed"
        )
    try:
        if is_open:
            arrivals(load, int(load.get("seed", 1)), 0, 1)
    except (ValueError, OSError) as error:
        raise _Unfit(str(error)) from None
    addresses = _addresses(driver.addresses())
    if not addresses:
        raise _Unfit("there is no server to drive a load on")
    partners = _addresses(driver.partners(), len(addresses))
    if partners and driver.pipeline != 1:
        raise _Unfit(f"requests of several stages are sent one at a time on a connection, not {driver.pipeline}")
    start_ns = warmup_ns + round(float(load.get("warmup_s", 0)) * 1e9)
    end_ns = start_ns + round(float(load["duration_s"]) * 1e9)
    if end_ns <= start_ns:
        raise _Unfit(f"a window must be longer than 0 s, got {load['duration_s']}")
    plans = []
    if is_open and driver.aimed and total // least < len(addresses):
        raise _Unfit(
            f"{name} {total} over {context.ranks} replicas with {workers} workers each leaves some without a connection to "
            f"each of the {len(addresses)} servers; at least {least * len(addresses)} are needed"
        )
    for worker in range(workers):
        part = context.rank * workers + worker
        own = total // least + (part < total % least)
        first = part * (total // least) + min(part, total % least)  # of all connections: they take the servers in turn
        plans.append(
            Plan(
                warmup_ns=warmup_ns,
                start_ns=start_ns,
                end_ns=end_ns,
                timeout_ns=round(float(load.get("timeout_s") or DEFAULT_TIMEOUT_S) * 1e9),
                addresses=[addresses[(first + number) % len(addresses)] for number in range(own)],
                seed=int(load.get("seed", 1)),
                load=load,
                part=part,
                parts=least,
                partners=[partners[(first + number) % len(partners)] for number in range(own if partners else 0)],
            )
        )
    return plans


def _addresses(servers: "Sequence[Tuple[str, int]]", first: int = 0) -> "List[Address]":
    addresses = []
    for number, (host, port) in enumerate(servers, first):
        try:
            addresses.append(resolve(host, port, number))
        except OSError as error:
            raise _Unfit(f"{host}:{port}: the host is not known: {error.strerror or error}") from None
    return addresses


class _Phases:
    """Records the phases as they begin; returns the seconds until the next one does."""

    def __init__(self, context: Context, plan: Plan) -> None:
        self._events = context.events
        self._due = [("drain", plan.end_ns), ("measure", plan.start_ns), ("warmup", plan.warmup_ns)]

    def __call__(self) -> float:
        while self._due:
            left_ns = self._due[-1][1] - time.monotonic_ns()
            if left_ns > 0:
                return left_ns / 1e9
            self._events.phase(self._due.pop()[0])
        return math.inf


def _fill(measurement: Measurement, driver: Driver, plan: Plan, reports: "Sequence[Dict[str, Any]]") -> None:
    end_ns = max(report["end_ns"] for report in reports)
    done_ns = max(report["done_ns"] for report in reports)
    measurement.window_s = max(0, end_ns - plan.start_ns) / 1e9
    offered = offered_per_s(plan.load) if plan.is_open else None
    if offered is not None:
        measurement.offered_per_s = offered * len(reports) / plan.parts
    counts: "Counter[str]" = Counter()
    errors: "Counter[str]" = Counter()
    notes: "Counter[str]" = Counter()
    total: Dict[str, Dict[str, Histogram]] = {}
    for second in range(len(reports[0]["slices"])):
        parts = [report["slices"][second] for report in reports]
        if second * 1_000_000_000 >= end_ns - plan.start_ns:
            break
        in_second: "Counter[str]" = Counter()
        latency: Dict[str, Dict[str, Histogram]] = {}
        for part in parts:
            in_second.update(part["counts"])
            errors.update(part["errors"])
            notes.update(part["notes"])
            _add(latency, part["latency"])
        counts.update(in_second)
        for operation, clocks in latency.items():
            for clock, histogram in clocks.items():
                total.setdefault(operation, {}).setdefault(clock, Histogram()).add(histogram)
        measurement.slices.append({"second": second, **_plain(in_second), "latency": _with_all(latency)})
    measurement.counts = Counts(**_plain(counts))
    measurement.errors = dict(errors)
    measurement.latency = _with_all(total)
    ok = {operation: clocks["send"].count for operation, clocks in total.items()}
    late_ok = sum(report["late_ok"] for report in reports)
    if measurement.window_s > 0:
        measurement.achieved_per_s = (measurement.counts.ok - late_ok) / measurement.window_s
    measurement.metrics = driver.metrics(ok, notes)
    add_results(measurement, [report["own"] for report in reports])
    drained: "Counter[str]" = Counter()
    warmup: "Counter[str]" = Counter()
    for report in reports:
        warmup.update(report["warmup"])
        drained.update(report["drained"])
    measurement.phase_counts = {"warmup": _plain(warmup), "drain": _plain(drained)}
    measurement.phases_s = {
        "warmup": (min(plan.start_ns, end_ns) - plan.warmup_ns) / 1e9,
        "measure": measurement.window_s,
        "drain": max(0, done_ns - end_ns) / 1e9,
        "collect": max(0, time.monotonic_ns() - done_ns) / 1e9,
    }
    measurement.health = Health(
        workers=len(reports),
        cpu_share=[report["cpu_share"] for report in reports],
        lateness=_sum(reports, "lateness") if plan.is_open else None,
        gate=_sum(reports, "gate") if plan.is_open else None,
        loop_lag=_sum(reports, "loop_lag"),
        observation_age=_age(reports),
        stalled_s=max(report["stalled_s"] for report in reports),
        stalled_max_s=max(report["stalled_max_s"] for report in reports),
    )
    samples: Dict[str, str] = {}
    for report in reports:
        samples = {**report["samples"], **samples}
    if samples:
        measurement.provenance["error_texts"] = samples


def _plain(counts: "Counter[str]") -> "Dict[str, int]":
    return {name: counts[name] for name in ("ok", "error", "timeout", "skipped")}


def _add(total: "Dict[str, Dict[str, Histogram]]", part: "Dict[str, Dict[str, Any]]") -> None:
    for operation, clocks in part.items():
        for clock, data in clocks.items():
            if data is not None:
                total.setdefault(operation, {}).setdefault(clock, Histogram()).add(Histogram.from_json(data))


def _with_all(latency: "Dict[str, Dict[str, Histogram]]") -> "Dict[str, Dict[str, Any]]":
    """Return the latencies as JSON, with the sum of all operations beside them."""
    every = {"send": Histogram(), "schedule": Histogram()}
    for clocks in latency.values():
        for clock, histogram in clocks.items():
            every[clock].add(histogram)
    result: Dict[str, Dict[str, Any]] = {}
    for operation, clocks in {**latency, "all": every}.items():
        schedule = clocks.get("schedule")
        result[operation] = {
            "send": clocks["send"].to_json(),
            "schedule": schedule.to_json() if schedule is not None and schedule.count else None,
        }
    return result


def _age(reports: "Sequence[Dict[str, Any]]") -> "Optional[Dict[str, Any]]":
    """Return the sum of the ages; None where no kernel told one."""
    total = _sum(reports, "observation_age")
    return total if total["count"] else None


def _sum(reports: "Sequence[Dict[str, Any]]", name: str) -> "Dict[str, Any]":
    total = Histogram()
    for report in reports:
        total.add(Histogram.from_json(report[name]))
    return total.to_json()
