"""The load on a real server: what it finds against numpy, what it writes against what the server then has."""

import json
import os
import signal
import threading
import time
from collections import Counter

import numpy as np
import pytest

from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.load import Histogram
from aifactory_bench_services import chroma_load_node
from aifactory_bench_services.chroma_api_node import Api
from aifactory_bench_services.chroma_data_node import data_of
from aifactory_bench_services.chroma_fill_node import nearest_rank

SECRET = "throw-away"


def recall_by_numpy(server, context, prepared):
    """Return the recall of the context's searches, asked for one by one and compared with a brute force of our own."""
    (collection,) = [each for each in Api(server.endpoint, SECRET).collections() if each["name"] == prepared["collection"]]
    data, k = data_of(context), context.parameters["k"]
    stored = np.frombuffer(data.vectors.values, np.float32).reshape(len(data.vectors), -1).astype(np.float64)
    asked = np.frombuffer(data.queries.values, np.float32).reshape(len(data.queries), -1).astype(np.float64)
    stored = stored / np.linalg.norm(stored, axis=1)[:, None]
    found = 0
    for number, query in enumerate(asked):
        exact = {str(other) for other in np.argsort(-(stored @ query), kind="stable")[:k]}
        (ids,) = Api(server.endpoint, SECRET).nearest(collection["id"], data.queries.part(number, number + 1), k)
        found += len(exact & set(ids))
    return found / k / len(asked)


POOR = {"ef_search": 1, "max_neighbors": 4, "ef_construction": 10}
GOOD = {"ef_search": 100, "max_neighbors": 16, "ef_construction": 100}


@pytest.mark.parametrize("index", [POOR, GOOD])
def test_recall_is_that_of_numpy(chroma, measure, operations, index):
    """Also a bad one: an index that is asked to look at one candidate finds less, and that is what is reported."""
    server = chroma()
    prepared, measurement, context = measure(
        server,
        {"concurrency": 2, "duration_s": 1.5},
        operations=operations(query=1),
        vectors=3000,
        dimension=32,
        clusters=3,
        **index,
    )
    assert (measurement.status, measurement.errors, measurement.counts.timeout) == ("ok", {}, 0)
    assert measurement.counts.ok > 50
    assert prepared["index"].items() >= index.items()
    expected = recall_by_numpy(server, context, prepared)
    metric = measurement.metrics["recall_at_k"]
    # All 50 searches are asked about equally often, those of the last round perhaps not.
    assert metric["value"] == pytest.approx(expected, abs=0.02)
    assert expected < 0.7 if index is POOR else expected > 0.98
    assert measurement.metrics["recall_at_k_p5"]["value"] <= metric["value"]


def test_inserts_are_counted_by_both_sides(chroma, measure, operations):
    """The server has what the load says that it has written; recall is of what was there before."""
    server = chroma()
    prepared, measurement, _ = measure(
        server, {"concurrency": 2}, operations=operations(query=5, insert=5), insert_batch=7, reset="none"
    )
    assert (measurement.status, measurement.errors, measurement.counts.timeout) == ("ok", {}, 0)
    assert prepared["vectors_written"] == 600
    assert prepared["vectors_per_s"] > 0
    inserted = measurement.totals["vectors_inserted"]
    assert inserted > 0
    assert inserted % 7 == 0
    assert chroma_load_node.counters(server.endpoint, SECRET) == {"vectors_inserted": 600 + inserted}
    assert sum(measurement.sums["vectors_inserted"]["per_second"]) <= inserted
    assert measurement.metrics["recall_at_k"]["value"] > 0.99
    assert set(measurement.latency) == {"all", "insert", "query"}
    again, more, _ = measure(server, {"concurrency": 1}, operations=operations(insert=1), insert_batch=3, reset="none")
    assert again["vectors_written"] == 0
    assert again["vectors_before"] == 600 + inserted
    grown = chroma_load_node.counters(server.endpoint, SECRET)["vectors_inserted"]
    assert grown == 600 + inserted + more.totals["vectors_inserted"]


