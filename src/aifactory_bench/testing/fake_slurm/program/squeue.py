"""`squeue`."""

import os
from collections.abc import Callable

from .environment import whoami
from .hosts import compress, ranges
from .job import SHORT, Job
from .options import Answer, Options
from .store import Store
from .times import short_duration, time_text

_OPTIONS = Options(
    "squeue",
    "account=,A all,a array,r clusters=,M format=,o hide help iterate=,i jobs=,j local long,l me name=,n noheader,h "
    "partition=,p qos=,q sort=,S states=,t user=,u users= verbose,v version,V nodelist=,w",
)
_DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
_ENVIRONMENT = {
    "SQUEUE_FORMAT": "format",
    "SQUEUE_STATES": "states",
    "SQUEUE_USERS": "user",
    "SQUEUE_NAMES": "name",
    "SQUEUE_PARTITION": "partition",
    "SQUEUE_ACCOUNT": "account",
    "SQUEUE_ARRAY": "array",
    "SLURM_CLUSTERS": "clusters",
}
_HEADERS = {
    "A": "JOBID", "a": "ACCOUNT", "B": "EXEC_HOST", "C": "CPUS", "D": "NODES", "E": "DEPENDENCY", "e": "END_TIME",
    "F": "ARRAY_JOB_ID", "i": "JOBID", "j": "NAME", "K": "ARRAY_TASK_ID", "k": "COMMENT", "L": "TIME_LEFT", "l": "TIME_LIMIT",
    "M": "TIME", "m": "MIN_MEMORY", "N": "NODELIST", "n": "REQ_NODES", "o": "COMMAND", "P": "PARTITION", "p": "PRIORITY",
    "Q": "PRIORITY", "q": "QOS", "R": "NODELIST(REASON)", "r": "REASON", "S": "START_TIME", "T": "STATE", "t": "ST",
    "U": "UID", "u": "USER", "V": "SUBMIT_TIME", "v": "RESERVATION", "x": "EXC_NODES", "Z": "WORK_DIR",
}  # fmt: skip


def prepare(arguments: "list[str]") -> "Callable[[Store], Answer]":
    """Read the options, and return what looks at the queue.

    Raises:
        Answer: they are wrong.
    """
    chosen, others = _OPTIONS.parse(arguments)
    if "version" in chosen:
        raise Answer("slurm-wlm 22.05.8\n")
    if others:
        raise Answer("", f"squeue: error: Unrecognized option: {others[0]}\n", 1)
    options = {option: os.environ[name] for name, option in _ENVIRONMENT.items() if name in os.environ} | chosen
    options["user"] = whoami()[0] if "me" in options else options.get("users", options.get("user", ""))
    return lambda store: _show(store, options)


def _show(store: Store, options: "dict[str, str]") -> Answer:
    if options.get("clusters", store.setting("cluster")) != store.setting("cluster"):
        text = f"'{options['clusters']}' can't be reached now, or it is an invalid entry for --cluster."
        text += "  Use 'sacctmgr list clusters' to see available clusters."
        raise Answer("", f"squeue: error: Problem talking to database\nsqueue: error: {text}\n", 1)
    jobs = _chosen(store, options)
    for job in jobs if store.word else []:
        job.state = store.word
    first = first_waiting(store)
    now = store.now
    tasks: dict[int, list[int]] = {}
    if "array" not in options:
        jobs = _folded(jobs, tasks)
    parts = split_format(options.get("format", _DEFAULT_FORMAT))
    lines = []
    if "noheader" not in options:
        lines.append("".join(padded(_HEADERS.get(letter, letter), width) + text for letter, width, text in parts))
    for job in jobs:
        values = _Values(job, now, tasks.get(job.key), reason(job, first))
        lines.append("".join((padded(values.get(letter), width) if letter else "") + text for letter, width, text in parts))
    return Answer("".join(line + "\n" for line in lines))


def _chosen(store: Store, options: "dict[str, str]") -> "list[Job]":
    states = _states(options.get("states", ""))
    if "jobs" in options:
        ids = options["jobs"].split(",")
        for shown in ids:
            if not shown.partition("_")[0].isdigit():
                raise Answer("", f"squeue: error: Invalid job id: {shown}\n", 1)
        found = {job.key: job for shown in ids for job in store.named(shown)}
        if not found and len(ids) == 1:
            raise Answer("", "slurm_load_jobs error: Invalid job id specified\n", 1)
        jobs = [found[key] for key in sorted(found)]
    else:
        jobs = store.visible(options["name"].split(",") if options.get("name") else ())
    if states is None:
        jobs = [job for job in jobs if job.active]
    elif states:
        jobs = [job for job in jobs if job.state in states]
    for option in ("user", "name", "partition", "account", "qos"):
        if options.get(option):
            wanted = options[option].split(",")
            jobs = [job for job in jobs if getattr(job, option) in wanted or (option == "user" and str(job.uid) in wanted)]
    return jobs


def _states(text: str) -> "set[str] | None":
    """Return long words; empty: all states; None: those of jobs that may still do something."""
    if not text:
        return None
    words = {word.upper() for word in text.split(",")}
    if "ALL" in words:
        return set()
    long = {short: word for word, short in SHORT.items()}
    for word in words:
        if word not in SHORT and word not in long:
            known = f"squeue: error: Valid job states include: {','.join(SHORT)}\n"
            raise Answer("", f"squeue: error: Invalid job state specified: {word}\n{known}", 1)
    return {long.get(word, word) for word in words}


