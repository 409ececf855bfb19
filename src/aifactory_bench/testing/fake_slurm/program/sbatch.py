"""`sbatch`."""

import math
import os
from collections.abc import Callable
from typing import Any

from .environment import whoami
from .hosts import expand
from .job import DEFAULTS, Job
from .options import Answer, Options
from .script import directives, read_script
from .store import Store
from .times import read_limit, read_time

_SPECIFICATION = (
    "account=,A acctg-freq= array=,a batch= bb= bbf= begin=,b chdir=,D cluster-constraint= clusters=,M comment= "
    "constraint=,C container= contiguous core-spec=,S cores-per-socket= cpu-freq= cpus-per-gpu= cpus-per-task=,c deadline= "
    "delay-boot= dependency=,d distribution=,m error=,e exclude=,x exclusive? export= export-file= extra-node-info=,B "
    "get-user-env? gid= gpu-bind= gpu-freq= gpus=,G gpus-per-node= gpus-per-socket= gpus-per-task= gres= gres-flags= hint= "
    "hold,H ignore-pbs input=,i job-name=,J kill-on-invalid-dep= licenses=,L mail-type= mail-user= mcs-label= mem= "
    "mem-bind= mem-per-cpu= mem-per-gpu= mincpus= network= nice? no-kill?,k no-requeue nodefile=,F nodelist=,w nodes=,N "
    "ntasks=,n ntasks-per-core= ntasks-per-gpu= ntasks-per-node= ntasks-per-socket= open-mode= output=,o overcommit,O "
    "oversubscribe,s parsable partition=,p power= prefer= priority= profile= propagate? qos=,q quiet,Q reboot requeue "
    "reservation= signal= sockets-per-node= spread-job switches= test-only thread-spec= threads-per-core= time=,t time-min= "
    "tmp= uid= use-min-nodes verbose,v version,V wait,W wait-all-nodes= wckey= wrap="
)
_OPTIONS = Options("sbatch", _SPECIFICATION, code=255, stop_early=True)
_VARIABLES = {"SBATCH_TIMELIMIT": "time", "SLURM_CLUSTERS": "clusters", "SBATCH_MEM_PER_NODE": "mem"}
"""Those that are not named after their option."""
_LARGEST_SCRIPT_BYTES = 4 << 20
_LARGEST_COMMENT_BYTES = 1024
_LARGEST_ARRAY = 1001
_SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "USR1": 10, "USR2": 12, "TERM": 15, "CONT": 18}
_DEPENDENCIES = ("after", "afterany", "afterok", "afternotok", "aftercorr")


def prepare(arguments: "list[str]") -> "Callable[[Store], Answer]":
    """Read options and script, and return what submits them.

    Raises:
        Answer: they are wrong, or nothing was to be submitted.
    """
    chosen, others = _OPTIONS.parse(arguments)
    if "version" in chosen:
        raise Answer("slurm-wlm 22.05.8\n")
    script, name = read_script(chosen.get("wrap"), others)
    if len(script) > _LARGEST_SCRIPT_BYTES:
        raise _failed("Pathname of a file, directory or other parameter too long")
    options: dict[str, str] = {}
    for line in directives(script, "stdin" if name == "sbatch" else name):
        options |= _OPTIONS.parse(line)[0]
    options |= _from_environment() | chosen  # the environment beats the script
    values = _values(options)
    values["name"] = options.get("job-name", name)
    values["command"] = os.path.abspath(others[0]) if others and "wrap" not in chosen else ""
    environment = b"".join(b"%s=%s\0" % pair for pair in os.environb.items())
    return lambda store: _submit(store, options, values, script, environment)


def _from_environment() -> "dict[str, str]":
    found = {}
    for variable, value in os.environ.items():
        name = variable.removeprefix("SBATCH_").lower().replace("_", "-") if variable.startswith("SBATCH_") else ""
        name = _VARIABLES.get(variable, name)
        if name in _OPTIONS.names:
            found[name] = value
    return found


