"""Ports: a free one that stays ours until the service has it, and who really listens on it.

A port that was found free and let go may be anybody's a moment later, and a large service binds minutes after its start. On
Linux a socket that is bound, does not listen and has SO_REUSEADDR keeps the port from being given to anybody who asks for a
free one, or connects from it, while a server that sets SO_REUSEADDR too (nearly all do) can bind it and listen. So the port
is held until the service is ready. For the rest there is a second try without holding, and the owner of the listening socket
is looked up before a service is believed.
"""

import errno
import os
import re
import socket
from typing import Iterable, Optional, Set

_IN_USE = re.compile(
    r"(address|port|socket)[^\n]{0,80}\b(in use|not available)\b|EADDRINUSE|\b(errno|os error) 98\b", re.IGNORECASE
)
_LISTEN = "0A"


class PortError(Exception):
    """The port cannot be had; the text says why and what to do."""


class PortTaken(Exception):
    """Somebody else has the port; with a free choice another one helps."""


class Reservation:
    """A port, held (see the module) until `release`."""

    def __init__(self, bind: str, fixed: Optional[int], hold: bool) -> None:
        """Take a free port, or look whether the fixed one is free; a fixed one is never held.

        Raises:
            PortError: the address is not one of this host, or the fixed port is taken or not allowed.
        """
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        self._socket: Optional[socket.socket] = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((bind, fixed or 0))
            self.port: int = self._socket.getsockname()[1]
        except OSError as error:
            self.release()
            raise PortError(_why(bind, fixed, error)) from None
        if not hold or fixed is not None:
            self.release()

    def release(self) -> None:
        """Let go of it; harmless when done already."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def says_in_use(log: str) -> bool:
    """Return whether a server's output complains that its address is taken."""
    return _IN_USE.search(log) is not None


def foreign(port: int, processes: Iterable[int]) -> bool:
    """Return whether somebody else than the processes is known to listen on a port.

    False when nobody listens as far as one can see, and when one of the processes may not be looked into (other rights).
    """
    processes = list(processes)
    strangers = False
    for table in ("tcp", "tcp6"):  # the kernel takes milliseconds for each: the second only if the first does not tell
        listening = _listening_inodes(table, port)
        for pid in processes if listening else ():
            held = _socket_inodes(pid)
            if held is None or held & listening:
                return False
        strangers = strangers or bool(listening)
    return strangers


def _why(bind: str, fixed: Optional[int], error: OSError) -> str:
    host = socket.gethostname()
    if fixed is None:
        return f"no port on {bind} of {host}: {error.strerror}; is {bind} an address of this host?"
    if isinstance(error, PermissionError):
        return (
            f"port {fixed} on {bind} of {host} is not allowed: {error.strerror}; choose one above 1023, or none for a free one"
        )
    owner = "; another program has it: choose another port, or none for a free one" if error.errno == errno.EADDRINUSE else ""
    return f"port {fixed} on {bind} of {host} cannot be used: {error.strerror}{owner}"


def _listening_inodes(table: str, port: int) -> Set[str]:
    try:
        with open(f"/proc/net/{table}", encoding="ascii") as stream:
            lines = stream.readlines()[1:]
    except OSError:
        return set()
    found = set()
    for fields in map(str.split, lines):
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(fields[9])
    return found


def _socket_inodes(pid: int) -> Optional[Set[str]]:
    """Return the sockets that a process has open, or None when it may not be looked into."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if link.startswith("socket:["):
                found.add(link[8:-1])
    except (FileNotFoundError, ProcessLookupError):
        return set()  # it has ended
    except OSError:
        return None
    return found
