"""`scancel`."""

import signal
from collections.abc import Callable

from .environment import whoami
from .job import Job
from .options import Answer, Options
from .schedule import end, send
from .store import Store

_OPTIONS = Options(
    "scancel",
    "account=,A batch,b ctld clusters=,M cron full,f help hurry,H interactive,i me name=,n nodelist=,w partition=,p qos=,q "
    "quiet,Q reservation=,R sibling= signal=,s state=,t user=,u verbose,v version,V wckey=",
)
_FILTERS = {"name": "name", "user": "user", "partition": "partition", "account": "account", "qos": "qos"}


def prepare(arguments: "list[str]") -> "Callable[[Store], Answer]":
    """Read the options, and return what ends jobs or signals them.

    Raises:
        Answer: they are wrong.
    """
    options, ids = _OPTIONS.parse(arguments)
    if "version" in options:
        raise Answer("slurm-wlm 22.05.8\n")
    if "me" in options:
        options["user"] = whoami()[0]
    if not ids and not {"state", "nodelist", *_FILTERS} & options.keys():
        raise Answer("", "scancel: error: No job identification provided\n", 1)
    for text in ids:
        if not text.partition("_")[0].isdigit():
            raise Answer("", f"scancel: error: Invalid job id {text}\n", 1)
    if "state" in options:
        options["state"] = _state(options["state"])
    number = _signal(options["signal"]) if "signal" in options else 0
    return lambda store: _cancel(store, options, ids, number)


def _state(text: str) -> str:
    states = {"PD": "PENDING", "R": "RUNNING", "S": "SUSPENDED"}
    state = states.get(text.upper(), text.upper())
    if state not in states.values():
        raise Answer("", f"Invalid job state specified: {text}\nValid job states are PENDING, RUNNING, and SUSPENDED\n", 1)
    return state


def _signal(text: str) -> int:
    if text.isdigit():
        return int(text)
    try:
        return int(signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"])
    except KeyError:
        raise Answer("", f"Unknown job signal: {text}\n", 1) from None


def _cancel(store: Store, options: "dict[str, str]", ids: "list[str]", number: int) -> Answer:
    said = ""
    batch = "batch" in options
    names = [options["name"]] if options.get("name") else ()  # one name: a list is taken for one, too
    whom = "shell" if batch else "all" if "full" in options else "steps"
    for text, jobs in [(text, store.named(text)) for text in ids] or [("", store.visible(names))]:
        chosen = [job for job in jobs if _meant(job, options)]
        if "verbose" in options and text:
            said += f"scancel: Terminating job {text}\n"
        for job in chosen:
            if not job.active or job.state == "COMPLETING":
                if text and "verbose" in options:
                    said += f"scancel: error: Kill job error on job id {text}: Job/step already completing or completed\n"
            elif number in (0, signal.SIGKILL) and not batch:
                code = (0, number or signal.SIGTERM) if job.state == "RUNNING" else (0, 0)
                end(store, job, store.now, "CANCELLED", code, whoami()[1])
            elif job.state == "RUNNING":
                send(store, job, number or signal.SIGTERM, whom)
        if text and not jobs and "verbose" in options:
            said += f"scancel: error: Kill job error on job id {text}: Invalid job id specified\n"
    return Answer("", said)


def _meant(job: Job, options: "dict[str, str]") -> bool:
    if "state" in options and job.state != options["state"]:
        return False
    if options.get("nodelist") and options["nodelist"] not in job.hosts:
        return False
    return all(getattr(job, field) == options[name] for name, field in _FILTERS.items() if options.get(name))
