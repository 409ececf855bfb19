"""What the simulated controller knows of a job."""

from typing import Any, Optional

ACTIVE = ("PENDING", "RUNNING", "COMPLETING")
"""States in which something may still happen; every other one is final."""

SHORT = {
    "PENDING": "PD",
    "RUNNING": "R",
    "SUSPENDED": "S",
    "COMPLETING": "CG",
    "COMPLETED": "CD",
    "CANCELLED": "CA",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "NODE_FAIL": "NF",
    "PREEMPTED": "PR",
    "BOOT_FAIL": "BF",
    "DEADLINE": "DL",
    "OUT_OF_MEMORY": "OOM",
    "CONFIGURING": "CF",
    "RESIZING": "RS",
    "RESV_DEL_HOLD": "RD",
    "REQUEUED": "RQ",
    "REQUEUE_FED": "RF",
    "REQUEUE_HOLD": "RH",
    "REVOKED": "RV",
    "SIGNALING": "SI",
    "SPECIAL_EXIT": "SE",
    "STAGE_OUT": "SO",
    "STOPPED": "ST",
}
"""Long word and short word of each state."""


class Job:
    """One job, or one task of an array. Times are seconds of the cluster's clock since the epoch."""

    key: int
    """Ours; no command shows it."""
    job_id: int
    """A waiting task of an array bears the id of its array."""
    array_id: Optional[int]
    task: Optional[int]
    task_limit: int
    """How many tasks of the array run at once; 0: any number."""
    name: str
    user: str
    uid: int
    partition: str
    account: str
    qos: str
    comment: str
    command: str
    workdir: str
    stdout: str
    stderr: str
    append: int
    exported: str
    """Value of `--export`."""
    nodes: int
    tasks: int
    cpus_per_task: int
    exclusive: int
    memory: str
    wanted: str
    """Nodes asked for by name, separated by commas."""
    excluded: str
    requeue: int
    kill_invalid: int
    dependency: str
    """What is not yet fulfilled, `kind:id` separated by commas."""
    limit_s: float
    signal: int
    signal_before_s: float
    signal_batch: int
    signal_sent: int

    state: str
    reason: str
    """Empty: it waits for its turn."""
    held: int
    nodelist: str
    """Names separated by commas."""
    exit_code: int
    exit_signal: int
    cancelled_by: Optional[int]
    submitted: float
    appears: float
    """From when on the controller shows it; later than `submitted` where a fault says so."""
    begin: float
    """Not to be started before."""
    started: Optional[float]
    ended: Optional[float]
    due: Optional[float]
    """When the clock next does something to it."""
    restarts: int
    gone: int
    """Whether the controller has forgotten it; accounting remembers."""

    mode: str
    """`instant`, `execute` or `never`."""
    run_s: float
    completing_s: float
    final_state: str
    final_exit: int
    final_signal: int
    outcome: str
    """State that a completing job will have; `REQUEUE` to wait again."""
    pid: Optional[int]
    """Of the process that executes it."""
    ticks: int
    """Start time of that process, as field 22 of its /proc/PID/stat."""
    shell: Optional[int]
    """Process id of the script."""
    launched: float
    """When that process was last started, on the machine's clock."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    @property
    def shown_id(self) -> str:
        """The id that users see: `17`, or `17_3` for a task."""
        return str(self.job_id) if self.array_id is None else f"{self.array_id}_{self.task}"

    @property
    def active(self) -> bool:
        """Whether something may still happen to it."""
        return self.state in ACTIVE

    @property
    def hosts(self) -> "list[str]":
        """The nodes it has."""
        return self.nodelist.split(",") if self.nodelist else []

    @property
    def cpus(self) -> int:
        """How many CPUs it asks for altogether."""
        return max(self.nodes, self.tasks * self.cpus_per_task)

    @property
    def cpus_each(self) -> int:
        """How many CPUs it takes of each node."""
        return -(-self.cpus // self.nodes)


DEFAULTS: "dict[str, Any]" = {
    "array_id": None,
    "task": None,
    "task_limit": 0,
    "account": "",
    "qos": "",
    "comment": "",
    "command": "",
    "append": 0,
    "exported": "",
    "nodes": 1,
    "tasks": 1,
    "cpus_per_task": 1,
    "exclusive": 0,
    "memory": "",
    "wanted": "",
    "excluded": "",
    "requeue": 1,
    "kill_invalid": 0,
    "dependency": "",
    "signal": 0,
    "signal_before_s": 0.0,
    "signal_batch": 0,
    "signal_sent": 0,
    "state": "PENDING",
    "reason": "",
    "held": 0,
    "nodelist": "",
    "exit_code": 0,
    "exit_signal": 0,
    "cancelled_by": None,
    "begin": 0.0,
    "started": None,
    "ended": None,
    "due": None,
    "restarts": 0,
    "gone": 0,
    "mode": "instant",
    "run_s": 0.0,
    "completing_s": 0.0,
    "final_state": "COMPLETED",
    "final_exit": 0,
    "final_signal": 0,
    "outcome": "",
    "pid": None,
    "ticks": 0,
    "shell": None,
    "launched": 0.0,
}
"""Of a job of which nothing is said; the other fields have to be given."""

FIELDS = tuple(Job.__annotations__)
