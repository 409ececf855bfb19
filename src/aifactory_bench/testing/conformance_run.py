"""Checks with the real program: a server is started, asked and stopped; a client measures."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import SkipTest

import attrs

from ..errors import AifactoryBenchError
from ..jobs.context import job_token
from ..node.endpoint import Endpoint, read
from ..node.events import read_events
from ..node.files import read_json, read_text
from ..node.paths import RunPaths
from ..script.bundle import build_node_program, write_node_program
from ..sites.local import local_site
from ..sync import BenchmarkOrchestrator
from .conformance_node import module_of, wrong_figures
from .conformance_subject import Subject, jobs_of

_MARGIN_S = 10.0
"""For a busy machine, beside what the class allows."""
_LOG_LINES = 5
_DAEMONS = "/usr/sbin:/usr/local/sbin:/sbin"


def starts_and_stops(subject: Subject) -> Iterator[str]:
    """The server starts, is found ready, gives numbers, and ends as it is asked to; then nobody has its port."""
    job = subject.with_parameters(subject.example.parameters)
    job.replicas = 1
    _need(subject, job.get_container_command().argv[0])
    with tempfile.TemporaryDirectory() as place:
        site = local_site(Path(place))
        program = build_node_program([subject.cls.node_module])
        run = RunPaths(Path(place, "manual"))
        run.folder.mkdir()
        write_node_program(run.folder, program)
        script = Path(place, "script.sh")
        script.write_text(job.generate_slurm_script(site), encoding="utf-8")
        token = job_token("manual", job.name)
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{_DAEMONS}"}
        process = subprocess.Popen(
            ["bash", str(script)],
            cwd=place,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield from _live(subject, job, run, token, process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _need(subject: Subject, program: Any) -> None:
    """Skip where a program is not there."""
    if not isinstance(program, str) or shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_DAEMONS}"):
        return
    locate = getattr(module_of(subject), "locate", None)
    if locate is None or locate(program) is None:
        raise SkipTest(f"the program {program!r} is not on PATH")


def _live(subject: Subject, job: Any, run: RunPaths, token: str, process: "subprocess.Popen[bytes]") -> Iterator[str]:
    rank = run.job(token).rank(0)
    limit_s = job.ready_timeout_s + _MARGIN_S
    if not _wait(lambda: run.endpoint(token, 0).exists() or process.poll() is not None, limit_s):
        yield f"it was not ready after {limit_s:g} s{_said(rank.log)}"
        return
    if process.poll() is not None:
        ended = read_json(rank.exit, limit_bytes=1 << 20) or {}
        yield f"it ended before it was ready: {ended.get('text') or ended}{_said(rank.log)}"
        return
    endpoint = read(run.endpoint(token, 0))
    assert endpoint is not None
    yield from _figures(subject, endpoint, (read_text(run.secret(token)) or "").strip())
    process.send_signal(signal.SIGTERM)
    limit_s = job.stop_timeout_s + _MARGIN_S
    if not _wait(lambda: process.poll() is not None, limit_s):
        yield f"it has not ended {limit_s:g} s after it was asked to"
        return
    # Told by the supervise, whose clock is not that of a busy machine's other processes.
    ends = [event["data"].get("signal") for event, _ in read_events(rank.events) if event["type"] == "child_exited"]
    if signal.SIGKILL in ends and job.stop_signal != "KILL":
        yield f"it did not end within stop_timeout_s, {job.stop_timeout_s:g} s, and was killed"
    if not _wait(lambda: not _listens(endpoint), 1.0):
        yield f"somebody still listens on its port {endpoint.port} after its end"


def _figures(subject: Subject, endpoint: Endpoint, secret: str) -> Iterator[str]:
    module = module_of(subject)
    for name in ("counters", "sample"):
        function = getattr(module, name, None)
        if function is None:
            continue
        try:
            first, second = function(endpoint, secret), function(endpoint, secret)
        except Exception as error:  # noqa: BLE001 - a stranger's function
            yield f"{name}() raised {type(error).__name__} while the server was ready: {error}"
            continue
        yield from wrong_figures(name, first)
        if set(first) != set(second):
            yield f"{name}() gave other names the second time: {', '.join(sorted(set(first) ^ set(second)))}"
        if name == "counters" and "operations" in first and second.get("operations") != first["operations"]:
            yield (
                f"counters() counts itself: operations went from {first['operations']:g} to {second['operations']:g} "
                "while nobody else asked; leave its own requests out"
            )


def _wait(there: Callable[[], bool], limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _listens(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection((endpoint.host, endpoint.port), timeout=1).close()
    except OSError:
        return False
    return True


def _said(log: Path) -> str:
    lines = (read_text(log) or "").strip().splitlines()[-_LOG_LINES:] if log.exists() else []
    return f"; its log ends with: {' / '.join(lines)}" if lines else ""


def measures(subject: Subject) -> Iterator[str]:
    """The recipe is run on this machine, and requests of the client end well."""
    assert subject.run is not None
    for job in jobs_of(subject.run, subject.registry):
        command = job.get_container_command()
        if command is not None:
            _need(attrs.evolve(subject, kind=job.kind), command.argv[0])
        elif job.mode == "tool":
            _need(attrs.evolve(subject, kind=job.kind), job.get_benchmark_commands(job.load, job.parameters)[0].argv[0])
    with tempfile.TemporaryDirectory() as place, BenchmarkOrchestrator(runs_dir=place, plugins=list(subject.plugins)) as bench:
        try:
            summary = bench.run(subject.run).wait()
        except AifactoryBenchError as error:
            yield str(error)
            return
        found = [measured for point in summary.points for measured in point.measurements if measured.kind == subject.kind]
        if not found:
            yield f"the run left no measurement: {summary}"
        for measured in found:
            if not measured.counts.get("ok"):
                why = "; ".join(reason.text for reason in measured.reasons)
                yield f"not one {measured.unit} ended well: {why}"
