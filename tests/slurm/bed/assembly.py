"""A whole cluster put together from hosts, links, files and daemons, and taken down."""

import os
import pwd
from pathlib import Path

from . import image, layout, network, setup, texts
from .accounting import Database, register, slurmdbd
from .daemons import Daemon, wait
from .hosts import Host, LoopHost, NamespaceHost
from .life import down
from .programs import find, slurm_version


class Assembly:
    """A Slurm cluster in a folder that does not exist yet, or is empty.

    As root its hosts are namespaces with addresses of their own; otherwise all its daemons run on 127.0.0.1, as the user
    that starts it. With `die_with_us` the namespaces end with the process that calls `up`.
    """

    slurmctld: Daemon

    def __init__(self, folder: Path, *, accounting: bool = False, die_with_us: bool = True) -> None:
        self.folder = folder
        self.namespaces = os.geteuid() == 0
        self.accounting = accounting
        self._die_with_us = die_with_us
        self.places = layout.Layout(folder, namespaces=self.namespaces)
        own = pwd.getpwuid(os.geteuid())
        self.user = layout.ALICE[0] if self.namespaces else own.pw_name
        """Who logs in and submits: alice, or where there are no namespaces the user that runs the cluster."""
        self.home = f"/home/{self.user}" if self.namespaces else own.pw_dir
        self.shared = self.places.shared
        """Folder that all hosts see and every user may write into, by its path on the cluster; `here` tells where it lies."""
        self.runs = f"{self.shared}/runs"
        self.key = folder / "ssh" / f"{self.user}_ed25519"
        self.known_hosts = folder / "ssh/known_hosts"
        self.ssh_config = folder / "ssh/config"
        self.nodes: dict[str, str] = {}
        """Address of each node."""
        self.login = self.gate = self.inside = ("", 0)
        """Address and port of sshd: of login and of gate, and of login as gate reaches it."""
        self.image: str | None = None
        """Path on the cluster of an image with Redis; None if this machine has no Redis."""
        make = NamespaceHost if self.namespaces else LoopHost
        self.hosts: dict[str, Host] = {name: make(name, self.places) for name in layout.HOSTS}
        self._ports = setup.ports(namespaces=self.namespaces)
        self._database: Database | None = None
        self._slurmds: dict[str, Daemon] = {}

    def up(self) -> None:
        """Start everything and wait until all nodes are idle.

        Raises:
            BedError: something does not start; `down` is still needed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.places.make()
        (self.folder / "mode").write_text("namespaces" if self.namespaces else "loopback")
        address = self._connect_hosts()
        self._write_files(address)
        self._start_daemons()
        wait("idle nodes", self.idle, *self._logs())

    def down(self) -> None:
        """End everything and remove the folder."""
        down(self.folder)
        for host in self.hosts.values():
            if isinstance(host, NamespaceHost):
                host.power_off()
        if self._database is not None:
            self._database.gone()

    def idle(self) -> bool:
        """Say whether every node is idle."""
        done = self.hosts["ctl"].run(["sinfo", "--noheader", "--Node", "--format=%t"])
        return done.returncode == 0 and done.stdout.split() == ["idle"] * len(layout.NODES)

    @property
    def users(self) -> tuple[str, ...]:
        """Who may log in and submit."""
        return (layout.ALICE[0], layout.BOB[0]) if self.namespaces else (self.user,)

    def profile(self, runtime: str) -> Path:
        """Return the site profile for runtime `host` or `apptainer`."""
        return self.folder / f"testbed-{runtime}.yaml"

    def here(self, path: str) -> Path:
        """Return where a file below the shared folder or a home lies on this machine."""
        return self.places.here(path)

    def _connect_hosts(self) -> dict[str, str]:
        if not self.namespaces:
            self.login, self.gate = (("127.0.0.1", self._ports[name]) for name in ("login", "gate"))
            self.inside = self.login
            self.nodes = dict.fromkeys(layout.NODES, "127.0.0.1")
            return dict.fromkeys(layout.HOSTS, "127.0.0.1")
        setup.system_files(self.places)
        for host in self.hosts.values():
            host.start(die_with_us=self._die_with_us)
        for host in self.hosts.values():
            host.ready()
        net = network.establish(self.hosts)
        (self.folder / "network").write_text(str(net.number))
        address = {name: net.inside(name) for name in layout.HOSTS}
        lines = "".join(f"{address[name]} {name}\n" for name in layout.HOSTS)
        with (self.folder / "etc/hosts").open("a") as file:
            file.write(lines)
        self.login, self.gate = ((net.outside(name), self._ports[name]) for name in ("login", "gate"))
        self.inside = (address["login"], self._ports["login"])
        self.nodes = {name: address[name] for name in layout.NODES}
        self._net = net
        return address

    def _write_files(self, address: dict[str, str]) -> None:
        etc, daemon_user = self.folder / "etc/slurm", "root" if self.namespaces else self.user
        (etc / "slurm.conf").write_text(
            texts.slurm_conf(self.places, address, self._ports, daemon_user, accounting=self.accounting)
        )
        (etc / "gres.conf").write_text(texts.gres_conf(self.places))
        if slurm_version() >= (23, 11):  # slurmd wants control groups from systemd unless told otherwise
            (etc / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        if self.accounting:
            (etc / "slurmdbd.conf").write_text(texts.slurmdbd_conf(self.places, address, self._ports, daemon_user))
            (etc / "slurmdbd.conf").chmod(0o600)
        for node in layout.NODES:
            self.places.host_file(node, f"{self.places.spool}/{node}").mkdir()
        self.places.host_file("ctl", f"{self.places.spool}/slurmctld").mkdir()
        setup.programs(self.places)
        setup.fake_gpus(self.places)
        if image.build(self.places.here(f"{self.places.srv}/images")) is not None:
            self.image = f"{self.places.srv}/images/{image.NAME}"
        runs = self.here(self.runs)
        runs.mkdir()
        runs.chmod(0o1777)
        for runtime in ("host", "apptainer"):
            self.profile(runtime).write_text(
                texts.site_profile(self.login, self.user, self.runs, runtime, f"{self.places.srv}/images/{image.NAME}")
            )

    def _start_daemons(self) -> None:
        places, ctl = self.places, self.hosts["ctl"]
        sshds = self._write_ssh()
        key, log = setup.munge_key(places), f"{places.log}/munged.log"
        files = {"key": key, "socket": places.munge_socket, "pid": f"{places.run}/munged.pid", "log": log}
        files["seed"] = f"{places.spool}/munge/seed"
        options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in files.items()]
        Daemon(ctl, [find("munged"), "--force", "--num-threads=10", *options], files["pid"], log).start()
        if self.accounting:
            self._database = Database(ctl, self._ports["mariadbd"], as_root=os.geteuid() == 0)
            self._database.start()
            dbd = slurmdbd(ctl)
            dbd.start()
            register(ctl, dbd, list(self.users))
        conf = f"{places.etc}/slurm.conf"
        self.slurmctld = Daemon(
            ctl, [find("slurmctld"), "-f", conf], f"{places.run}/slurmctld.pid", f"{places.log}/slurmctld.log"
        )
        self.slurmctld.start()
        for node in layout.NODES:
            argv = [find("slurmd"), "-N", node, "-f", conf]
            self._slurmds[node] = Daemon(
                self.hosts[node], argv, f"{places.run}/slurmd-{node}.pid", f"{places.log}/slurmd-{node}.log"
            )
        for daemon in (*self._slurmds.values(), *sshds):
            daemon.start()

    def _write_ssh(self) -> list[Daemon]:
        folder = self.folder / "ssh"
        public = setup.client_keys(folder, list(self.users))
        daemons = []
        for name in ("login", "gate"):
            listen = "0.0.0.0" if self.namespaces else "127.0.0.1"
            argv, pid_file, log = setup.sshd(self.places, name, public, listen, self._ports[name])
            daemons.append(Daemon(self.hosts[name], argv, pid_file, log))
        hosts = {"login": self.login, "gate": self.gate, "inside": self.inside}
        self.known_hosts.write_text(setup.known_hosts(self.places, hosts))
        self.ssh_config.write_text(texts.ssh_config(str(self.key), str(self.known_hosts), self.user, hosts))
        return daemons

    def _logs(self) -> list[Path]:
        return [self.slurmctld.log, *(daemon.log for daemon in self._slurmds.values())]
