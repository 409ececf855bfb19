"""Plain values to attrs instances, strictly: no coercion, no unknown key, and every problem with its path."""

import types
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ..units import QUANTITIES
from .fields import (
    Key,
    anything,
    bounds,
    choices,
    described,
    item_type,
    keys_of,
    mapping_types,
    members,
    values_text,
    without_none,
)
from .problems import Path, Problems, shown, suggestion

BAD: Final = type("Bad", (), {"__repr__": lambda _self: "BAD"})()
"""Stands for a value that could not be built; its problems are recorded."""

_NOTHING_GIVEN: Mapping[str, Any] = types.MappingProxyType({})


def structure(type_: Any, value: Any, path: Path, problems: Problems) -> Any:
    """Return the value as the type, or `BAD`.

    Args:
        type_: one of the types that `fields.keys_of` allows.
        value: plain, as read.
        path: where it stands.
        problems: gets what is wrong.
    """
    if anything(type_):
        return value
    if type_ in QUANTITIES:
        return _quantity(type_, value, path, problems)
    if type_ in (str, bool, int, float):
        return _plain(type_, value, path, problems)
    if allowed := choices(type_):
        return _choice(allowed, value, path, problems)
    if (item := item_type(type_)) is not None:
        return _list(item, value, path, problems)
    if (pair := mapping_types(type_)) is not None:
        return _mapping(pair, value, path, problems)
    if union := members(type_):
        return _union(union, value, path, problems)
    return structure_class(type_, value, path, problems)


def structure_class(
    cls: type[Any], value: Any, path: Path, problems: Problems, given: Mapping[str, Any] = _NOTHING_GIVEN
) -> Any:
    """Return an instance of an attrs class, or `BAD`.

    Args:
        cls: the class.
        value: plain, as read; an instance of the class, made from Python, is returned as it is.
        path: where it stands.
        problems: gets what is wrong.
        given: name -> value of arguments that are built already; what the recipe has for their keys is left alone.
    """
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        problems.add(path, f"must be a mapping of {', '.join(keys_of(cls)) or 'nothing'}; found {shown(value)}")
        return BAD
    keys = keys_of(cls)
    arguments = dict(given)
    good = not any(argument is BAD for argument in given.values())
    for key, inner in value.items():
        if key not in keys:
            near = suggestion(key, keys)
            known = f"known: {', '.join(keys)}" if keys else "nothing can be set here"
            problems.add((*path, key), f"unknown key{near or f'; {known}'}", at="key")
            good = False
        elif keys[key].name not in given:
            built = _field(keys[key], inner, (*path, key), problems)
            good = good and built is not BAD
            arguments[keys[key].name] = built
    for key, field in keys.items():
        if field.required and key not in value and field.name not in given:
            problems.add((*path, key), f"missing; it must be {described(field.type)}")
            good = False
    if not good:
        _validated(cls, arguments, path, problems)
        return BAD
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        if not _validated(cls, arguments, path, problems):
            problems.add(path, _error_text(error))
        return BAD


def _field(field: Key, value: Any, path: Path, problems: Problems) -> Any:
    if field.off and value == "off":
        return None
    if value is None:
        if field.off:
            problems.add(path, f"must be {described(field.type)}, or off; found nothing (null)")
            return BAD
        if field.optional:
            return None
    return structure(field.type, value, path, problems)


def _validated(cls: type[Any], arguments: Mapping[str, Any], path: Path, problems: Problems) -> int:
    """Run the validators field by field, so that each problem has its place; return how many there were."""
    before = len(problems)
    values: dict[str, Any] = {}
    attributes = [attribute for attribute in attrs.fields(cls) if attribute.init]
    for attribute in attributes:
        value = arguments.get(attribute.alias or attribute.name, attrs.NOTHING)
        if value is attrs.NOTHING and not isinstance(attribute.default, attrs.Factory):  # type: ignore[arg-type]
            value = attribute.default
        elif value is attrs.NOTHING and not attribute.default.takes_self:
            value = attribute.default.factory()
        values[attribute.name] = value
    # A validator that asks for a field that is not there, or is wrong itself, finds no such attribute and says nothing.
    instance = types.SimpleNamespace(
        **{name: value for name, value in values.items() if value is not BAD and value is not attrs.NOTHING}
    )
    keys = {field.attribute.name: key for key, field in keys_of(cls).items()}
    for attribute in attributes:
        value = values[attribute.name]
        if attribute.validator is None or attribute.converter is not None or value is BAD or value is attrs.NOTHING:
            continue
        try:
            attribute.validator(instance, attribute, value)
        except AttributeError:
            continue
        except (ValueError, TypeError) as error:
            key = keys.get(attribute.name)
            where = path if key is None else (*path, key)
            problems.add(
                where, _bound_text(attribute, value, keys_of(cls).get(key or "")) or _error_text(error, attribute.name)
            )
    return len(problems) - before


