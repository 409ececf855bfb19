"""Names and addresses of this host, for those who are to connect to it."""

import fcntl
import ipaddress
import socket
import struct
from typing import Any, Dict, List, Mapping, Optional

_SIOCGIFADDR = 0x8915
WILDCARD = "0.0.0.0"  # noqa: S104 - a name for it, nothing is bound here
_UNREACHED = "192.0.2.1"  # RFC 5737: for documentation; no packet is sent to it


_USUAL: Mapping[str, Any] = {}


def reachable_host(bind: str, fabric: Mapping[str, Any] = _USUAL) -> str:
    """Return where clients find what listens on an address: itself, or for a wildcard the host's name or main address.

    Args:
        bind: the address.
        fabric: as `Spec.fabric`: its name for the fast network comes first, then the address of an interface there.
    """
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        return bind  # a name
    if not address.is_unspecified:
        return bind
    name = socket.gethostname()
    first, dot, rest = name.partition(".")
    suffixed = f"{first}{fabric.get('suffix', '')}{dot}{rest}"
    if suffixed != name and _is_reachable_name(suffixed):
        return suffixed
    found = interfaces() if fabric.get("interfaces") else {}
    for interface in fabric.get("interfaces", ()):
        for own in found.get(interface, ()):
            if ":" not in own and not is_loopback(own):
                return own
    if _is_reachable_name(name):
        return name
    return _main_address() or "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Return whether a host can be reached from itself only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def interfaces() -> Dict[str, List[str]]:
    """Return the addresses of every interface that has one; IPv4 the first one of each."""
    found: Dict[str, List[str]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name[:15].encode()))
            except OSError:
                continue  # it has none
            found.setdefault(name, []).append(socket.inet_ntoa(answer[20:24]))
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as stream:
            for line in stream:
                fields = line.split()
                found.setdefault(fields[5], []).append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0])))
    except OSError:
        pass  # no IPv6
    return found


def _is_reachable_name(name: str) -> bool:
    """Whether others would reach this host by its name: it stands for an address that is ours and not loopback only."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    named = {str(answer[4][0]).partition("%")[0] for answer in answers}
    own = {address for addresses in interfaces().values() for address in addresses}
    return bool(named) and not any(is_loopback(address) for address in named) and named <= own


def _main_address() -> Optional[str]:
    """The address that packets to other networks would carry."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_UNREACHED, 9))
            address = str(probe.getsockname()[0])
        except OSError:
            address = ""
    if address and not is_loopback(address):
        return address
    for addresses in interfaces().values():
        for candidate in addresses:
            if ":" not in candidate and not is_loopback(candidate):
                return candidate
    return None
