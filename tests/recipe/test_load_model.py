"""The load of a client in a recipe: what goes together, and what is refused with the key that is wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve, fields

from aifactory_bench import Client, RecipeError, Search, load_site
from aifactory_bench.jobs.client import load_to_json, with_defaults
from aifactory_bench.node.load.schedule import OPEN, arrivals, offered_per_s
from aifactory_bench.recipe.load_model import Load, RateStep
from aifactory_bench.recipe.matrix import expand
from aifactory_bench.recipe.schema import json_schema
from aifactory_bench.units import DurationS, RatePerS

Text = Callable[[str], str]
WELL = {
    "closed": "{concurrency: 7}",
    "constant": "{process: constant, rate: 5/s}",
    "poisson": "{process: poisson, rate: 5/s}",
    "steps": "{process: poisson, rates: [{for: 10s, rate: 5/s}, {for: 500ms, rate: 0/s, to: 300/m}]}",
    "gamma": "{process: gamma, rate: 5/s, burstiness: 0.25}",
    "gamma steps": "{process: gamma, rates: [{for: 1h, rate: 5/s}]}",
    "burst": "{process: burst, burst_size: 256, warmup: 0s}",
    "bursts": "{process: burst, burst_size: 256, burst_every: 2s}",
    "slo": "{process: poisson, rate: 5/s, slo: {latency: 200ms}}",
    "search": "{process: poisson, search: {find: rate, most: 100/s, slo: {latency: 50ms}}}",
    "closed search": "{search: {find: concurrency, most: 64, slo: {latency: 50ms}}}",
}


class Streams(Client):
    """A kind with names of its own for objectives, and slow answers."""

    kind = "streams"
    default_timeout_s = 600.0
    slos = ("ttft", "tpot", "e2e")


@pytest.fixture
def text(base: str) -> Text:
    """Return a function that makes a recipe of a load."""
    return lambda load: f"{base}    load: {load}\n"


@pytest.fixture
def of(load: Any, text: Text) -> Callable[..., Load]:
    """Return a function that reads a load."""

    def of(written: str, *overrides: str) -> Load:
        found: Load = load(text(written), overrides).clients[0].load
        return found

    return of


@pytest.mark.parametrize("name", WELL)
def test_what_goes_together_is_read(of: Callable[..., Load], name: str) -> None:
    """And reaches the node as JSON that it can make a schedule of, unless it is a search, which makes its own."""
    load = with_defaults(of(WELL[name]))
    data = json.loads(json.dumps(load_to_json(load)))
    assert data == load_to_json(load)
    assert set(data) == {field.name for field in fields(Load)}
    if load.process in OPEN and load.search is None:
        next(arrivals(data, 1))
        assert offered_per_s(data)


def test_steps_are_values(of: Callable[..., Load]) -> None:
    """Seconds and requests per second; `for` and `to` are keys, as in a sentence."""
    load = of(WELL["steps"])
    assert load.rates == (
        RateStep(DurationS(10.0), RatePerS(5.0)),
        RateStep(DurationS(0.5), RatePerS(0.0), RatePerS(5.0)),
    )
    assert load_to_json(load)["rates"] == [
        {"for_s": 10.0, "rate_per_s": 5.0, "to_per_s": None},
        {"for_s": 0.5, "rate_per_s": 0.0, "to_per_s": 5.0},
    ]


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ("{process: constant}", ["load.rate: missing; process: constant needs", "or rates for steps and ramps"]),
        ("{process: gamma}", ["load.rate: missing; process: gamma needs"]),
        ("{process: burst}", ["load.burst_size: missing; process: burst needs"]),
        ("{process: trace}", ["load.trace: missing; process: trace needs the path"]),
        ("{rate: 5/s}", ["load.rate: has no meaning with process: closed, where the server sets the pace"]),
        (
            "{process: trace, trace: /t, rate: 5/s}",
            ["load.rate: has no meaning with process: trace; it is for process: constant, poisson or gamma"],
        ),
        ("{process: burst, burst_size: 1, rate: 5/s}", ["load.rate: has no meaning with process: burst"]),
        ("{rates: [{for: 1s, rate: 1/s}]}", ["load.rates: has no meaning with process: closed"]),
        ("{process: burst, burst_size: 1, rates: [{for: 1s, rate: 1/s}]}", ["load.rates: has no meaning with process: burst"]),
        ("{process: poisson, rate: 1/s, rates: [{for: 1s, rate: 1/s}]}", ["load.rates: stands in place of rate: leave one"]),
        ("{process: poisson, rates: [{for: 1s, rate: 0/s}]}", ["load.rates: at least one step must have a rate above 0/s"]),
        ("{process: poisson, rates: [{for: 1s, rate: 5}]}", ["load.rates[0].rate: must be a rate"]),
        (
            "{process: poisson, rates: [{for: 1s, rate: 5/s, until: 7/s}]}",
            ["load.rates[0].until: unknown key; known: for, rate, to"],
        ),
        ("{process: poisson, rates: [{for: 0s, rate: 5/s}]}", ["load.rates[0].for: must be more than 0s"]),
        ("{process: poisson, rates: {for: 1s, rate: 5/s}}", ["load.rates: must be a list; found a mapping"]),
        (
            "{process: poisson, duration: 15s, rates: [{for: 10s, rate: 5/s}, {for: 5s, rate: 6/s}, {for: 1s, rate: 7/s}]}",
            ["load.rates: step 3 would begin 15s after the window's start, and the window is 15s long"],
        ),
        (
            "{process: poisson, rate: 5/s, burstiness: 0.5}",
            ["load.burstiness: has no meaning with process: poisson; it is for process: gamma"],
        ),
        ("{process: gamma, rate: 5/s, burstiness: 0}", ["load.burstiness: must be at least 0.01; found 0.0"]),
        ("{burst_size: 5}", ["load.burst_size: has no meaning with process: closed; it is for process: burst"]),
        ("{process: burst, burst_size: 0}", ["load.burst_size: must be at least 1; found 0"]),
        ("{burst_every: 5s}", ["load.burst_every: has no meaning with process: closed; it is for process: burst"]),
        ("{trace: /t}", ["load.trace: has no meaning with process: closed; it is for process: trace"]),
        ("{process: trace, trace: t.jsonl}", ["load.trace: must be an absolute path on the client's node", "found 't.jsonl'"]),
        ("{process: trace, trace: /t, trace_scale: 0}", ["load.trace_scale: must be at least 1e-06; found 0.0"]),
        ("{trace_scale: 2}", ["load.trace_scale: has no meaning with process: closed; it is for process: trace"]),
        (
            "{process: burst, burst_size: 1, concurrency: 5}",
            ["load.concurrency: is for process: closed only; process: burst has"],
        ),
        ("{connections: 5}", ["load.connections: is for open loop only"]),
        ("{slo: {latency: 0s}}", ["load.slo: latency: must be more than 0s and at most 7d; found 0s"]),
        ("{slo: {latency: 30}}", ["load.slo.latency: must be a duration"]),
        (
            "{slo: {latencies: 3s}}",
            [
                "load.slo.latencies: driver measures no 'latencies' to set an objective for; did you mean latency?",
                "; allowed: latency",
            ],
        ),
        (
            "{process: poisson, rate: 5/s, search: {find: rate, most: 9/s, slo: {latency: 1s}}}",
            ["load.search: sets rate itself"],
        ),
        (
            "{process: burst, burst_size: 5, search: {find: rate, most: 9/s, slo: {latency: 1s}}}",
            ["load.search: has no meaning with process: burst"],
        ),
        (
            "{process: poisson, search: {find: rate, most: 9/s, slo: {ttft: 1s}}}",
            ["load.search.slo.ttft: driver measures no 'ttft'"],
        ),
    ],
)
def test_what_does_not_go_together_is_refused(of: Callable[..., Load], written: str, texts: list[str]) -> None:
    """One problem, at the key, with what was found and what is allowed."""
    with pytest.raises(RecipeError) as error:
        of(written)
    lines = str(error.value).splitlines()
    assert len(lines) == 1, lines
    assert ": clients.load." in lines[0]
    for text in texts:
        assert text in lines[0]


def test_overrides_reach_every_key(of: Callable[..., Load]) -> None:
    """`--set` takes the notation of a recipe."""
    assert of(WELL["burst"], "clients.load.load.burst_size=9").burst_size == 9
    load = of(WELL["steps"], "clients.load.load.rates=[{for: 1m, rate: 1/s, to: 2/s}]", "clients.load.load.process=gamma")
    assert load.rates == (RateStep(DurationS(60.0), RatePerS(1.0), RatePerS(2.0)),)
    assert of(WELL["slo"], "clients.load.load.slo.latency=1s").slo == {"latency": 1.0}


def test_a_matrix_varies_profiles_and_processes(load: Any, registry: Any, base: str) -> None:
    """A value may be a list of steps, or a whole load."""
    written = (
        f"{base}    load: {{process: poisson}}\n"
        "matrix:\n  clients.load.load.rates: [[{for: 1s, rate: 1/s}], [{for: 1s, rate: 2/s}, {for: 1s, rate: 3/s}]]\n"
    )
    variants = expand(load(written), registry)
    assert sorted(len(variant.clients[0].load.rates) for variant in variants) == [1, 2]
    written = f"{base}matrix:\n  clients.load.load: [{WELL['gamma']}, {WELL['burst']}, {WELL['slo']}]\n"
    assert {variant.clients[0].load.process for variant in expand(load(written), registry)} == {"gamma", "burst", "poisson"}
    with pytest.raises(RecipeError, match=r"matrix\.clients\.load\.load\.rates\[1\].*must be a list"):
        load(f"{base}    load: {{process: poisson}}\nmatrix:\n  clients.load.load.rates: [[{{for: 1s, rate: 1/s}}], 5/s]\n")


def test_the_schema_knows_the_keys(registry: Any) -> None:
    """For editors: types, choices and units of the load and of what is inside of it."""
    schema = json_schema(registry)["properties"]["clients"]["additionalProperties"]["properties"]["load"]["properties"]
    assert schema["process"]["enum"] == ["closed", *("constant", "poisson", "gamma", "burst", "trace")]
    step = schema["rates"]["items"]
    assert (sorted(step["properties"]), step["required"]) == (["for", "rate", "to"], ["for", "rate"])
    assert schema["slo"]["additionalProperties"]["pattern"] == schema["duration"]["pattern"]
    assert {"burst_size", "burst_every", "burstiness", "trace", "trace_scale", "search"} <= set(schema)
    assert all(schema[key].get("description") for key in schema)


def test_defaults_are_filled_in_for_the_node() -> None:
    """The timeout is the kind's own, a burst gets a connection for each request, and what is given stays."""
    assert with_defaults(Load()).timeout_s == 10.0
    assert with_defaults(Load(), Streams).timeout_s == 600.0
    assert with_defaults(Load(timeout_s=DurationS(3.0)), Streams).timeout_s == 3.0
    burst = Load(process="burst", burst_size=256)
    assert with_defaults(burst).connections == 256
    assert with_defaults(evolve(burst, burst_size=7)).connections == 50
    assert with_defaults(evolve(burst, connections=9)).connections == 9
    assert with_defaults(Load(process="gamma", rate_per_s=RatePerS(1.0))).burstiness == 1.0
    assert with_defaults(Load(process="trace", trace="/t")).trace_scale == 1.0
    filled = with_defaults(Load(process="poisson", rate_per_s=RatePerS(1.0)))
    assert (filled.burstiness, filled.trace_scale, filled.concurrency) == (None, None, None)


