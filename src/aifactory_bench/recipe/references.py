"""Secrets by reference: a recipe says where one is, and never what it is."""

import os
import stat
from pathlib import Path

from ..node.files import read_text

FORMS = "env:NAME or file:/path"
_LONGEST = 1 << 14
"""Characters of a secret; the longest tokens that services give out have a few thousand."""


def check_reference(text: str) -> None:
    """Check that a text refers to a secret.

    Raises:
        ValueError: it does not; the text of the error leaves out what was found, which may be the secret itself.
    """
    kind, _, name = text.partition(":")
    if kind == "env" and name.isidentifier() and name.isascii():
        return
    if kind == "file" and Path(name).is_absolute() and name.isprintable():
        return
    raise ValueError(
        f"must say where the secret is, and not what it is: {FORMS}, a variable or an absolute path where the run is begun; "
        f"what was found is not shown, as it may be the secret"
    )


def read_secret(reference: str) -> str:
    """Return the secret that a reference stands for, blanks and line ends around it taken off.

    Raises:
        ValueError: it is not there, empty, too long, or has line ends or other control characters inside.
    """
    kind, _, name = reference.partition(":")
    value = _variable(name) if kind == "env" else _file(Path(name))
    value = value.strip()
    if not value:
        raise ValueError(f"{reference} is empty")
    if len(value) > _LONGEST:
        raise ValueError(f"{reference} must have at most {_LONGEST} characters; found {len(value)}")
    if not value.isprintable():
        raise ValueError(f"{reference} must be one line of text; found control characters")
    return value


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(f"the variable {name} is not set where the run is begun")
    return value


def _file(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path} is no file")
        text = read_text(path, limit_bytes=4 * _LONGEST + 4)
    except OSError as error:
        raise ValueError(f"{path} cannot be read where the run is begun: {error.strerror}") from None
    return text or ""