def _values(options: "dict[str, str]") -> "dict[str, Any]":
    """Return the fields of a job that do not depend on the cluster.

    Raises:
        Answer: a value is wrong.
    """
    user, uid = whoami()
    workdir = os.path.join(os.getcwd(), options.get("chdir", ""))
    output = options.get("output", "slurm-%A_%a.out" if "array" in options else "slurm-%j.out")
    values = DEFAULTS | {
        "user": user,
        "uid": uid,
        "account": options.get("account", ""),
        "qos": options.get("qos", ""),
        "comment": options.get("comment", ""),
        "workdir": workdir.rstrip("/") or "/",
        "stdout": output,
        "stderr": options.get("error", output),
        "append": int(options.get("open-mode", "truncate")[:1] == "a"),
        "exported": options.get("export", ""),
        "cpus_per_task": _number(options, "cpus-per-task", 1),
        "exclusive": int("exclusive" in options),
        "memory": options.get("mem", options.get("mem-per-cpu", "")),
        "requeue": int("no-requeue" not in options),
        "kill_invalid": int(options.get("kill-on-invalid-dep", "no") == "yes"),
    }
    nodes = options.get("nodes", "1").partition("-")[0]
    if not nodes.isdigit() or not int(nodes):
        raise Answer("", f'sbatch: error: "{options["nodes"]}" is not a valid node count\n', 255)
    values["nodes"] = int(nodes)
    values["tasks"] = _number(options, "ntasks", int(nodes) * _number(options, "ntasks-per-node", 1))
    if options.get("mem", "0").rstrip("KMGTkmgtB").isdigit() is False:
        raise Answer("", "sbatch: error: Invalid --mem specification\n", 255)
    for option, field in (("nodelist", "wanted"), ("exclude", "excluded")):
        values[field] = ",".join(expand(options[option])) if options.get(option) else ""
    if "signal" in options:
        values |= _signal(options["signal"])
    if len(values["comment"].encode()) > _LARGEST_COMMENT_BYTES:
        raise _failed("Pathname of a file, directory or other parameter too long")
    return values


