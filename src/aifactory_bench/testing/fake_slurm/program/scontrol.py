"""`scontrol`: the parts that tell about the cluster, and those that change jobs and nodes."""

import os
from collections.abc import Callable

from .environment import output_path
from .hosts import compress, expand
from .job import Job
from .options import Answer, Options
from .schedule import end, set_held
from .squeue import first_waiting, reason
from .store import Store
from .times import long_duration, read_limit, time_text

_OPTIONS = Options("scontrol", "all,a detail,d details help,h oneliner,o quiet,Q verbose,v version,V clusters=,M")
_UNKNOWN_JOB = "Invalid job id specified"


def prepare(arguments: "list[str]") -> "Callable[[Store], Answer]":
    """Read what is wanted, and return what does it.

    Raises:
        Answer: it is nothing that there is, or needs no controller.
    """
    options, words = _OPTIONS.parse(arguments)
    if "version" in options:
        raise Answer("slurm-wlm 22.05.8\n")
    command, *rest = words or [""]
    if command == "show":
        return _show(rest, oneline="oneliner" in options)
    if command == "ping":
        return lambda store: Answer(f"Slurmctld(primary) at {store.setting('cluster')}-ctl is UP\n")
    if command in ("requeue", "hold", "release") and rest:
        return lambda store: _each_job(store, command, rest)
    if command == "update":
        values = dict(word.partition("=")[::2] for word in rest)
        return lambda store: _update(store, {name.lower(): value for name, value in values.items()})
    raise Answer("", f"invalid keyword: {command}\n", 1)


def _show(words: "list[str]", *, oneline: bool) -> "Callable[[Store], Answer]":
    entity, *names = words or [""]
    if entity == "hostnames":
        hosts = expand(names[0] if names else os.environ.get("SLURM_JOB_NODELIST", ""))
        raise Answer("".join(f"{host}\n" for host in hosts))
    if entity == "hostlist":
        raise Answer(compress(names[0].split(",") if names else []) + "\n")
    shown = {"job": _jobs, "jobs": _jobs, "config": _config, "node": _nodes, "nodes": _nodes, "partition": _partitions}.get(
        entity
    )
    if shown is None:
        raise Answer("", f"invalid entity:{entity} for keyword:show \n", 1)
    return lambda store: _joined(shown(store, names), oneline=oneline)


def _joined(texts: "list[str]", *, oneline: bool) -> Answer:
    if oneline:
        texts = [" ".join(line.strip() for line in text.splitlines()) + " \n" for text in texts]
    return Answer("".join(texts))


def _jobs(store: Store, names: "list[str]") -> "list[str]":
    jobs = [job for name in names for job in store.named(name)] if names else store.visible()
    if names and not jobs:
        raise Answer("", f"slurm_load_jobs error: {_UNKNOWN_JOB}\n", 1)
    first = first_waiting(store)
    return [_job_text(job, store.now, reason(job, first)) for job in jobs]


