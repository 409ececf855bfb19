"""The transport of a site."""

from pathlib import Path
from typing import Optional

from ..sites.model import Login
from .base import Transport
from .dial import Answer
from .local import LocalTransport
from .openssh import OpenSshTransport
from .ssh import SshTransport


def open_transport(
    login: Login, *, answer: Optional[Answer] = None, known_hosts: Optional[Path] = None, site: str = "NAME"
) -> Transport:
    """Return the transport that a site's login asks for; it connects when it is used first.

    Args:
        login: Of the site.
        answer: Asks a person for a password or a second factor; only `ssh` ever does.
        known_hosts: Our list of host keys beside the user's; default that of `site trust`.
        site: Name of the site, for messages.
    """
    match login.transport:
        case "local":
            return LocalTransport()
        case "openssh":
            return OpenSshTransport(login, known_hosts=known_hosts, site=site)
        case "ssh":
            return SshTransport(login, answer=answer, known_hosts=known_hosts, site=site)
