"""The window of a point that searches: trial after trial on all ranks, until the decisions say that it is over.

Rank 0 decides. What it decides lies as a file in a folder of this search's own; the others read it, all make the trial from one
agreed start on, and each writes what it measured as `raw/<point>/trial-<n>.json`, which rank 0 reads. The folder carries the
start of the point in its name, so that nothing of an earlier execution is taken for new.

The measurement of the point is that of the last trial, which confirms what was found. What all earlier trials sent counts as
its warm-up, so that the totals stay comparable to the server's.
"""

import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Union

from .barrier import Barrier, BarrierBroken, Start
from .contract import Context
from .files import make_private_folder, read_json, write_json
from .knee import Sweep
from .measurement import Measurement, from_json, to_json
from .paths import RunPaths
from .search import Asked, Outcome, Search, Trial, Verdict
from .trial import TrialError, carry, fold_in, outcome_of, record_of
from .trust import LIMITS

Stop = Callable[[], Optional[str]]

_CONNECT_S = 0.0002
"""For each connection that is opened before the start of a trial."""
_POLL_S = 0.02
_MEET_S = 600.0
"""For a meeting before a trial: nothing but making a driver lies before it, and who has failed says so."""
_SEED_STEP = 1_000_003
"""From trial to trial, so that no trial repeats the requests of another: a server may remember them."""


class _Ended(Exception):
    """The search ends before its end; the text says why."""


