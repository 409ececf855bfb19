"""Plans and results of runs that never were: what the report is made from."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from attrs import evolve
from rich.console import Console

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench.node.measurement import Counts, Health, Measurement, to_json
from aifactory_bench.plan import Plan, PlannedJob, PlannedPoint
from aifactory_bench.report.summary import summarise
from aifactory_bench.results.model import JobOutcome, RunResult

START_NS = 1_790_000_000_000_000_000
OPERATIONS = ("all", "get", "set")


@lru_cache
def histogram(median_us: float, count: int) -> dict[str, Any]:
    """Return the document of a distribution with a long tail: p99.9 is about 30 times the median."""
    one = Histogram()
    one.record_many([round(1000 * median_us * (0.5 + 1 / (2 * (1 - (n + 0.5) / count)) ** 0.5)) for n in range(count)])
    return one.to_json()


def document(point: PlannedPoint, rank: int = 0, *, count: int = 20_000, seconds: int = 10, **changes: Any) -> dict[str, Any]:
    """Return a rank's measurement of a point that met its rate."""
    closed = point.process == "closed"
    latency = {
        operation: {
            "send": histogram(110.0 + 10 * number, count // (number + 1)),
            "schedule": None if closed else histogram(130.0 + 10 * number, count // (number + 1)),
        }
        for number, operation in enumerate(OPERATIONS)
    }
    values: dict[str, Any] = {
        "point": point.id,
        "client": point.client,
        "kind": point.kind,
        "rank": rank,
        "status": "ok",
        "process": point.process,
        "unit": "request",
        "window_asked_s": float(seconds),
        "window_s": float(seconds),
        "start_wall_ns": START_NS,
        "end_wall_ns": START_NS + seconds * 10**9,
        "offered_per_s": point.offered_per_s,
        "achieved_per_s": point.offered_per_s or 41_234.5,
        "counts": Counts(ok=count),
        "latency": latency,
        "slices": [
            {"second": second, "ok": count // seconds, "error": 0, "latency": {"all": latency["all"]}}
            for second in range(seconds)
        ],
        "phases_s": {"warmup": 2.0, "measure": float(seconds)},
        "health": Health(cpu_share=[0.5], lateness=histogram(12.0, 100), loop_lag=histogram(20.0, 100)),
        "provenance": {"seed": 7},
    }
    return to_json(Measurement(**{**values, **changes}))


@pytest.fixture
def make_document() -> Callable[..., dict[str, Any]]:
    """Return the builder of a rank's document for a planned point."""
    return document


@pytest.fixture
def make_histogram() -> Callable[..., dict[str, Any]]:
    """Return the builder of a distribution's document: its median in microseconds, and how many samples."""
    return histogram


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """Return a builder of plans: one service, one client, a point for each rate in each repetition."""

    def make(
        rates: "tuple[int | None, ...]" = (2000,),
        repetitions: int = 1,
        clients: "tuple[str, ...]" = ("load",),
        factors: int = 1,
    ) -> Plan:
        service = PlannedJob("cache", "service", "redis", "afb-r1-cache-0", "#!/bin/bash\n", 1, 600.0, 60.0)
        jobs = [service]
        points = []
        for client in clients:
            token = f"afb-r1-{client}-0"
            jobs.append(
                PlannedJob(client, "client", "redis-load", token, "#!/bin/bash\n", 1, 600.0, 0.0, services=(service.token,))
            )
        for index, rate in enumerate(rates):
            parameters = {"clients.load.load.rate": f"{rate}/s"} if len(rates) > 1 else {}
            parameters |= {f"services.cache.parameters.option{n}": "on" for n in range(factors - 1)}
            for repetition in range(1, repetitions + 1):
                points += [
                    PlannedPoint(
                        id=f"p{index:04d}-r{repetition}",
                        index=index,
                        repetition=repetition,
                        parameters=parameters,
                        client=client,
                        kind="redis-load",
                        token=f"afb-r1-{client}-0",
                        ranks=1,
                        offered_per_s=None if rate is None else float(rate),
                        process="closed" if rate is None else "constant",
                        load={},
                        client_parameters={},
                        service_parameters={},
                        services=(service.token,),
                    )
                    for client in clients
                ]
        return Plan(
            run_id="r1",
            recipe_name="redis-throughput",
            site="local",
            run_folder="/home/user/.local/share/aifactory-bench/runs/20260101-120000-redis-throughput-4f2a",
            jobs=tuple(jobs),
            points=tuple(points),
            limits={},
            lease_s=600.0,
            max_jobs=64,
            node_modules=(),
            node_digest="0" * 16,
        )

    return make


@pytest.fixture
def make_result() -> Callable[..., RunResult]:
    """Return a builder of results: every planned measurement there, every job completed, unless told otherwise."""

    def make(plan: Plan, *, status: Any = "finished", without: "tuple[str, ...]" = (), **changes: Any) -> RunResult:
        jobs = tuple(JobOutcome(job.name, job.role, job.kind, job.token, "1", "completed", "completed") for job in plan.jobs)
        measurements = {
            f"{point.client}/{point.id}": tuple(document(point, rank, **changes) for rank in range(point.ranks))
            for point in plan.points
            if f"{point.client}/{point.id}" not in without
        }
        return RunResult(plan.run_id, status, jobs, measurements)

    return make


@pytest.fixture
def make_summary(make_plan: Any, make_result: Any) -> Callable[..., Any]:
    """Return a builder of summaries; keywords of the plan first, the others go to the result."""

    def make(
        *, status: Any = "finished", without: "tuple[str, ...]" = (), document: "dict[str, Any] | None" = None, **plan: Any
    ) -> Any:
        planned = make_plan(**plan)
        return summarise(planned, make_result(planned, status=status, without=without, **(document or {})))

    return make


@pytest.fixture
def shown() -> Callable[..., str]:
    """Return a function that renders for a plain terminal of 80 columns."""

    def show(renderable: Any, *, colour: bool = False, width: int = 80) -> str:
        system = "standard" if colour else None
        console = Console(width=width, force_terminal=colour, color_system=system, no_color=not colour)
        with console.capture() as capture:
            console.print(renderable)
        return capture.get()

    return show


@pytest.fixture
def fail_job() -> Callable[..., RunResult]:
    """Return a function that lets a job of a result end badly."""

    def fail(result: RunResult, name: str, outcome: "str | None", text: str = "", state: str = "failed") -> RunResult:
        jobs = tuple(evolve(job, outcome=outcome, text=text, state=state) if job.name == name else job for job in result.jobs)
        return evolve(result, jobs=jobs)

    return fail
