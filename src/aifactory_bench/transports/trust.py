"""Getting to know a site: the host keys on the way to its login node, and pinning them."""

from collections.abc import Callable
from pathlib import Path
from typing import Optional

import asyncssh
from attrs import frozen

from ..sites.model import Login
from . import known_hosts as host_keys
from .dial import Answer, Dialler, hang_up, way_to


@frozen
class HostKey:
    """The host key that a machine shows."""

    name: str
    """As a list of host keys names the machine: `login.example`, `[login.example]:2222`."""
    kind: str
    """`ssh-ed25519`, for one."""
    fingerprint: str
    """`SHA256:...`."""
    before: "tuple[str, ...]" = ()
    """Fingerprints that the machine was known by; where there are some, the key has changed."""


async def trust(
    login: Login,
    agree: Callable[[HostKey], bool],
    *,
    answer: Optional[Answer] = None,
    known_hosts: Optional[Path] = None,
    site: str = "NAME",
) -> "tuple[HostKey, ...]":
    """Show the host keys on the way to a login node that are not known, and pin those that are agreed to.

    A machine behind a jump host can be asked only over a connection to the jump host, so that is logged in to.

    Args:
        login: Of the site.
        agree: Is asked for each key that is not known; False ends it there.
        answer: Asks a person for a password or a second factor of a jump host.
        known_hosts: Our list of host keys beside the user's, where keys are pinned; default that of `site trust`.
        site: Name of the site, for messages.

    Returns:
        The keys that were pinned.

    Raises:
        NotExecutedError: A machine cannot be reached.
        AccessError: A jump host lets nobody in, or the SSH configuration cannot be used.
        OSError: The list of host keys cannot be written.
    """
    own_file = known_hosts or host_keys.own_file()
    dialler = Dialler(login, answer=answer, own_file=own_file, site=site)
    connections: list[asyncssh.SSHClientConnection] = []
    pinned = []
    try:
        hops = await way_to(login)
        for hop in hops:
            through = connections[-1] if connections else None
            key, known = await dialler.fetch(hop, through), hop.known(own_file)
            if key not in known:
                shown = HostKey(
                    hop.pattern, key.get_algorithm(), key.get_fingerprint(), tuple(old.get_fingerprint() for old in known)
                )
                if not agree(shown):
                    break
                host_keys.pin(own_file, hop.pattern, key)
                pinned.append(shown)
            if hop is not hops[-1]:
                connections.append(await dialler.connect(hop, through))
    finally:
        await hang_up(connections)
    return tuple(pinned)
