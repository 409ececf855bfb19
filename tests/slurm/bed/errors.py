"""What goes wrong with a cluster of ours."""

from pathlib import Path


class BedError(Exception):
    """The cluster does not come up, or does not do what it is asked; the text shows the end of the log that matters."""


def with_log(text: str, *logs: Path, lines: int = 15) -> BedError:
    """Return an error that says `text` and shows the end of logs."""
    parts = [text]
    for log in logs:
        try:
            tail = log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            continue
        parts.append(f"--- {log}")
        parts += tail or ["(empty)"]
    return BedError("\n".join(parts))
