"""`frozen` and `dropped`: is each job submitted once, whatever is lost on the way?"""

import os
import signal
import time
from collections import Counter

from slurm_bed_place import PARALLEL, Controller, Place, chance, loads, processes, spread
from slurm_bed_watch import Account, Watch

ROUND_S = 300.0
"""A controller that has not ended by then hangs."""


def frozen(place: Place, trials: int, seed: int) -> bool:
    """Stop slurmctld around submission for longer than its MessageTimeout of 5 s; several runs meet one stop."""
    before, span_s = os.getloadavg()[0], place.span_s()
    stages: Counter[str] = Counter()
    codes: Counter[object] = Counter()
    runs: list[str] = []
    held: list[float] = []
    unanswered = 0
    took: list[float] = []
    with Watch(place).going_on() as watch:
        for first in range(0, trials, PARALLEL):
            those = [f"frozen-{number}" for number in range(first, min(first + PARALLEL, trials))]
            dice = chance(seed, "frozen", first)
            controllers = []
            for run in those:
                controllers.append(place.start("run", run, place.recipe()))
                place.pause(dice.uniform(0.0, 0.3))
            # Around the submission of one of them, which the others are before or behind.
            aimed = dice.choice(those)
            place.until(place.on_site(aimed).exists, pause_s=0.002)
            place.pause(dice.uniform(0.0, 1.5 * span_s))
            place.cluster.slurmctld.stop()
            try:
                stages.update(place.stage_of(run) for run in those)
                held.append(dice.uniform(6.0, 14.0))
                place.pause(held[-1])
            finally:
                place.cluster.slurmctld.cont()
            continued = time.monotonic()
            codes.update(_ends(place, controllers))
            took.append(time.monotonic() - continued)
            unanswered += sum(_unanswered(controller) for controller in controllers)
            runs += those
        place.pause(2.0)
        watch.look()
    account = Account(place, watch, runs)
    print(
        f"frozen: {trials} runs, slurmctld stopped {len(held)} times for {min(held):.1f} to {max(held):.1f} s; {loads(before)}"
    )
    print(f"  when it stopped they were: {_counts(stages)}")
    print(f"  runs that told of a submission without an answer: {unanswered}")
    print(*account.lines(), sep="\n")
    print(f"  exit codes: {_counts(codes)}; from the end of the stop to the last run's end: {spread(took)}")
    return account.good and _ended_well(codes)


def dropped(place: Place, trials: int, seed: int) -> bool:
    """Kill the SSH session of a controller during submission."""
    before, span_s = os.getloadavg()[0], place.span_s()

    def trial(number: int) -> tuple[str, str, int, object]:
        run = f"dropped-{number}"
        controller = place.start("run", run, place.recipe())
        place.until(place.on_site(run).exists, pause_s=0.002)
        session = place.session(controller)
        if number % 2:  # from the first job on, else from the first file on
            place.submission_begun(run)
        place.pause(chance(seed, "dropped", number).uniform(0.0, span_s / (1 + number % 2)))
        stage = place.stage_of(run)
        processes.send(signal.SIGKILL, session)
        return run, stage, len(session), _ends(place, [controller])[0]

    with Watch(place).going_on() as watch:
        outcomes = place.map(trial, trials)
        place.pause(2.0)
        watch.look()
    account = Account(place, watch, [run for run, *_ in outcomes])
    codes = Counter(code for *_, code in outcomes)
    print(f"dropped: {trials} runs, the SSH session of each killed once during submission; {loads(before)}")
    print(f"  when it was killed they were: {_counts(Counter(stage for _, stage, _, _ in outcomes))}")
    print(f"  sessions killed: {sum(bool(killed) for _, _, killed, _ in outcomes)}")
    print(*account.lines(), sep="\n")
    print(f"  exit codes: {_counts(codes)}")
    return account.good and _ended_well(codes)


def _ends(place: Place, controllers: "list[Controller]") -> "list[object]":
    """Wait until controllers have ended; return their exit codes, and show what those said that did not end well."""
    codes: list[object] = []
    for controller in controllers:
        ended = place.until(controller.ended, ROUND_S)
        codes.append(controller.process.returncode if ended else "hangs")
        if codes[-1] not in {0, 3}:
            print(f"  {controller.run}: {codes[-1]}: {controller.complained}")
            controller.kill()
    return codes


def _unanswered(controller: Controller) -> bool:
    return any(text in controller.said for text in ("is not submitted yet", "may have got through"))


def _ended_well(codes: "Counter[object]") -> bool:
    return set(codes) <= {0, 3}


def _counts(counter: "Counter") -> str:
    return ", ".join(f"{key}: {value}" for key, value in sorted(counter.items(), key=str))
