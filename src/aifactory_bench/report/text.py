"""A summary for a terminal of 80 columns; lines of text, so that a pipe and a log get the same without the colours."""

import io
from collections.abc import Iterator, Mapping

from attrs import fields, frozen
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from ..results.model import Summary, Verdict
from .html import summary_html
from .layout import CLOCK_TITLES, LOW_N, LOW_N_LEGEND, Block, Layout, lay_out
from .names import clean, clean_line

__all__ = ["Report", "print_summary", "render_summary", "summary_html"]

STYLES: dict[Verdict, str] = {"valid": "green", "degraded": "yellow", "invalid": "bold red"}
_WIDTH = 80
_OPERATION_WIDTH = 13
_CELL_WIDTH = 8
_LISTED = 10
"""Missing measurements that are named; the others are counted."""
_SPACIOUS = 4
"""Up to so many measurements have a blank line between them and a title line of their own."""


@frozen
class _Indented:
    """Text that wraps at words behind a left margin and leaves no blanks at the ends of lines."""

    text: Text
    margin: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self.text.wrap(console, max(20, options.max_width - self.margin)):
            line.rstrip()
            yield Text(" " * self.margin).append_text(line)


@frozen(repr=False)
class Report(Summary):
    """A summary that shows itself: in a terminal through rich, as text through `str`, in a notebook as a table."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from _parts(self, lay_out(self))
        yield Text(_folder(self), overflow="fold")

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
        with console.capture() as capture:
            print_summary(self, console)
        return capture.get().rstrip("\n")

    def __repr__(self) -> str:
        return f"<Report of run {self.run_id}: {self.verdict}, {len(self.points)} points>"

    def _repr_html_(self) -> str:
        return summary_html(self)


def render_summary(summary: Summary) -> Report:
    """Return what `run`, `attach` and `report` show: a block a measurement, verdicts with reasons, the run folder."""
    return Report(**{field.name: getattr(summary, field.name) for field in fields(Summary)})


def print_summary(summary: Summary, console: Console) -> None:
    """Print it; the path of the run folder stays in one piece, however narrow the terminal."""
    console.print(Group(*_parts(summary, lay_out(summary))))
    console.print(Text(_folder(summary)), soft_wrap=True)


def _folder(summary: Summary) -> str:
    there = f"\non {clean_line(summary.site)}: {clean_line(summary.site_folder)}" if summary.site_folder else ""
    return f"run folder: {clean_line(summary.run_folder)}{there}"


def _parts(summary: Summary, layout: Layout) -> Iterator[RenderableType]:
    head = Text(f"{clean_line(summary.recipe)} on {clean_line(summary.site)}, run {clean_line(summary.run_id)}: ", style="bold")
    if any(point.measurements for point in summary.points):
        head.append(summary.verdict, STYLES[summary.verdict]).append(" so far" if summary.pending else "", "default")
    else:
        unmeasured = "nothing measured" + (" yet" if summary.pending else "")
        head.append(unmeasured, "default" if summary.pending else STYLES["invalid"])
    yield head.append(f" ({clean_line(summary.status)})", "default")
    if layout.blocks:
        yield Text()
        yield from _header(layout)
    spacious = len(layout.blocks) <= _SPACIOUS
    for block in layout.blocks:
        yield from _block(block, spacious=spacious)
    yield Text()
    if layout.low_n:
        yield Text(f"{LOW_N} {LOW_N_LEGEND}")
    if layout.counted:
        yield Text(layout.counted)
    for title, names in (("not measured", summary.missing), ("still to come", summary.pending)):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            yield Text(f"{title} ({len(names)}): {', '.join(map(clean_line, names[:_LISTED]))}{more}")
    if summary.error:
        yield from _error(summary.error)


def _error(error: Mapping[str, str]) -> Iterator[RenderableType]:
    first, *tail = clean(error.get("text", "")).strip().split("\n")
    if error.get("code") != "missing":  # what is missing stands above already
        yield Text("error: ", style=STYLES["invalid"]).append(first, "default")
    for line in tail:
        yield _Indented(Text(line), 2)
    if error.get("hint"):
        yield _Indented(Text(f"hint: {clean_line(error['hint'])}"), 2)


def _header(layout: Layout) -> Iterator[Text]:
    width = _CELL_WIDTH * len(layout.columns)
    yield Text(" " * _OPERATION_WIDTH + "".join(_right(CLOCK_TITLES[clock], width) for clock in layout.clocks))
    cells = "".join(_right(column, _CELL_WIDTH) for _ in layout.clocks for column in layout.columns)
    yield Text(set_cell_size("operation", _OPERATION_WIDTH) + cells, style="bold")


def _block(block: Block, *, spacious: bool) -> Iterator[RenderableType]:
    title = Text(block.title, style="bold cyan")
    facts = Text(block.verdict, style=STYLES[block.verdict]).append(f": {block.facts}", "default")
    if spacious:
        yield Text()
    if not spacious and title.cell_len + 2 + facts.cell_len <= _WIDTH:
        yield Text().append_text(title).append("  ").append_text(facts)
    else:
        yield title
        yield _Indented(facts, 2)
    for reason in block.reasons:
        yield _Indented(Text(f"{reason.code}: ", STYLES[reason.verdict]).append(clean_line(reason.text), "default"), 4)
    if block.search:
        yield _Indented(Text(block.search), 2)
    if block.figures:
        yield _Indented(Text("; ".join(block.figures), "dim"), 2)
    # The numbers of an invalid measurement are shown, and look as if they were not to be used.
    style = "dim" if block.verdict == "invalid" else ""
    for row in block.rows:
        yield Text(_name(row.operation) + "".join(_right(cell, _CELL_WIDTH) for cells in row.cells for cell in cells), style)


def _name(operation: str) -> str:
    """Return the first cell of a row; a long name keeps its beginning."""
    room = _OPERATION_WIDTH - 2
    name = operation if cell_len(operation) <= room else set_cell_size(operation, room - 1) + "…"
    return "  " + set_cell_size(name, room)


def _right(text: str, width: int) -> str:
    return " " * max(1, width - cell_len(text)) + text
