"""What the controller does as time passes: it starts jobs, ends them, and forgets them."""

from typing import Any, Optional

from .execution import descendants
from .job import ACTIVE, Job
from .store import Store, alive

_REASONS = {
    "FAILED": "NonZeroExitCode",
    "TIMEOUT": "TimeLimit",
    "NODE_FAIL": "NodeDown",
    "OUT_OF_MEMORY": "OutOfMemory",
    "DEADLINE": "DeadLine",
}
_TAKES_NODES = "state IN ('RUNNING', 'COMPLETING')"


def settle(store: Store) -> None:
    """Bring the cluster up to the present: everything that was due happens, in the order of its time."""
    now = store.now
    for job in store.jobs(f"mode = 'execute' AND pid IS NOT NULL AND {_TAKES_NODES}"):
        if not alive(job.pid, job.ticks):  # somebody killed what executed it
            if job.state != "COMPLETING":
                end(store, job, now, "NODE_FAIL")
            finish(store, store.job(job.key), now)
    while True:
        due = store.query("SELECT MIN(due) FROM jobs WHERE due IS NOT NULL")[0][0]
        if due is None or due > now:
            break
        for job in store.jobs("due = ?", due):
            _fire(store, job, due)
        if store.crowded:
            _start_jobs(store, due)
    if store.crowded:
        _start_jobs(store, now)
    store.query("UPDATE jobs SET gone = 1 WHERE gone = 0 AND ended < ?", now - store.setting("min_job_age_s"))


def end(
    store: Store, job: Job, at: float, state: str, code: "tuple[int, int]" = (0, 0), cancelled_by: "Optional[int]" = None
) -> None:
    """Let a job end in a state, or wait again (`REQUEUE`); one that is executed ends when its processes have."""
    job.outcome, job.cancelled_by, (job.exit_code, job.exit_signal) = state, cancelled_by, code
    if job.state == "PENDING":
        store.save(job, "outcome", "cancelled_by", "exit_code", "exit_signal")
        finish(store, job, at)
        return
    instant = job.mode != "execute"
    job.state, job.due = "COMPLETING", at + job.completing_s if instant else None
    store.save(job, "outcome", "cancelled_by", "exit_code", "exit_signal", "state", "due")
    if (instant and not job.completing_s) or (not instant and job.pid is None):
        finish(store, job, at)


def finish(store: Store, job: Job, at: float) -> None:
    """Give a completing job its outcome."""
    store.crowded = True
    job.pid = job.shell = job.due = None
    store.query("DELETE FROM steps WHERE key = ?", job.key)
    if job.outcome == "REQUEUE":
        _again(store, job, at)
        return
    was_waiting = job.started is None
    job.state, job.ended = job.outcome, at
    job.started = at if was_waiting else job.started
    if not was_waiting:
        job.reason = _REASONS.get(job.state, "")
    store.save(job, "state", "started", "ended", "due", "reason", "pid", "shell")


def set_held(store: Store, job: Job, held: bool) -> None:
    """Hold a waiting job, or release it."""
    job.held, job.reason = int(held), "JobHeldUser" if held else ""
    store.save(job, "held", "reason")
    store.crowded = True


def _again(store: Store, job: Job, at: float) -> None:
    """Put a job that ran back into the queue, under its id."""
    past = vars(job) | {"state": "REQUEUED", "ended": at}
    store.insert("incarnations", past)
    fresh: dict[str, Any] = {
        "state": "PENDING",
        "outcome": "",
        "reason": "BeginTime",
        "begin": at + store.setting("requeue_delay_s"),
        "due": at + store.setting("requeue_delay_s"),
        "started": None,
        "ended": None,
        "nodelist": "",
        "exit_code": 0,
        "exit_signal": 0,
        "signal_sent": 0,
        "restarts": job.restarts + 1,
        "launched": 0.0,
    }
    vars(job).update(fresh)
    store.save(job, "pid", "shell", *fresh)


def _fire(store: Store, job: Job, at: float) -> None:
    """Do what is due for one job."""
    if job.state == "PENDING":
        job.due, job.reason = None, "" if job.reason == "BeginTime" else job.reason
        store.save(job, "due", "reason")
        store.crowded = True
    elif job.state == "COMPLETING":
        finish(store, job, at)
    else:
        assert job.started is not None
        ran_s = at - job.started
        if job.mode == "instant" and ran_s >= job.run_s:
            end(store, job, at, job.final_state, (job.final_exit, job.final_signal))
        elif ran_s >= job.limit_s:
            end(store, job, at, "TIMEOUT")
        else:
            job.signal_sent = 1
            _set_due(job)
            store.save(job, "signal_sent", "due")
            send(store, job, job.signal, "shell" if job.signal_batch else "steps")


