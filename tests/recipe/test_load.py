"""Loading: every problem at once, each with its place; one clear error for what is no recipe at all."""

import os
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from aifactory_bench.errors import RecipeError
from aifactory_bench.recipe.load import load_recipe, load_recipe_text
from aifactory_bench.recipe.model import External, Monitors, NodeMonitor, ServiceMonitor

Load = Callable[..., Any]


def said(load: Load, text: str, *overrides: str) -> list[str]:
    """Return the lines of the error that a text gives."""
    with pytest.raises(RecipeError) as caught:
        load(text, overrides)
    return str(caught.value).splitlines()


def test_smallest(load: Load, base: str) -> None:
    """What is left out has the defaults of the model, and parameters are of their kind's class."""
    recipe = load(base)
    assert (recipe.name, recipe.lease_s, recipe.seed, recipe.repetitions.count) == ("base", 600.0, 1, 1)
    assert recipe.monitors.node == NodeMonitor(1.0)
    assert recipe.monitors.service == ServiceMonitor(5.0)
    assert recipe.services[0].ready.timeout_s is None
    assert recipe.services[0].parameters.persistence == "none"
    assert recipe.clients[0].targets == {"main": "cache"}
    assert recipe.clients[0].parameters.operations == {"get": 1}
    assert recipe.source == base
    assert recipe.notes == ()


def test_everything(load: Load) -> None:
    """Every key is read, with its unit resolved."""
    recipe = load(
        """
schema: aifactory-bench/1
name: all-keys
services:
  a:
    kind: store
    image: docker://redis:7.4
    resources: {nodes: 2, cpus: 8, memory: 16GiB, gpus: 1, time: 30m}
    replicas: 2
    environment: {FOO: bar baz, _x1: ''}
    parameters: {persistence: aof, max_memory: 1GB}
    ready: {timeout: 2m}
  b: {external: {url: 'redis://[::1]:6379'}, ready: {timeout: 5s}}
clients:
  one:
    kind: copier
    targets: {source: a, sink: b}
  two:
    kind: driver
    target: b
    after: one
    submit: when_ready
    load: {process: constant, rate: 600/m, connections: 3, warmup: 0s, duration: 500ms, timeout: 1s, seed: 7, workers: 2}
    parameters: {hits_share: 50%, limit: 1/s, verbose: true, skew: 1, label: x, tags: [a, b], retry: {pause: 1s}, level: 3}
monitors: {node: {interval: 500ms}}
limits: {error_share: 2%, lateness_floor_s: 2ms}
repetitions: {count: 2, reset: data}
lease: off
seed: 9
"""
    )
    a, b = recipe.services
    assert (a.resources.memory_bytes, a.resources.time_s, a.ready.timeout_s) == (16 << 30, 1800.0, 120.0)
    assert (a.parameters.max_memory_bytes, a.environment) == (10**9, {"FOO": "bar baz", "_x1": ""})
    assert (b.kind, b.external, b.parameters) == (None, External("redis://[::1]:6379"), {})
    two = recipe.clients[1]
    assert (two.load.rate_per_s, two.load.duration_s, two.after, two.submit) == (10.0, 0.5, "one", "when_ready")
    assert (two.parameters.hits_share, two.parameters.skew, two.parameters.retry.pause_s) == (0.5, 1.0, 1.0)
    assert (two.parameters.tags, two.parameters.level) == (("a", "b"), 3)
    assert recipe.limits == {"error_share": 0.02, "lateness_floor_s": 0.002}
    assert (recipe.repetitions.count, recipe.repetitions.reset, recipe.lease_s, recipe.seed) == (2, "data", None, 9)