def test_a_search_says_what_is_good() -> None:
    """Its objectives are those of the load, its trials are what the budget is for, and it says how many are in flight."""
    search = Search(find="concurrency", most=64, slo={"ttft": DurationS(0.2)})
    load = Load(search=search)
    point = Streams("load").compose_point(
        load_site("local"), "r", id="p", load=load, parameters=Streams.Parameters(), participants={}
    )
    assert point.load["slo"] == point.load["search"]["slo"] == {"ttft": 0.2}
    assert point.load["concurrency"] is None
    assert point.budget_s > 10 * search.trial_s
    with pytest.raises(RecipeError, match="64 leaves workers without a connection"):
        Streams("load", replicas=65).compose_point(
            load_site("local"), "r", id="p", load=load, parameters=Streams.Parameters(), participants={}
        )


def test_objectives_are_checked_without_a_recipe_too() -> None:
    """Where a load was made in Python."""
    load = Load(slo={"ttft": DurationS(0.2), "latency": DurationS(1.0)})
    with pytest.raises(RecipeError, match=r"clients\.chat\.load\.slo\.latency: streams measures no 'latency'.*ttft, tpot, e2e"):
        Streams("chat").compose_point(
            load_site("local"), "r", id="p", load=load, parameters=Streams.Parameters(), participants={}
        )
