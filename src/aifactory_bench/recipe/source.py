"""The text of a recipe, or of another file of the user's that is read as strictly."""

from pathlib import Path as FilePath
from typing import cast

from ..errors import RecipeError
from .document import LARGEST_BYTES, Document, parse
from .problems import Place, Problems, shown, suggestion


def read_source(path: FilePath, what: str) -> str:
    """Return the text of a file; what: `recipe`, `site profile`.

    Raises:
        RecipeError: it cannot be read, or is no text.
    """
    try:
        with open(path, "rb") as stream:
            raw = stream.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        near = suggestion(path.name, _siblings(path))
        raise RecipeError(f"{path}: there is no such file{near}") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; a {what} is a file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise RecipeError(f"{str(path)!r}: cannot be read: {reason or error}") from None
    if len(raw) > LARGEST_BYTES:
        raise RecipeError(f"{path}: a {what} has at most {LARGEST_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise RecipeError(f"{path}:{line}:{column}: not UTF-8 text: byte 0x{raw[error.start]:02x}") from None


def read_document(text: str, name: str, what: str, schema: str, problems: Problems) -> Document:
    """Return a document whose top is a mapping.

    Args:
        text: YAML.
        name: of the text in messages, such as a file's path.
        what: it is: `recipe`, `site profile`.
        schema: with which it begins.
        problems: gets what is wrong.

    Raises:
        RecipeError: there is none in the text.
    """
    place = Place(0, name if name.isprintable() else repr(name), 1, 1)
    if len(text) > LARGEST_BYTES:
        raise RecipeError(f"{place}: a {what} has at most {LARGEST_BYTES // 1024} KiB; found {len(text) // 1024} KiB")
    document = parse(text, place, problems)
    if document is not None and document.data is None and not problems.found:
        problems.add((), f"the {what} is empty; it begins with schema: {schema}")
    elif document is not None and not isinstance(document.data, dict):
        problems.add((), f"a {what} is a mapping; found {shown(document.data)}")
    if document is None or not isinstance(document.data, dict):
        problems.raise_all()
    return cast("Document", document)


def _siblings(path: FilePath) -> list[str]:
    try:
        return [near.name for near in path.parent.iterdir() if near.suffix in (".yaml", ".yml")]
    except OSError:
        return []