def test_monitor_off(load: Load, base: str) -> None:
    """Samplers can be turned off, each for itself, and an empty key does not do it by accident."""
    assert load(base + "monitors: {node: off}\n").monitors == Monitors(node=None, service=ServiceMonitor(5.0))
    assert load(base + "monitors: {service: off}\n").monitors == Monitors(node=NodeMonitor(1.0), service=None)
    assert load(base + "monitors: {service: {interval: 500ms}}\n").monitors.service == ServiceMonitor(0.5)
    assert said(load, base + "monitors:\n  node:\n") == [
        "r.yaml:11:3: monitors.node: must be a mapping, or off; found nothing (null)"
    ]


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("services.cache.replicas", "4096"),
        ("services.cache.resources.nodes", "16384"),
        ("services.cache.resources.cpus", "4096"),
        ("services.cache.resources.gpus", "1024"),
        ("clients.load.replicas", "4096"),
        ("clients.load.load.concurrency", "100000"),
        ("clients.load.load.connections", "100000"),
        ("clients.load.load.workers", "256"),
    ],
)
def test_numbers_beyond_any_machine_are_refused(load: Load, base: str, path: str, most: str) -> None:
    """They would be counted up to for ever."""
    opened = ["clients.load.load={process: poisson, rate: 1/s}"] if path.endswith("connections") else []
    load(base, [*opened, f"{path}={most}"])
    with pytest.raises(RecipeError, match=f"must be at most {most}; found 9{{26}}"):
        load(base, [*opened, f"{path}={'9' * 26}"])


@pytest.mark.parametrize(
    ("path", "beyond", "most"),
    [
        ("services.cache.resources.memory", "1025TiB", "1024TiB"),
        ("services.cache.resources.time", "366d", "365d"),
        ("services.cache.ready.timeout", "8d", "7d"),
        ("clients.load.load.warmup", "8d", "7d"),
        ("clients.load.load.duration", "8d", "7d"),
        ("clients.load.load.timeout", "8d", "7d"),
        ("clients.load.load", "{process: constant, rate: 1000000001/s}", "1000000000/s"),
        ("lease", "8d", "7d"),
        ("monitors", "{node: {interval: 8d}}", "7d"),
    ],
)
def test_times_and_sizes_beyond_any_run_are_refused(load: Load, base: str, path: str, beyond: str, most: str) -> None:
    """With the most that is allowed, in the unit of the recipe."""
    with pytest.raises(RecipeError, match=f"must be at most {most}; found"):
        load(base, [f"{path}={beyond}"])


