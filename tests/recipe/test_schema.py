"""The JSON Schema of recipes: it takes what `load` takes, and refuses what is wrong with single values."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.errors import RecipeError
from aifactory_bench.recipe.document import parse
from aifactory_bench.recipe.load import load_recipe_text
from aifactory_bench.recipe.problems import Place, Problems
from aifactory_bench.recipe.schema import DIALECT, json_schema

Load = Callable[..., Any]
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KNOWN = {
    "$schema",
    "examples",
    "title",
    "description",
    "default",
    "deprecated",
    "type",
    "properties",
    "additionalProperties",
    "required",
}
KNOWN |= {
    "enum",
    "const",
    "pattern",
    "items",
    "minItems",
    "uniqueItems",
    "minProperties",
    "propertyNames",
    "minimum",
    "maximum",
}
KNOWN |= {"exclusiveMinimum", "anyOf", "oneOf", "allOf", "if", "then"}


def right(schema: Any, value: Any) -> bool:
    """Return whether a value is what a schema says: the part of the standard that our schemas use, and no more."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    return _simple(schema, value) and _object(schema, value) and _array(schema, value) and _joined(schema, value)


def _simple(schema: Any, value: Any) -> bool:
    type_ = schema.get("type")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if type_ == "integer" and not (number and value == int(value)):
        return False
    if type_ == "number" and not number:
        return False
    if type_ in TYPES and not isinstance(value, TYPES[type_]):
        return False
    same = [
        choice for choice in schema.get("enum", [schema.get("const", value)]) if type(choice) is type(value) and choice == value
    ]
    if not same:
        return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    low, high, above = schema.get("minimum"), schema.get("maximum"), schema.get("exclusiveMinimum")
    return not number or (
        (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)
    )


def _object(schema: Any, value: Any) -> bool:
    if not isinstance(value, dict):
        return True
    own = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    return (
        all(key in value for key in schema.get("required", []))
        and len(value) >= schema.get("minProperties", 0)
        and all(right(schema.get("propertyNames", True), key) for key in value)
        and all(right(own.get(key, others), inner) for key, inner in value.items())
    )


def _array(schema: Any, value: Any) -> bool:
    return not isinstance(value, list) or (
        len(value) >= schema.get("minItems", 0) and all(right(schema.get("items", True), item) for item in value)
    )


def _joined(schema: Any, value: Any) -> bool:
    return (
        ("anyOf" not in schema or any(right(part, value) for part in schema["anyOf"]))
        and ("oneOf" not in schema or sum(right(part, value) for part in schema["oneOf"]) == 1)
        and all(right(part, value) for part in schema.get("allOf", []))
        and ("if" not in schema or not right(schema["if"], value) or right(schema["then"], value))
    )


def plain(text: str) -> Any:
    """Return a recipe's text as plain values."""
    document = parse(text, Place(0, "r", 1, 1), Problems())
    assert document is not None
    return document.data


@pytest.fixture(scope="module")
def schema(registry: Any) -> Any:
    """Return the schema as an editor gets it."""
    return json.loads(json.dumps(json_schema(registry)))


def test_descriptions(schema: Any) -> None:
    """Fields explain themselves, of the model and of parameters; units show how they are written."""
    assert schema["$schema"] == DIALECT
    service = schema["properties"]["services"]["additionalProperties"]
    assert service["properties"]["kind"]["enum"] == ["other", "store"]
    store = next(branch for branch in service["allOf"] if branch["if"]["properties"]["kind"]["const"] == "store")
    persistence = store["then"]["properties"]["parameters"]["properties"]["persistence"]
    assert persistence == {"description": "What is kept on disk.", "enum": ["none", "rdb", "aof", "both"], "default": "none"}
    client = schema["properties"]["clients"]["additionalProperties"]
    assert client["properties"]["load"]["properties"]["duration"]["description"] == "The window in which everything is counted."
    assert client["properties"]["load"]["properties"]["duration"]["default"] == "30s"
    assert client["properties"]["load"]["properties"]["duration"]["examples"][:2] == ["500ms", "5s"]
    assert client["properties"]["num_clients"]["deprecated"] is True


GOOD = [
    "",
    "    load: {process: poisson, rate: 5/s, warmup: 0s}\nlease: off\nmonitors: {node: off}\nrepetitions: 3\n",
    "    replicas: 2\n    resources: {time: 01:30:00, memory: 1.5GiB, cpus: null}\nlimits: {error_share: 0.5}\n",
    "limits: {lateness_floor_s: 1ms, window_short: 1%}\n",
    "    parameters: {operations: {get: 1}, hits_share: 5%, tags: [a], level: auto, retry: {count: 1}}\n",
    "    num_clients: 2\n    gres: gpu:2\n    submit: when_ready\nmatrix: {clients.load.load.concurrency: [1, 2]}\n",
]


@pytest.mark.parametrize("more", GOOD)
def test_takes(load: Load, base: str, schema: Any, more: str) -> None:
    """What is a recipe is right by the schema."""
    load(base + more)
    assert right(schema, plain(base + more))


BAD = [
    "    load: {process: open}\n",
    "    load: {duration: 5}\n",
    "    load: {seed: -1}\n",
    "    replicas: 0\n",
    "    replicas: '1'\n",
    "    replcas: 1\n",
    "    resources: {memory: 5}\n",
    "    parameters: {operations: {gte: 1}}\n",
    "    parameters: {keys: 0}\n",
    "    parameters: {verbose: 1}\n",
    "    parameters: {hits_share: 2%%}\n",
    "    environment: {1a: b}\n",
    "    image: 5\n",
    "limits: {error: 1%}\n",
    "lease: on\n",
    "lease: null\n",
    "matrix: {clients.load.kind: [a]}\n",
    "matrix: {clients.load.load.rate: 5/s}\n",
    "repetitions: {count: 0}\n",
    "repetitions: 0\n",
    "extra: 1\n",
]


@pytest.mark.parametrize("more", BAD)
def test_refuses(load: Load, base: str, schema: Any, more: str) -> None:
    """What is wrong with a single value is wrong by the schema too."""
    with pytest.raises(RecipeError):
        load(base + more)
    assert not right(schema, plain(base + more))


@pytest.mark.parametrize("text", ["{}", "services: 5", "schema: aifactory-bench/1\nname: A\nservices: {a: {kind: store}}"])
def test_refuses_others(schema: Any, text: str) -> None:
    """What is needed is needed by the schema."""
    assert not right(schema, plain(text))


SOME = st.sampled_from(
    ["a", "5s", "1/s", "64B", "1%", 0, 1, -1, 0.5, True, None, "off", "poisson", "aof", "cache", [], {}, [1, 2]]
)
FIELDS = st.sampled_from(
    [
        "load.process",
        "load.rate",
        "load.duration",
        "replicas",
        "image",
        "resources.time",
        "resources.memory",
        "after",
        "submit",
        "parameters.keys",
        "parameters.hits_share",
        "parameters.tags",
        "parameters.label",
        "parameters.retry",
        "parameters.level",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(FIELDS, SOME, max_size=3))
def test_never_stricter_than_load(registry: Any, schema: Any, base: str, values: dict[str, Any]) -> None:
    """An editor marks nothing that `validate` takes, once old forms are brought to ours."""
    overrides = [f"clients.load.{path}={json.dumps(value)}" for path, value in values.items()]
    try:
        recipe = load_recipe_text(base, "r", registry, overrides)
    except RecipeError:
        return
    assert right(schema, recipe.data)
