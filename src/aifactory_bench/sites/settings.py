"""Where profiles lie, the user's and those that are shipped, and how sites are called there."""

import os
import re
from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""Of a site."""
SCHEMA = "aifactory-bench/site/1"
"""Format of a profile."""
_SHIPPED = Path(__file__).parent / "profiles"


def config_folder() -> Path:
    """Return `$XDG_CONFIG_HOME/aifactory-bench`, by default under `~/.config`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "aifactory-bench"


def profile_path(name: str) -> Path:
    """Return where the user's profile of a site lies, or would lie."""
    return config_folder() / "sites" / f"{name}.yaml"


def shipped_path(name: str) -> Path:
    """Return where the shipped profile of a site lies, or would lie."""
    return _SHIPPED / f"{name}.yaml"


def user_names() -> "list[str]":
    """Return the names of the sites in the user's settings, in order."""
    return _names(config_folder() / "sites")


def shipped_names() -> "list[str]":
    """Return the names of the shipped profiles, in order."""
    return _names(_SHIPPED)


def profile_paths() -> "dict[str, Path]":
    """Return name -> file of every profile: the user's come first, and stand before shipped ones of the same name."""
    own = {name: profile_path(name) for name in user_names()}
    return own | {name: shipped_path(name) for name in shipped_names() if name not in own}


def _names(folder: Path) -> "list[str]":
    try:
        return sorted(path.stem for path in folder.iterdir() if path.suffix == ".yaml")
    except OSError:
        return []
