"""The terminal that is printed on."""

import os
import shutil

from rich.console import Console


def terminal(*, stderr: bool = False) -> Console:
    """Return the console of standard output, or of standard error; 80 columns where nobody knows how wide it is."""
    columns = os.environ.get("COLUMNS", "")
    unknown = columns.isdigit() and int(columns) == 0  # rich would take it at its word
    return Console(stderr=stderr, highlight=False, width=shutil.get_terminal_size().columns if unknown else None)