def _bound_text(attribute: "attrs.Attribute[Any]", value: Any, key: Key | None) -> str:
    """Return a text for a number outside of its bounds, in the unit of the recipe."""
    broken = [(sign, bound) for sign, bound in bounds(attribute.validator) if not _holds(sign, value, bound)]
    if not broken:
        return ""
    quantity = QUANTITIES.get(key.type) if key is not None else None
    form = quantity.format if quantity is not None else shown
    signs = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}
    return f"must be {' and '.join(f'{signs[sign]} {form(bound)}' for sign, bound in broken)}; found {form(value)}"


def _holds(sign: str, value: Any, bound: Any) -> bool:
    try:
        return bool({">=": value >= bound, ">": value > bound, "<=": value <= bound, "<": value < bound}[sign])
    except (TypeError, KeyError):
        return True


def _error_text(error: Exception, name: str = "") -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.removeprefix(f"'{name}' ")


def _quantity(type_: Any, value: Any, path: Path, problems: Problems) -> Any:
    try:
        return QUANTITIES[type_].parse(value)
    except ValueError as error:
        problems.add(path, str(error))
        return BAD


def _plain(type_: Any, value: Any, path: Path, problems: Problems) -> Any:
    if type(value) is type_:
        return value
    if type_ is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            problems.add(path, f"must be a number of ordinary size; found {shown(value)}")
            return BAD
    hint = ""
    if type_ is str:
        if isinstance(value, Mapping) and "secret" in value:
            hint = ": no value here takes a secret; of an external service external.secret takes a reference, such as env:NAME"
        elif isinstance(value, (bool, int, float)):
            hint = ": put it in quotes"
    elif type_ is bool:
        hint = ": write true or false"
    elif isinstance(value, str):
        hint = " (text)"
    problems.add(path, f"must be {described(type_)}; found {shown(value)}{hint}")
    return BAD


def _choice(allowed: tuple[Any, ...], value: Any, path: Path, problems: Problems) -> Any:
    for choice in allowed:
        if type(choice) is type(value) and choice == value:
            return choice
    near = suggestion(value, [choice for choice in allowed if isinstance(choice, str)]) if isinstance(value, str) else ""
    problems.add(path, f"must be {values_text(allowed)}; found {shown(value)}{near}")
    return BAD


def _list(item: Any, value: Any, path: Path, problems: Problems) -> Any:
    if not isinstance(value, (list, tuple)):
        problems.add(path, f"must be a list; found {shown(value)}: write [a, b]")
        return BAD
    inner, optional = without_none(item)
    items = tuple(
        None if one is None and optional else structure(inner, one, (*path, position), problems)
        for position, one in enumerate(value)
    )
    return BAD if any(one is BAD for one in items) else items


def _mapping(pair: tuple[Any, Any], value: Any, path: Path, problems: Problems) -> Any:
    if not isinstance(value, Mapping):
        problems.add(path, f"must be a mapping; found {shown(value)}")
        return BAD
    key_type, value_type = pair
    inner, optional = without_none(value_type)
    built: dict[str, Any] = {}
    for key, one in value.items():
        allowed = choices(key_type)
        if allowed and key not in allowed:
            problems.add((*path, key), f"unknown key{suggestion(key, allowed)}; allowed: {values_text(allowed)}", at="key")
            built[key] = BAD
        else:
            built[key] = None if one is None and optional else structure(inner, one, (*path, key), problems)
    return BAD if any(one is BAD for one in built.values()) else built


def _union(union: tuple[Any, ...], value: Any, path: Path, problems: Problems) -> Any:
    for member in union:
        built = structure(member, value, path, Problems())
        if built is not BAD:
            return built
    problems.add(path, f"must be {' or '.join(described(member) for member in union)}; found {shown(value)}")
    return BAD