def _job_text(job: Job, now: float, why: str) -> str:
    ran_s = 0.0 if job.started is None else (now if job.ended is None else job.ended) - job.started
    begin = job.started or job.begin or None
    ends = job.ended if job.ended is not None else begin and begin + job.limit_s
    array = "" if job.array_id is None else f"ArrayJobId={job.array_id} ArrayTaskId={job.task} "
    batch_host = f"   BatchHost={job.hosts[0]}\n" if job.hosts else ""
    comment = f"   Comment={job.comment} \n" if job.comment else ""
    dependency = ",".join(f"{term}(unfulfilled)" for term in job.dependency.split(",")) if job.dependency else "(null)"
    return f"""\
JobId={job.job_id} {array}JobName={job.name}
   UserId={job.user}({job.uid}) GroupId={job.user}({job.uid}) MCS_label=N/A
   Priority={0 if job.held else 4294901760 - job.key} Nice=0 Account={job.account or "(null)"} QOS={job.qos or "(null)"}
   JobState={job.state} Reason={why} Dependency={dependency}
   Requeue={job.requeue} Restarts={job.restarts} BatchFlag=1 Reboot=0 ExitCode={job.exit_code}:{job.exit_signal}
   RunTime={long_duration(ran_s)} TimeLimit={long_duration(job.limit_s)} TimeMin=N/A
   SubmitTime={time_text(job.submitted, "Unknown")} EligibleTime={time_text(max(job.submitted, job.begin), "Unknown")}
   AccrueTime={time_text(job.started, "Unknown")}
   StartTime={time_text(begin, "Unknown")} EndTime={time_text(ends, "Unknown")} Deadline=N/A
   SuspendTime=None SecsPreSuspend=0 LastSchedEval={time_text(job.submitted, "Unknown")} Scheduler=Main
   Partition={job.partition} AllocNode:Sid=localhost:{os.getsid(0)}
   ReqNodeList={job.wanted or "(null)"} ExcNodeList={job.excluded or "(null)"}
   NodeList={compress(job.hosts)}
{batch_host}   NumNodes={job.nodes} NumCPUs={job.cpus} NumTasks={job.tasks} CPUs/Task={job.cpus_per_task} ReqB:S:C:T=0:0:*:*
   TRES=cpu={job.cpus},mem={job.memory or "200M"},node={job.nodes},billing={job.cpus}
   Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*
   MinCPUsNode={job.cpus_per_task} MinMemoryCPU={job.memory or "200M"} MinTmpDiskNode=0
   Features=(null) DelayBoot=00:00:00
   OverSubscribe={"NO" if job.exclusive else "OK"} Contiguous=0 Licenses=(null) Network=(null)
   Command={job.command or "(null)"}
   WorkDir={job.workdir}
{comment}   StdErr={output_path(job, job.stderr)}
   StdIn=/dev/null
   StdOut={output_path(job, job.stdout)}
   Power=
{" " * 3}

"""


def _config(store: Store, _names: "list[str]") -> "list[str]":
    accounting = "accounting_storage/slurmdbd" if store.setting("accounting") else "accounting_storage/none"
    values = {
        "AccountingStorageType": accounting,
        "ClusterName": store.setting("cluster"),
        "EnforcePartLimits": "ALL" if store.setting("enforce_limits") else "NO",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobRequeue": 1,
        "KillWait": f"{store.setting('kill_wait_s'):.0f} sec",
        "MaxArraySize": 1001,
        "MaxJobCount": 10000,
        "MessageTimeout": "10 sec",
        "MinJobAge": f"{store.setting('min_job_age_s'):.0f} sec",
        "PreemptMode": "OFF",
        "SchedulerParameters": "(null)",
        "SlurmctldHost[0]": f"{store.setting('cluster')}-ctl",
        "SLURM_VERSION": "22.05.8",
    }
    head = f"Configuration data as of {time_text(store.now, '')}\n"
    lines = [f"{name:<23} = {value}\n" for name, value in values.items()]
    return [head, *lines, f"\nSlurmctld(primary) at {store.setting('cluster')}-ctl is UP\n"]


def _nodes(store: Store, names: "list[str]") -> "list[str]":
    known = {row[0]: row for row in store.query("SELECT name, cpus, state, reason FROM nodes ORDER BY rowid")}
    wanted = [host for name in names for host in expand(name)] or list(known)
    texts = []
    for name in wanted:
        if name not in known:
            raise Answer("", f"Node {name} not found\n", 1)
        _, cpus, state, why = known[name]
        busy = sum(job.cpus_each for job in store.active() if name in job.hosts)
        shown = {"idle": "ALLOCATED" if busy >= cpus else "MIXED" if busy else "IDLE", "drain": "IDLE+DRAIN"}.get(
            state, state.upper()
        )
        texts.append(
            f"NodeName={name} Arch=x86_64 CoresPerSocket=1 \n   CPUAlloc={busy} CPUEfctv={cpus} CPUTot={cpus} CPULoad=0.34\n"
            f"   NodeAddr=127.0.0.1 NodeHostName={name} Version=22.05.8\n"
            f"   RealMemory=4000 AllocMem=0 Sockets={cpus} Boards=1\n"
            f"   State={shown} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A\n"
            + (f"   Reason={why}\n" if why else "")
            + "\n"
        )
    return texts