class SearchWindow:
    """Used like `window.LoadWindow`; made before the meeting, run once, then collected."""

    def __init__(self, context: Context, module: ModuleType, run: RunPaths, token: str) -> None:
        # Here, so that loading it takes nothing off the time between the agreement on a start and the start.
        from .load import run_load

        self._run_load = run_load
        self._context = context
        self._module = module
        self._run_paths = run
        self._token = token
        load = context.load
        self._asked = Asked.from_load(load, least_whole=context.ranks * int(load.get("workers", 1)))
        self._limits = {**LIMITS, **(load["search"].get("limits") or {})}
        least_achieved = 1 - self._limits["rate_not_achieved"]
        kind = Sweep if self._asked.find == "knee" else Search
        self._decisions: Union[Search, Sweep] = kind(self._asked, least_achieved)
        self._records: List[Dict[str, Any]] = []
        self._last: Optional[Measurement] = None
        self._before: Optional[Dict[str, Any]] = None
        """What all trials but the last one did."""
        self._began = 0.0
        self._search_s = 0.0
        self._reason = ""
        """Why it ended too early."""
        self._start_wall_ns = 0
        """Of the last trial: what another rank wrote of it carries the same."""
        self._trial = self._decisions.next_trial()
        first = self._trial_context(self._trial or Trial(1, self._asked.least))
        self._first = first, module.driver(first)

    def run(self, start: Start, stop: Stop, _limit_s: float) -> None:
        """Make trials until the search is over; `stop` knows the limit."""
        self._began = time.monotonic()
        name = f"{self._context.point}-search-{start.wall_ns}"
        participants = {self._token: self._context.ranks}
        watch = Barrier(self._run_paths, name, self._token, self._context.rank, participants)
        folder = self._run_paths.barriers / name
        try:
            trial = self._trial
            while trial is not None:
                self._make(trial, start, stop, name)
                trial = self._next(trial, folder, watch, stop)
        except (_Ended, BarrierBroken) as error:
            self._reason = str(error)
            watch.fail(self._reason)
        except BaseException as error:
            watch.fail(str(error) or type(error).__name__)
            raise

    # one trial

    def _trial_context(self, trial: Trial) -> Context:
        context, asked = self._context, self._asked
        load = {name: value for name, value in context.load.items() if name != "search"}
        load["slo"] = dict(asked.slo)
        if asked.whole:
            load["concurrency"] = int(trial.value)
        else:
            load["rate_per_s"] = trial.value
        if not trial.confirms:
            load.update(warmup_s=asked.warmup_s, duration_s=asked.trial_s * trial.length)
        shift = trial.number * _SEED_STEP
        load["seed"] = int(load.get("seed", 1)) + shift
        # What a product writes of a trial must not be taken for what it writes of the measurement.
        folder = context.folder if trial.confirms else make_private_folder(context.folder / f"trial-{trial.number}")
        return replace(context, load=load, seed=context.seed + shift, folder=folder)

    def _make(self, trial: Trial, start: Start, stop: Stop, name: str) -> None:
        """Run one trial and write down what this rank measured."""
        if trial.number == 1:
            context, driver = self._first
        else:
            context = self._trial_context(trial)
            driver = self._module.driver(context)
            load = context.load
            ready_s = context.share(int(load.get("concurrency") or load.get("connections") or 0)) * _CONNECT_S
            meeting = Barrier(
                self._run_paths, f"{name}-trial-{trial.number}", self._token, context.rank, {self._token: context.ranks}
            )
            start = meeting.meet(_MEET_S, stop, ready_s)
            if start.late_s > 0:
                text = f"learned of the start of trial {trial.number} {start.late_s:.3f} s too late"
                context.events.append("warning", text=text)
        self._start_wall_ns = start.wall_ns
        if self._last is not None:
            self._before = fold_in(self._before, self._last)
        self._search_s = time.monotonic() - self._began
        self._last = self._run_load(context, driver, start.mono_ns, stop)
        path = _result(self._context.folder, trial.number)
        write_json(path, {"start_wall_ns": start.wall_ns, "measurement": to_json(self._last)})

    def _next(self, trial: Trial, folder: Path, watch: Barrier, stop: Stop) -> Optional[Trial]:
        """Return the trial after this one; None: it was the last."""
        path = folder / f"decision-{trial.number + 1}.json"
        if self._context.rank != 0:
            document = self._wait_for(path, watch, stop)
            return None if document["trial"] is None else Trial(**document["trial"])
        ranks = self._gather(trial, watch, stop)
        following = self._decide(trial, ranks)
        if following is not None:
            self._settle(ranks, stop)
        if self._context.ranks > 1:
            make_private_folder(folder)
            write_json(path, {"trial": None if following is None else asdict(following)})
        return following

    def _gather(self, trial: Trial, watch: Barrier, stop: Stop) -> List[Measurement]:
        """Return what all ranks measured in a trial, whole ones only."""
        context = self._context
        ranks = [self._last] if self._last is not None else []
        for rank in range(1, context.ranks):
            folder = self._run_paths.job(self._token).rank(rank).raw(context.point)
            document = self._wait_for(_result(folder, trial.number), watch, stop, self._start_wall_ns)
            ranks.append(from_json(document["measurement"]))
        for measurement in ranks:
            if measurement.status != "ok":
                raise _Ended(f"trial {trial.number}: rank {measurement.rank}: {measurement.reason}")
        return ranks

    def _decide(self, trial: Trial, ranks: List[Measurement]) -> Optional[Trial]:
        try:
            outcome: Outcome = outcome_of(self._asked, ranks, self._limits)
        except TrialError as error:
            raise _Ended(f"trial {trial.number}: {error}") from None
        verdict: Verdict = self._decisions.tell(outcome)
        self._records.append(record_of(self._asked, trial, ranks, outcome, verdict))
        return self._decisions.next_trial()

    def _settle(self, ranks: List[Measurement], stop: Stop) -> None:
        """Let the server get rid of what nobody waits for any more; every answer that came has left no queue behind."""
        if not any(rank.counts.timeout or rank.phase_counts.get("warmup", {}).get("timeout") for rank in ranks):
            return
        end = time.monotonic() + self._asked.trial_s
        while time.monotonic() < end:
            reason = stop()
            if reason:
                raise _Ended(reason)
            time.sleep(min(_POLL_S, max(0.0, end - time.monotonic())))

    def _wait_for(self, path: Path, watch: Barrier, stop: Stop, start_wall_ns: Optional[int] = None) -> Dict[str, Any]:
        """Return a document that another rank writes, of the trial with this start if one is given.

        Raises:
            _Ended: it will not come any more.
        """
        while True:
            # Reasons to give up are gathered first and count last: a peer may have gone on, and ended, in between.
            trouble = watch.trouble()
            document = _document(path)
            if document is not None and document.get("start_wall_ns") == start_wall_ns:
                return document
            trouble = trouble or stop()
            if trouble:
                raise _Ended(trouble)
            time.sleep(_POLL_S)

    # the result

    def collect(self) -> Measurement:
        """Return the measurement of the last trial, with what the search found.

        Raises:
            RuntimeError: no trial was made.
        """
        measurement = self._last
        if measurement is None:
            raise RuntimeError(self._reason or "the search has not been run")
        carry(self._before, measurement)
        measurement.phases_s["search"] = self._search_s
        if self._reason and measurement.status != "failed":
            measurement.status, measurement.reason = "cut", self._reason
        if self._context.rank == 0:
            self._add_result(measurement)
        return measurement

    def _add_result(self, measurement: Measurement) -> None:
        asked, found = self._asked, self._decisions.summary()
        if self._reason:
            found.update(status="cut", value=None, why=f"the search did not come to its end: {self._reason}")
        name = f"knee_{asked.quantity}" if asked.find == "knee" else f"{asked.quantity}_in_slo"
        unit = measurement.unit if asked.whole else f"{measurement.unit}/s"
        if found["value"] is not None:
            measurement.metrics[name] = {"value": found["value"], "unit": unit}
        else:
            measurement.absent[f"metrics.{name}"] = found["why"]
            if found["at_least"] is not None:
                measurement.metrics[f"{name}_at_least"] = {"value": found["at_least"], "unit": unit}
        measurement.provenance["search"] = {
            **found,
            "find": asked.find,
            "quantity": asked.quantity,
            "slo": dict(asked.slo),
            "attainment": asked.attainment,
            "precision": asked.precision,
            "trials": self._records,
        }


def _result(folder: Path, number: int) -> Path:
    return folder / f"trial-{number}.json"


def _document(path: Path) -> Optional[Dict[str, Any]]:
    """Return a document, or None while it is not there; the folder is listed, as clients of NFS remember what was missing."""
    try:
        if path.name not in os.listdir(path.parent):
            return None
        document = read_json(path)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
