"""Where the settings of a user lie, and how sites are called there."""

import os
import re
from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""Of a site."""


def config_folder() -> Path:
    """Return `$XDG_CONFIG_HOME/aifactory-bench`, by default under `~/.config`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "aifactory-bench"
