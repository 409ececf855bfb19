"""What a job finds around it: its variables and its files of output."""

import os
import pwd

from .hosts import compress
from .job import Job
from .store import Store


def job_environment(store: Store, job: Job, submitted: bytes) -> "dict[str, str]":
    """Return the variables of a job's script; submitted: those of whoever submitted it, each ended by a NUL."""
    before = dict(line.split("=", 1) for line in os.fsdecode(submitted).split("\0") if "=" in line)
    exported = job.exported.split(",") if job.exported else ["ALL"]
    if "ALL" in exported:
        variables = dict(before)
    else:
        # What a login of the user would set; Slurm asks one for it.
        path = f"{os.path.join(store.folder, 'bin')}:/usr/local/bin:/usr/bin:/bin"
        variables = {"HOME": before.get("HOME", "/"), "USER": job.user, "LOGNAME": job.user, "SHELL": "/bin/sh", "PATH": path}
        variables |= {name: before[name] for name in exported if name in before}
    variables |= dict(part.split("=", 1) for part in exported if "=" in part)
    return variables | _slurm(store, job) | {"FAKE_SLURM_FOLDER": store.folder}


def _slurm(store: Store, job: Job) -> "dict[str, str]":
    nodes = compress(job.hosts)
    cpus = dict(store.query("SELECT name, cpus FROM nodes"))[job.hosts[0]] if job.exclusive else job.cpus_each
    variables: dict[str, object] = {
        "SLURM_CLUSTER_NAME": store.setting("cluster"),
        "SLURM_CPUS_ON_NODE": cpus,
        "SLURM_EXPORT_ENV": job.exported or None,
        "SLURM_GTIDS": 0,
        "SLURM_JOBID": job.job_id,
        "SLURM_JOB_ACCOUNT": job.account or None,
        "SLURM_JOB_CPUS_PER_NODE": cpus if job.nodes == 1 else f"{cpus}(x{job.nodes})",
        "SLURM_JOB_ID": job.job_id,
        "SLURM_JOB_NAME": job.name,
        "SLURM_JOB_NODELIST": nodes,
        "SLURM_JOB_NUM_NODES": job.nodes,
        "SLURM_JOB_PARTITION": job.partition,
        "SLURM_JOB_UID": job.uid,
        "SLURM_JOB_USER": job.user,
        "SLURM_LOCALID": 0,
        "SLURM_NNODES": job.nodes,
        "SLURM_NODEID": 0,
        "SLURM_NODELIST": nodes,
        "SLURM_NTASKS": job.tasks,
        "SLURM_CPUS_PER_TASK": job.cpus_per_task,
        "SLURM_PROCID": 0,
        "SLURM_RESTART_COUNT": job.restarts or None,
        "SLURM_SUBMIT_DIR": job.workdir,
        "SLURM_ARRAY_JOB_ID": job.array_id,
        "SLURM_ARRAY_TASK_ID": job.task,
        "SLURMD_NODENAME": job.hosts[0],
    }
    return {name: str(value) for name, value in variables.items() if value is not None}


def whoami() -> "tuple[str, int]":
    """Return the user that the commands work for: name and number."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name, uid
    except KeyError:
        return str(uid), uid


def output_path(job: Job, pattern: str) -> str:
    """Return where a job's output goes: `%j`, `%A`, `%a`, `%x`, `%u`, `%N`, `%%` filled in."""
    values = {
        "%": "%",
        "j": str(job.job_id),
        "A": str(job.array_id if job.array_id is not None else job.job_id),
        "a": str(job.task if job.task is not None else 4294967294),
        "x": job.name,
        "u": job.user,
        "N": job.hosts[0] if job.hosts else "",
        "n": "0",
        "t": "0",
    }
    path, left = "", pattern
    while left:
        if left[0] == "%" and left[1:2] in values:
            path, left = path + values[left[1]], left[2:]
        else:
            path, left = path + left[0], left[1:]
    return os.path.join(job.workdir, path)