def test_all_problems_at_once(load: Load) -> None:
    """Every problem is listed, in the order of the file, each at its place."""
    lines = said(
        load,
        """schema: aifactory-bench/2
name: Bad Name
services:
  cache:
    kind: stoer
    resources: {cpus: 0, memory: 16, gpu: 1}
  all: {}
clients:
  load:
    kind: driver
    target: cahe
    replicas: 0
    environment: {1X: a, B: 2}
    parameters: {keys: true, value_size: 64, operations: {gte: 1}}
    load: {process: poisson, duration: 0s}
    image: "-x"
limits: {eror_share: 1%}
lease: 5
sed: 1
""",
    )
    assert [line.split(" ")[0] + " " + line.split(" ")[1] for line in lines] == [
        "r.yaml:1:9: schema:",
        "r.yaml:2:7: name:",
        "r.yaml:5:11: services.cache.kind:",
        "r.yaml:6:23: services.cache.resources.cpus:",
        "r.yaml:6:34: services.cache.resources.memory:",
        "r.yaml:6:38: services.cache.resources.gpu:",
        "r.yaml:7:3: services.all:",
        "r.yaml:7:8: services.all:",
        "r.yaml:11:13: clients.load.targets.main:",
        "r.yaml:12:15: clients.load.replicas:",
        "r.yaml:13:29: clients.load.environment.B:",
        "r.yaml:14:24: clients.load.parameters.keys:",
        "r.yaml:14:42: clients.load.parameters.value_size:",
        "r.yaml:14:59: clients.load.parameters.operations.gte:",
        "r.yaml:15:11: clients.load.load.rate:",
        "r.yaml:15:40: clients.load.load.duration:",
        "r.yaml:16:12: clients.load.image:",
        "r.yaml:17:10: limits.eror_share:",
        "r.yaml:18:8: lease:",
        "r.yaml:19:1: sed:",
    ]
    text = "\n".join(lines)
    for near in (
        "did you mean store?",
        "did you mean gpus?",
        "did you mean cache?",
        "did you mean get?",
        "did you mean error_share?",
    ):
        assert near in text
    assert "did you mean seed?" in text


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("{}", "services.cache: kind is missing; known: other, store; or external: {url: ...} for one that runs already"),
        ("5", "services.cache: must be a mapping of kind, external, image"),
        ("{kind: 5}", "services.cache.kind: must be text; found 5"),
        ("{kind: driver}", "services.cache.kind: driver belongs under clients; known here: other, store"),
        ("{kind: store, external: {url: 'a://b:1'}}", "services.cache.external: stands in place of kind: leave one out"),
        ("{external: {}}", "services.cache.external.url: missing; it must be text"),
        ("{external: {url: 'redis://u:p@h:1'}}", "services.cache.external.url: must be scheme://host:port without user"),
        ("{external: {url: 'redis://h'}}", "services.cache.external.url: must be scheme://host:port"),
        ("{external: {url: 'redis://h:0'}}", "services.cache.external.url: must be scheme://host:port"),
        ("{external: {url: 'redis://h:1/3'}}", "named by host and port alone; found the path '/3', which would not be used"),
        ("{external: {url: 'a://b:1'}, image: x}", "services.cache.image: has no meaning with external"),
        ("{kind: store, name: x}", "services.cache.name: unknown key"),
        (
            "{kind: store, parameters: {persistance: aof}}",
            "services.cache.parameters.persistance: unknown key; did you mean persistence?",
        ),
        (
            "{kind: store, parameters: {persistence: null}}",
            "services.cache.parameters.persistence: must be none, rdb, aof or both",
        ),
        (
            "{kind: store, parameters: []}",
            "services.cache.parameters: must be a mapping of persistence, max_memory; found a list",
        ),
        ("{kind: other, parameters: {a: 1}}", "services.cache.parameters.a: unknown key; nothing can be set here"),
        ("{kind: store, environment: {'a b': x}}", "services.cache.environment: 'a b' is no name of a variable"),
        ("{kind: store, environment: {AFB_RUN_DIR: x}}", "services.cache.environment: AFB_RUN_DIR is ours"),
        (
            "{kind: store, environment: {A: {secret: 'env:X'}}}",
            "services.cache.environment.A: must be text; found a mapping: no value here takes a secret",
        ),
        ("{kind: store, image: ''}", "services.cache.image: must be an image reference"),
    ],
)
def test_services(load: Load, entry: str, line: str) -> None:
    """What is wrong with a service is said at the service."""
    lines = said(load, f"schema: aifactory-bench/1\nname: a\nservices:\n  cache: {entry}\n")
    assert len(lines) == 1
    assert re.match(r"r\.yaml:4:\d+: ", lines[0])
    assert line in lines[0]


