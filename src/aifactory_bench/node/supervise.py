"""The process that is the batch job: claims the job, runs its role, stops everything, and says how it ended."""

import errno
import os
import sys
import time
from pathlib import Path
from typing import List, Tuple

from . import claim
from .__main__ import job_arguments
from .after import wait_for_ends
from .ending import Ending
from .environment import number
from .events import EventLog
from .execution import Execution
from .files import make_private_folder, read_text
from .finish import finish
from .guard import Guard
from .kernel import adopt_orphans
from .monitors import Monitors
from .paths import JobPaths, RunPaths
from .ranks import GROUP
from .spec import Spec, read_spec
from .wakeup import Wakeup
from .watch import Watch

EXIT_NOT_WELL = 3
"""Exit status for every outcome but completed, stopped and fenced."""


def main(arguments: List[str]) -> int:
    """Run one rank of a job; return 0 when it was completed, stopped or fenced, 3 otherwise, 2 for a wrong command line."""
    started, started_wall_ns = time.monotonic(), time.time_ns()
    wakeup = Wakeup()  # before all else: from now on a signal is heeded and does not kill
    os.umask(0o077)  # of the child too: what a run writes is for its owner only
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = job_arguments("supervise", arguments[:cut])
    argv = arguments[cut + 1 :]
    try:
        spec, rank, restart = _what_to_run(options.spec)
    except (OSError, ValueError) as error:
        return _complain(f"{options.spec}: the job's specification cannot be used: {_plain(error)}")
    run = RunPaths(Path(os.path.abspath(options.run_dir)))
    job = run.job(spec.token)
    try:
        job_id = _job_id(job)
        owner = claim.take(job.claim, os.environ.get(GROUP) or job_id, rank, restart)
        if owner is not None:
            print(f"aifactory-bench: {spec.token} rank {rank} belongs to {owner}: fenced, nothing was run", file=sys.stderr)
            return 0
        paths = job.rank(rank)
        for folder in (paths.work, paths.measurements):
            make_private_folder(folder)
        paths.exit.unlink(missing_ok=True)  # of an execution before a restart by the scheduler
        events_start_bytes = paths.events.stat().st_size if paths.events.exists() else 0
        events = EventLog(paths.events, spec.job, rank, restart)
        adopt_orphans()
        mark = os.urandom(16).hex()
        guard = Guard(mark)
    except (OSError, ValueError) as error:
        return _complain(f"{job.folder}: the job cannot be begun: {_plain(error)}")
    watch = Watch(run, spec.job, wakeup, started, spec.time_s)
    execution = Execution(
        spec=spec,
        spec_path=os.path.abspath(options.spec),
        run=run,
        rank=rank,
        restart=restart,
        job_id=job_id,
        mark=mark,
        events=events,
        watch=watch,
        guard=guard,
        monitors=Monitors(paths, spec.monitors),
    )
    ending = _run(execution, argv)
    trouble = finish(execution, ending, started_wall_ns, events_start_bytes)
    if trouble is not None:
        return _complain(
            f"{job.folder}: how the job ended ({ending.outcome}: {ending.text}) cannot be written: {_plain(trouble)}"
        )
    if ending.outcome in {"completed", "stopped"}:
        return 0
    return _complain(f"{spec.token} rank {rank}: {ending.outcome}: {ending.text}")


def _run(execution: Execution, argv: List[str]) -> Ending:
    """Run the role to its end, and return the end."""
    try:
        _run_role(execution, argv)
    except Ending as ending:
        return ending
    except OSError as error:
        hint = "; make room, or give another folder for runs" if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        return Ending("failed", f"{_plain(error)}{hint}")
    except Exception as error:  # a defect of ours: everything is to be stopped and told all the same
        import traceback  # takes a few milliseconds

        traceback.print_exc()
        return Ending("failed", f"internal error: {type(error).__name__}: {error}; the job's log has the traceback")
    return Ending("failed", "internal error: the role ended without saying how")


def _run_role(execution: Execution, argv: List[str]) -> None:
    """Wait for those before, then be a service or a client.

    Raises:
        Ending: how it ended.
    """
    spec, watch = execution.spec, execution.watch
    watch.on_tick.append(execution.tell_monitor_failures)
    watch.on_trouble = lambda text: execution.events.append("warning", text=text)
    client = None
    if spec.client is not None:
        from .client_role import ClientRole  # each role imports what it needs and no more

        client = ClientRole(execution, spec.client)
    if client is not None and client.all_measured():
        raise Ending("completed", "every point had been measured before")
    if spec.lease_s is not None:
        if client is not None:
            watch.keep_lease(spec.lease_s, f"{spec.token}/{execution.rank}")
        else:
            watch.watch_lease(spec.lease_s)
    watch.look()
    if spec.image is not None:
        from .image import what_is_wrong

        wrong = what_is_wrong(spec.image)
        if wrong is not None:
            hint = "see `aifactory-bench images verify`, and `images pull --again`"
            raise Ending("failed", f"image {spec.image.reference}: {spec.image.path} {wrong}; {hint}")
    if spec.after:
        execution.events.phase("queue")
        wait_for_ends(execution.run, spec.after, watch)
    if client is not None:
        if argv:
            raise Ending("failed", "a client takes no command after '--': its commands stand in the points")
        client.run()
    elif spec.service is not None:
        from .service_role import ServiceRole

        ServiceRole(execution, spec.service, argv).run()
    raise Ending("failed", f"the specification describes neither a service nor a client (role {spec.role!r})")


def _what_to_run(spec_path: str) -> Tuple[Spec, int, int]:
    """Return the specification, the rank and how often the scheduler has restarted the job."""
    spec = read_spec(spec_path)
    rank, restart = number("AFB_RANK", "SLURM_PROCID"), number("SLURM_RESTART_COUNT")
    if not 0 <= rank < spec.ranks:
        raise ValueError(f"this is rank {rank} of a job with {spec.ranks}")
    return spec, rank, restart


def _job_id(job: JobPaths) -> str:
    """Return the scheduler's id of the job, or our process id where there is none."""
    return os.environ.get("SLURM_JOB_ID") or (read_text(job.job_id, limit_bytes=4096) or "").strip() or str(os.getpid())


def _plain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _complain(text: str) -> int:
    print(f"aifactory-bench: {text}", file=sys.stderr)
    return EXIT_NOT_WELL
