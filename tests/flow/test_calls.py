"""What calls from Python may be given, and what becomes of an orchestrator that is closed or told by a broken listener."""

import asyncio
import logging
import math

import pytest

from aifactory_bench import AsyncBenchmarkOrchestrator, BenchmarkOrchestrator, UsageError


@pytest.mark.parametrize("lease_s", ["x", -1, 0, math.nan, math.inf, True, [5]])
def test_a_lease_that_is_none_is_refused_before_anything_is_made(recipe, runs, lease_s):
    """Said by the call, not by its wait."""
    with BenchmarkOrchestrator(runs_dir=runs) as bench:
        with pytest.raises(UsageError, match="lease_s must be seconds"):
            bench.run(recipe(), lease_s=lease_s)
        assert bench.plan(bench.load_recipe(recipe()), lease_s=None).lease_s is None
    assert not runs.exists()


CALLS = {
    "no recipe": (lambda bench, _path: bench.run(None), "recipe must be a Recipe, or the path"),
    "a number for a recipe": (lambda bench, _path: bench.run(5), "got 5"),
    "a number for an override": (lambda bench, path: bench.run(path, overrides=[5]), "overrides must be a list of texts"),
    "one text for overrides": (lambda bench, path: bench.load_recipe(path, "a=b"), "overrides must be a list of texts"),
    "a number for a run id": (lambda bench, path: bench.run(path, run_id=5), "run id 5: small letters"),
    "nothing to attach to": (lambda bench, _path: bench.attach(None), "run id None: small letters"),
    "a listener that is no function": (lambda bench, path: bench.run(path, listener=5), "listener must be a function"),
    "a path to plan": (lambda bench, path: bench.plan(path), "recipe must be a Recipe"),
    "a service of nothing": (lambda bench, _path: bench.start_service(None), "recipe must be a Recipe"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_wrong_argument_says_what_was_allowed(recipe, runs, case):
    """An error of usage, before anything is made."""
    call, text = CALLS[case]
    with BenchmarkOrchestrator(runs_dir=runs) as bench, pytest.raises(UsageError) as raised:
        call(bench, recipe())
    assert text in raised.value.text
    assert not runs.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"plugins": [5]}, "plugins must be a list of paths of files and classes; got 5"),
        ({"plugins": "mine.py"}, "plugins must be a list"),
        ({"runs_dir": 5}, "runs_dir must be the path of a folder; got 5"),
        ({"site": "nosite"}, "there is: local"),
    ],
)
def test_an_orchestrator_of_wrong_arguments_is_refused(runs, arguments, text):
    """Both faces are made by the same rules; an unknown site is a wrong argument, too."""
    with pytest.raises(UsageError) as raised:
        BenchmarkOrchestrator(**{"runs_dir": runs, **arguments})
    assert text in raised.value.text


def test_a_closed_orchestrator_says_so(recipe, runs):
    """Closing twice is nothing; what was measured can still be read; nothing new is begun."""
    bench = BenchmarkOrchestrator(runs_dir=runs)
    run = bench.run(recipe(duration="300ms"), run_id="r")
    report = run.wait()
    bench.close()
    bench.close()
    calls = (bench.list_runs, bench.show_status, lambda: bench.attach("r"), lambda: bench.run(recipe()))
    for call in (*calls, lambda: bench.cancel("r"), lambda: bench.start_service(recipe())):
        with pytest.raises(UsageError, match="is closed"):
            call()
    run.request_stop()
    assert run.wait() == run.cancel() == bench.summary("r") == report


def test_a_closed_async_orchestrator_says_so(recipe, runs):
    """The same, awaited."""

    async def go():
        bench = AsyncBenchmarkOrchestrator(runs_dir=runs)
        await bench.close()
        await bench.close()
        for call in (bench.run(recipe()), bench.attach("r"), bench.cancel("r"), bench.start_service(recipe())):
            with pytest.raises(UsageError, match="is closed"):
                await call

    asyncio.run(go())


def test_a_listener_that_raises_is_dropped(recipe, runs, caplog):
    """The run goes on without it, and what it raised is logged once."""
    heard = []

    def broken(event):
        heard.append(event)
        raise ValueError("no such column")

    with caplog.at_level(logging.WARNING, "aifactory_bench"), BenchmarkOrchestrator(runs_dir=runs) as bench:
        report = bench.run(recipe(duration="300ms"), listener=broken).wait()
    assert report.status == "finished"
    assert report.points[0].measurements
    assert len(heard) == 1
    (record,) = caplog.records
    assert "a listener failed" in record.message
    assert "no such column" in record.exc_text
