"""`sacct`, and `sstat` with it: what is known of jobs that ended or run."""

import math
from collections.abc import Callable
from typing import Optional

from .environment import whoami
from .hosts import compress
from .job import SHORT, Job
from .options import Answer, Options
from .store import Store
from .times import long_duration, read_time, time_text

_OPTIONS = Options(
    "sacct",
    "allocations,X allusers,a accounts=,A brief,b clusters=,M allclusters,L duplicates,D delimiter= endtime=,E format=,o "
    "help,h jobs=,j long,l name= noconvert noheader,n nodelist=,N parsable,p parsable2,P partition=,r qos= starttime=,S "
    "state=,s truncate,T uid= user=,u units= verbose,v version,V",
)
_STAT_OPTIONS = Options(
    "sstat", "allsteps,a format=,o help,h jobs=,j noheader,n noconvert parsable,p parsable2,P verbose,v version,V"
)
_DEFAULT_FIELDS = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
_STAT_FIELDS = ("JobID", "MaxVMSize", "MaxRSS", "AveRSS", "AveCPU", "NTasks", "MaxDiskRead", "MaxDiskWrite", "TRESUsageInTot")
_OFF = "Slurm accounting storage is disabled\n"


def prepare(arguments: "list[str]") -> "Callable[[Store], Answer]":
    """Read the options, and return what looks into the accounting.

    Raises:
        Answer: they are wrong.
    """
    options, _ = _OPTIONS.parse(arguments)
    if "version" in options:
        raise Answer("slurm-wlm 22.05.8\n")
    return lambda store: _account(store, options)


def prepare_stat(arguments: "list[str]") -> "Callable[[Store], Answer]":
    """Read the options of `sstat`, and return what looks at running jobs.

    Raises:
        Answer: they are wrong.
    """
    options, _ = _STAT_OPTIONS.parse(arguments)
    if "version" in options:
        raise Answer("slurm-wlm 22.05.8\n")
    if not options.get("jobs"):
        raise Answer("", "sstat: error: You didn't give me any jobs to stat.\n", 1)
    fields = _fields("sstat", options.get("format", ",".join(_STAT_FIELDS)), {name.lower(): name for name in _STAT_FIELDS})
    return lambda store: _stat(store, options, fields)


def _stat(store: Store, options: "dict[str, str]", fields: "list[str]") -> Answer:
    rows, missing = [], ""
    for text in options["jobs"].split(","):
        jobs = [job for job in store.named(text.partition(".")[0]) if job.state == "RUNNING"]
        missing += "" if jobs else f"sstat: error: No steps running for job {text}\n"
        for job in jobs:
            seconds = long_duration(store.now - (job.started or store.now))
            values = {
                "JobID": f"{job.shown_id}.batch",
                "AveCPU": seconds,
                "NTasks": "1",
                "TRESUsageInTot": f"cpu={seconds},mem=2924K",
            }
            rows.append([values.get(field, "2924K" if field.endswith(("RSS", "Size")) else "0") for field in fields])
    return Answer(_table(options, fields, rows), missing)


def _account(store: Store, options: "dict[str, str]") -> Answer:
    if not store.setting("accounting"):
        raise Answer("", _OFF, 1)
    fields = _fields("sacct", options.get("format", _DEFAULT_FIELDS), {name.lower(): name for name in _VALUES})
    now = store.now
    jobs = store.jobs("appears + ? <= ?", store.setting("accounting_lag_s"), now)
    if "duplicates" in options:
        jobs = sorted([*store.jobs(table="incarnations"), *jobs], key=lambda job: (job.key, job.restarts))
    rows = []
    for job in _chosen(jobs, options, now):
        job.state = store.word or job.state
        rows.append([_VALUES[field](job, now, "") for field in fields])
        if "allocations" not in options and job.nodelist:
            rows.append([_VALUES[field](job, now, ".batch") for field in fields])
    return Answer(_table(options, fields, rows))


def _chosen(jobs: "list[Job]", options: "dict[str, str]", now: float) -> "list[Job]":
    begin, end = 0.0 if "jobs" in options else read_time("today", now), now
    for option in ("starttime", "endtime"):
        if option in options:
            at = read_time(options[option], now)
            if at is None:
                raise Answer("", f"sacct: error: Invalid time specification (pos=0): {options[option]}\n", 1)
            begin, end = (at, end) if option == "starttime" else (begin, at)
    assert begin is not None
    jobs = [job for job in jobs if job.submitted <= end and (job.ended is None or job.ended >= begin)]
    if "jobs" in options:
        ids = {text.partition(".")[0] for text in options["jobs"].split(",")}
        jobs = [job for job in jobs if {job.shown_id, str(job.job_id), str(job.array_id)} & ids]
    if "allusers" not in options:
        users = (options.get("user") or whoami()[0]).split(",")
        jobs = [job for job in jobs if job.user in users or str(job.uid) in users]
    if options.get("name"):
        jobs = [job for job in jobs if job.name in options["name"].split(",")]
    if options.get("state"):
        long = {short: word for word, short in SHORT.items()}
        states = {long.get(word, word) for word in options["state"].upper().split(",")}
        jobs = [job for job in jobs if job.state in states]
    return jobs