def test_upserts_change_nothing(chroma, measure, operations):
    server = chroma()
    _, measurement, _ = measure(server, {"concurrency": 2}, operations=operations(query=1, upsert=1), insert_batch=20)
    assert (measurement.status, measurement.errors) == ("ok", {})
    assert set(measurement.latency) == {"all", "query", "upsert"}
    assert chroma_load_node.counters(server.endpoint, SECRET) == {"vectors_inserted": 600}
    assert measurement.metrics["recall_at_k"]["value"] > 0.99
    assert measurement.metrics["upserts_made_late"]["value"] <= measurement.counts.ok


def test_upserts_go_on_to_other_vectors(chroma, measure, operations, monkeypatch):
    """Not only to those of the bodies that are made ahead: a small hot set would be another load."""
    monkeypatch.setattr("aifactory_bench_services.chroma_writes_node._AHEAD", 4)
    # Here the driver is asked as a worker would: what that sends is seen by its server alone.
    _, _, context = measure(chroma(), {"concurrency": 1, "duration_s": 0.2}, operations=operations(upsert=1), insert_batch=5)
    driver = chroma_load_node.driver(context)
    driver.start_ns, driver.end_ns = 0, 10**9
    driver.start(1)
    ids = Counter()
    for number in range(200):
        _, body, _ = driver.next_request()
        ids.update(json.loads(body)["ids"])
        if number % 2 == 0:
            driver.follow_upsert(0)
    assert len(ids) > 400
    assert max(ids.values()) < 15
    assert driver.results(10**9)["metrics"]["upserts_made_late"]["value"] == 200 - 4 - 100
    driver.follow_upsert(10**9)  # after the window nothing more is made
    driver.next_request()
    assert driver.results(10**9)["metrics"]["upserts_made_late"]["value"] == 200 - 4 - 100 + 1


def test_a_filter_finds_in_its_class_alone(chroma, measure, operations):
    """Exact neighbours are those of the class: a filter that did nothing would show as a recall of a quarter."""
    _, measurement, context = measure(
        chroma(), {"concurrency": 1}, operations=operations(query=4, insert=1), filter_classes=4, insert_batch=4
    )
    assert measurement.errors == {}
    assert measurement.metrics["recall_at_k"]["value"] > 0.97
    assert all(number % 4 == query % 4 for query, found in enumerate(data_of(context, 4).exact) for number in found)


def test_reset_of_the_data(chroma, measure, operations):
    """Each point has a collection of its own, and the earlier one is removed."""
    server = chroma()
    first, *_ = measure(server, {"concurrency": 1, "duration_s": 0.3}, operations=operations(insert=1))
    second, *_ = measure(server, {"concurrency": 1, "duration_s": 0.3}, operations=operations(query=1))
    assert first["collection"] != second["collection"]
    assert second["collections_removed"] == 1
    assert second["exact_neighbours"] == "numpy"
    assert second["settle_s"] >= 0
    assert second["last_vectors_seen"] == 8
    assert chroma_load_node.counters(server.endpoint, SECRET) == {"vectors_inserted": 600}


def test_vectors_of_a_file(chroma, measure, operations, tmp_path):
    """The last ones are the queries, and are not stored."""
    wanted = np.random.default_rng(1).standard_normal((240, 9)).astype(np.float32)
    np.save(tmp_path / "own.npy", wanted)
    prepared, measurement, _ = measure(
        chroma(),
        {"concurrency": 1, "duration_s": 0.5},
        operations=operations(query=2, insert=1),
        insert_batch=5,
        dimension=None,
        clusters=None,
        queries=40,
        space="l2",
        file=str(tmp_path / "own.npy"),
    )
    assert measurement.errors == {}
    assert (prepared["vectors"], prepared["dimension"]) == (200, 9)
    assert measurement.metrics["recall_at_k"]["value"] > 0.99


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (50, 25, 50), (100, 50, 99), (101, 51, 100), (200, 100, 198)]
)
def test_times_of_batches_are_by_nearest_rank(count, p50, p99):
    """Of two batches the median is the faster one."""
    ordered = list(range(1, count + 1))
    assert (nearest_rank(ordered, 50), nearest_rank(ordered, 99)) == (p50, p99)


