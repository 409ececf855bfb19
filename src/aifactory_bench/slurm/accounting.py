"""sacct, for jobs that the controller of the cluster no longer knows, and sstat, for what a running job uses."""

import re
from collections.abc import Sequence
from typing import Optional

from attrs import evolve, frozen

from .printed import JOB_ID, clean, lines_of, number_of, seconds_of, size_of

# Fields that every release since 21.08 knows: one that is not known makes the whole command fail.
_SACCT = ("JobID", "State", "ExitCode", "ElapsedRaw", "Submit", "Start", "End", "TotalCPU", "MaxRSS", "NodeList", "JobName")
# All that a job can be in: without states sacct leaves out jobs that ended before they were ever allowed to start, such as one
# that was cancelled while it waited for another.
_STATES = ("BF", "CA", "CD", "DL", "F", "NF", "OOM", "PD", "PR", "R", "S", "TO")
_SSTAT = ("JobID", "NTasks", "AveCPU", "MaxRSS", "MaxDiskRead", "MaxDiskWrite")
_EXIT = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
_STEP = re.compile(rf"({JOB_ID.pattern})\.[A-Za-z0-9_+.-]{{1,64}}")
_LONGEST_WORD = 64
_LONGEST_NAME = 128
_LONGEST_NODES = 1 << 16
_OFF = ("accounting storage is disabled", "not running a supported accounting_storage plugin")


@frozen
class AccountingRow:
    """One job in the accounting database. Times are seconds since 1970; None: not known, or not yet."""

    job_id: str
    """As squeue has it."""
    name: str
    word: str
    """State as it was printed, for `states.interpret`; `CANCELLED by 60001` names the user."""
    exit_code: Optional[int]
    signal: Optional[int]
    """That ended the batch script; 0: none; 125: it was out of memory."""
    elapsed_s: Optional[int]
    submitted: Optional[int]
    start: Optional[int]
    end: Optional[int]
    cpu_s: Optional[float]
    """Processor time of all processes."""
    max_rss_bytes: Optional[int]
    """Largest main memory of one task of any step; a step under way has none yet."""
    nodes: str
    """As Slurm folds them; empty: it never had any."""


@frozen
class StepUsage:
    """What one step of a running job has used so far."""

    step: str
    """`4.batch`, `4.0`."""
    tasks: Optional[int]
    cpu_s: Optional[float]
    """Processor time, of one task on average."""
    max_rss_bytes: Optional[int]
    """Main memory at its peak, of the largest task."""
    read_bytes: Optional[int]
    """From disk, by the task that read most."""
    written_bytes: Optional[int]
    """To disk, by the task that wrote most."""


def sacct_argv(names: Sequence[str], since: str) -> list[str]:
    """Return the command that lists the jobs with these names, and their steps, which alone have a peak of memory.

    Times are asked for in seconds since 1970, whatever the login node's time zone and the user's habits. A pending job that
    is not allowed to start yet, held or waiting for another, is in no answer: it is in the queue.

    Args:
        names: Names of jobs.
        since: `now-7days`: what ended before is left out, and without it all from before today would be.

    Raises:
        ValueError: No names, which would be all jobs.
    """
    if not names:
        raise ValueError("sacct must be asked for at least one name")
    # With states the time has to have an end; an hour ahead, because the database may have another clock.
    window = [f"--starttime={since}", "--endtime=now+1hours", f"--state={','.join(_STATES)}"]
    options = ["--noheader", "--parsable2", "--noconvert", f"--name={','.join(names)}", *window]
    return ["env", "SLURM_TIME_FORMAT=%s", "sacct", *options, f"--format={','.join(_SACCT)}"]


def sstat_argv(job_ids: Sequence[str]) -> list[str]:
    """Return the command that lists the steps of running jobs.

    Raises:
        ValueError: No jobs.
    """
    if not job_ids:
        raise ValueError("sstat must be asked for at least one job")
    options = ["--noheader", "--parsable2", "--noconvert", "--allsteps"]
    return ["sstat", *options, f"--jobs={','.join(job_ids)}", f"--format={','.join(_SSTAT)}"]


def accounting_is_off(exit_code: int, stderr: str) -> bool:
    """Return whether sacct failed because the site keeps no accounts; then it need not be asked again."""
    return exit_code != 0 and any(text in stderr.lower() for text in _OFF)


def parse_sacct(text: str) -> tuple[AccountingRow, ...]:
    """Return one row a job, in the order of the answer; what is no row of it is left out."""
    jobs: list[AccountingRow] = []
    latest: dict[str, int] = {}
    for line in lines_of(text):
        fields = [field.strip() for field in line.split("|", len(_SACCT) - 1)]
        if len(fields) < len(_SACCT):
            continue
        if JOB_ID.fullmatch(fields[0]):
            latest[fields[0]] = len(jobs)
            jobs.append(_job(fields))
        elif (step := _STEP.fullmatch(fields[0])) and step[1] in latest:
            position = latest[step[1]]
            peaks = [peak for peak in (jobs[position].max_rss_bytes, size_of(fields[8])) if peak is not None]
            jobs[position] = evolve(jobs[position], max_rss_bytes=max(peaks, default=None))
    return tuple(jobs)


def parse_sstat(text: str) -> tuple[StepUsage, ...]:
    """Return the steps of an answer; what is no row of it is left out."""
    steps = []
    for line in lines_of(text):
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == len(_SSTAT) and _STEP.fullmatch(fields[0]):
            sizes = [size_of(field) for field in fields[3:]]
            steps.append(StepUsage(fields[0], number_of(fields[1]), seconds_of(fields[2]), *sizes))
    return tuple(steps)


def _job(fields: list[str]) -> AccountingRow:
    ended = _EXIT.fullmatch(fields[2])
    nodes = clean(fields[9], _LONGEST_NODES)
    return AccountingRow(
        job_id=fields[0],
        name=clean(fields[10], _LONGEST_NAME),
        word=clean(fields[1], _LONGEST_WORD),
        exit_code=int(ended[1]) if ended else None,
        signal=int(ended[2]) if ended else None,
        elapsed_s=number_of(fields[3]),
        submitted=number_of(fields[4]),
        start=number_of(fields[5]),
        end=number_of(fields[6]),
        cpu_s=seconds_of(fields[7]),
        max_rss_bytes=size_of(fields[8]),
        nodes="" if nodes == "None assigned" or len(fields[9]) > _LONGEST_NODES else nodes,
    )
