"""Checks of what a class says of itself: texts, parameters, declarations, recipes."""

import inspect
import json
import math
import re
import signal
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from ..errors import AifactoryBenchError
from ..jobs.base import parameters_to_json
from ..recipe.converter import structure
from ..recipe.fields import item_type, keys_of, mapping_types, members, texts_of, without_none
from ..recipe.load import load_recipe, load_recipe_text
from ..recipe.matrix import expand
from ..recipe.model import SCHEMA
from ..recipe.problems import Problems
from ..recipe.source import read_document
from ..units import QUANTITIES, DurationS, RatePerS, SizeBytes
from .conformance_subject import Subject

Check = Callable[[Subject], Iterator[str]]
"""Yields what is wrong, a sentence each."""

_REFERENCE = re.compile(
    r"(?:docker|oras|library|shub)://[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)*(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_NOTATION = re.compile(r"`([a-z][a-z0-9_]*): ([^`]+)`")
_UNITS = {"_per_s": RatePerS, "_s": DurationS, "_ms": DurationS}
"""End of a field's name -> the type that it promises; the others are sizes."""
_WITH_UNIT = re.compile(r"(?P<name>.+?)(?P<unit>_per_s|_m?s|_[kmg]i?b|_bytes)")
_NO_TEXT = "has no text: write a string below it that says what it is"


def documented(subject: Subject) -> Iterator[str]:
    """The class and each of its parameters say what they are."""
    cls = subject.cls
    if not (cls.__dict__.get("__doc__") or "").strip():
        yield f"{cls.__qualname__} has no docstring"
    for parameters in parameter_classes(cls.Parameters):
        texts = texts_of(parameters)
        for field in attrs.fields(parameters):
            if not texts.get(field.name):
                yield f"{parameters.__qualname__}.{field.name} {_NO_TEXT}"


def parameter_classes(cls: type[Any]) -> Iterator[type[Any]]:
    """Yield an attrs class and those that its fields hold, each once."""
    waiting, seen = [cls], {cls}
    while waiting:
        current = waiting.pop(0)
        yield current
        for key in keys_of(current).values():
            inner = [found for found in attrs_in(key.type) if found not in seen]
            seen.update(inner)
            waiting += inner


def attrs_in(type_: Any) -> Iterator[type[Any]]:
    """Yield the attrs classes that a value of a type can be, or holds."""
    type_ = without_none(type_)[0]
    if isinstance(type_, type) and attrs.has(type_):
        yield type_
    parts = [item_type(type_), *(mapping_types(type_) or ())[1:], *members(type_)]
    for part in parts:
        if part is not None:
            yield from attrs_in(part)


def parameters(subject: Subject) -> Iterator[str]:
    """Parameters are frozen, carry their units, get to the node as plain values, and are written as their texts say."""
    cls = subject.cls.Parameters
    frozen = [found for found in parameter_classes(cls) if not _is_frozen(found)]
    yield from (f"{found.__qualname__} is not frozen: write @frozen" for found in frozen)
    given = parameters_to_json(subject.example.parameters)
    try:
        arrived = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        yield f"parameters cannot travel to the node as JSON: {error}; found {given!r}"
    else:
        if arrived != _lists(given):
            yield f"parameters are something else on the node: {given!r} becomes {arrived!r}"
    for found in parameter_classes(cls):
        yield from _units(found)
        yield from _notations(found)


def _units(cls: type[Any]) -> Iterator[str]:
    """Yield where type and name of a field do not agree on its unit: a reader of the node module has only the name."""
    for key in keys_of(cls).values():
        name = key.attribute.name
        found = _WITH_UNIT.fullmatch(name)
        bare = found["name"] if found else name
        type_ = (mapping_types(key.type) or (None, key.type))[1]
        if (unit := next((one for one in QUANTITIES if one is type_), None)) is not None:
            suffix = QUANTITIES[unit].suffix
            if not name.endswith(suffix):
                yield f"{cls.__qualname__}.{name} is a {unit.__name__}: call it {bare}{suffix}; a recipe then says `{bare}`"
        elif found and type_ in (int, float):
            meant = _UNITS.get(found["unit"], SizeBytes)
            better = f"{bare}{QUANTITIES[meant].suffix}: {meant.__name__}"
            yield f"{cls.__qualname__}.{name} is a bare number: write `{better}`; a recipe then says `{bare}`"


def _is_frozen(cls: type[Any]) -> bool:
    if not attrs.fields(cls):
        return True
    try:
        setattr(object.__new__(cls), attrs.fields(cls)[0].name, None)
    except attrs.exceptions.FrozenInstanceError:
        return True
    except Exception:  # noqa: BLE001 - a setter of its own, which is none of a frozen class
        return False
    return False


def _lists(value: Any) -> Any:
    """Return a value with tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _notations(cls: type[Any]) -> Iterator[str]:
    """Yield what of `key: value` in a field's text is not what a recipe may write."""
    keys = keys_of(cls)
    for name, text in texts_of(cls).items():
        for key, value in _NOTATION.findall(text):
            if key not in keys:
                continue
            problems = Problems()
            try:
                data = read_document(f"{key}: {value}\n", name, "text", "", problems).data
            except AifactoryBenchError:
                yield f"the text of {cls.__qualname__}.{name}: `{key}: {value}` is not YAML"
                continue
            if data[key] is not None or not keys[key].optional:
                structure(keys[key].type, data[key], (key,), problems)
            yield from (f"the text of {cls.__qualname__}.{name}: `{key}: {value}` {found.text}" for found in problems.found)


def declarations(subject: Subject) -> Iterator[str]:
    """Numbers and names that the class gives can be what they are for."""
    cls = subject.cls
    yield from _image(cls)
    reason = cls.credential_in_arguments
    if not isinstance(reason, str):
        yield f"credential_in_arguments must be a sentence that says why, got {reason!r}"
    yield from _service(cls) if subject.is_service else _client(subject)


def _image(cls: type[Any]) -> Iterator[str]:
    image = cls.default_image
    if image is not None and not (isinstance(image, str) and (image.startswith("/") or _REFERENCE.fullmatch(image))):
        yield f"default_image {image!r} must be a reference such as docker://redis:7.4, or the absolute path of an image file"


def _service(cls: type[Any]) -> Iterator[str]:
    if not isinstance(cls.scheme, str) or not _SCHEME.fullmatch(cls.scheme):
        yield f"scheme {cls.scheme!r} cannot begin a url: letters, digits and + . -, a letter first"
    if f"SIG{cls.stop_signal}" not in signal.Signals.__members__:
        yield f"stop_signal {cls.stop_signal!r} is no signal: write its name without SIG, such as TERM or INT"
    for name in ("stop_timeout_s", "default_ready_timeout_s"):
        yield from _positive(cls, name)


def _client(subject: Subject) -> Iterator[str]:
    cls = subject.cls
    yield from _positive(cls, "default_timeout_s")
    yield from _positive(cls, "default_connections")
    if not isinstance(cls.slos, tuple) or not all(isinstance(name, str) and name.isidentifier() for name in cls.slos):
        yield f"slos must be a tuple of names, got {cls.slos!r}"
    for role, kinds in cls.targets.items():
        if kinds and not set(kinds) & set(subject.registry.services):
            yield f"targets[{role!r}]: no service of kind {' or '.join(kinds)} is known"


def _positive(cls: type[Any], name: str) -> Iterator[str]:
    value = getattr(cls, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 and math.isfinite(value)):
        yield f"{name} must be a number above 0, got {value!r}"


def recipes(subject: Subject) -> Iterator[str]:
    """Recipes with the kind, and those in its docstrings, are right."""
    for path in subject.recipes:
        try:
            recipe = load_recipe(path, subject.registry)
            expand(recipe, subject.registry)
        except AifactoryBenchError as error:
            yield str(error)
        else:
            yield from (f"{path}: {note}" for note in recipe.notes)
    for where, text in docstring_recipes(subject.cls):
        try:
            expand(load_recipe_text(text, where, subject.registry), subject.registry)
        except AifactoryBenchError as error:
            yield str(error)


def docstring_recipes(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Yield place and text of each recipe in the docstrings of a class, its parameters and its module.

    A recipe begins with its line `schema:` and ends where the text goes back to the left of it.
    """
    for owner in (inspect.getmodule(cls), cls, cls.Parameters):
        lines = inspect.cleandoc(getattr(owner, "__doc__", None) or "").splitlines()
        for number, line in enumerate(lines):
            if not line.lstrip().startswith(f"schema: {SCHEMA}"):
                continue
            margin = len(line) - len(line.lstrip())
            block = [line]
            for following in lines[number + 1 :]:
                if following.strip() and (len(following) - len(following.lstrip()) < margin or following.strip() == "```"):
                    break
                block.append(following)
            yield (
                f"docstring of {getattr(owner, '__qualname__', getattr(owner, '__name__', '?'))}",
                textwrap.dedent("\n".join(block)) + "\n",
            )
