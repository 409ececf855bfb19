"""From a file, or a text, to a `Recipe`: every problem at once, each with its place."""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, cast

from ..results.validity import LIMITS
from ..units import DurationS, Share
from .aliases import normalise
from .converter import BAD, structure, structure_class
from .document import Document
from .entries import Kinds, Section, check_after, check_names, check_targets
from .matrix import EntryMaker, check_size, read_factors
from .model import SCHEMA, Factor, Recipe, RecipeFile
from .overrides import override
from .problems import Problems, suggestion
from .source import read_document, read_source


def load_recipe(path: str | FilePath, registry: Kinds, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a file.

    Args:
        path: of the YAML file.
        registry: the kinds that are known.
        overrides: `path=value`, as given to `--set`.

    Raises:
        RecipeError: the file cannot be read, or something in it or in an override is wrong; all of it is listed.
    """
    return load_recipe_text(read_source(FilePath(path), "recipe"), str(path), registry, overrides)


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
    document = read_document(text, name, "recipe", SCHEMA, problems)
    notes: dict[str, None] = {}
    normalise(document, problems, notes)
    for one in overrides:
        override(document, one, problems)
        normalise(document, problems, notes)
    recipe = _build(document, text, registry, tuple(notes), problems)
    problems.raise_all()
    return cast("Recipe", recipe)


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
        max_pending_s=file.max_pending_s,
        retries=file.retries,
        source=text,
        notes=notes,
        data=document.data,
        places={path: place for path, place in document.values.items() if path},
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
