"""From a plan and what its run left behind to a summary: merged, judged, complete."""

from collections.abc import Mapping

from attrs import evolve

from ..plan import Plan, PlannedPoint
from ..results.merge import merge_point
from ..results.model import JobOutcome, MergedMeasurement, PointResult, RunResult, Summary
from ..results.validity import LIMITS, judge, worst
from ..submitters.base import JobState

EXIT_FINISHED = 0
EXIT_MISSING = 1
EXIT_INVALID = 3
EXIT_DETACHED = 4
EXIT_INTERRUPTED = 130

_LISTED = 5
"""Missing measurements that the error names."""
_FINAL_STATES = frozenset(state.value for state in JobState if state.final)

_CAUSES = (
    *("not_ready", "failed", "fenced", "timeout", "lease_expired"),
    # These follow from something that went wrong before, as a rule.
    "no_endpoint",
)
"""Outcomes that are an error, the likeliest cause first."""

_OF_THE_SITE = frozenset({"out_of_memory", "node_fail", "preempted", "boot_fail", "deadline"})
"""States that say more than the job's own last word."""

_HINTS: Mapping[str, str] = {
    "not_ready": "look at the service's log with `aifactory-bench logs`; if it only needs longer, raise ready.timeout",
    "failed": "look at the job's log with `aifactory-bench logs`",
    "fenced": "another execution of the same job was first: nothing was lost, attach to the run to see what that one did",
    "out_of_memory": "raise resources.memory of the job",
    "node_fail": "a node failed under the job: attach to the run to measure what is missing",
    "preempted": "another job took its place: attach to the run to measure what is missing, or choose another partition or qos",
    "boot_fail": "a node did not start: attach to the run to measure what is missing",
    "deadline": "the job's deadline had passed before it could end",
    "timeout": "raise resources.time of the job, or ask for fewer points",
    "lease_expired": "no controller cared for the run in time: attach sooner, or raise lease",
    "no_endpoint": "its service never answered: look at its log, with `aifactory-bench logs` where it is a job of the run",
    "lost": "the submitter knows no more of the job: attach to the run to take up what is left",
    "missing": "attach to the run to measure what is missing",
}


def summarise(plan: Plan, result: RunResult) -> Summary:
    """Return the whole run, merged and judged.

    Points stand in the order of execution; one that was not measured has no measurements. A planned measurement
    without any document is `missing`, or `pending` while the run is detached and its job may still be at work,
    or was stopped by who then left it.
    """
    jobs = {job.token: job for job in result.jobs}
    by_id: dict[str, list[PlannedPoint]] = {}
    missing: list[str] = []
    pending: list[str] = []
    for point in plan.points:
        by_id.setdefault(point.id, []).append(point)
        key = f"{point.client}/{point.id}"
        if not result.measurements.get(key):
            waiting = _stopping(result) or (result.status == "detached" and not _has_ended(jobs.get(point.token)))
            (pending if waiting else missing).append(key)
    points = tuple(_point(planned, plan, result) for planned in by_id.values())
    verdicts = [measurement.verdict for point in points for measurement in point.measurements]
    return Summary(
        run_id=plan.run_id,
        recipe=plan.recipe_name,
        site=plan.site,
        # No number at all is nothing to trust.
        verdict=worst([*verdicts, "invalid"] if missing or not verdicts else verdicts),
        status=result.status,
        error=result.error or _first_failure(plan, result, missing),
        points=points,
        jobs=result.jobs,
        missing=tuple(missing),
        run_folder=result.run_folder or plan.run_folder,
        pending=tuple(pending),
        site_folder=plan.run_folder if result.run_folder not in ("", plan.run_folder) else None,
    )


def exit_code(summary: Summary) -> int:
    """Return what `run` and `attach` exit with.

    130: interrupted; 1: a planned measurement does not exist at all, or the run failed, or services were all that was
    planned and one did; 4: detached; 3: a measurement is invalid; 0: all measurements exist and none is invalid.
    """
    if summary.status == "interrupted":
        return EXIT_INTERRUPTED
    if summary.missing or summary.status == "failed" or (summary.error and not summary.points):
        return EXIT_MISSING
    if summary.status == "detached":
        return EXIT_DETACHED
    return EXIT_INVALID if summary.points and summary.verdict == "invalid" else EXIT_FINISHED


def _point(planned: list[PlannedPoint], plan: Plan, result: RunResult) -> PointResult:
    documents = {point.client: result.measurements.get(f"{point.client}/{point.id}", ()) for point in planned}
    by_client = {point.client: point for point in planned}
    measurements: list[MergedMeasurement] = []
    for merged in merge_point(planned, documents):
        verdict, reasons, unchecked = judge(merged, plan.limits)
        asked = by_client[merged.measurement.client]
        provenance = {
            **merged.measurement.provenance,
            "limits": {**LIMITS, **plan.limits},
            "load": dict(asked.load),
            "parameters": dict(asked.client_parameters),
            "services": {name: dict(values) for name, values in asked.service_parameters.items()},
        }
        judged = evolve(merged.measurement, verdict=verdict, reasons=reasons, unchecked=unchecked, provenance=provenance)
        measurements.append(judged)
    first = planned[0]
    return PointResult(first.id, first.parameters, first.repetition, tuple(measurements))


def _has_ended(job: JobOutcome | None) -> bool:
    return job is not None and (job.outcome is not None or job.state in _FINAL_STATES)


def _stopping(result: RunResult) -> bool:
    """Whether the run was left while its jobs were being stopped; attaching to it measures what they did not."""
    return result.status == "detached" and any(job.outcome == "stopped" or job.state == "cancelled" for job in result.jobs)


def _first_failure(plan: Plan, result: RunResult, missing: list[str]) -> Mapping[str, str] | None:
    """Return the error of the job that is the likeliest cause; None when every job did what it was there for."""
    if result.status == "interrupted" or _stopping(result):
        return None
    order = {job.token: (job.role == "client", number) for number, job in enumerate(plan.jobs)}
    failed = [job for job in result.jobs if _code(job)]
    failed.sort(key=lambda job: (_CAUSES.index(_code(job)) if _code(job) in _CAUSES else 0, order.get(job.token, (True, 0))))
    if failed:
        code = _code(failed[0])
        text = failed[0].text or f"it ended as {code}"
        return {"code": code, "text": f"{failed[0].role} {failed[0].name}: {text}", "hint": _HINTS.get(code, _HINTS["failed"])}
    if missing:
        first = ", ".join(missing[:_LISTED]) + (f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else "")
        return {"code": "missing", "text": f"not measured: {first}", "hint": _HINTS["missing"]}
    return None


def _code(job: JobOutcome) -> str:
    """Return what went wrong with a job, empty when nothing did."""
    if job.state in _OF_THE_SITE:  # the job itself knows no more than that it was ended
        return job.state
    if job.outcome is not None:
        return job.outcome if job.outcome in _CAUSES else ""
    return job.state if job.state in _FINAL_STATES - {"completed", "cancelled"} else ""