def _number(options: "dict[str, str]", name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not text.isdigit() or not int(text):
        raise Answer("", f'sbatch: error: Invalid numeric value "{text}" for --{name}.\n', 1)
    return int(text)


def _signal(text: str) -> "dict[str, Any]":
    """Return the fields for `[B:]USR1[@120]`."""
    flags, _, rest = text.rpartition(":")
    name, _, before = rest.partition("@")
    number = _SIGNALS.get(name.upper().removeprefix("SIG"), int(name) if name.isdigit() else 0)
    if not number or (before and not before.isdigit()):
        raise Answer("", "sbatch: error: Invalid --signal specification\n", 255)
    return {"signal": number, "signal_before_s": float(before or 60), "signal_batch": int("B" in flags.upper())}


def _submit(store: Store, options: "dict[str, str]", values: "dict[str, Any]", script: bytes, environment: bytes) -> Answer:
    """Put the job into the queue."""
    now = store.now
    values |= {"submitted": now, "appears": now + store.late_s, "due": now + store.late_s}
    _place(store, options, values)
    _times(store, options, values)
    if "dependency" in options:
        values["dependency"], values["reason"] = _dependency(options["dependency"]), "Dependency"
    if "hold" in options:
        values |= {"held": 1, "reason": "JobHeldUser"}
    _behave(store, values)
    tasks, values["task_limit"] = _tasks(options["array"]) if "array" in options else ([None], 0)
    job_id = store.next_id()
    if "test-only" in options:
        raise Answer("", f"sbatch: Job {job_id} to start at once in partition {values['partition']}\n")
    for task in tasks:
        values |= {"job_id": job_id, "array_id": None if task is None else job_id, "task": task}
        key = store.insert("jobs", values)
        store.insert("scripts", {"key": key, "script": script, "environment": environment})
    store.crowded = True
    if "parsable" in options:
        return Answer(f"{job_id};{options['clusters']}\n" if "clusters" in options else f"{job_id}\n")
    return Answer(
        f"Submitted batch job {job_id}" + (f" on cluster {options['clusters']}" if "clusters" in options else "") + "\n"
    )


def _place(store: Store, options: "dict[str, str]", values: "dict[str, Any]") -> None:
    """Check what is asked for against what the cluster has.

    Raises:
        Answer: it never has that.
    """
    partitions = dict(store.query("SELECT name, limit_s FROM partitions ORDER BY rowid"))
    nodes = dict(store.query("SELECT name, cpus FROM nodes"))
    values["partition"] = options.get("partition", next(iter(partitions)))
    if values["partition"] not in partitions:
        raise _failed("Invalid partition name specified", f"invalid partition specified: {values['partition']}")
    if options.get("clusters", store.setting("cluster")) != store.setting("cluster"):
        text = f"'{options['clusters']}' can't be reached now, or it is an invalid entry for --cluster."
        text += "  Use 'sacctmgr list clusters' to see available clusters."
        raise Answer("", f"sbatch: error: Problem talking to database\nsbatch: error: {text}\n", 1)
    if not {*filter(None, values["wanted"].split(","))} <= nodes.keys():
        raise _failed("Invalid node name specified")
    limit_s = partitions[values["partition"]]
    values["limit_s"] = min(limit_s, store.setting("default_limit_s"))
    reason = ""
    if "time" in options:
        asked_s = read_limit(options["time"])
        if asked_s is None:
            raise Answer("", "sbatch: error: Invalid --time specification\n", 255)
        values["limit_s"] = asked_s
        reason = "PartitionTimeLimit" if asked_s > limit_s and not math.isinf(asked_s) else ""
    job = Job(**values)
    if job.nodes > len(nodes) or job.cpus_each > max(nodes.values()):
        reason = "PartitionConfig"
    if reason and store.setting("enforce_limits"):
        text = "Requested time limit is invalid (missing or exceeds some limit)"
        raise _failed(text if reason == "PartitionTimeLimit" else "Requested node configuration is not available")
    if reason:  # it is taken, and waits for ever
        values |= {"mode": "never", "reason": reason}


def _times(store: Store, options: "dict[str, str]", values: "dict[str, Any]") -> None:
    if "begin" in options:
        begin = read_time(options["begin"], store.now)
        if begin is None:
            text = f"Invalid time specification (pos=0): {options['begin']}\nsbatch: error: Invalid --begin specification\n"
            raise Answer("", text, 255)
        if begin > store.now:
            values |= {"begin": begin, "due": max(begin, values["due"]), "reason": "BeginTime"}


def _behave(store: Store, values: "dict[str, Any]") -> None:
    """Let the job do what the test has said of its name, the latest word first."""
    columns = "mode, pending_s, run_s, completing_s, final_state, final_exit, final_signal, reason"
    statement = f"SELECT {columns} FROM behaviours WHERE ? GLOB pattern ORDER BY rowid DESC LIMIT 1"  # noqa: S608
    mode, pending_s, *rest, reason = store.query(statement, values["name"])[0]
    values |= dict(zip(("run_s", "completing_s", "final_state", "final_exit", "final_signal"), rest, strict=True))
    values["due"] = max(values["due"], store.now + pending_s)
    if values["mode"] != "never":
        values |= {"mode": mode, "reason": reason or values["reason"]}


def _dependency(text: str) -> str:
    """Return `afterok:1:2,after:3` as `afterok:1,afterok:2,after:3`."""
    terms = []
    for part in text.split(","):
        kind, *ids = part.split(":")
        if part != "singleton" and (kind not in _DEPENDENCIES or not ids or not all(_is_id(job) for job in ids)):
            raise _failed("Job dependency problem")
        terms += [f"{kind}:{job.partition('+')[0]}" for job in ids] or [kind]
    return ",".join(terms)


def _is_id(text: str) -> bool:
    return bool(text) and all(character in "0123456789_+" for character in text)


def _tasks(text: str) -> "tuple[list[int | None], int]":
    """Return the indices of `0-9:3,12%2`, and how many run at once."""
    indices, _, limit = text.partition("%")
    found: set[int] = set()
    for part in indices.split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        if not (first.isdigit() and (last or first).isdigit() and (step or "1").isdigit() and (limit or "0").isdigit()):
            raise _failed("Invalid job array specification")
        found.update(range(int(first), min(int(last or first), _LARGEST_ARRAY) + 1, int(step or 1) or 1))
    if max(found) >= _LARGEST_ARRAY:
        raise _failed("Invalid job array specification")
    return [*sorted(found)], int(limit or 0)


def _failed(why: str, first: str = "") -> Answer:
    lines = [*([first] if first else []), f"Batch job submission failed: {why}"]
    return Answer("", "".join(f"sbatch: error: {line}\n" for line in lines), 1)
