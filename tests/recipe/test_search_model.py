"""How a recipe asks for a search, and what it may not ask."""

import pytest

from aifactory_bench import RecipeError
from aifactory_bench.node.search import Asked
from aifactory_bench.recipe.load_model import Load
from aifactory_bench.recipe.search_model import Search, search_budget_s, search_to_json


@pytest.fixture
def with_load(load, base):
    """A function that loads a recipe whose client has this load."""
    return lambda text: load(f"{base}    load: {text}\n").clients[0].load


def test_a_search_for_a_rate(with_load):
    """What is not written has its default."""
    found = with_load("{process: poisson, search: {find: rate, most: 400/s, slo: {latency: 30ms}}}")
    assert found.rate_per_s is None
    assert found.search == Search(find="rate", most=400.0, slo={"latency": 0.03})
    assert search_to_json(found.search) == {
        "find": "rate",
        "least": None,
        "most": 400.0,
        "slo": {"latency": 0.03},
        "attainment": 0.99,
        "trial_s": 10.0,
        "warmup_s": 2.0,
        "precision": 0.05,
        "steps": 10,
    }
    assert search_to_json(None) is None


def test_everything_is_written(with_load):
    """Units as everywhere; whole numbers for requests in flight."""
    text = "find: concurrency, least: 2, most: 64, slo: {latency: 1s}, attainment: 95%, trial: 5s, warmup: 0s, precision: 10%"
    found = with_load(f"{{search: {{{text}}}}}").search
    assert (found.least, found.most, type(found.most)) == (2, 64, int)
    assert (found.attainment, found.trial_s, found.warmup_s, found.precision) == (0.95, 5.0, 0.0, 0.1)
    knee = with_load("{process: constant, search: {find: knee, least: 5/s, most: 500/s, steps: 8}}").search
    assert (knee.least, knee.most, knee.steps, knee.slo) == (5.0, 500.0, 8, {})


GOOD = "find: rate, most: 400/s, slo: {latency: 30ms}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{process: poisson, search: {find: rate, slo: {latency: 30ms}}}", "search.most: missing"),
        ("{process: poisson, search: {find: rate, most: 400/s}}", "search.slo: missing; find: rate needs at least one limit"),
        (
            "{process: poisson, search: {find: rate, most: 400, slo: {latency: 30ms}}}",
            "search.most: must be a rate with find: rate",
        ),
        ("{search: {find: concurrency, most: 40/s, slo: {latency: 1s}}}", "search.most: must be a whole number"),
        ("{process: poisson, search: {GOOD, least: 400/s}}", "search.least: must be less than most"),
        ("{process: poisson, search: {GOOD, least: 4}}", "search.least: must be a rate"),
        ("{process: poisson, search: {find: knee, most: 40/s, least: 4}}", "search.least: must be written as most is"),
        ("{process: poisson, search: {find: rate, most: 0/s, slo: {latency: 30ms}}}", "search.most: must be more than 0"),
        ("{process: poisson, search: {find: rate, most: 4/s, slo: {latency: 0s}}}", "latency must be more than 0s"),
        ("{process: poisson, search: {find: rate, most: 4/s, slo: {LATENCY: 1s}}}", "'LATENCY' is no name of a quantity"),
        ("{process: poisson, search: {GOOD, attainment: 100%}}", "search.attainment: must be less than 100%"),
        ("{process: poisson, search: {GOOD, precision: 60%}}", "search.precision: must be at most 50%"),
        ("{process: poisson, search: {GOOD, steps: 3}}", "search.steps: must be at least 4"),
        ("{search: {GOOD}}", "load.search: find: rate needs requests that come by the clock; write process: poisson"),
        ("{process: poisson, search: {find: concurrency, most: 4, slo: {latency: 1s}}}", "needs process: closed"),
        ("{process: poisson, search: {find: knee, most: 4}}", "most must be a rate, such as most: 100/s"),
        ("{search: {find: knee, most: 4/s}}", "most must be requests in flight, such as most: 64"),
        ("{process: poisson, rate: 5/s, search: {GOOD}}", "load.search: sets rate itself, trial by trial"),
        ("{concurrency: 5, search: {find: concurrency, most: 9, slo: {latency: 1s}}}", "sets concurrency itself"),
        ("{process: burst, burst_size: 9, search: {GOOD}}", "has no meaning with process: burst"),
        ("{process: poisson, slo: {latency: 1s}, search: {GOOD}}", "has an slo, and so has the load"),
        (
            "{process: poisson, search: {find: rate, most: 4/s, slo: {ttft: 1s}}}",
            "load.search.slo.ttft: driver measures no 'ttft'",
        ),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(with_load, text, words):
    """One sentence each."""
    with pytest.raises(RecipeError) as caught:
        with_load(text.replace("GOOD", GOOD))
    assert words in str(caught.value)


def test_the_budget_holds_all_trials():
    """Twice the decades, and little more time; the timeout counts as far as a backlog can last."""
    load = Load(process="poisson", search=Search(find="rate", most=100.0, slo={"latency": 1.0}), timeout_s=600.0)
    one = search_budget_s(load.search, load)
    wide = search_budget_s(Search(find="rate", most=10_000.0, slo={"latency": 1.0}), load)
    assert one < wide < 2 * one
    assert Asked.from_load({"process": "poisson", "search": search_to_json(load.search)}).least == 1.0
    knee = Search(find="knee", most=64, steps=4)
    assert 4 * 10 < search_budget_s(knee, Load(search=knee, timeout_s=1.0)) < 600
