"""A summary as a fragment of HTML, for notebooks. Every text is escaped."""

from collections.abc import Iterator
from html import escape

from ..results.model import Summary, Verdict
from .layout import CLOCK_TITLES, LOW_N, LOW_N_LEGEND, Block, Layout, lay_out
from .names import clean, clean_line

COLOURS: dict[Verdict, str] = {"valid": "#1a7f37", "degraded": "#9a6700", "invalid": "#cf222e"}
_RIGHT = ' style="text-align:right"'
_LEFT = ' style="text-align:left"'


def summary_html(summary: Summary) -> str:
    """Return what a notebook shows: the same as the terminal, as a table."""
    return "\n".join(_parts(summary, lay_out(summary)))


def _parts(summary: Summary, layout: Layout) -> Iterator[str]:
    yield "<div>"
    yield (f"<p><b>{_line(summary.recipe)}</b> on {_line(summary.site)}: {_head(summary)} ({_line(summary.status)})</p>")
    if layout.blocks:
        width = 1 + len(layout.clocks) * len(layout.columns)
        yield "<table><thead><tr><th></th>"
        yield "".join(f'<th colspan="{len(layout.columns)}">{CLOCK_TITLES[clock]}</th>' for clock in layout.clocks)
        yield f"</tr><tr><th{_LEFT}>operation</th>"
        yield "".join(f"<th{_RIGHT}>{column}</th>" for _ in layout.clocks for column in layout.columns)
        yield "</tr></thead><tbody>"
        for block in layout.blocks:
            yield from _block(block, width)
        yield "</tbody></table>"
    if layout.low_n:
        yield f"<p>{LOW_N} {LOW_N_LEGEND}</p>"
    if layout.counted:
        yield f"<p>{layout.counted}</p>"
    for title, names in (("not measured", summary.missing), ("still to come", summary.pending)):
        if names:
            yield f"<p>{title} ({len(names)}): {_line(', '.join(names))}</p>"
    if summary.error:
        text, hint = clean(summary.error.get("text", "")), summary.error.get("hint", "")
        yield f"<p><b>error:</b></p><pre>{escape(text)}</pre>"
        if hint:
            yield f"<p>hint: {_line(hint)}</p>"
    yield f"<p>run folder: <code>{_line(summary.run_folder)}</code></p>"
    if summary.site_folder:
        yield f"<p>on {_line(summary.site)}: <code>{_line(summary.site_folder)}</code></p>"
    yield "</div>"


def _block(block: Block, width: int) -> Iterator[str]:
    reasons = "".join(f"<br>{escape(reason.code)}: {_line(reason.text)}" for reason in block.reasons)
    figures = f"<br>{escape('; '.join(block.figures))}" if block.figures else ""
    search = f"<br>{escape(block.search)}" if block.search else ""
    about = f"<b>{escape(block.title)}</b><br>{_verdict(block.verdict)}: {escape(block.facts)}{reasons}{search}{figures}"
    yield f'<tr><td colspan="{width}"{_LEFT}>{about}</td></tr>'
    for row in block.rows:
        cells = "".join(f"<td{_RIGHT}>{escape(cell)}</td>" for cells in row.cells for cell in cells)
        yield f"<tr><td{_LEFT}>{escape(row.operation)}</td>{cells}</tr>"


def _head(summary: Summary) -> str:
    if any(point.measurements for point in summary.points):
        return _verdict(summary.verdict)
    return "nothing measured" + (" yet" if summary.pending else "")


def _verdict(verdict: Verdict) -> str:
    return f'<b style="color:{COLOURS[verdict]}">{verdict}</b>'


def _line(text: object) -> str:
    return escape(clean_line(text))
