"""The files of a cluster: configuration, keys, homes, programs."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from . import layout, texts
from .layout import Layout
from .programs import find

_FIXED = {"ctl": 6817, "slurmdbd": 6819, "mariadbd": 3306, "login": 22, "gate": 22, **dict.fromkeys(layout.NODES, 6818)}
_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_FLOOR = "import sys; sys.exit(sys.version_info < (3, 9))"


def ports(*, namespaces: bool) -> dict[str, int]:
    """Return the port of each daemon: the usual ones where hosts have addresses of their own, free ones otherwise."""
    if namespaces:
        return dict(_FIXED)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in _FIXED]
    free = {name: server.getsockname()[1] for name, server in zip(_FIXED, sockets, strict=True)}
    for server in sockets:
        server.close()
    return free


def system_files(places: Layout) -> None:
    """Write the files below `/etc` that hosts see instead of this machine's; addresses come later."""
    etc = places.root / "etc"
    read = {name: _read(Path("/etc", name)) for name in ("passwd", "group", "shadow")}
    for name, text in texts.users(**read).items():
        (etc / name).write_text(text)
    (etc / "shadow").chmod(0o600)
    (etc / "profile").write_text(texts.PROFILE)
    (etc / "nsswitch.conf").write_text(texts.NSSWITCH)
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    for user, uid in (layout.ALICE, layout.BOB):
        home = places.root / "home" / user
        home.mkdir()
        os.chown(home, uid, uid)
        home.chmod(0o700)


def programs(places: Layout) -> None:
    """Put `apptainer` and a Python that every user may run where hosts have their PATH first."""
    target = places.root / "sbin"
    shutil.copy(Path(__file__).with_name("apptainer"), target / "apptainer")
    (target / "apptainer").chmod(0o755)
    for candidate in (*_PYTHONS, os.path.realpath(sys.executable)):
        if os.access(candidate, os.X_OK) and subprocess.run([candidate, "-c", _FLOOR], check=False).returncode == 0:
            (target / "python3").symlink_to(candidate)
            break


def fake_gpus(places: Layout) -> None:
    """Give the hosts that have GPUs character devices under their names."""
    for node in layout.GPU_NODES:
        for number in range(layout.GPUS):
            file = places.host_file(node, f"{places.run}/fakegpu{number}")
            if not file.is_symlink():
                file.symlink_to("/dev/null" if number == 0 else "/dev/zero")


def munge_key(places: Layout) -> str:
    """Write the key that daemons and users prove themselves with; return its path on the host that runs munged."""
    path = f"{places.spool}/munge/munge.key"
    key = places.host_file("ctl", path)
    key.parent.mkdir(mode=0o700)
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    return path


def client_keys(folder: Path, users: list[str]) -> dict[str, str]:
    """Make a key for each user of ssh in `folder`; return the public ones."""
    public = {}
    for user in users:
        _new_key(folder / f"{user}_ed25519")
        public[user] = (folder / f"{user}_ed25519.pub").read_text()
    return public


def sshd(places: Layout, host: str, public: Mapping[str, str], address: str, port: int) -> tuple[list[str], str, str]:
    """Write what sshd of a host needs; return its command, its pid file and its log."""
    folder = places.root / ("hosts" if places.namespaces else "etc/ssh") / host / ("ssh" if places.namespaces else "")
    (folder / "keys").mkdir(parents=True)
    _new_key(folder / "host_key")
    for user, key in public.items():
        (folder / "keys" / user).write_text(key)
    seen = "/etc/ssh" if places.namespaces else str(folder)
    pid_file, log = f"{places.run}/sshd-{host}.pid", f"{places.log}/sshd-{host}.log"
    variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/bin:/bin"}
    if not places.namespaces:
        variables = {"PATH": f"{places.root}/sbin:{variables['PATH']}", **places.variables}
    config = texts.sshd_config(seen, f"{seen}/keys/%u", pid_file, address, port, variables)
    (folder / "sshd_config").write_text(config)
    return [find("sshd"), "-f", f"{seen}/sshd_config", "-E", log], pid_file, log


def known_hosts(places: Layout, hosts: Mapping[str, tuple[str, int]]) -> str:
    """Return known_hosts for addresses of `login`, `gate`, and `inside`, which is login too."""
    lines = []
    for name, (address, port) in hosts.items():
        host = "login" if name == "inside" else name
        folder = places.root / ("hosts" if places.namespaces else "etc/ssh") / host / ("ssh" if places.namespaces else "")
        kind, key = (folder / "host_key.pub").read_text().split()[:2]
        lines.append(f"{address if port == 22 else f'[{address}]:{port}'} {kind} {key}\n")
    return "".join(dict.fromkeys(lines))


def _new_key(path: Path) -> None:
    subprocess.run([find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "test bed", "-f", path], check=True, timeout=30)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
