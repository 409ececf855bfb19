"""The links between hosts, and the one that this machine has into the cluster.

    this machine --- login (198.19.N.2)        198.18.N.0/24: ctl .1, login .2, gate .3, node1 .11, node2 .12, ...
                \\-- gate  (198.19.N.3)        a bridge on ctl

198.18.0.0/15 is set aside for test networks. This machine reaches nothing of the cluster but login and gate: for all other
addresses it has a route that refuses at once, so that a forgotten tunnel does not send packets out of the machine.
"""

import ipaddress
import random
import subprocess

from . import layout
from .errors import BedError
from .hosts import NamespaceHost
from .programs import find

_LAST = {"ctl": 1, "login": 2, "gate": 3, **{name: 10 + number for number, name in enumerate(layout.NODES, 1)}}
_OUTSIDE = ("login", "gate")


class Network:
    """The addresses and links of one cluster, known by its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def inside(self, host: str) -> str:
        """Return a host's address in the cluster."""
        return f"198.18.{self.number}.{_LAST[host]}"

    def outside(self, host: str) -> str:
        """Return the address at which this machine reaches `login` or `gate`."""
        return f"198.19.{self.number}.{_LAST[host]}"

    def link(self, host: str) -> str:
        """Return the name of this machine's end of the link to `login` or `gate`."""
        return f"afb{self.number}-{host}"

    def take(self, hosts: dict[str, NamespaceHost]) -> bool:
        """Make the first link, which claims the number; return whether it was free."""
        done = _ip(f"link add {self.link('login')} type veth peer name ext0 netns {hosts['login'].pid}", check=False)
        if done.returncode != 0 and "exists" not in done.stderr:
            raise BedError(f"ip link add: {done.stderr.strip()}")
        return done.returncode == 0

    def make(self, hosts: dict[str, NamespaceHost]) -> None:
        """Make all other links, addresses and routes."""
        _ip(f"link add {self.link('gate')} type veth peer name ext0 netns {hosts['gate'].pid}")
        here = f"198.19.{self.number}.1"
        _ip(
            f"route add unreachable 198.18.{self.number}.0/24",
            f"route add unreachable 198.19.{self.number}.0/24",
            *(f"addr add {here}/32 peer {self.outside(host)}/32 dev {self.link(host)}" for host in _OUTSIDE),
            *(f"link set {self.link(host)} up" for host in _OUTSIDE),
        )
        for host in _OUTSIDE:
            _ip(f"addr add {self.outside(host)}/32 peer {here}/32 dev ext0", "link set ext0 up", inside=hosts[host])
        _ip(
            "link add br0 type bridge",
            f"addr add {self.inside('ctl')}/24 dev br0",
            "link set br0 up",
            inside=hosts["ctl"],
        )
        for name, host in hosts.items():
            if name != "ctl":
                self.connect(host, hosts["ctl"])

    def connect(self, host: NamespaceHost, ctl: NamespaceHost) -> None:
        """Connect a host to the bridge on ctl."""
        port = f"v-{host.name}"
        _ip(f"link del {port}", inside=ctl, check=False)  # of a host without power, if the kernel has not got to it yet
        _ip(
            f"link add {port} type veth peer name eth0 netns {host.pid}",
            f"link set {port} master br0 up",
            inside=ctl,
        )
        _ip(f"addr add {self.inside(host.name)}/24 dev eth0", "link set eth0 up", inside=host)

    def unmake(self) -> None:
        """Remove what this machine has of it; the rest goes with the hosts."""
        for command in (
            *(f"link del {self.link(host)}" for host in _OUTSIDE),
            f"route del unreachable 198.18.{self.number}.0/24",
            f"route del unreachable 198.19.{self.number}.0/24",
        ):
            _ip(command, check=False)


def cut(login: NamespaceHost, *, connected: bool) -> None:
    """Take the link between this machine and login down or up: what is sent is lost, and nobody is told."""
    _ip(f"link set ext0 {'up' if connected else 'down'}", inside=login)


def establish(hosts: dict[str, NamespaceHost]) -> Network:
    """Connect hosts to each other and to this machine, under the first free number.

    Raises:
        BedError: no number is free, or a link cannot be made.
    """
    taken = [ipaddress.ip_network(route) for route in _routes()]
    for number in random.sample(range(256), 256):
        ours = [ipaddress.ip_network(f"198.{second}.{number}.0/24") for second in (18, 19)]
        if any(own.overlaps(other) for own in ours for other in taken):
            continue
        network = Network(number)
        if network.take(hosts):
            network.make(hosts)
            return network
    raise BedError("all of 198.18.0.0/15 is in use on this machine")


def _routes() -> list[str]:
    routes = []
    for line in _ip("-4 route show table all").stdout.splitlines():
        word = next((word for word in line.split() if word[0].isdigit()), None)
        if word is not None and not line.startswith("default"):
            routes.append(word)
    return routes


def _ip(*commands: str, inside: NamespaceHost | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `ip` commands on this machine, or inside a host's network."""
    enter = [find("nsenter"), "-t", str(inside.pid), "--net", "--"] if inside else []
    argv = [find("ip"), *commands[0].split()] if len(commands) == 1 else [find("ip"), "-batch", "-"]
    done = subprocess.run([*enter, *argv], input="\n".join(commands), capture_output=True, text=True, timeout=30, check=False)
    if check and done.returncode != 0:
        raise BedError(f"ip {' ; '.join(commands)}: {done.stderr.strip()}")
    return done
