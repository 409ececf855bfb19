"""Vector search: the data by themselves, and a real server with pgvector."""

import math

import pytest

from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load import run_load
from aifactory_bench_services import pgvector_data_node, pgvector_node
from aifactory_bench_services.pgvector import PgvectorClient, PgvectorParameters

SMALL = {"vectors": 600, "dimensions": 8, "clusters": 20, "queries": 40, "k": 5}


@pytest.fixture
def measured(vector_server, context_of, load, checked):
    """Prepare and drive as the node side does."""
    import time

    def go(changes=None, **parameters):
        given = {"duration_s": 0.5, "warmup_s": 0.2, "concurrency": 2, **(changes or {})}
        client = PgvectorClient("search", PgvectorParameters(**{**SMALL, **parameters}), load=load(**given))
        context = context_of(client, vector_server.endpoint)
        prepared = pgvector_node.prepare(context)
        driver = pgvector_node.driver(context)
        first = pgvector_node.counters(vector_server.endpoint, vector_server.secret)
        measurement = run_load(context, driver, time.monotonic_ns() + 500_000_000, lambda: None)
        last = pgvector_node.counters(vector_server.endpoint, vector_server.secret)
        return checked(measurement), prepared, last["operations"] - first["operations"]

    return go


def distance(metric, one, other):
    product = sum(a * b for a, b in zip(one, other, strict=True))
    if metric == "inner_product":
        return -product
    if metric == "l2":
        return math.dist(one, other)
    return 1 - product / math.hypot(*one) / math.hypot(*other)


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_the_right_neighbours_are_those_of_brute_force(vector_server, context_of, load, metric):
    client = PgvectorClient("search", PgvectorParameters(**SMALL, metric=metric), load=load())
    context = context_of(client, vector_server.endpoint)
    pgvector_node.prepare(context)
    with vector_server.connect("bench") as connection:
        truth = pgvector_data_node.read_truth(connection)
    vectors = [vector for part in pgvector_data_node.vectors_of(SMALL, 1) for vector in part]
    queries = list(pgvector_data_node.queries_of(SMALL, 1))
    assert len(truth) == len(queries) == 40
    for query, found in zip(queries, truth, strict=True):
        distances = [distance(metric, query, vector) for vector in vectors]
        right = sorted(range(600), key=lambda number: distances[number])[:5]
        # Where two are as far to the last digit of a float, either may be the last.
        assert [distances[number] for number in found] == pytest.approx([distances[number] for number in right], abs=1e-5)


def test_without_an_index_everything_is_found_and_the_server_counts_the_same(measured):
    measurement, prepared, counted = measured(index="none")
    assert measurement.status == "ok"
    assert measurement.unit == "query"
    assert measurement.metrics["recall"]["value"] == 1.0
    assert measurement.metrics["recall"]["denominator"] == 5 * measurement.counts.ok > 0
    assert prepared["plan"] == "->  Seq Scan on afb_vectors"
    parts = (vars(measurement.counts), measurement.phase_counts["warmup"])
    assert counted == sum(part[name] for part in parts for name in ("ok", "error", "timeout"))


def test_a_wider_search_finds_more(measured):
    """The same index; the number of candidates is all that differs."""
    index = {"m": 2, "ef_construction": 4, "vectors": 3000, "k": 10}
    narrow, first, _ = measured(**index, ef_search=10)
    wide, second, _ = measured(**index, ef_search=400)
    assert first["rows_written"] == 3000
    assert second["rows_written"] == 0
    assert "index_s" in first
    assert "index_s" not in second, "it is the same index"
    assert narrow.metrics["recall"]["value"] < 0.95
    assert wide.metrics["recall"]["value"] > narrow.metrics["recall"]["value"] + 0.02
    assert "Index Scan using afb_vectors_index" in second["plan"]


