"""A cluster as a test uses it: what it asks, and the faults it makes."""

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import layout, network, processes
from .assembly import Assembly
from .daemons import wait
from .errors import BedError
from .hosts import NamespaceHost

_QUEUE = "%i|%j|%T|%r|%N"
_ENDED_S = 40.0
_USABLE = {"idle", "mixed", "allocated", "completing"}


class Job(NamedTuple):
    """One line of squeue."""

    id: str
    name: str
    state: str
    reason: str
    nodes: str


class Cluster(Assembly):
    """A running cluster."""

    @property
    def addresses(self) -> set[str]:
        """The addresses that this machine may connect to."""
        return {self.login[0], self.gate[0]}

    def run(
        self,
        argv: Sequence[str],
        host: str = "login",
        user: str | None = None,
        *,
        stdin: str = "",
        timeout_s: int = 30,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host without ssh, as `user` (default: who logs in), in the user's home, not in our environment.

        Exit code 124: it took longer than `timeout_s`.

        Raises:
            BedError: with `check`, the command fails.
        """
        return self.hosts[host].run(argv, user or self.user, stdin=stdin, timeout_s=timeout_s, check=check)

    def submit(self, script: str, *options: str, user: str | None = None) -> str:
        """Submit a batch script without ssh; return the job's id.

        Raises:
            BedError: sbatch refuses.
        """
        argv = ["sbatch", "--parsable", "--no-requeue", f"--chdir={self.shared}", *options]
        return self.run(argv, user=user, stdin=script, check=True).stdout.strip()

    def jobs(self, user: str | None = None, *, ended: bool = False) -> list[Job]:
        """Return the jobs in the queue, of one user or of all; with `ended`, also those that ended some seconds ago.

        Raises:
            BedError: squeue fails.
        """
        whose = [f"--user={user}"] if user else []
        argv = ["squeue", "--noheader", f"--format={_QUEUE}", *whose, *(["--states=all"] if ended else [])]
        listing = self.hosts["ctl"].run(argv, check=True).stdout
        return [Job(*line.split("|")) for line in listing.splitlines()]

    def wait_for(self, job: str, *states: str, limit_s: float = 60.0) -> Job:
        """Wait until a job is in one of the states, in long words; return its line.

        Raises:
            BedError: it is not within `limit_s`.
        """
        found: list[Job] = []

        def there() -> bool:
            found[:] = [line for line in self.jobs(ended=True) if line.id == job]
            return bool(found) and found[0].state in states

        try:
            wait(f"job {job} {' or '.join(states)}", there, *self._logs(), limit_s=limit_s, pause_s=0.05)
        except BedError as error:
            raise BedError(f"{error}\nlast seen: {found}") from None
        return found[0]

    def cancel_all(self) -> None:
        """Cancel all jobs and wait until none is in the queue.

        Raises:
            BedError: some stay.
        """
        for user in self.users:
            self.hosts["ctl"].run(["scancel", f"--user={user}"], check=True)
        wait("end of cancelled jobs", lambda: not self.jobs(), *self._logs(), limit_s=_ENDED_S)

    def leftovers(self) -> list[processes.Process]:
        """Return the processes of users on nodes that belong to no job of the queue."""
        active = {job.id for job in self.jobs()}
        everything = list(processes.processes())
        of_jobs = processes.with_descendants({p.pid for p in everything if p.name == "slurmstepd"}, everything)
        return [
            process
            for process in everything
            if self._on_a_node(process) and process.pid not in of_jobs and process.environ().get("SLURM_JOB_ID") not in active
        ]

    def _on_a_node(self, process: processes.Process) -> bool:
        if self.namespaces:
            spaces = {processes.space_of(self.hosts[node].pid) for node in layout.NODES if self.hosts[node].pid}
            return process.uid in {layout.ALICE[1], layout.BOB[1]} and processes.space_of(process.pid) in spaces
        return "SLURM_JOB_ID" in process.environ() and process.serves(str(self.folder))

    def give_ssh(self, home: Path) -> None:
        """Make a home on this machine one that can log in: `~/.ssh/config` names the cluster's hosts and key.

        `testbed` (or login's address) is login, `testbed-gate` the gate, `testbed-inside` is login through the gate.
        """
        folder = home / ".ssh"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "config").write_text(self.ssh_config.read_text())
        (folder / "known_hosts").write_text(self.known_hosts.read_text())

    # Faults

    def save(self) -> None:
        """Let slurmctld write down what it knows: killed, it forgets what it has not written.

        By itself it writes up to 5 s after a change, and not at all if it has already written in the second of the change.

        Raises:
            BedError: it does not.
        """
        file, now = self.places.host_file("ctl", f"{self.places.spool}/slurmctld/job_state"), time.time()
        time.sleep(1.1)
        self.hosts["ctl"].run(["scontrol", "reconfigure"], check=True)
        wait("state of slurmctld", lambda: file.exists() and file.stat().st_mtime > now, self.slurmctld.log)

    def power_off(self, node: str) -> None:
        """Let a node fail at once: nothing on it runs on, and it does not answer."""
        host = self.hosts[node]
        if isinstance(host, NamespaceHost):
            host.power_off()
            return
        mine = f"{self.places.log}/slurmd-{node}.log"
        everything = list(processes.processes())
        roots = {p.pid for p in everything if p.name in {"slurmd", "slurmstepd"} and p.has_open(mine)}
        processes.send(signal.SIGKILL, processes.with_descendants(roots, everything))

    def power_on(self, node: str) -> None:
        """Start a node again and wait until it is idle."""
        host = self.hosts[node]
        if isinstance(host, NamespaceHost):
            host.start(die_with_us=self._die_with_us)
            host.ready()
            self._net.connect(host, self.hosts["ctl"])
        self._slurmds[node].start()
        wait(f"node {node}", lambda: self._state(node) in _USABLE, *self._logs())

    def drop_ssh_sessions(self, host: str = "login") -> int:
        """Kill the ssh sessions on a host, not what they started, and not sshd itself; return how many processes."""
        sessions = {process.pid for process in self._sshds(host) if "[listener]" not in process.command}
        processes.send(signal.SIGKILL, sessions)
        return len(sessions)

    def cut_login(self) -> None:
        """Cut this machine off from login and tell nobody: what is sent is lost (without namespaces: sshd is frozen)."""
        self._link(connected=False)

    def restore_login(self) -> None:
        """Undo `cut_login`."""
        self._link(connected=True)

    def heal(self) -> None:
        """Undo all faults."""
        self.restore_login()
        if self.slurmctld.alive():
            self.slurmctld.cont()
        else:
            self.slurmctld.restart()
        wait("slurmctld", lambda: self.hosts["ctl"].run(["sinfo", "--noheader"]).returncode == 0, self.slurmctld.log)
        for node, daemon in self._slurmds.items():
            host = self.hosts[node]
            if (isinstance(host, NamespaceHost) and not host.pid) or not daemon.alive():
                self.power_on(node)
            elif self._state(node) not in _USABLE:
                self.hosts["ctl"].run(["scontrol", "update", f"nodename={node}", "state=resume"])
                wait(f"node {node}", lambda node=node: self._state(node) in _USABLE, *self._logs())

    def recover(self) -> list[Job]:
        """Undo all faults and cancel all jobs; return those that had to be cancelled."""
        self.heal()
        wait("end of jobs", lambda: all(job.state != "COMPLETING" for job in self.jobs()), *self._logs(), limit_s=_ENDED_S)
        if left := self.jobs():
            self.cancel_all()
        return left

    def _link(self, *, connected: bool) -> None:
        if self.namespaces:
            network.cut(self.hosts["login"], connected=connected)
        else:
            pids = {process.pid for process in self._sshds("login")}
            processes.send(signal.SIGCONT if connected else signal.SIGSTOP, pids)

    def _sshds(self, host: str) -> list[processes.Process]:
        log = f"{self.places.log}/sshd-{host}.log"
        found = [process for process in processes.processes() if process.name.startswith("sshd")]
        if self.namespaces:
            space = processes.space_of(self.hosts[host].pid)
            return [process for process in found if processes.space_of(process.pid) == space]
        pid = int(self.places.host_file(host, f"{self.places.run}/sshd-{host}.pid").read_text())
        family = processes.with_descendants({pid}, found)
        return [process for process in found if process.pid in family or process.has_open(log)]

    def _state(self, node: str) -> str:
        listing = self.hosts["ctl"].run(["sinfo", "--noheader", f"--nodes={node}", "--format=%T"]).stdout
        return listing.strip()
