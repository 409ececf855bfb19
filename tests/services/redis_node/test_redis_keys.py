"""Which keys are asked for: each distribution against what it should be."""

import math
from collections import Counter
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest

from aifactory_bench_services.redis_data_node import Sizes, value_of
from aifactory_bench_services.redis_keys_node import Popularity, numbers, zipf


def drawn(popularity: Popularity, count: int, within: range, seed: int = 1, **part: int) -> list[int]:
    return list(islice(numbers(popularity, Random(seed), within, **part), count))


def far_off(found: "Counter[int]", chances: dict[int, float], draws: int) -> float:
    """Return how many standard deviations the worst of the counts is from what is expected."""
    return max(
        abs(found[number] - draws * chance) / math.sqrt(draws * chance * (1 - chance)) for number, chance in chances.items()
    )


@pytest.mark.parametrize("exponent", [0.5, 0.99, 1.0, 1.3, 3.0])
def test_zipf_from_the_table(exponent: float) -> None:
    """Every key in proportion, the last one too."""
    keys, draws = 100, 100_000
    total = sum((number + 1.0) ** -exponent for number in range(keys))
    chances = {number: (number + 1.0) ** -exponent / total for number in range(keys)}
    found = Counter(drawn(Popularity("zipf", exponent), draws, range(keys)))
    assert set(found) <= set(range(keys))
    assert far_off(found, {number: chance for number, chance in chances.items() if chance * draws > 20}, draws) < 5


@pytest.mark.parametrize("exponent", [0.3, 0.99, 1.0, 1.2])
def test_zipf_beyond_the_table(exponent: float) -> None:
    """More keys than it holds: the first ones, the place where the table ends, and ranges of those beyond it."""
    keys, draws = 400_000, 100_000
    weights = [(number + 1.0) ** -exponent for number in range(keys)]
    total = math.fsum(weights)
    edges = [0, 1, 2, 10, 100, 65_000, 65_536, 65_537, 66_000, 100_000, 300_000, 399_000, keys]
    chances = {edge: math.fsum(weights[edge:after]) / total for edge, after in pairwise(edges)}
    found: Counter[int] = Counter()
    for number in islice(zipf(Random(7), keys, exponent), draws):
        assert 0 <= number < keys
        found[max(edge for edge in edges if edge <= number)] += 1
    assert far_off(found, {edge: chance for edge, chance in chances.items() if chance * draws > 20}, draws) < 5


def test_zipf_of_a_billion_takes_no_table() -> None:
    """And of a very steep one nothing is left beyond it."""
    assert max(drawn(Popularity("zipf", 0.6), 2000, range(1_000_000_000))) > 100_000_000
    assert max(drawn(Popularity("zipf", 5.0), 20_000, range(1_000_000_000))) < 1000


def test_a_hot_set() -> None:
    """Shares of keys and requests; alike within the two parts."""
    found = Counter(drawn(Popularity("hot-set", hot_keys=0.1, hot_requests=0.7), 100_000, range(100)))
    assert sum(found[number] for number in range(10)) / 100_000 == pytest.approx(0.7, abs=0.01)
    assert far_off(found, {**dict.fromkeys(range(10), 0.07), **dict.fromkeys(range(10, 100), 0.3 / 90)}, 100_000) < 5
    assert set(drawn(Popularity("hot-set"), 100, range(1))) == {0}


def test_in_order() -> None:
    """Round and round, each generator from another place."""
    assert drawn(Popularity("sequential"), 12, range(5)) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert drawn(Popularity("sequential"), 6, range(10, 14), part=1, parts=2) == [12, 13, 10, 11, 12, 13]


@pytest.mark.parametrize("name", ["uniform", "zipf", "hot-set", "sequential"])
def test_of_a_range(name: str) -> None:
    """Nothing outside of it, everything in it; the same for the same seed, and only for it."""
    found = drawn(Popularity(name), 20_000, range(100, 130))
    assert set(found) == set(range(100, 130))
    assert found == drawn(Popularity(name), 20_000, range(100, 130))
    assert name == "sequential" or found != drawn(Popularity(name), 20_000, range(100, 130), seed=2)


