"""The commands by name: our own from a table, a stranger's from the entry-point group `aifactory_bench.commands`."""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "aifactory_bench.commands"

OWN = (
    "run",
    "validate",
    "plan",
    "script",
    "status",
    "attach",
    "cancel",
    "logs",
    "report",
    "jobs",
    "schema",
    "site",
    "doctor",
    "init",
    "images",
    "tunnel",
    "calibrate",
)
"""In the order of the help; each is a module beside this one that defines `command`."""


def _declared_anywhere() -> bool:
    """Tell whether any installed distribution may declare a command, by looking at files only.

    `importlib.metadata` answers the same question, but importing it takes longer than everything else that
    `--help` does; it is asked only when this finds the group's name.
    """
    needle = f"[{GROUP}]".encode()
    for folder in sys.path:
        try:
            entries = [entry.path for entry in os.scandir(folder or ".") if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:  # not a folder: a zip file, or a path that is not there
            continue
        for path in entries:
            try:
                with open(os.path.join(path, "entry_points.txt"), "rb") as stream:
                    if needle in stream.read():
                        return True
            except OSError:
                continue
    return False


def _strangers() -> "Iterator[EntryPoint]":
    if not _declared_anywhere():
        return
    from importlib.metadata import entry_points

    seen = set(OWN)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        if entry.name in seen:
            click.echo(f"warning: {_origin(entry)}: command {entry.name!r} is taken already, skipped", err=True)
            continue
        seen.add(entry.name)
        yield entry


def _origin(entry: "EntryPoint") -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def _load(entry: "EntryPoint") -> "click.Command | None":
    try:
        command = entry.load()
    except Exception as error:  # noqa: BLE001  a stranger's module may raise anything; ours goes on without it
        click.echo(
            f"warning: {_origin(entry)}: command {entry.name!r} cannot be loaded: {type(error).__name__}: {error}", err=True
        )
        return None
    if not isinstance(command, click.Command):
        click.echo(f"warning: {_origin(entry)}: {entry.value} is no click command, skipped", err=True)
        return None
    return command


class CommandGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names: ours in the order of use, then strangers' by name."""
        return [*OWN, *(entry.name for entry in _strangers())]

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return the command, or None when nobody defines it or it cannot be loaded."""
        if name in OWN:
            command = import_module(f".{name}", __package__).command
            assert isinstance(command, click.Command)
            return command
        for entry in _strangers():
            if entry.name == name:
                return _load(entry)
        return None

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown name is answered with the one that was meant, or with all."""
        name = arguments[0]
        command = self.get_command(context, name)
        if command is not None:
            return name, command, arguments[1:]
        if name.startswith("-"):
            return super().resolve_command(context, arguments)
        from difflib import get_close_matches

        known = self.list_commands(context)
        near = get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise click.UsageError(f"no such command {name!r}; {meant}", context)