def _fields(program: str, text: str, known: "dict[str, str]") -> "list[str]":
    fields = []
    for word in text.split(","):
        name = known.get(word.partition("%")[0].lower())
        if name is None:
            raise Answer("", f'{program}: error: Invalid field requested: "{word}"\n', 1)
        fields.append(name)
    return fields


def _table(options: "dict[str, str]", fields: "list[str]", rows: "list[list[str]]") -> str:
    lines = rows if "noheader" in options else [fields, *rows]
    if "parsable2" in options or "parsable" in options:
        between = options.get("delimiter", "|")
        after = "" if "parsable2" in options else between
        return "".join(between.join(line) + after + "\n" for line in lines)
    if "noheader" not in options:
        lines = [fields, ["-" * 10] * len(fields), *rows]
    return "".join(" ".join(_column(value) for value in line) + " \n" for line in lines)


def _column(value: str) -> str:
    """Return ten characters; a longer value is cut, and ends with `+`."""
    return value.rjust(10) if len(value) <= 10 else value[:9] + "+"


def _state(job: Job, _now: float, step: str) -> str:
    return (
        f"{job.state} by {job.cancelled_by}"
        if job.cancelled_by is not None and job.state == "CANCELLED" and not step
        else job.state
    )


def _elapsed_s(job: Job, now: float) -> float:
    return 0.0 if job.started is None else (now if job.ended is None else job.ended) - job.started


def _resources(job: Job) -> str:
    return f"billing={job.cpus},cpu={job.cpus},mem={job.memory or '200M'},node={job.nodes}" if job.nodelist else ""


def _time(at: "Optional[float]") -> str:
    return time_text(at, "Unknown")


_VALUES: "dict[str, Callable[[Job, float, str], str]]" = {
    "JobID": lambda job, _, step: job.shown_id + step,
    "JobIDRaw": lambda job, _, step: f"{job.job_id}{step}",
    "JobName": lambda job, _, step: "batch" if step else job.name,
    "State": _state,
    "ExitCode": lambda job, _, _step: f"{job.exit_code}:{job.exit_signal}",
    "DerivedExitCode": lambda _job, _, step: "" if step else "0:0",
    "Elapsed": lambda job, now, _step: long_duration(_elapsed_s(job, now)),
    "ElapsedRaw": lambda job, now, _step: str(int(_elapsed_s(job, now))),
    "Submit": lambda job, _, _step: _time(job.submitted),
    "Eligible": lambda job, _, _step: _time(max(job.submitted, job.begin)),
    "Start": lambda job, _, _step: _time(job.started),
    "End": lambda job, _, _step: _time(job.ended),
    "NodeList": lambda job, _, _step: compress(job.hosts) or "None assigned",
    "NNodes": lambda job, _, step: "1" if step else str(job.nodes),
    "AllocNodes": lambda job, _, step: "1" if step else str(len(job.hosts)),
    "NCPUS": lambda job, _, _step: str(job.cpus),
    "AllocCPUS": lambda job, _, _step: str(job.cpus if job.nodelist else 0),
    "ReqCPUS": lambda job, _, _step: str(job.cpus),
    "NTasks": lambda _job, _, step: "1" if step else "",
    "AllocTRES": lambda job, _, _step: _resources(job),
    "ReqMem": lambda job, _, step: "" if step else job.memory or "200M",
    "MaxRSS": lambda _job, _, step: "2924K" if step else "",
    "AveRSS": lambda _job, _, step: "2924K" if step else "",
    "AveCPU": lambda _job, _, step: "00:00:00" if step else "",
    "TotalCPU": lambda _job, _, _step: "00:00:00",
    "UserCPU": lambda _job, _, _step: "00:00:00",
    "SystemCPU": lambda _job, _, _step: "00:00:00",
    "CPUTime": lambda job, now, _step: long_duration(_elapsed_s(job, now) * job.cpus),
    "CPUTimeRAW": lambda job, now, _step: str(int(_elapsed_s(job, now)) * job.cpus),
    "Partition": lambda job, _, step: "" if step else job.partition,
    "Account": lambda job, _, _step: job.account,
    "QOS": lambda job, _, step: "" if step else job.qos,
    "User": lambda job, _, step: "" if step else job.user,
    "UID": lambda job, _, step: "" if step else str(job.uid),
    "Comment": lambda job, _, step: "" if step else job.comment,
    "Reason": lambda job, _, step: "" if step else job.reason or "None",
    "Timelimit": lambda job, _, step: "" if step else long_duration(job.limit_s),
    "TimelimitRaw": lambda job, _, step: "" if step or math.isinf(job.limit_s) else str(int(job.limit_s // 60)),
    "WorkDir": lambda job, _, step: "" if step else job.workdir,
}
