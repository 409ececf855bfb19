"""The point loop of a client: one measurement a point, whatever happens in between."""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import List, Optional

from .__main__ import EXIT_USAGE, job_arguments
from .environment import number
from .events import EventLog
from .exit_record import clean, masked
from .files import make_private_folder, read_json, write_json
from .interrupt import Interrupt, Stopped
from .measurement import Measurement, to_json
from .paths import RunPaths
from .point import ClientRank, Point
from .spec import ClientSpec, PointSpec, Spec, read_spec
from .targets import ReadCounters, Targets

EXIT_FAILED = 1
EXIT_SERVICE_DIED = 3


def main(arguments: List[str]) -> int:
    """Measure every point of a client; return the exit status of the process.

    0: every point has its measurement, or the job was told to stop. 1: nothing could be measured, for a reason that lies in
    the job. 2: the command line or the specification makes no sense. 3: a service has ended too early.
    """
    parsed = job_arguments("measure", arguments)
    try:
        spec = read_spec(parsed.spec)
        rank, restart = _rank(spec), number("AFB_RESTART", "SLURM_RESTART_COUNT")
    except (OSError, ValueError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return EXIT_USAGE
    if spec.client is None:
        print(f"measure: {parsed.spec}: the job {spec.job} is no client", file=sys.stderr)
        return EXIT_USAGE
    run = RunPaths(Path(parsed.run_dir))
    events = EventLog(run.job(spec.token).rank(rank).events, spec.job, rank, restart)
    try:
        return _Loop(run, spec, spec.client, rank, events, wait=parsed.wait).run()
    except OSError as error:
        print(f"measure: the run folder cannot be used: {error}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        events.close()


def _rank(spec: Spec) -> int:
    rank = number("AFB_RANK", "SLURM_PROCID")
    if rank >= spec.ranks:
        raise ValueError(f"rank {rank} of a job with {spec.ranks} ranks; AFB_RANK must be below that")
    for point in spec.client.points if spec.client is not None else ():
        if point.participants.get(spec.token, 0) != spec.ranks:
            raise ValueError(f"point {point.id}: its participants do not name {spec.token} with {spec.ranks} ranks")
    return rank


class _Loop:
    """The points of one rank, in order."""

    def __init__(self, run: RunPaths, spec: Spec, client: ClientSpec, rank: int, events: EventLog, *, wait: bool) -> None:
        self._run, self._spec, self._client, self._rank, self._events = run, spec, client, rank, events
        self._wait = wait
        self._paths = run.job(spec.token).rank(rank)
        self._targets = Targets(run, client.targets)
        self._interrupt = Interrupt(run, spec.job, self._targets)
        self._prepared = False

    def run(self) -> int:
        """Return the exit status."""
        self._interrupt.install()
        for folder in (self._paths.measurements, self._paths.work):
            make_private_folder(folder)
        try:
            job = self._client_rank()
        except Exception as error:  # a stranger's module: anything may happen in it
            _print_traceback(self._hidden())
            return self._none_can_be_measured(
                f"the node module {self._spec.node_module!r} cannot be imported: {type(error).__name__}: {error}"
            )
        if self._wait and not self._may_begin():
            return 0
        return self._measure_all(job)

    def _measure_all(self, job: ClientRank) -> int:
        """Measure every point that is left; return the exit status."""
        for spec in self._client.points:
            if not self._measured_by_all(spec):
                Point(job, spec, first=False).forget()
        for place, spec in enumerate(self._client.points):
            if self._measured_by_all(spec):
                continue
            reason = self._interrupt.reason()
            if self._interrupt.stopped:
                return 0
            if self._interrupt.service_died:
                for left in self._client.points[place:]:
                    if not self._measured_by_all(left):
                        self._fail(left, Point(job, left, first=False), str(reason))
                return EXIT_SERVICE_DIED
            if not self._measure(job, spec):
                return 0
        return EXIT_SERVICE_DIED if self._interrupt.service_died and not self._interrupt.stopped else 0

    def _client_rank(self) -> ClientRank:
        if not self._spec.node_module:
            raise ValueError("the job names none")
        module = importlib.import_module(self._spec.node_module)
        if self._client.mode == "load":
            importlib.import_module(".load", __package__)  # here, where nobody waits for it
        return ClientRank(
            run=self._run,
            spec=self._spec,
            client=self._client,
            rank=self._rank,
            module=module,
            counters=self._counters(module),
            events=self._events,
            targets=self._targets,
            interrupt=self._interrupt,
        )

    def _counters(self, module: ModuleType) -> Optional[ReadCounters]:
        """Return what reads the servers' counters: the client's own, or the service's where all that counts is our load.

        A tool may make requests that it does not count, and of several services each counts something else.
        """
        own: Optional[ReadCounters] = getattr(module, "counters", None)
        targets = list(self._client.targets.values())
        if own is not None or self._client.mode != "load" or len(targets) != 1 or not targets[0].node_module:
            return own
        found: Optional[ReadCounters] = getattr(importlib.import_module(targets[0].node_module), "counters", None)
        return found

    def _may_begin(self) -> bool:
        """Wait for the rest of the environment, known once all services are there; return False when it never comes."""
        try:
            with self._interrupt.at_once():
                text = sys.stdin.read()
        except Stopped:
            return False
        if text:
            os.environ.update(json.loads(text))
        return bool(text)

    def _measure(self, job: ClientRank, spec: PointSpec) -> bool:
        """Measure one point and write it down; return False when the job is to stop and nothing was measured."""
        self._events.append("point_started", point=spec.id)
        point = Point(job, spec, first=not self._prepared)
        try:
            measurement = point.measure()
        except Stopped:
            self._events.append("point_finished", point=spec.id, status="stopped")
            return False
        except Exception as error:
            if self._interrupt.stopped:
                self._events.append("point_finished", point=spec.id, status="stopped")
                return False
            self._interrupt.look_after_trouble()
            self._fail(spec, point, self._reason_of(error))
        else:
            self._write(spec, measurement)
        self._prepared = self._prepared or point.prepared
        return True

    def _reason_of(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        if not type(error).__module__.startswith(__package__ or "aifactory_bench.node"):
            # Not one of ours, whose texts say enough: whoever writes the product's module needs the place.
            _print_traceback(self._hidden())
            text = f"{type(error).__name__}: {error}"
        died = self._interrupt.service_died
        return f"{died}; {text}" if died and died not in text else text

    def _fail(self, spec: PointSpec, point: Optional[Point], reason: str) -> None:
        """Write that there is no measurement, and let the other ranks know."""
        if point is not None:
            point.give_up(reason)
        measurement = Measurement(
            point=spec.id,
            client=self._spec.job,
            kind=self._spec.kind,
            rank=self._rank,
            status="failed",
            reason=clean(reason, self._hidden())[:4000],
            process=str(spec.load.get("process", "")),
            window_asked_s=float(spec.load.get("duration_s", 0.0)),
            start_wall_ns=time.time_ns(),
        )
        measurement.services = self._targets.fates({})
        self._write(spec, measurement)

    def _hidden(self) -> List[str]:
        return [secret for secret in self._targets.secrets().values() if secret]

    def _write(self, spec: PointSpec, measurement: Measurement) -> None:
        _mask(measurement, self._hidden())
        try:
            write_json(self._paths.measurement(spec.id), to_json(measurement))
        except (TypeError, ValueError) as error:
            # The product's module gave something that is no JSON, such as NaN.
            self._fail(spec, None, f"the measurement cannot be written down: {error}")
            return
        self._events.append("point_finished", point=spec.id, status=measurement.status)

    def _none_can_be_measured(self, reason: str) -> int:
        for spec in self._client.points:
            if not self._own_status_ok(spec):
                self._fail(spec, None, reason)
        return EXIT_FAILED

    def _own_status_ok(self, spec: PointSpec) -> bool:
        return self._status(self._spec.token, self._rank, spec) == "ok"

    def _measured_by_all(self, spec: PointSpec) -> bool:
        """Whether the point is done; as ranks must meet, either all of them measure it or none."""
        if not self._own_status_ok(spec):
            return False
        return all(
            self._status(token, rank, spec) == "ok" for token, ranks in spec.participants.items() for rank in range(ranks)
        )

    def _status(self, token: str, rank: int, spec: PointSpec) -> Optional[str]:
        try:
            document = read_json(self._run.job(token).rank(rank).measurement(spec.id))
        except (OSError, ValueError):
            return None
        return document.get("status") if isinstance(document, dict) else None


def _mask(measurement: Measurement, hidden: List[str]) -> None:
    """Take secrets out of texts that others wrote: a server may quote in its error the token that it was given."""
    measurement.reason = masked(measurement.reason, hidden)
    texts = measurement.provenance.get("error_texts")
    for found in (measurement.absent, texts if isinstance(texts, dict) else {}):
        found.update({name: masked(str(text), hidden) for name, text in found.items()})


def _print_traceback(hidden: List[str]) -> None:
    import traceback  # takes a few milliseconds, and most runs need none

    print(masked(traceback.format_exc(), hidden), end="", file=sys.stderr)
