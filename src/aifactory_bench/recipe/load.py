"""From a file, or a text, to a `Recipe`: every problem at once, each with its place."""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, cast

from ..errors import RecipeError
from ..results.validity import LIMITS
from ..units import DurationS, Share
from .aliases import normalise
from .converter import BAD, structure, structure_class
from .document import LARGEST_BYTES, Document, parse
from .entries import Kinds, Section, check_after, check_names, check_targets
from .matrix import EntryMaker, check_size, read_factors
from .model import SCHEMA, Factor, Recipe, RecipeFile
from .overrides import override
from .problems import Place, Problems, shown, suggestion


def load_recipe(path: str | FilePath, registry: Kinds, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a file.

    Args:
        path: of the YAML file.
        registry: the kinds that are known.
        overrides: `path=value`, as given to `--set`.

    Raises:
        RecipeError: the file cannot be read, or something in it or in an override is wrong; all of it is listed.
    """
    return load_recipe_text(_read(FilePath(path)), str(path), registry, overrides)


def load_recipe_text(text: str, name: str, registry: Kinds, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a text.

    Args:
        text: YAML.
        name: of the text in messages, such as a file's path.
        registry: the kinds that are known.
        overrides: `path=value`, as given to `--set`.

    Raises:
        RecipeError: something is wrong; all of it is listed.
    """
    problems = Problems()
    document = _document(text, name, problems)
    notes: dict[str, None] = {}
    normalise(document, problems, notes)
    for one in overrides:
        override(document, one, problems)
        normalise(document, problems, notes)
    recipe = _build(document, text, registry, tuple(notes), problems)
    problems.raise_all()
    return cast("Recipe", recipe)


def _document(text: str, name: str, problems: Problems) -> Document:
    """Return a document whose top is a mapping.

    Raises:
        RecipeError: there is none in the text.
    """
    place = Place(0, name if name.isprintable() else repr(name), 1, 1)
    if len(text) > LARGEST_BYTES:
        raise RecipeError(f"{place}: a recipe has at most {LARGEST_BYTES // 1024} KiB; found {len(text) // 1024} KiB")
    document = parse(text, place, problems)
    if document is not None and document.data is None and not problems.found:
        problems.add((), f"the recipe is empty; it begins with schema: {SCHEMA}")
    elif document is not None and not isinstance(document.data, dict):
        problems.add((), f"a recipe is a mapping; found {shown(document.data)}")
    if document is None or not isinstance(document.data, dict):
        problems.raise_all()
    return cast("Document", document)


def _build(document: Document, text: str, registry: Kinds, notes: tuple[str, ...], problems: Problems) -> Recipe | None:
    """Return the recipe, or None where there are problems."""
    file = structure_class(RecipeFile, document.data, (), problems)
    sections = {section: _mapping(document.get((section,))) for section in ("services", "clients")}
    if document.get(("services",)) == {}:
        problems.add(("services",), "name at least one service")
    check_names(sections["services"], sections["clients"], problems)
    check_targets(sections["services"], sections["clients"], registry, problems)
    check_after(sections["clients"], problems)
    factors = read_factors(document, problems)
    if file is not BAD:
        check_size(factors, file.repetitions.count, problems)
    built = {section: _entries(section, entries, factors, registry, problems) for section, entries in sections.items()}
    limits = _limits(_mapping(document.get(("limits",))), problems)
    if problems.found:
        return None
    return Recipe(
        name=file.name,
        services=built["services"],
        clients=built["clients"],
        monitors=file.monitors,
        limits=limits,
        matrix=factors,
        repetitions=file.repetitions,
        lease_s=file.lease_s,
        seed=file.seed,
        source=text,
        notes=notes,
        data=document.data,
    )


def _entries(
    section: str, entries: Mapping[str, Any], factors: Sequence[Factor], registry: Kinds, problems: Problems
) -> tuple[Any, ...]:
    makers = (EntryMaker(cast("Section", section), name, data, factors, registry) for name, data in entries.items())
    return tuple(maker.check(problems) for maker in makers)


def _limits(limits: Mapping[str, Any], problems: Problems) -> dict[str, float]:
    """Return the limits that a recipe sets: keys that end in `_s` are durations, the others shares."""
    built: dict[str, float] = {}
    for key, value in limits.items():
        if key in LIMITS:
            built[key] = structure(DurationS if key.endswith("_s") else Share, value, ("limits", key), problems)
        else:
            problems.add(("limits", key), f"unknown limit{suggestion(key, LIMITS)}; known: {', '.join(LIMITS)}", at="key")
    return built


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read(path: FilePath) -> str:
    """Return the text of a recipe's file.

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
        raise RecipeError(f"{path}: is a folder; a recipe is a file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise RecipeError(f"{str(path)!r}: cannot be read: {reason or error}") from None
    if len(raw) > LARGEST_BYTES:
        raise RecipeError(f"{path}: a recipe has at most {LARGEST_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise RecipeError(f"{path}:{line}:{column}: not UTF-8 text: byte 0x{raw[error.start]:02x}") from None


def _siblings(path: FilePath) -> list[str]:
    try:
        return [near.name for near in path.parent.iterdir() if near.suffix in (".yaml", ".yml")]
    except OSError:
        return []
