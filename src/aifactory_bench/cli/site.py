"""`site`: what is done about a site before anything runs there."""

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .messages import folded, note, plain, show_error

if TYPE_CHECKING:
    from ..sites.model import Login
    from ..transports.trust import HostKey


@click.group()
def command() -> None:
    """Get to know a site."""


@command.command("list")
def list_() -> int:
    """List the sites that --site can name."""
    from ..errors import AifactoryBenchError
    from ..sites.describe import known_sites
    from ..sites.load import load_unfinished
    from .tables import table

    rows, broken = [], []
    for known in known_sites():
        try:
            site = load_unfinished(known.name)
        except AifactoryBenchError as error:
            rows.append((known.name, "?", "?", f"{known.origin}, broken"))
            broken.append(error)
            continue
        lacking = ", lacks your part" if site.submitter == "slurm" and not site.runs else ""
        rows.append((site.name, site.submitter, _login_text(site.login), known.origin + lacking))
    click.echo(plain(table(("NAME", "SUBMITTER", "LOGIN", "FROM"), rows)))
    for found in broken:
        show_error(found)
    return 2 if broken else 0


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def show(name: str, as_json: bool) -> int:
    """Show a site's profile: each value, where it was read, and what is not known.

    A profile that extends another is shown with everything it takes from there.
    """
    import json

    from ..sites.describe import origin_of, parts_of, site_to_json
    from ..sites.load import load_unfinished, missing_parts
    from .tables import table

    site = load_unfinished(name)
    if as_json:
        click.echo(json.dumps(site_to_json(site), indent=1))
        return 0
    sources: dict[str, int] = {}
    rows = [
        (part.path, part.text, f"[{sources.setdefault(str(part.fact), len(sources) + 1)}]", "" if part.fact.verified else "no")
        for part in parts_of(site)
    ]
    lines = [f"{site.name}: {site.submitter}, {origin_of(site)}" + (f", {site.file}" if site.file else ""), ""]
    lines += [table(("PART", "VALUE", "SOURCE", "VERIFIED"), rows), ""]
    lines += [f"[{number}] {source}" for source, number in sources.items()]
    if site.submitter == "slurm" and not site.runs:
        lines += ["", f"lacks your own part: {', '.join(missing_parts(site))}"]
    if site.unknown:
        lines += ["", "not known:", *(f"  {path}" for path in site.unknown)]
    if site.notes:
        lines += ["", "notes:", *(f"  {subject}: {text}" for subject, text in site.notes.items())]
    click.echo(plain("\n".join(lines)))
    return 0


def _login_text(login: "Login | None") -> str:
    if login is None:
        return "this machine"
    user = f"{login.user}@" if login.user else ""
    return f"{user}{login.host}" + (f":{login.port}" if login.port else "")


@command.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Trust what is shown without asking; for a network that nobody else is in.")
def trust(name: str, yes: bool) -> int:
    """Pin the host key of a site's login node.

    The key that it shows now is asked about, with those of jump hosts on the way, unless it is known already. Compare it
    with what the site publishes.
    """
    import asyncio

    from ..sites.load import load_unfinished
    from ..transports import trust as trusting

    login = load_unfinished(name).login
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