def _partitions(store: Store, names: "list[str]") -> "list[str]":
    known = dict(store.query("SELECT name, limit_s FROM partitions ORDER BY rowid"))
    nodes = [name for (name,) in store.query("SELECT name FROM nodes ORDER BY rowid")]
    texts = []
    for name in names or known:
        if name not in known:
            raise Answer("", f"Partition {name} not found\n", 1)
        default = "YES" if name == next(iter(known)) else "NO"
        texts.append(
            f"PartitionName={name}\n   AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL\n"
            f"   AllocNodes=ALL Default={default} QoS=N/A\n"
            f"   MaxNodes=UNLIMITED MaxTime={long_duration(known[name])} MinNodes=0\n   Nodes={compress(nodes)}\n"
            f"   State=UP TotalNodes={len(nodes)}\n\n"
        )
    return texts


def _each_job(store: Store, command: str, words: "list[str]") -> Answer:
    said = ""
    for text in ",".join(words).split(","):
        jobs = store.named(text)
        if not jobs:
            again = f"slurm_suspend error: {_UNKNOWN_JOB}\n" if command in ("hold", "release") else ""
            said += f"{_UNKNOWN_JOB} for job {text}\n{again}"
        for job in jobs:
            if command in ("hold", "release"):
                set_held(store, job, command == "hold")
            elif job.state == "PENDING":
                said += f"Job is pending execution for job {text}\n"
            elif not job.requeue:
                said += f"Requested operation is presently disabled for job {text}\n"
            else:
                end(store, job, store.now, "REQUEUE")
    return Answer("", said, 1 if said else 0)


def _update(store: Store, values: "dict[str, str]") -> Answer:
    if "nodename" in values:
        return _update_nodes(store, values)
    jobs = store.named(values.get("jobid", ""))
    if not jobs:
        raise Answer("", f"{_UNKNOWN_JOB} for job {values.get('jobid', '')}\n", 1)
    unknown = [name for name in values if name not in ("jobid", "timelimit", "comment", "name", "partition")]
    if unknown:
        text = f"Update of this parameter is not supported: {unknown[0]}={values[unknown[0]]}\nRequest aborted\n"
        raise Answer("", text, 1)
    for job in jobs:
        job.limit_s = read_limit(values.get("timelimit", "")) or job.limit_s
        job.comment, job.name = values.get("comment", job.comment), values.get("name", job.name)
        job.partition = values.get("partition", job.partition)
        store.save(job, "limit_s", "comment", "name", "partition")
    return Answer()


def _update_nodes(store: Store, values: "dict[str, str]") -> Answer:
    known = {name for (name,) in store.query("SELECT name FROM nodes")}
    hosts = expand(values["nodename"])
    if not set(hosts) <= known:
        raise Answer("", "slurm_update error: Invalid node name specified\n", 1)
    state = values.get("state", "").lower()
    if state not in ("drain", "down", "resume", "idle"):
        raise Answer("", f"Invalid input: {state}\nRequest aborted\n", 1)
    for host in hosts:
        set_node(store, host, "idle" if state == "resume" else state, values.get("reason", ""))
    return Answer()


def set_node(store: Store, name: str, state: str, why: str = "") -> None:
    """Take a node down, drain it, or give it back; the jobs of one that goes down wait again, or fail."""
    store.query("UPDATE nodes SET state = ?, reason = ? WHERE name = ?", state, "" if state == "idle" else why, name)
    store.crowded = True
    for job in store.active() if state == "down" else []:
        if name in job.hosts:
            end(store, job, store.now, "REQUEUE" if job.requeue else "NODE_FAIL")
