"""Where things lie: in the cluster's folder on this machine, and as its hosts see them.

With namespaces a host has a file tree of its own: `/etc/slurm`, `/run`, `/tmp`, `/var/log` and `/var/spool` are the host's,
`/home` and `/srv` are shared by all hosts, and none of them is this machine's. Without, all paths are those of the folder.
"""

from pathlib import Path

HOSTS = ("ctl", "login", "gate", "node1", "node2", "node3", "node4")
NODES = HOSTS[3:]
GPU_NODES = NODES[:2]
CPUS = 4
MEMORY_MB = 4000
GPUS = 2

ALICE = ("alice", 60001)
BOB = ("bob", 60002)


class Layout:
    """Paths of one cluster."""

    def __init__(self, root: Path, *, namespaces: bool) -> None:
        self.root = root
        self.namespaces = namespaces
        inside = (lambda name, path: path) if namespaces else (lambda name, path: str(root / name))
        self.etc = inside("etc/slurm", "/etc/slurm")
        self.run = inside("run", "/run")
        self.log = inside("log", "/var/log")
        self.spool = inside("spool", "/var/spool")
        self.srv = inside("srv", "/srv")
        self.shared = f"{self.srv}/shared"
        """Folder that every host sees and every user may write into."""
        self.variables = {} if namespaces else {"SLURM_CONF": f"{self.etc}/slurm.conf", "APPTAINER_CACHEDIR": f"{root}/cache"}
        """What the environment of users and daemons needs, because files are not at their usual places."""
        self.munge_socket = f"{self.run}/munge/munge.sock"

    def make(self) -> None:
        """Make the folders."""
        root = self.root
        for name in ("etc/slurm", "etc/ssh", "home", "srv/shared", "srv/images", "sbin", "ssh"):
            (root / name).mkdir(parents=True)
        (root / "srv/shared").chmod(0o1777)
        if self.namespaces:
            for host in HOSTS:
                for name in ("run/munge", "run/sshd", "tmp", "log", "spool", "ssh"):
                    (root / "hosts" / host / name).mkdir(parents=True)
                (root / "hosts" / host / "tmp").chmod(0o1777)
            (root / "run/munge").mkdir(parents=True)
        else:
            for name in ("run/munge", "log", "spool", "cache"):
                (root / name).mkdir(parents=True)

    def host_file(self, host: str, path: str) -> Path:
        """Return where a file of a host, by the host's path below `run`, `log`, `spool` or `/tmp`, lies on this machine."""
        if not self.namespaces:
            return Path(path)
        for inside, name in ((self.run, "run"), (self.log, "log"), (self.spool, "spool"), ("/tmp", "tmp")):
            if path.startswith(f"{inside}/"):
                return self.root / "hosts" / host / name / path[len(inside) + 1 :]
        return self.here(path)

    def here(self, path: str) -> Path:
        """Return where a shared file, by its path on the cluster (below `/srv` or `/home`), lies on this machine.

        Raises:
            ValueError: the path is not shared.
        """
        if not self.namespaces:
            return Path(path)
        for inside, name in (("/srv", "srv"), ("/home", "home")):
            if path == inside or path.startswith(f"{inside}/"):
                return self.root / name / path[len(inside) + 1 :]
        raise ValueError(f"{path} is not shared by the hosts of the cluster")
