"""What a user reads on standard error, and text from elsewhere made safe for a terminal."""

import sys

import click

from ..errors import AifactoryBenchError, SiteError

# C0 and C1 controls but tab and newline, DEL, and the marks that reorder text: nothing from a node may drive a terminal.
_HARMFUL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160), *range(8234, 8239), *range(8294, 8298)), "?")


def plain(text: str) -> str:
    """Return text that changes nothing but what is read: control characters become `?`, carriage returns go."""
    return text.replace("\r\n", "\n").translate(_HARMFUL)


def explain(error: AifactoryBenchError | OSError) -> AifactoryBenchError:
    """Return the error as one for users; one of the operating system names its file and what it said."""
    if isinstance(error, AifactoryBenchError):
        return error
    place = f"{error.filename}: " if error.filename is not None else ""
    return SiteError(
        f"{place}{error.strerror or error}", "check that the path is there, that you may use it, and that the disk has room"
    )


def explain_output(error: OSError) -> AifactoryBenchError:
    """Return the error of a standard output that cannot be written."""
    return SiteError(f"standard output: {error.strerror or error}", "check where it is sent to, and that there is room")


def folded(text: str, *, err: bool = False) -> str:
    """Return text without harm whose long lines are folded at words, behind their own margin; as it is but on a terminal."""
    text = plain(text)
    if not (sys.stderr if err else sys.stdout).isatty():
        return text
    from shutil import get_terminal_size
    from textwrap import fill

    width = max(40, get_terminal_size().columns)
    lines = []
    for line in text.split("\n"):
        margin = " " * (2 + len(line) - len(line.lstrip()))
        long = len(line) > width
        lines.append(
            fill(line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False) if long else line
        )
    return "\n".join(lines)


def show_error(error: AifactoryBenchError) -> None:
    """Print an error and what to do about it on standard error."""
    click.echo(folded(f"aifactory-bench: {error.text}", err=True), err=True)
    if error.hint:
        click.echo(folded(f"  hint: {error.hint}", err=True), err=True)


def note(text: str) -> None:
    """Print a line on standard error that is neither result nor error."""
    click.echo(folded(text, err=True), err=True)