def _folded(jobs: "list[Job]", tasks: "dict[int, list[int]]") -> "list[Job]":
    """Leave one waiting task of each array, and note the indices of all of them by its key."""
    first: dict[int, int] = {}
    kept = []
    for job in jobs:
        if job.array_id is None or job.task is None or job.state != "PENDING":
            kept.append(job)
        elif job.array_id in first:
            tasks[first[job.array_id]].append(job.task)
        else:
            first[job.array_id] = job.key
            tasks[job.key] = [job.task]
            kept.append(job)
    return kept


def first_waiting(store: Store) -> int:
    """Return the key of the job that is next in turn; 0: there is none."""
    turn = "state = 'PENDING' AND held = 0 AND mode != 'never' AND dependency = '' AND due IS NULL"
    return int(store.query(f"SELECT MIN(key) FROM jobs WHERE {turn}")[0][0] or 0)  # noqa: S608  # a condition of ours


def reason(job: Job, first: int) -> str:
    """Return why a job is in its state; first: key of the job that is next in turn."""
    if job.reason or job.state != "PENDING" or job.due is not None:
        return job.reason or "None"
    return "Resources" if job.key == first else "Priority"


def split_format(text: str) -> "list[tuple[str, str, str]]":
    """Return letter, width and the text that follows, of each field; no letter: only text."""
    head, *fields = text.replace("%%", "\0").split("%")
    parts = [("", "", head)] if head else []
    for field in fields:
        width = field[: len(field) - len(field.lstrip(".0123456789"))]
        parts.append((field[len(width) : len(width) + 1], width, field[len(width) + 1 :]))
    return [(letter, width, after.replace("\0", "%")) for letter, width, after in parts]


def padded(text: str, width: str) -> str:
    """Return text in the width of a field: `.10` to the right, `10` to the left, both cut."""
    if not width.strip("."):
        return text
    number = int(width.strip("."))
    return text[:number].rjust(number) if width.startswith(".") else text[:number].ljust(number)


class _Values:
    """The fields of one line."""

    def __init__(self, job: Job, now: float, tasks: "list[int] | None", why: str) -> None:
        self.job = job
        self.now = now
        self.tasks = ""
        if tasks is not None:
            self.tasks = ranges(tasks) + (f"%{job.task_limit}" if job.task_limit else "")
        self.why = why

    def get(self, letter: str) -> str:
        """Return the value that a letter of the format stands for."""
        job = self.job
        name = _PLAIN.get(letter)
        if name is not None:
            return str(getattr(job, name)) or "(null)"
        make = _MADE.get(letter)
        return make(self) if make is not None else letter

    def shown(self) -> str:
        return f"{self.job.array_id}_[{self.tasks}]" if self.tasks else self.job.shown_id

    def task(self) -> str:
        return self.tasks or ("N/A" if self.job.task is None else str(self.job.task))

    def ran_s(self) -> float:
        if self.job.started is None:
            return 0.0
        return (self.now if self.job.ended is None else self.job.ended) - self.job.started

    def ends(self) -> str:
        begin = self.job.started or self.job.begin or None
        return time_text(begin + self.job.limit_s if self.job.ended is None and begin else self.job.ended, "N/A")

    def place(self) -> str:
        hosts = compress(self.job.hosts)
        return hosts if self.job.state in ("RUNNING", "COMPLETING", "COMPLETED") else f"({self.why})"

    def dependency(self) -> str:
        return ",".join(f"{term}(unfulfilled)" for term in self.job.dependency.split(",")) if self.job.dependency else "(null)"


_PLAIN = {
    "A": "job_id", "a": "account", "D": "nodes", "j": "name", "k": "comment", "n": "wanted", "o": "command", "P": "partition",
    "q": "qos", "T": "state", "U": "uid", "u": "user", "x": "excluded", "Z": "workdir", "C": "cpus",
}  # fmt: skip
_MADE: "dict[str, Callable[[_Values], str]]" = {
    "B": lambda values: (values.job.hosts or ["n/a"])[0],
    "E": _Values.dependency,
    "e": _Values.ends,
    "F": lambda values: str(values.job.array_id or values.job.job_id),
    "i": _Values.shown,
    "K": _Values.task,
    "L": lambda values: short_duration(max(0.0, values.job.limit_s - values.ran_s())),
    "l": lambda values: short_duration(values.job.limit_s),
    "M": lambda values: short_duration(values.ran_s()),
    "m": lambda values: values.job.memory or "0",
    "N": lambda values: compress(values.job.hosts),
    "p": lambda _values: "0.99998474121093",
    "Q": lambda values: str(4294901760 - values.job.key),
    "R": _Values.place,
    "r": lambda values: values.why,
    "S": lambda values: time_text(values.job.started or values.job.begin or None, "N/A"),
    "t": lambda values: SHORT.get(values.job.state, values.job.state),
    "V": lambda values: time_text(values.job.submitted, "N/A"),
    "v": lambda _values: "(null)",
}