def send(store: Store, job: Job, number: int, whom: str) -> None:
    """Send a signal once this transaction is over; whom: the `shell` of an executed job, its `steps`, or `all` processes."""
    if whom == "all":
        pids = [] if job.pid is None else descendants(job.pid)
    elif whom == "shell":
        pids = [] if job.shell is None else [job.shell]
    else:
        pids = [pid for (pid,) in store.query("SELECT pid FROM steps WHERE key = ?", job.key)]
    store.signals += [(pid, number) for pid in pids]


def _set_due(job: Job) -> None:
    assert job.started is not None
    ends_s = job.run_s if job.mode == "instant" else job.limit_s
    if job.signal and not job.signal_sent:
        ends_s = min(ends_s, max(0.0, job.limit_s - job.signal_before_s))
    job.due = job.started + min(ends_s, job.limit_s)


def _start_jobs(store: Store, at: float) -> None:
    store.crowded = False
    for job in store.jobs("state = 'PENDING' AND dependency != '' AND appears <= ?", at):
        _judge_dependency(store, job, at)
    free = free_cpus(store)
    hopeless: set[tuple[object, ...]] = set()
    waiting = "state = 'PENDING' AND mode != 'never' AND held = 0 AND due IS NULL AND dependency = ''"
    for job in store.jobs(waiting) if any(free.values()) else []:
        shape = (job.nodes, job.cpus_each, job.exclusive, job.wanted, job.excluded)
        if shape in hopeless:
            continue
        if job.task_limit and len(store.jobs(f"array_id = ? AND {_TAKES_NODES}", job.array_id)) >= job.task_limit:
            job.reason = "JobArrayTaskLimit"
            store.save(job, "reason")
            continue
        hosts = _place(store, job, free)
        if hosts:
            _start(store, job, hosts, at)
            for host in hosts:
                free[host] = 0 if job.exclusive else free[host] - job.cpus_each
        else:
            hopeless.add(shape)
    if store.crowded:  # a job that ended within this moment has made room
        _start_jobs(store, at)


def free_cpus(store: Store) -> "dict[str, int]":
    """Return how many CPUs of each node that takes jobs are free."""
    free = dict(store.query("SELECT name, cpus FROM nodes WHERE state = 'idle' ORDER BY rowid"))
    for job in store.jobs(_TAKES_NODES):
        for host in job.hosts:
            if host in free:
                free[host] = 0 if job.exclusive else free[host] - job.cpus_each
    return free


def _place(store: Store, job: Job, free: "dict[str, int]") -> "list[str]":
    """Return nodes for a job, none if there is no room."""
    total = dict(store.query("SELECT name, cpus FROM nodes")) if job.exclusive else {}
    wanted, excluded = job.wanted.split(",") if job.wanted else [], job.excluded.split(",")
    room = [
        host
        for host, cpus in free.items()
        if host not in excluded and cpus >= job.cpus_each and (not job.exclusive or cpus == total[host])
    ]
    if not set(wanted) <= set(room):
        return []
    hosts = sorted(room, key=lambda host: host not in wanted)[: job.nodes]
    return [host for host in free if host in hosts] if len(hosts) == job.nodes else []


def _start(store: Store, job: Job, hosts: "list[str]", at: float) -> None:
    others = "SELECT COUNT(*) FROM jobs WHERE array_id = ? AND key != ? AND state = 'PENDING'"
    if job.array_id is not None and not job.restarts and store.query(others, job.array_id, job.key)[0][0]:
        job.job_id = store.next_id()  # the last task keeps the array's own
    job.state, job.reason, job.nodelist, job.started = "RUNNING", "", ",".join(hosts), at
    _set_due(job)
    store.save(job, "job_id", "state", "reason", "nodelist", "started", "due")
    if job.due is not None and job.due <= at:
        _fire(store, job, at)


def _judge_dependency(store: Store, job: Job, at: float) -> None:
    left, never = [], False
    for term in job.dependency.split(","):
        verdict = _fulfilled(store, job, term)
        if verdict is not True:
            left.append(term)
        never = never or verdict is None
    job.dependency = ",".join(left)
    if not job.held:
        job.reason = "DependencyNeverSatisfied" if never else "Dependency" if left else ""
    store.save(job, "dependency", "reason")
    if never and job.kill_invalid:
        end(store, job, at, "CANCELLED")


def _fulfilled(store: Store, job: Job, term: str) -> "bool | None":
    """Return whether one condition holds; None: it never will. A job that the controller does not know is no condition."""
    kind, _, other = term.partition(":")
    if kind == "singleton":
        return not store.jobs(f"name = ? AND user = ? AND key < ? AND state IN {ACTIVE}", job.name, job.user, job.key)
    jobs = [earlier for earlier in store.named(other) if earlier.key < job.key]
    if kind == "after":
        return all(job.started is not None for job in jobs)
    if kind == "afterany":
        return not any(job.active for job in jobs)
    wrong = [job for job in jobs if not job.active and (job.state == "COMPLETED") != (kind in ("afterok", "aftercorr"))]
    if wrong:
        return None
    return not any(job.active for job in jobs)
