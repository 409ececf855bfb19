"""The naming rule between attrs classes and recipes, and the types that a recipe can hold.

A field's key is its name, less the unit's suffix where the type is a unit type: `value_size_bytes: SizeBytes` is
`value_size: 64B`. This holds for the model and for every `Parameters` class.
"""

import ast
import inspect
import textwrap
import types
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import attrs
from attrs import frozen

from ..errors import PluginError
from ..units import QUANTITIES
from .problems import shown

PLAIN: Mapping[Any, str] = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
_ANYTHING = (Any, object)
_KEYS: "WeakKeyDictionary[type[Any], Mapping[str, Key]]" = WeakKeyDictionary()


@frozen
class Key:
    """One key of a recipe's mapping, and the field that takes it."""

    key: str
    name: str
    """Of the argument of the class."""
    type: Any
    """Without its `Optional`."""
    optional: bool
    """`null` is allowed."""
    off: bool
    """The text `off` stands for None, and `null` is not allowed."""
    required: bool
    attribute: "attrs.Attribute[Any]"


def keys_of(cls: type[Any]) -> Mapping[str, Key]:
    """Return the keys that a recipe may write for an attrs class, in its order.

    Raises:
        PluginError: not an attrs class, or a field's type cannot be written in a recipe.
    """
    found = _KEYS.get(cls)
    if found is None:
        found = _KEYS[cls] = _read_keys(cls)
    return found


def _read_keys(cls: type[Any]) -> Mapping[str, Key]:
    where = f"{cls.__module__}.{cls.__qualname__}"
    if not attrs.has(cls):
        raise PluginError(f"{where} is not an attrs class")
    try:
        hints = get_type_hints(cls)
    except Exception as error:  # annotations are a plugin's text: evaluating them may raise anything
        raise PluginError(f"{where}: its annotations cannot be read: {type(error).__name__}: {error}") from error
    keys: dict[str, Key] = {}
    for attribute in attrs.fields(cls):
        if not attribute.init or not attribute.metadata.get("recipe", True):
            continue
        type_, optional = without_none(hints.get(attribute.name))
        if not _known(type_):
            raise PluginError(
                f"{where}.{attribute.name}: a recipe cannot hold {hints.get(attribute.name)!r}",
                "allowed: bool, int, float, str, the types of aifactory_bench.units, Literal, attrs classes, "
                "and tuple[X, ...], Mapping[str, X] and Optional[X] of these",
            )
        key = key_of(attribute.name, type_)
        if key in keys:
            raise PluginError(f"{where}: {attribute.name} and {keys[key].attribute.name} would both be {key!r} in a recipe")
        off = bool(attribute.metadata.get("off", False))
        required = attribute.default is attrs.NOTHING
        keys[key] = Key(key, attribute.alias or attribute.name, type_, optional, off, required, attribute)
    return types.MappingProxyType(keys)


def key_of(name: str, type_: Any) -> str:
    """Return the key of a field: its name less the unit's suffix, which a mapping's values may have too."""
    pair = mapping_types(type_)
    quantity = QUANTITIES.get(type_ if pair is None else pair[1]) if _hashable(type_) else None
    return name.removesuffix(quantity.suffix) if quantity and quantity.suffix and name != quantity.suffix else name


def without_none(type_: Any) -> tuple[Any, bool]:
    """Return a type without its `None`, and whether it had one."""
    if get_origin(type_) not in (Union, types.UnionType):
        return type_, False
    left = [argument for argument in get_args(type_) if argument is not type(None)]
    if len(left) == len(get_args(type_)):
        return type_, False
    return (left[0] if len(left) == 1 else Union[tuple(left)]), True


def members(type_: Any) -> tuple[Any, ...]:
    """Return the types of a union; empty for anything else."""
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else ()


def choices(type_: Any) -> tuple[Any, ...]:
    """Return the values of a Literal; empty for anything else."""
    return get_args(type_) if get_origin(type_) is Literal else ()


def item_type(type_: Any) -> Any:
    """Return the type of a list's items, or None where the type is no list."""
    arguments = get_args(type_)
    if get_origin(type_) in (tuple, list, Sequence):
        return arguments[0] if len(arguments) == 1 or arguments[1:] == (Ellipsis,) else None
    return None


def mapping_types(type_: Any) -> tuple[Any, Any] | None:
    """Return the types of a mapping's keys and values, or None where the type is no mapping."""
    return get_args(type_) if get_origin(type_) in (dict, Mapping) else None


def anything(type_: Any) -> bool:
    """Return whether a type takes every value."""
    return any(type_ is any_type for any_type in _ANYTHING)


def _hashable(type_: Any) -> bool:
    try:
        hash(type_)
    except TypeError:
        return False
    return True


def _known(type_: Any) -> bool:
    if not _hashable(type_):
        return False
    if type_ in PLAIN or type_ in QUANTITIES or anything(type_):
        return True
    if choices(type_):
        return all(isinstance(choice, (str, int, bool)) for choice in choices(type_))
    if (item := item_type(type_)) is not None:
        return _known(without_none(item)[0])
    if (pair := mapping_types(type_)) is not None:
        key, value = pair
        return (key is str or all(isinstance(choice, str) for choice in choices(key) or (0,))) and _known(value)
    if union := members(type_):
        return all(_known(member) for member in union)
    if isinstance(type_, type) and attrs.has(type_):
        keys_of(type_)
        return True
    return False


def described(type_: Any) -> str:
    """Return what a type allows, for a sentence that begins with `must be`."""
    if type_ in PLAIN:
        return PLAIN[type_]
    if type_ in QUANTITIES:
        return f"{QUANTITIES[type_].what}, such as {QUANTITIES[type_].examples}"
    if values := choices(type_):
        return values_text(values)
    if (item := item_type(type_)) is not None:
        return f"a list, each item {described(without_none(item)[0])}"
    if mapping_types(type_) is not None or (isinstance(type_, type) and attrs.has(type_)):
        return "a mapping"
    if union := members(type_):
        return " or ".join(described(member) for member in union)
    return "any value"


def values_text(values: Sequence[Any]) -> str:
    """Return `a`, `a or b`, `a, b or c`."""
    texts = [value if isinstance(value, str) else shown(value) for value in values]
    return f"{', '.join(texts[:-1])} or {texts[-1]}" if len(texts) > 1 else texts[0]


def bounds(validator: Any) -> list[tuple[str, Any]]:
    """Return what the number validators of attrs ask for, e.g. `[(">=", 1)]`; other validators have none."""
    if validator is None:
        return []
    inner = getattr(validator, "_validators", None) or ([validator.validator] if hasattr(validator, "validator") else [])
    if inner:
        return [bound for part in inner for bound in bounds(part)]
    if hasattr(validator, "compare_op") and hasattr(validator, "bound"):
        return [(validator.compare_op, validator.bound)]
    return []


def texts_of(cls: type[Any]) -> Mapping[str, str]:
    """Return field name -> the text behind it in the source, where there is one and the source can be read."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not attrs.has(base):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):
            continue
        body = getattr(tree, "body", [])
        for line, following in pairwise(body):
            if (
                isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                texts[line.target.id] = inspect.cleandoc(following.value.value)
    return types.MappingProxyType(texts)
