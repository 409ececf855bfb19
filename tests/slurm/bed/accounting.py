"""slurmdbd and its database."""

import subprocess

from . import texts
from .daemons import Daemon, wait
from .errors import with_log
from .hosts import Host
from .programs import find

_FIRST = f"""\
CREATE DATABASE {texts.DATABASE};
CREATE USER 'slurm'@'localhost' IDENTIFIED BY 'slurm';
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON {texts.DATABASE}.* TO 'slurm'@'localhost';
GRANT ALL ON {texts.DATABASE}.* TO 'slurm'@'127.0.0.1';
"""


class Database:
    """MariaDB, which does not put itself into the background."""

    def __init__(self, host: Host, port: int, *, as_root: bool) -> None:
        self._host = host
        self._port = port
        self._data = f"{host.places.spool}/mariadb"
        self._socket = f"{host.places.run}/mariadb.sock"
        self._user = ["--user=root"] if as_root else []
        self._process: subprocess.Popen | None = None
        self.log = host.places.host_file(host.name, f"{host.places.log}/mariadbd.log")

    def start(self) -> None:
        """Make the database and start it.

        Raises:
            BedError: it does not come up.
        """
        install = [find("mariadb-install-db"), "--no-defaults", f"--datadir={self._data}", *self._user]
        self._host.run([*install, "--auth-root-authentication-method=normal", "--skip-test-db"], timeout_s=60, check=True)
        first = self._host.places.host_file(self._host.name, f"{self._host.places.spool}/first.sql")
        first.write_text(_FIRST)
        pid_file = f"{self._host.places.run}/mariadbd.pid"
        argv = [
            *(find("mariadbd"), "--no-defaults", f"--datadir={self._data}", f"--socket={self._socket}", f"--port={self._port}"),
            *("--bind-address=127.0.0.1", f"--pid-file={pid_file}", f"--init-file={self._host.places.spool}/first.sql"),
            *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"),
            *("--innodb-lock-wait-timeout=900", "--performance-schema=OFF", *self._user),
        ]
        with self.log.open("ab") as out:
            self._process = self._host.popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        file = self._host.places.host_file(self._host.name, pid_file)
        wait("mariadbd", lambda: self._running() and file.exists(), self.log)

    def gone(self) -> None:
        """Wait for the process once it has been killed."""
        if self._process is not None:
            self._process.wait(20)
            self._process = None

    def _running(self) -> bool:
        if self._process.poll() is not None:
            raise with_log(f"mariadbd ended with {self._process.returncode}", self.log)
        return True


def slurmdbd(host: Host) -> Daemon:
    """Return slurmdbd."""
    places = host.places
    return Daemon(host, [find("slurmdbd")], f"{places.run}/slurmdbd.pid", f"{places.log}/slurmdbd.log")


def register(host: Host, daemon: Daemon, users: list[str]) -> None:
    """Tell slurmdbd of the cluster, an account and its users, once it answers.

    Raises:
        BedError: it does not answer, or refuses.
    """
    wait("slurmdbd", lambda: _sacctmgr(host, "add", "cluster", "testbed"), daemon.log, pause_s=0.1)
    for what in (
        ["add", "account", texts.ACCOUNT, "Cluster=testbed"],
        ["add", "user", ",".join(users), f"Account={texts.ACCOUNT}", "Cluster=testbed"],
    ):
        host.run(["sacctmgr", "-i", *what], check=True)


def _sacctmgr(host: Host, *arguments: str) -> bool:
    return host.run(["sacctmgr", "-i", *arguments]).returncode == 0
