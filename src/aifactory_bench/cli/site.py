"""`site`: what is done about a site before anything runs there."""

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .messages import folded, note

if TYPE_CHECKING:
    from ..transports.trust import HostKey


@click.group()
def command() -> None:
    """Get to know a site."""


@command.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Trust what is shown without asking; for a network that nobody else is in.")
def trust(name: str, yes: bool) -> int:
    """Pin the host key of a site's login node.

    The key that it shows now is asked about, with those of jump hosts on the way, unless it is known already. Compare it
    with what the site publishes.
    """
    import asyncio

    from ..sites.load import load_site
    from ..transports import trust as trusting

    login = load_site(name).login
    if login is None or login.transport == "local":
        raise UsageError(f"the site {name!r} has no login node, so there is no host key")
    refused = []

    def agree(key: "HostKey") -> bool:
        note(f"{key.name} shows {key.kind} {key.fingerprint}")
        if key.before:
            note(f"warning: its key has changed; known is {', '.join(key.before)}")
        agreed = yes or click.confirm("Is this what the site publishes?", err=True)
        if not agreed:
            refused.append(key)
        return agreed

    pinned = asyncio.run(trusting.trust(login, agree, site=name))
    for key in pinned:
        click.echo(folded(f"trusted: {key.name} {key.kind} {key.fingerprint}"))
    if refused:
        note(f"not trusted: {refused[0].name}")
        return 4
    if not pinned:
        click.echo(folded(f"{login.host} is known already"))
    return 0
