"""A profile that extends another: the two documents as one, every value with the place where it is written."""

from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..recipe.document import Document
from ..recipe.problems import Path as Keys
from ..recipe.problems import Problems, path_text, suggestion
from ..recipe.source import read_document, read_source
from .settings import SCHEMA, profile_path, profile_paths, shipped_path

_OWN = ("schema", "name", "extends")
"""Of each file alone."""
_DEEPEST = 8
_TOLD = ("facts", "unknown")
"""About values, and no values themselves."""


def read_extended(path: Path, problems: Problems) -> Document:
    """Return a profile's document with everything that it takes from those it extends.

    Its own values stand before theirs: mappings are put together key by key, anything else is replaced. What it sets itself
    is no longer backed by a fact of theirs, and no longer unknown.

    Args:
        path: of the file.
        problems: gets what is wrong; it is for this document afterwards.

    Raises:
        RecipeError: one of the files cannot be read, or they extend each other in a circle.
    """
    document = read_document(read_source(path, "site profile"), str(path), "site profile", SCHEMA, problems)
    chain = [path.absolute()]
    while "extends" in document.data:
        name = document.data["extends"]
        base_path = _base(name, chain, document, problems)
        if base_path is None:
            break
        chain.append(base_path.absolute())
        found = Problems()
        text = read_source(base_path, "site profile")
        base = read_document(text, str(base_path), "site profile", SCHEMA, found)
        problems.take(found.found)
        _put_below(document, base, str(path))
    document.remove(("extends",))
    return document


def _base(name: Any, chain: list[Path], document: Document, problems: Problems) -> Path | None:
    """Return the file of the profile that is extended; None: there is none, which is told."""
    if not isinstance(name, str) or not name:
        problems.add(("extends",), f"must be the name of a site, or the path of a profile's file; found {name!r}")
        return None
    if name.endswith((".yaml", ".yml")):
        found = Path(document.values[("extends",)].origin).parent / Path(name).expanduser()
    else:
        # A file of the user's may have the name of the shipped profile that it extends.
        own, shipped = profile_path(name), shipped_path(name)
        found = shipped if shipped.is_file() and (own.absolute() in chain or not own.is_file()) else own
    if not found.is_file():
        names = sorted(profile_paths())
        problems.add(("extends",), f"there is no site {name!r}{suggestion(name, names)}; there is: {', '.join(names)}")
        return None
    if found.absolute() in chain or len(chain) > _DEEPEST:
        place = document.values[("extends",)]
        raise RecipeError(f"{place}: extends: profiles extend each other in a circle: {' -> '.join(map(str, [*chain, found]))}")
    return found


def _put_below(document: Document, base: Document, path: str) -> None:
    """Put another document's values where the first one has none."""
    own = [keys for keys in document.values if keys and keys[0] not in (*_OWN, *_TOLD)]
    whole = [keys for keys in own if all(isinstance(key, str) for key in keys)]
    replaced = [path_text(keys) for keys in whole if not isinstance(document.get(_texts(keys)), dict)]
    document.remove(("extends",))
    for key in ("schema", "name"):
        base.remove((key,))
    _forget_facts(base, replaced, path)
    _forget_unknown(document, base, replaced)
    _merge(document, base, ())


def _texts(keys: Keys) -> tuple[str, ...]:
    return tuple(str(key) for key in keys)


def _forget_facts(base: Document, replaced: list[str], path: str) -> None:
    """Take facts about values out that are replaced; the replaced part of what a larger fact covers gets one of its own."""
    facts = base.data.get("facts")
    if not isinstance(facts, dict):
        return
    for name in [name for name in facts if any(_covers(place, name) for place in replaced)]:
        base.remove(("facts", name))
    for place in replaced:
        if any(_covers(name, place) for name in facts):
            base.put(("facts", place), {"source": path, "verified": True}, base.values[("facts",)])


def _forget_unknown(document: Document, base: Document, replaced: list[str]) -> None:
    """Take what is known now out of the unknown, and put the lists of both documents together."""
    unknown, own = base.data.get("unknown"), document.data.get("unknown", [])
    if not isinstance(unknown, list) or not isinstance(own, list):
        return
    left = [name for name in unknown if not any(_covers(str(name), place) for place in replaced) and name not in own]
    place = document.values.get(("unknown",), base.values[("unknown",)])
    document.put(("unknown",), [*own, *left], place)


def _covers(outer: str, inner: str) -> bool:
    """Return whether a path is another one or holds it."""
    return inner == outer or inner.startswith(f"{outer}.")


def _merge(document: Document, base: Document, at: Keys) -> None:
    mine, theirs = document.get(at), base.get(at)
    for key, value in theirs.items():
        keys = (*at, key)
        if key in mine and isinstance(mine[key], dict) and isinstance(value, dict):
            _merge(document, base, keys)
        elif key not in mine:
            mine[key] = value
            for places, others in ((document.keys, base.keys), (document.values, base.values)):
                places.update({inner: place for inner, place in others.items() if inner[: len(keys)] == keys})