def test_fewer_neighbours_than_asked_for_are_told(measured):
    """One part of many of the index does not hold as many as are asked for."""
    measurement, prepared, _ = measured(index="ivfflat", lists=200, probes=1, k=10)
    assert prepared["index_bytes"] > 0
    assert measurement.metrics["short_answers"]["value"] > 0
    assert measurement.metrics["recall"]["value"] < 1


def test_in_an_open_loop(measured):
    measurement, _, _ = measured(changes={"process": "poisson", "rate_per_s": 200.0, "concurrency": None, "connections": 4})
    assert measurement.latency["query"]["schedule"]["count"] == measurement.counts.ok > 50


def test_an_error_of_the_server_is_an_error_by_its_code(vector_server, measured, monkeypatch):
    monkeypatch.setattr(
        "aifactory_bench_services.pgvector_load_node.query_sql", lambda _: "SELECT 1 / (CAST($1 AS vector) IS NULL)::int"
    )
    measurement, _, _ = measured(index="none")
    assert measurement.errors.keys() == {"server:22012"}
    assert measurement.counts.ok == 0


def test_another_replica_waits_for_this_very_point(vector_server, context_of, load):
    client = PgvectorClient("search", PgvectorParameters(**SMALL), load=load(), replicas=2)
    pgvector_node.prepare(context_of(client, vector_server.endpoint, point="p7"))
    done = pgvector_node.prepare(context_of(client, vector_server.endpoint, point="p7", rank=1))
    assert done == {"rows_written": 0, "by": "replica 0 of the client"}


def test_a_server_without_pgvector_is_told(server, context_of, load):
    client = PgvectorClient("search", PgvectorParameters(**SMALL), load=load())
    with pytest.raises(PrepareError, match=r"the server has no extension 'vector' \(pgvector\); use an image that has it"):
        pgvector_node.prepare(context_of(client, server.endpoint))


def test_many_vectors_come_in_parts_and_are_no_queries(monkeypatch):
    monkeypatch.setattr(pgvector_data_node, "_PART_ROWS", 7)
    parts = list(pgvector_data_node.vectors_of({**SMALL, "vectors": 20}, 3))
    assert [len(part) for part in parts] == [7, 7, 6]
    vectors = {tuple(vector) for part in parts for vector in part}
    assert len(vectors) == 20
    assert not vectors & {tuple(vector) for vector in pgvector_data_node.queries_of(SMALL, 3)}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"dimensions": 3000}, "dimensions: an index takes at most 2000"),
        ({"ef_construction": 20}, "ef_construction: must be at least twice m, 32"),
        ({"k": 11, "vectors": 10}, "k: there are only 10 vectors"),
        ({"m": 1}, "m"),
        ({"lists": 50}, "lists: is for index: ivfflat only; the index is hnsw"),
        ({"probes": 5}, "probes: is for index: ivfflat only"),
        ({"index": "none", "m": 16}, "m: is for index: hnsw only; the index is none"),
        ({"index": "none", "ef_search": 40}, "ef_search: is for index: hnsw only"),
        ({"index": "ivfflat", "ef_construction": 64}, "ef_construction: is for index: hnsw only"),
        ({"index": "ivfflat", "lists": 20, "probes": 21}, "probes: there are only 20 lists; found 21"),
        ({"index": "ivfflat", "lists": 51, "vectors": 50}, "lists: there are only 50 vectors; found 51"),
    ],
)
def test_wrong_parameters_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        PgvectorParameters(**wrong)


def test_what_belongs_to_the_index_has_its_defaults_and_the_rest_none():
    def filled(**given):
        made = PgvectorParameters(**given)
        return made.m, made.ef_construction, made.ef_search, made.lists, made.probes

    assert filled() == (16, 64, 40, None, None)
    assert filled(index="ivfflat") == (None, None, None, 100, 10)
    assert filled(index="ivfflat", vectors=50, k=5) == (None, None, None, 50, 10)
    assert filled(index="ivfflat", lists=4) == (None, None, None, 4, 4)
    assert filled(index="none") == (None,) * 5