def test_times_of_two_batches(chroma, measure):
    prepared, *_ = measure(chroma(), {"concurrency": 1, "duration_s": 0.2}, vectors=600, batch=590)
    assert prepared["batch_p50_s"] < prepared["batch_p99_s"]
    assert prepared["batch_p50_s"] + prepared["batch_p99_s"] == pytest.approx(600 / prepared["vectors_per_s"])


def test_a_batch_that_the_server_does_not_take(chroma, measure):
    with pytest.raises(PrepareError, match="batch is 6000, and the server takes at most 5461 vectors"):
        measure(chroma(), {"concurrency": 1}, batch=6000)


def test_a_file_that_is_not_there(chroma, measure):
    with pytest.raises(PrepareError, match=r"/nowhere\.npy: No such file"):
        measure(chroma(), {"concurrency": 1}, file="/nowhere.npy", dimension=None, clusters=None)


def test_errors_by_status(chroma, measure, operations):
    """A collection that is removed under the load: each search fails by the status that the server gives."""
    server = chroma()

    def remove():
        api = Api(server.endpoint, SECRET)
        for each in api.collections():
            api.remove(each["name"])

    _, measurement, _ = measure(server, {"concurrency": 1, "duration_s": 0.5}, operations=operations(query=1), before=remove)
    assert measurement.counts.ok == 0
    assert set(measurement.errors) == {"http:404"}
    assert "does not exist" in json.dumps(measurement.provenance["error_texts"])


def test_the_server_in_python(chroma, measure, operations):
    """It wants the token with every request, and vectors that are written out."""
    server = chroma(server="python", storage="memory")
    _, measurement, _ = measure(server, {"concurrency": 1, "duration_s": 0.5}, operations=operations(query=3, insert=1))
    assert measurement.errors == {}
    assert measurement.totals["vectors_inserted"] > 0
    assert measurement.metrics["recall_at_k"]["value"] > 0.98


def test_open_loop_has_both_clocks(chroma, measure, operations):
    _, measurement, _ = measure(
        chroma(),
        {"process": "poisson", "rate_per_s": 60.0, "connections": 8, "duration_s": 2.0},
        operations=operations(query=1),
    )
    assert measurement.counts.ok > 60
    assert measurement.latency["query"]["schedule"]["count"] == measurement.latency["query"]["send"]["count"]


def test_a_stalled_server_shows_in_the_schedule(chroma, measure, operations):
    """0.5 s of 2.5 s: from sending the requests on the wire are late, from the schedule all that were due meanwhile."""
    server = chroma()

    def stall():
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(server.process.pid, signal.SIGCONT)

    timer = threading.Timer(1.5, stall)
    _, measurement, _ = measure(
        server,
        {"process": "constant", "rate_per_s": 100.0, "connections": 4, "duration_s": 2.5},
        operations=operations(query=1),
        before=timer.start,
    )
    timer.join()
    assert measurement.errors == {}
    of = {clock: Histogram.from_json(measurement.latency["query"][clock]) for clock in ("send", "schedule")}
    slow = {clock: of[clock].count - of[clock].count_up_to(100_000_000) for clock in of}
    assert slow["send"] <= 8  # one a connection, and whoever waited behind them
    assert slow["schedule"] >= 30  # 40 were due in the first 0.4 s of it
    assert of["send"].percentile_us(95) < 200_000 < of["schedule"].percentile_us(95)
