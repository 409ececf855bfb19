"""JSON Schema of recipes, for completion and checks in editors: built from the model and the registered kinds."""

import re
from collections.abc import Mapping
from typing import Any

import attrs

from ..results.validity import LIMITS
from ..units import QUANTITIES, DurationS, Share
from .aliases import KEYS
from .entries import Kinds, Section
from .fields import Key, anything, bounds, choices, item_type, keys_of, mapping_types, members, texts_of, without_none
from .matrix import FACTORS
from .model import NAME_PATTERN, VARIABLE, ClientEntry, RecipeFile, ServiceEntry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number"}
_BOUNDS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}

Schema = dict[str, Any]


def json_schema(registry: Kinds) -> Schema:
    """Return the JSON Schema (2020-12) of the recipes that a registry's kinds allow.

    It knows every key, type, unit and choice; what goes beyond one value (a client's target exists, a rate fits its
    process) only `validate` knows.
    """
    schema = class_schema(RecipeFile)
    properties = schema["properties"]
    properties["services"] |= _named(_entry_schema("services", registry.services)) | {"minProperties": 1}
    properties["clients"] |= _named(_entry_schema("clients", registry.clients))
    properties["limits"] |= {"properties": _limits(), "additionalProperties": False}
    heads = "|".join(rf"{section}\.[a-z][a-z0-9-]*\.(?:{'|'.join(keys)})" for section, keys in FACTORS.items())
    properties["matrix"] |= {
        "propertyNames": {"pattern": rf"^(?:{heads})(?:\..+)?$"},
        "additionalProperties": {"type": "array", "minItems": 1, "uniqueItems": True},
    }
    properties["repetitions"] = _or(properties["repetitions"], {"type": "integer", "minimum": 1})
    properties["name"] |= {"pattern": NAME_PATTERN}
    return {"$schema": DIALECT, "title": "aifactory-bench recipe", **schema}


def class_schema(cls: type[Any]) -> Schema:
    """Return the schema of an attrs class as a recipe writes it."""
    keys = keys_of(cls)
    texts = texts_of(cls)
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": {}}
    for key, field in keys.items():
        described = _field_schema(field)
        text = field.attribute.metadata.get("text") or texts.get(field.attribute.name)
        schema["properties"][key] = {"description": text, **described} if text else described
    if required := [key for key, field in keys.items() if field.required]:
        schema["required"] = required
    return schema


def _field_schema(field: Key) -> Schema:
    schema = type_schema(field.type)
    for sign, bound in bounds(field.attribute.validator):
        if schema.get("type") in ("integer", "number"):
            schema[_BOUNDS[sign]] = bound
    if field.off:
        schema = _or(schema, {"const": "off"})
    elif field.optional:
        schema = _or(schema, {"type": "null"})
    default = field.attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return schema
    if field.type in QUANTITIES and default not in (None, attrs.NOTHING):
        return {**schema, "default": QUANTITIES[field.type].format(default)}
    if default is None or isinstance(default, (str, int, float)):
        return {**schema, "default": default}
    return schema


def _or(schema: Schema, other: Schema) -> Schema:
    return {"anyOf": [schema, other]}


def type_schema(type_: Any) -> Schema:
    """Return the schema of one of the types that `fields.keys_of` allows."""
    if anything(type_):
        return {}
    if type_ in QUANTITIES:
        quantity = QUANTITIES[type_]
        text: Schema = {"type": "string", "pattern": quantity.pattern, "examples": re.split(", | or ", quantity.examples)}
        return _or(text, {"type": "number", "minimum": 0, "maximum": 1}) if type_ is Share else text
    if type_ in _PLAIN:
        return {"type": _PLAIN[type_]}
    if values := choices(type_):
        return {"enum": list(values)}
    if (item := item_type(type_)) is not None:
        inner, optional = without_none(item)
        schema = type_schema(inner)
        return {"type": "array", "items": _or(schema, {"type": "null"}) if optional else schema}
    if (pair := mapping_types(type_)) is not None:
        return _mapping_schema(*pair)
    if union := members(type_):
        return {"anyOf": [type_schema(member) for member in union]}
    return class_schema(type_)


def _mapping_schema(key_type: Any, value_type: Any) -> Schema:
    inner, optional = without_none(value_type)
    value = type_schema(inner)
    value = _or(value, {"type": "null"}) if optional else value
    if names := choices(key_type):
        return {"type": "object", "properties": dict.fromkeys(names, value), "additionalProperties": False}
    return {"type": "object", "additionalProperties": value}


def _named(entry: Schema) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": NAME_PATTERN}, "additionalProperties": entry}


def _entry_schema(section: Section, kinds: Mapping[str, type[Any]]) -> Schema:
    """Return the schema of one service or client: what all have, and for each kind its parameters."""
    entry = class_schema(ServiceEntry if section == "services" else ClientEntry)
    properties = entry["properties"]
    properties["kind"] = {"description": properties["kind"].get("description", ""), "enum": sorted(kinds)}
    properties["parameters"] |= {"type": "object"}
    properties["environment"] |= {"propertyNames": {"pattern": f"^{VARIABLE.pattern}$"}}
    if section == "clients":
        properties["target"] = {"type": "string", "description": "Short for targets: {main: ...}."}
    else:
        entry["oneOf"] = [{"required": ["kind"]}, {"required": ["external"]}]
    for key, ours in KEYS[section].items():
        properties[key] = {**properties[ours], "deprecated": True, "description": f"Is called {ours} here."}
    properties["gres"] = {"type": "string", "pattern": "^gpu(:[0-9]+)?$", "deprecated": True, "description": "resources.gpus"}
    entry["allOf"] = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"properties": {"parameters": class_schema(cls.Parameters)}},
        }
        for kind, cls in sorted(kinds.items())
    ]
    return entry


def _limits() -> Schema:
    schemas: Schema = {}
    for name, default in LIMITS.items():
        type_ = DurationS if name.endswith("_s") else Share
        schemas[name] = {**type_schema(type_), "default": QUANTITIES[type_].format(default)}
    return schemas