@pytest.mark.parametrize(
    ("clients", "line"),
    [
        ("{kind: driver}", "clients.load.targets.main: missing; driver needs target: the name of a service of kind store"),
        ("{target: cache}", "clients.load.kind: missing; it must be text"),
        ("{kind: drivr, target: cache}", "clients.load.kind: unknown kind 'drivr'; did you mean driver?; known: any, copier"),
        ("{kind: dreamer, target: cache}", "clients.load.kind: unknown kind 'dreamer'; known: any, copier"),
        ("{kind: far, target: cache}", "for another one install its plugin, or name its file with --plugin"),
        ("{kind: any}", "any needs target: the name of a service of any kind"),
        ("{kind: store, target: cache}", "clients.load.kind: store belongs under services"),
        ("{kind: driver, target: plain}", "clients.load.targets.main: plain is of kind other, and driver measures store"),
        ("{kind: driver, target: 5}", "clients.load.targets.main: must be text; found 5"),
        ("{kind: driver, targets: {main: cache, mian: cache}}", "clients.load.targets.mian: unknown role; did you mean main?"),
        ("{kind: copier, targets: {source: cache}}", "clients.load.targets.sink: missing; copier needs targets.sink"),
        ("{kind: driver, target: cache, after: lod}", "clients.load.after: there is no client 'lod'; did you mean load?"),
        ("{kind: driver, target: cache, after: load}", "clients.load.after: goes round in a circle: load after load"),
        (
            "{kind: driver, target: cache, parameters: {pipeline: 5, keys: 2}}",
            "clients.load.parameters: pipeline must not be more than keys",
        ),
        (
            "{kind: driver, target: cache, parameters: {operations: {get: 0}}}",
            "parameters.operations: at least one weight must be more",
        ),
        ("{kind: driver, target: cache, submit: later}", "clients.load.submit: must be at_once or when_ready; found 'later'"),
    ],
)
def test_clients(load: Load, clients: str, line: str) -> None:
    """What is wrong with a client is said at the client."""
    services = "services: {cache: {kind: store}, plain: {kind: other}}"
    lines = said(load, f"schema: aifactory-bench/1\nname: a\n{services}\nclients:\n  load: {clients}\n")
    assert len(lines) == 1
    assert line in lines[0]


def test_circle_of_clients(load: Load) -> None:
    """A circle of `after` is told once."""
    clients = "\n".join(f"  {name}: {{kind: any, target: s, after: {after}}}" for name, after in ("ab", "bc", "ca", "da"))
    lines = said(load, f"schema: aifactory-bench/1\nname: x\nservices: {{s: {{kind: store}}}}\nclients:\n{clients}\n")
    assert lines == ["r.yaml:5:36: clients.a.after: goes round in a circle: a after b after c after a"]


def test_one_name_two_jobs(load: Load) -> None:
    """A job is called by its name, so a service and a client cannot share one."""
    lines = said(
        load, "schema: aifactory-bench/1\nname: x\nservices: {a: {kind: store}}\nclients: {a: {kind: any, target: a}}\n"
    )
    assert lines == ["r.yaml:4:11: clients.a: a service has this name already; names are for all jobs"]


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a.b", "a" * 32, "ä", "-a", "a b"])
def test_names(load: Load, base: str, name: str) -> None:
    """Names become parts of tokens and paths, so few characters are allowed."""
    assert "must be a name of at most 31" in said(load, base.replace("name: base", f"name: '{name}'"))[0]
    assert "must be a name of at most 31" in "\n".join(said(load, base.replace("cache", f"'{name}'")))


@pytest.mark.parametrize("number", ["010", "1.0", "true", "'1'", "1e0", "null"])
def test_no_coercion(load: Load, base: str, number: str) -> None:
    """A whole number is a whole number."""
    text = base + f"    replicas: {number}\n"
    if number == "010":
        assert load(text).clients[0].replicas == 10
    else:
        assert "clients.load.replicas: must be a whole number" in said(load, text)[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "r.yaml:1:1: the recipe is empty; it begins with schema: aifactory-bench/1"),
        ("# nothing\n", "r.yaml:1:1: the recipe is empty; it begins with schema: aifactory-bench/1"),
        ("[1]", "r.yaml:1:1: a recipe is a mapping; found a list"),
        ("hello", "r.yaml:1:1: a recipe is a mapping; found 'hello'"),
        ("{}", "r.yaml:1:1: schema: missing; it must be aifactory-bench/1"),
        ("schema: aifactory-bench/1\nname: a\nservices: {}\n", "r.yaml:3:11: services: name at least one service"),
    ],
)
def test_no_recipe(load: Load, text: str, line: str) -> None:
    """What is no recipe gets one error."""
    assert said(load, text)[0] == line


def test_many_problems_are_counted(load: Load, base: str) -> None:
    """A list of problems has an end."""
    lines = said(load, base + "".join(f"x{number}: 1\n" for number in range(150)))
    assert len(lines) == 101
    assert lines[-1] == "... and 50 more"


