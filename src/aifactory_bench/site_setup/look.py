"""Looking at a cluster over its login node."""

import asyncio
from pathlib import Path
from typing import Optional

from ..errors import SiteError
from ..sites.model import Login
from ..transports.base import Transport
from ..transports.dial import Answer
from ..transports.open import open_transport
from .cluster import Cluster, cluster_of
from .parts import program, read_parts

_LIMIT_S = 240.0
"""Of everything; each question has 20 s."""


async def look(transport: Transport) -> Cluster:
    """Return what the login node tells; nothing is changed there.

    Raises:
        TransportError: it cannot be asked.
    """
    done = await transport.run(program(__package__ or "", "look"), timeout_s=_LIMIT_S)
    return cluster_of(read_parts(done.stdout))


async def look_over(
    login: Login, *, answer: Optional[Answer] = None, known_hosts: Optional[Path] = None, site: str = "NAME"
) -> Cluster:
    """Log in, look at the cluster, and log out; the arguments are those of `look_at`."""
    transport = open_transport(login, answer=answer, known_hosts=known_hosts, site=site)
    try:
        cluster = await look(transport)
    finally:
        await transport.close()
    if cluster.missing:
        raise SiteError(
            f"{cluster.host or login.host}: commands of Slurm are not there: {', '.join(cluster.missing)}",
            "name the login node of the cluster; they have to be on the PATH of a plain login, or set by /etc/profile",
        )
    if not cluster.config:
        raise SiteError(
            f"{cluster.host}: the controller of Slurm does not answer: {cluster.said or 'no word'}",
            "see `scontrol ping` there, and try again when it is up",
        )
    return cluster


def look_at(
    login: Login, *, answer: Optional[Answer] = None, known_hosts: Optional[Path] = None, site: str = "NAME"
) -> Cluster:
    """Return what a cluster shows on its login node: partitions, accounts, runtimes, Pythons; nothing is changed there.

    Args:
        login: How one gets there; its host key has to be known.
        answer: Asks a person for a password or a second factor; None where there is nobody to ask.
        known_hosts: Our list of host keys beside the user's; default that of `site trust`.
        site: Name of the site, for messages.

    Raises:
        TransportError: it cannot be reached, or lets nobody in.
        SiteError: it has no Slurm, or one that does not answer.
    """
    return asyncio.run(look_over(login, answer=answer, known_hosts=known_hosts, site=site))