def test_sizes() -> None:
    """By weight, or between bounds; a smaller value is the beginning of a larger one."""
    weighted = Sizes(((10, 3), (500, 1), (9000, 0)))
    found = Counter(islice(weighted.drawn(Random(1)), 40_000))
    assert found.keys() == {10, 500}
    assert found[10] / found[500] == pytest.approx(3, rel=0.1)
    assert (weighted.largest, weighted.constant) == (500, False)
    span = Sizes((), 5, 8)
    assert set(islice(span.drawn(Random(1)), 1000)) == {5, 6, 7, 8}
    assert (span.largest, span.constant) == (8, False)
    assert Sizes((), 7, 7).constant
    assert Sizes(((7, 2), (7, 1))).constant
    assert value_of(900).startswith(value_of(33))


# against a real server


def sizes_in(server: Any, keys: int) -> "Counter[int]":
    return Counter(server.ask("STRLEN", b"key:%012d" % number) for number in range(keys))


@pytest.mark.parametrize("pipeline", [1, 16])
def test_values_of_several_sizes(server: Any, context_of: Any, measure: Any, pipeline: int) -> None:
    """Written before the window and in it, read whatever they are."""
    only: dict[str, Any] = {"value_sizes": [{"size_bytes": 10, "weight": 3}, {"size_bytes": 3000, "weight": 1}]}
    result = measure(context_of(server, only=only, pipeline=pipeline, operations={"get": 1, "set": 1}, keys=400))
    assert result.errors == {}
    assert result.metrics["misses"]["value"] == 0
    assert {"get", "set"} <= result.latency.keys()
    found = sizes_in(server, 400)
    assert found.keys() == {10, 3000}
    assert found[10] / 400 == pytest.approx(0.75, abs=0.15)
    only = {"value_range": {"least_bytes": 4, "most_bytes": 40}}
    result = measure(context_of(server, only=only, operations={"get": 1, "set": 1}, reset="data", keys=400, pipeline=pipeline))
    assert result.errors == {}
    assert (min(sizes_in(server, 400)), max(sizes_in(server, 400))) == (4, 40)


@pytest.mark.parametrize("pipeline", [1, 16])
def test_keys_that_expire_are_missed(server: Any, context_of: Any, measure: Any, pipeline: int) -> None:
    """And every value that is written has its time."""
    only = {"expire_s": 0.15}
    result = measure(context_of(server, only=only, operations={"get": 1}, keys=2000, pipeline=pipeline))
    assert result.errors == {}
    assert result.metrics["misses"]["value"] > 0.5 * result.counts.ok
    only = {"expire_s": 100.0}
    measure(context_of(server, only=only, operations={"set": 1}, keys=20, pipeline=pipeline))
    assert 0 < server.ask("PTTL", "key:000000000003") <= 100_000


@pytest.mark.parametrize("pipeline", [1, 16])
def test_each_rank_writes_its_own(server: Any, context_of: Any, measure: Any, drive: Any, pipeline: int) -> None:
    """And reads all."""
    measure(context_of(server, keys=100, value_size_bytes=5, pipeline=pipeline))
    only = {"write_ranges": "disjoint"}
    load = {"keys": 100, "value_size_bytes": 9, "pipeline": pipeline, "operations": {"get": 1, "set": 1}}
    result = drive(context_of(server, rank=1, ranks=3, only=only, **load))
    assert result.errors == {}
    assert result.metrics["misses"]["value"] == 0
    sizes = [server.ask("STRLEN", b"key:%012d" % number) for number in range(100)]
    assert sizes == [5] * 34 + [9] * 33 + [5] * 33


@pytest.mark.parametrize("name", ["zipf", "hot-set", "sequential"])
def test_a_load_of_every_distribution(server: Any, context_of: Any, measure: Any, name: str) -> None:
    """Hits only, as all keys are there; the server is asked most for what is wanted most."""
    context = context_of(server, only={"distribution": name}, operations={"set": 1}, keys=3000, concurrency=2)
    assert measure(context).errors == {}
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    result = measure(context_of(server, only={"distribution": name, "hot_keys": 0.01}, keys=3000, operations={"get": 1}))
    assert result.metrics["misses"]["value"] == 0
    first, last = (server.ask("OBJECT", "FREQ", f"key:{number:012}") for number in (0, 2999))
    assert name == "sequential" or first > last