def test_files(tmp_path: Path, registry: Any, base: str) -> None:
    """A file is read as a text is; what cannot be read gets one clear error."""
    good = tmp_path / "good.yaml"
    good.write_bytes(b"\xef\xbb\xbf" + base.encode())
    assert load_recipe(good, registry).name == "base"
    assert load_recipe(str(good), registry, ["seed=5"]).seed == 5
    big = tmp_path / "big.yaml"
    big.write_text("# " + "x" * 300_000)
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"name: a\nb: \xff\n")
    texts = {
        tmp_path / "god.yaml": "there is no such file; did you mean good.yaml?",
        tmp_path / "none" / "x.yaml": "there is no such file",
        tmp_path: "is a folder; a recipe is a file",
        good / "x": "cannot be read: Not a directory",
        big: "a recipe has at most 256 KiB",
        bad: "bad.yaml:2:4: not UTF-8 text: byte 0xff",
        "a\0b": "cannot be read",
    }
    for path, text in texts.items():
        with pytest.raises(RecipeError, match=re.escape(text)):
            load_recipe(path, registry)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(tmp_path: Path, registry: Any) -> None:
    """A file without permission is named."""
    path = tmp_path / "r.yaml"
    path.touch(mode=0)
    with pytest.raises(RecipeError, match="Permission denied"):
        load_recipe(path, registry)


def test_text_too_long(load: Load) -> None:
    """A text has the limit of a file."""
    assert said(load, "#" * 300_000) == ["r.yaml:1:1: a recipe has at most 256 KiB; found 292 KiB"]


WORDS = ["schema", "name", "services", "clients", "monitors", "limits", "matrix", "repetitions", "lease", "seed", "kind"]
WORDS += ["load", "parameters", "target", "targets", "resources", "time", "gres", "image", "container_image", "external", "url"]
WORDS += [
    "driver",
    "store",
    "cache",
    "aifactory-bench/1",
    "rate",
    "process",
    "5/s",
    "clients.load.load.rate",
    "off",
    "after",
    "node",
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), st.sampled_from(WORDS), st.text(max_size=4)
)
KEYS = st.sampled_from(WORDS) | st.text(max_size=3)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
WHOLE = {
    "schema": "aifactory-bench/1",
    "name": "base",
    "services": {"cache": {"kind": "store"}},
    "clients": {"load": {"kind": "driver", "target": "cache", "load": {"process": "poisson", "rate": "5/s"}}},
    "matrix": {"clients.load.parameters.keys": [1, 2]},
}


def dumped(tree: Any) -> str:
    """Return a tree as YAML."""
    stream = StringIO()
    YAML(typ="safe", pure=True).dump(tree, stream)
    return stream.getvalue()


def check(tree: Any, registry: Any, *overrides: str) -> None:
    """Load a tree: it is a recipe, or every line of the error has a place."""
    try:
        load_recipe_text(dumped(tree), "r.yaml", registry, overrides)
    except RecipeError as error:
        for line in str(error).splitlines():
            assert re.match(r"r\.yaml:\d+:\d+: |--set |\.\.\. and ", line), line


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(TREES)
def test_any_tree(registry: Any, tree: Any) -> None:
    """Any tree is a recipe or a list of problems with places."""
    check(tree, registry)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(st.data(), TREES)
def test_any_value_anywhere(registry: Any, data: st.DataObject, tree: Any) -> None:
    """A good recipe with one value replaced by anything is a recipe or a list of problems with places."""
    whole = {**WHOLE}
    holder: Any = whole
    while True:
        key = data.draw(st.sampled_from(sorted(holder)) | KEYS)
        if isinstance(holder.get(key), dict) and data.draw(st.booleans()):
            holder[key] = {**holder[key]}
            holder = holder[key]
        else:
            holder[key] = tree
            break
    check(whole, registry)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "services.cache", "clients.load", "matrix", ""]), max_size=4), st.text(max_size=8))
def test_any_override(registry: Any, parts: list[str], value: str) -> None:
    """Any override is taken or refused with its place."""
    check(WHOLE, registry, f"{'.'.join(parts)}={value}")
