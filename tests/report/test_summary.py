"""Summaries: complete, judged, with the cause of what is missing, and the exit code that follows."""

import pytest
from attrs import evolve

from aifactory_bench.node.measurement import Counts
from aifactory_bench.report.summary import exit_code, summarise
from aifactory_bench.report.text import render_summary
from aifactory_bench.results.model import RunResult
from aifactory_bench.results.validity import LIMITS


def test_whole_run(make_plan, make_result):
    """Each point stands once, in the order of execution, with what each client measured."""
    plan = make_plan(rates=(1000, 2000), repetitions=2, clients=("reader", "writer"))
    summary = summarise(plan, make_result(plan))
    assert [point.id for point in summary.points] == ["p0000-r1", "p0000-r2", "p0001-r1", "p0001-r2"]
    assert [one.client for one in summary.points[0].measurements] == ["reader", "writer"]
    assert (summary.verdict, summary.missing, summary.error, exit_code(summary)) == ("valid", (), None, 0)
    assert summary.points[3].parameters == {"clients.load.load.rate": "2000/s"}


def test_limits_of_the_plan_are_in_force_and_kept(make_plan, make_result):
    """A limit of the recipe changes the verdict, and stands beside the result."""
    plan = make_plan()
    result = make_result(plan, counts=Counts(ok=19_700, error=300))
    assert summarise(plan, result).verdict == "invalid"
    loose = summarise(evolve(plan, limits={"error_share": 0.05}), result)
    assert loose.verdict == "valid"
    assert loose.points[0].measurements[0].provenance["limits"] == {**LIMITS, "error_share": 0.05}


def test_missing_measurement_makes_a_run_invalid(make_plan, make_result):
    """What was planned and does not exist is listed; the point stays, without measurements."""
    plan = make_plan(rates=(1000, 2000))
    summary = summarise(plan, make_result(plan, without=("load/p0001-r1",)))
    assert (summary.verdict, summary.missing, exit_code(summary)) == ("invalid", ("load/p0001-r1",), 1)
    assert summary.points[1].measurements == ()
    assert summary.error["code"] == "missing"


@pytest.mark.parametrize(
    ("status", "without", "counts", "code"),
    [
        ("finished", (), Counts(ok=20_000), 0),
        ("finished", (), Counts(ok=0, error=9), 3),
        ("finished", ("load/p0000-r1",), Counts(ok=20_000), 1),
        ("failed", (), Counts(ok=20_000), 1),
        ("interrupted", (), Counts(ok=20_000), 130),
        ("interrupted", ("load/p0000-r1",), Counts(ok=0), 130),
        ("detached", (), Counts(ok=0, error=9), 4),
    ],
)
def test_exit_code_by_precedence(status, without, counts, code, make_plan, make_result):
    """130 before 1 before 4 before 3 before 0."""
    plan = make_plan()
    assert exit_code(summarise(plan, make_result(plan, status=status, without=without, counts=counts))) == code


def test_detached_run_waits_for_what_may_still_come(make_plan, make_result, fail_job):
    """A measurement is missing only once its job has ended."""
    plan = make_plan(rates=(1000, 2000))
    result = make_result(plan, status="detached", without=("load/p0001-r1",))
    running = summarise(plan, fail_job(result, "load", None, state="running"))
    assert (running.pending, running.missing, running.verdict, exit_code(running)) == (("load/p0001-r1",), (), "valid", 4)
    ended = summarise(plan, fail_job(result, "load", "failed"))
    assert (ended.pending, ended.missing, exit_code(ended)) == ((), ("load/p0001-r1",), 1)


@pytest.mark.parametrize(("outcome", "state"), [("stopped", "cancelled"), (None, "cancelled"), ("no_endpoint", "failed")])
def test_run_that_is_left_while_it_stops_is_detached(outcome, state, make_plan, make_result, fail_job):
    """What jobs did not measure because they were told to stop is no failure: attaching measures it."""
    result = fail_job(make_result(make_plan(), status="detached", without=("load/p0000-r1",)), "cache", "stopped")
    summary = summarise(make_plan(), fail_job(result, "load", outcome, state=state))
    assert (summary.pending, summary.missing, summary.error, exit_code(summary)) == (("load/p0000-r1",), (), None, 4)


def test_error_is_the_first_cause(make_plan, make_result, fail_job):
    """A client without an endpoint follows from a service that was not ready: that one is told, with its log."""
    plan = make_plan()
    result = make_result(plan, without=("load/p0000-r1",))
    result = fail_job(result, "load", "no_endpoint", "its service ended")
    result = fail_job(result, "cache", "not_ready", "did not answer\nlast lines of its log:\nFatal: no space")
    error = summarise(plan, result).error
    assert error["code"] == "not_ready"
    assert error["text"] == "service cache: did not answer\nlast lines of its log:\nFatal: no space"
    assert "ready.timeout" in error["hint"]


def test_lost_job_is_an_error(make_plan, make_result, fail_job):
    """A job that never wrote how it ended is told by its state."""
    plan = make_plan()
    error = summarise(plan, fail_job(make_result(plan), "load", None, state="lost")).error
    assert error["code"] == "lost"


def test_error_of_the_run_itself_comes_first(make_plan, make_result, fail_job):
    """What stopped the run is the error, whatever jobs say."""
    plan = make_plan()
    own = {"code": "submit", "text": "no", "hint": ""}
    result = evolve(fail_job(make_result(plan), "load", "failed", "x"), error=own)
    assert summarise(plan, result).error == own


def test_stopped_service_is_no_error(make_plan, make_result, fail_job):
    """Services are stopped when all is done; that is their way to end."""
    plan = make_plan()
    assert summarise(plan, fail_job(make_result(plan), "cache", "stopped", state="completed")).error is None


def test_run_without_clients(make_plan):
    """A plan of services only has nothing to measure, so nothing is missing."""
    plan = evolve(make_plan(), points=())
    summary = summarise(plan, RunResult(plan.run_id, "finished", (), {}))
    assert (summary.verdict, summary.missing, exit_code(summary)) == ("invalid", (), 0)
    assert "nothing measured (finished)" in str(render_summary(summary))
