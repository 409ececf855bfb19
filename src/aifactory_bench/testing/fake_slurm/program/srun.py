"""`srun` within an executed job: the tasks of a step, all on this machine."""

import os
import signal
import time

from .execution import send
from .hosts import expand
from .options import Answer, Options
from .store import Store

_OPTIONS = Options(
    "srun",
    "ntasks=,n nodes=,N cpus-per-task=,c ntasks-per-node= export= kill-on-bad-exit?,K input=,i output=,o error=,e overlap "
    "exact exclusive? mem= mem-per-cpu= gres= gpus= gpus-per-node= gpus-per-task= cpu-bind= distribution=,m label,l "
    "unbuffered,u time=,t job-name=,J nodelist=,w chdir=,D jobid= mpi= wait=,W quiet,Q verbose,v",
    stop_early=True,
)
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def step(folder: str, arguments: "list[str]") -> int:
    """Run the tasks and return the highest exit code.

    Raises:
        Answer: it cannot.
    """
    options, command = _OPTIONS.parse(arguments)
    if "SLURM_JOB_ID" not in os.environ:
        raise Answer("", "srun: fatal: the simulated srun runs within jobs only\n", 1)
    if not command:
        raise Answer("", "srun: fatal: No command given to execute.\n", 1)
    pids: list[int] = []
    for number in _PASSED_ON:
        signal.signal(number, lambda got, _frame: _pass_on(pids, got))
    with Store(folder) as store:
        job = next(job for job in store.active() if str(job.job_id) == os.environ["SLURM_JOB_ID"])
        store.query("INSERT INTO steps VALUES (?, ?)", job.key, os.getpid())
    # Without --export a step has what sbatch's own said: after NONE, not even a PATH.
    exported = options.get("export", os.environ.get("SLURM_EXPORT_ENV", "ALL"))
    kept = (
        os.environ if "ALL" in exported.split(",") else {n: v for n, v in os.environ.items() if n.startswith(("SLURM", "FAKE"))}
    )
    hosts = expand(os.environ["SLURM_JOB_NODELIST"])[: int(options.get("nodes", len(job.hosts)))]
    tasks = int(options.get("ntasks", max(job.tasks, len(hosts))))
    each = -(-tasks // len(hosts))
    for rank in range(tasks):
        variables = {
            "SLURM_NTASKS": tasks,
            "SLURM_STEP_NUM_TASKS": tasks,
            "SLURM_STEP_ID": 0,
            "SLURM_PROCID": rank,
            "SLURM_NODEID": rank // each,
            "SLURM_LOCALID": rank % each,
            "SLURMD_NODENAME": hosts[rank // each],
        }
        pids.append(_spawn(command, dict(kept) | {name: str(value) for name, value in variables.items()}, options, rank))
    codes = _wait(pids, end_all=options.get("kill-on-bad-exit", "0") != "0")
    with Store(folder) as store:
        store.query("DELETE FROM steps WHERE pid = ?", os.getpid())
    return max(codes)


def _spawn(command: "list[str]", variables: "dict[str, str]", options: "dict[str, str]", rank: int) -> int:
    reads = rank == 0 and options.get("input") != "none"
    actions = [] if reads else [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    try:
        return os.posix_spawnp(command[0], command, variables, file_actions=actions, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    except OSError as error:
        raise Answer("", f"slurmstepd: error: execve(): {command[0]}: {error.strerror}\n", 2) from None


def _wait(pids: "list[int]", *, end_all: bool) -> "list[int]":
    codes = []
    while pids:
        pid, status = os.wait()
        if pid in pids:
            pids.remove(pid)
            code = os.waitstatus_to_exitcode(status)
            codes.append(code if code >= 0 else 128 - code)
            if code and end_all:
                _pass_on(pids, signal.SIGTERM)
                time.sleep(0.1)
                _pass_on(pids, signal.SIGKILL)
    return codes


def _pass_on(pids: "list[int]", number: int) -> None:
    for pid in pids:
        send(pid, number)
