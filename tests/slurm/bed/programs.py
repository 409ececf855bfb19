"""The programs a cluster is made of; `.ci/servers` installs them."""

import os
import shutil
import subprocess

_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
_BASE = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "bwrap": "bubblewrap",
    "mksquashfs": "squashfs-tools",
}
_NAMESPACES = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "setpriv": "util-linux"}
_ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core", "mariadb-install-db": "mariadb-server-core"}


def find(program: str) -> str:
    """Return the path of a program, daemons included.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = shutil.which(program, path=_PATH)
    if found is None:
        raise FileNotFoundError(program)
    return found


def missing(*, accounting: bool = False) -> list[str]:
    """Return the Debian packages that a cluster lacks on this machine."""
    wanted = {**_BASE, **(_NAMESPACES if os.geteuid() == 0 else {}), **(_ACCOUNTING if accounting else {})}
    return sorted({package for program, package in wanted.items() if shutil.which(program, path=_PATH) is None})


def slurm_version() -> tuple[int, ...]:
    """Return the release of Slurm, e.g. (22, 5)."""
    said = subprocess.run([find("slurmd"), "-V"], capture_output=True, text=True, timeout=30, check=True).stdout
    return tuple(int(number) for number in said.split()[-1].split(".")[:2])
