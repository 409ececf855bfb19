"""What calls from Python may be given; a wrong value is an error that says what was allowed."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import UsageError


def refuse(name: str, allowed: str, found: object) -> UsageError:
    """Return the error for an argument that is not one."""
    return UsageError(f"{name} must be {allowed}; got {found!r}")


def is_path(value: object) -> bool:
    """Whether a value names a file: text or a path."""
    return isinstance(value, str | os.PathLike)


def items(name: str, allowed: str, values: Any) -> "list[Any]":
    """Return several values; a text is one value and not several.

    Raises:
        UsageError: it is not several values.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise refuse(name, f"a list of {allowed}", values)
    return list(values)


def overrides_of(values: Any) -> "list[str]":
    """Return overrides of a recipe.

    Raises:
        UsageError: one is not a text.
    """
    texts = items("overrides", "texts `path=value`", values)
    for text in texts:
        if not isinstance(text, str):
            raise refuse("overrides", "a list of texts `path=value`", text)
    return texts


def sorted_plugins(plugins: Any) -> "tuple[list[Path], list[type]]":
    """Return the files and the classes among plugins.

    Raises:
        UsageError: something else is among them.
    """
    files: list[Path] = []
    classes: list[type] = []
    for plugin in items("plugins", "paths of files and classes", plugins):
        if isinstance(plugin, type):
            classes.append(plugin)
        elif is_path(plugin):
            files.append(Path(plugin))
        else:
            raise refuse("plugins", "a list of paths of files and classes", plugin)
    return files, classes
