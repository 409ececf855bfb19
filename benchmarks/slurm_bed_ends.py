"""`interrupt` and `killed`: what is left of a run when its controller ends early."""

import json
import os
import signal
import time
from collections import Counter

from slurm_bed_numbers import differences
from slurm_bed_place import SERVICE, Place, chance, loads, spread
from slurm_bed_watch import Watch

LATE_S = 15.0
"""After an interrupt nothing may be there."""
LEASE_S = 5.0
LEASE_MARGIN_S = 10.0
"""From the end of a lease until nothing may be there: a service is told, then ended."""


def interrupt(place: Place, trials: int, seed: int) -> bool:
    """Interrupt the controller of a run of some seconds, from before its files are staged until after its end."""
    before = os.getloadavg()[0]
    place.span_s()
    whole = place.start("run", "whole", place.recipe())
    place.until(whole.ended, pause_s=0.005)
    whole_s = time.monotonic() - whole.started

    def trial(number: int) -> tuple[str, str, float, float, object]:
        run = f"interrupt-{number}"
        controller = place.start("run", run, place.recipe())
        place.pause(chance(seed, "interrupt", number).uniform(0.1, 1.25 * whole_s))
        stage = "after the controller's end" if controller.ended() else place.stage_of(run)
        controller.process.send_signal(signal.SIGINT)
        at = time.monotonic()
        ended = place.until(controller.ended)
        took_s = time.monotonic() - at
        if not ended:
            controller.kill()
        return run, stage, at, took_s, controller.process.returncode if ended else "hangs"

    with Watch(place).going_on() as watch:
        outcomes = place.map(trial, trials)
        place.pause(LATE_S + 2.0)
        watch.look()
        leftovers = place.cluster.leftovers()
    left = {run: what for run, _, at, _, _ in outcomes if (what := watch.left(run, at + LATE_S))}
    print(f"interrupt: {trials} runs of {whole_s:.1f} s, SIGINT at any time of them; {loads(before)}")
    print(f"  stood: {_counts(stage for _, stage, *_ in outcomes)}")
    print(f"  runs with a job in the queue or a process on a node {LATE_S:g} s after: {len(left)}")
    for run, what in left.items():
        print(f"    {run}: {what}")
    print(f"  processes of no job at the end: {len(leftovers)}; seen that bear no run's name: {watch.unknown or 0}")
    gone = [watch.gone_s(run, at) for run, stage, at, _, _ in outcomes if stage in {"while submitting", "submitted"}]
    print(f"  until nothing was left, of {len(gone)} runs with jobs: {spread(gone)} (looked every 0.25 s)")
    print(f"  until the controller had ended: {spread([took_s for *_, took_s, _ in outcomes])}")
    print(f"  exit codes: {_counts(code for *_, code in outcomes)}")
    return not left and not leftovers and all(code != "hangs" for *_, code in outcomes)


def killed(place: Place, trials: int, seed: int) -> bool:
    """Kill the controller after submission began: with a short lease, and with the usual one and a client."""
    with_lease = _leased(place, trials, seed)
    return _alone(place, trials, seed) and with_lease


def _leased(place: Place, trials: int, seed: int) -> bool:
    before = os.getloadavg()[0]

    def trial(number: int) -> tuple[str, str, float]:
        run = f"leased-{number}"
        controller = place.start("run", run, place.recipe(SERVICE, "service"), "--lease", f"{LEASE_S:g}s")
        place.submission_begun(run)
        place.pause(chance(seed, "leased", number).uniform(0.0, 4.0))
        stage = place.stage_of(run, ["cache"])
        controller.kill()
        at = time.monotonic()
        place.pause(LEASE_S + 2.0)  # as many runs at a time as there are trials side by side
        return run, stage, at

    with Watch(place).going_on() as watch:
        outcomes = place.map(trial, trials)
        place.pause(LEASE_S + LEASE_MARGIN_S)
        watch.look()
        leftovers = place.cluster.leftovers()
    left = {run: what for run, _, at in outcomes if (what := watch.left(run, at + LEASE_S + LEASE_MARGIN_S))}
    ran = [run for run, *_ in outcomes if (place.on_site(run) / f"jobs/afb-{run}-cache-0/claim").exists()]
    print(f"killed: {trials} services without a client, lease {LEASE_S:g} s, kill -9 after submission began; {loads(before)}")
    print(f"  stood: {_counts(stage for _, stage, _ in outcomes)}; services that ran: {len(ran)}")
    print(f"  with a job or a process {LEASE_MARGIN_S:g} s after the lease: {len(left)}")
    for run, what in left.items():
        print(f"    {run}: {what}")
    print(f"  processes of no job at the end: {len(leftovers)}; seen that bear no run's name: {watch.unknown or 0}")
    gone = [watch.gone_s(run, at) for run, _, at in outcomes]
    print(f"  from the kill until nothing was left: {spread(gone)} (looked every 0.25 s)")
    return not left and not leftovers


def _alone(place: Place, trials: int, seed: int) -> bool:
    before = os.getloadavg()[0]

    def trial(number: int) -> tuple[str, str, bool, str]:
        run = f"alone-{number}"
        controller = place.start("run", run, place.recipe())
        place.submission_begun(run)
        place.pause(chance(seed, "alone", number).uniform(0.0, 3.0))
        stage = place.stage_of(run)
        controller.kill()
        folder = place.on_site(run)
        last = [folder / f"jobs/afb-{run}-{job}-0/0/exit.json" for job in ("cache", "load")]
        by_itself = place.until(lambda: all(path.exists() for path in last), 30.0)
        measured = [path.read_bytes() for path in folder.glob("jobs/*/*/measurements/*.json")]
        again = place.start("attach", run, runs="elsewhere")
        if not place.until(again.ended, 120.0):
            again.kill()
            return run, stage, by_itself, "attach hangs"
        code = again.process.returncode
        if code not in {0, 3} or not again.printed.strip():
            return run, stage, by_itself, f"attach ended with {code}: {again.complained}"
        wrong = differences(json.loads(again.printed), folder)
        if measured != [path.read_bytes() for path in folder.glob("jobs/*/*/measurements/*.json")][: len(measured)]:
            wrong.append("attach changed what was measured")
        return run, stage, by_itself, "; ".join(wrong)

    outcomes = place.map(trial, trials)
    place.pause(2.0)
    leftovers = place.cluster.leftovers()
    print(f"killed: {trials} runs with a client and the usual lease, kill -9 after submission began; {loads(before)}")
    print(f"  stood: {_counts(stage for _, stage, *_ in outcomes)}")
    print(f"  finished by themselves: {sum(by_itself for _, _, by_itself, _ in outcomes)}")
    for run, stage, by_itself, _ in outcomes:
        if not by_itself:
            print(f"    {run} did not; it was killed: {stage}")
    print(f"  attach elsewhere shows the numbers of the site's files: {sum(not wrong for *_, wrong in outcomes)}")
    for run, stage, _, wrong in outcomes:
        if wrong:
            print(f"    {run} ({stage}): {wrong}")
    print(f"  processes of no job at the end: {len(leftovers)}; jobs in the queue: {len(place.cluster.jobs())}")
    return not any(wrong for *_, wrong in outcomes) and not leftovers


def _counts(values: object) -> str:
    return ", ".join(f"{key}: {value}" for key, value in sorted(Counter(values).items(), key=str))
