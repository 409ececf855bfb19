"""Seeded vectors, exact neighbours, recall, files: all against other ways to come to the same."""

import hashlib
import json
import struct
import subprocess
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench_services import chroma_data_node
from aifactory_bench_services.vectors_exact_node import TooMuchError, nearest, remembered
from aifactory_bench_services.vectors_file_node import FileError, read_vectors
from aifactory_bench_services.vectors_node import Clusters, Vectors, fifth_percentile, finite, hits, text_of

_PLUGINS = Path(__file__).parents[3] / "plugins/services"
_SOURCE = Path(__file__).parents[3] / "src"


def rows(vectors):
    return np.frombuffer(vectors.values, np.float32).reshape(len(vectors), -1).astype(np.float64)


def brute_force(vectors, queries, k, space, classes=1):
    """Return what a reader of the definition would write."""
    found = []
    for number, query in enumerate(rows(queries)):
        stored = rows(vectors)
        distance = {
            "l2": ((stored - query) ** 2).sum(axis=1),
            "ip": 1 - stored @ query,
            "cosine": 1 - stored @ query / np.linalg.norm(stored, axis=1) / np.linalg.norm(query),
        }[space]
        own = [other for other in range(len(stored)) if other % classes == number % classes]
        found.append(sorted(own, key=lambda other: distance[other])[:k])
    return found


def test_seeded_vectors_are_the_same_everywhere(python_of):
    """Another Python, and a digest that no change may alter: results of different days would not be of the same data."""
    text = (
        "import hashlib; from aifactory_bench_services.vectors_node import Clusters;"
        "v = Clusters(24, 7, 0.5, 3).draw(50, 'vectors'); print(hashlib.sha256(v.values.tobytes()).hexdigest(), v.clusters[:5])"
    )
    own = Clusters(24, 7, 0.5, 3).draw(50, "vectors")
    digest = hashlib.sha256(own.values.tobytes()).hexdigest()
    environment = {"PYTHONPATH": f"{_PLUGINS}:{_SOURCE}"}
    done = subprocess.run([python_of("3.9"), "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == digest
    assert digest == "ebc598e593958ba2f01fb44abbfc58e0f03213969ae29adff016061f32c52d20"


def test_streams_and_seeds_differ():
    made = {
        tuple(Clusters(8, 3, 0.5, seed).draw(4, stream, origin).values)
        for seed in (1, 2)
        for stream in ("vectors", "queries")
        for origin in (0, 1)
    }
    assert len(made) == 8


def test_vectors_lie_around_their_centres():
    """Of one cluster they are near, of others they are far."""
    vectors = Clusters(32, 5, 0.1, 1).draw(200, "vectors")
    stored, clusters = rows(vectors), np.array(vectors.clusters)
    for cluster in range(5):
        own = stored[clusters == cluster]
        assert np.abs(own - own.mean(axis=0)).max() < 0.2
        assert np.abs(own.mean(axis=0)).max() <= 1.1
    assert np.linalg.norm(stored[clusters == 0][0] - stored[clusters == 1][0]) > 1


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_texts_are_exact(values):
    vector = array("f", values)
    assert array("f", json.loads(text_of(vector))) == vector


def test_texts_of_seeded_vectors_are_short():
    assert max(len(text) for text in text_of(Clusters(64, 3, 1.0, 1).draw(1, "vectors")[0])[1:-1].split(",")) <= 8


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("clusters", "spread"), [(1, 1.0), (12, 0.3), (12, 2.0)])
def test_exact_neighbours(space, classes, clusters, spread):
    """With numpy, without, without knowing the clusters: all find what the definition says."""
    centres = Clusters(12, clusters, spread, 5)
    vectors, queries = centres.draw(300, "vectors"), centres.draw(20, "queries")
    expected = brute_force(vectors, queries, 10, space, classes)
    unknown = Vectors(vectors.values, vectors.dimension)
    for stored, with_numpy in ((vectors, True), (vectors, False), (unknown, False)):
        assert nearest(stored, queries, 10, space, classes=classes, with_numpy=with_numpy) == expected


def test_equally_near_vectors_come_in_the_order_of_their_numbers():
    vectors = Vectors(array("f", [1, 0] * 20 + [0, 1] * 20), 2, [0] * 20 + [1] * 20)
    query = Vectors(array("f", [1, 0.1]), 2)
    for with_numpy in (True, False):
        assert nearest(vectors, query, 5, "l2", with_numpy=with_numpy) == [[0, 1, 2, 3, 4]]


def test_more_neighbours_than_vectors():
    vectors = Clusters(4, 2, 0.5, 1).draw(3, "vectors")
    for with_numpy in (True, False):
        assert sorted(nearest(vectors, vectors.part(0, 1), 10, "cosine", with_numpy=with_numpy)[0]) == [0, 1, 2]


def test_a_vector_of_zeros_has_no_angle():
    vectors = Vectors(array("f", [0, 0, 1, 1]), 2, [0, 0])
    for with_numpy in (True, False):
        assert nearest(vectors, Vectors(array("f", [1, 1]), 2), 1, "cosine", with_numpy=with_numpy) == [[1]]


def test_what_is_out_of_reach_without_numpy_is_refused():
    vectors = Vectors(array("f", bytes(4 * 1000 * 10_000)), 1000)
    queries = Vectors(array("f", bytes(4 * 1000 * 400)), 1000)
    with pytest.raises(TooMuchError, match="400 queries among 10000 vectors of 1000 numbers"):
        nearest(vectors, queries, 10, "l2", with_numpy=False)


def test_neighbours_are_remembered(tmp_path):
    """The second time they come from the file; of other queries they are others."""
    centres = Clusters(6, 3, 0.5, 1)
    vectors, queries = centres.draw(40, "vectors"), centres.draw(5, "queries")
    what = {"seed": 1}
    first = remembered(tmp_path, what, vectors, queries, k=3, space="l2")
    assert first == (nearest(vectors, queries, 3, "l2"), False)
    assert remembered(tmp_path, what, vectors, queries, k=3, space="l2") == (first[0], True)
    assert remembered(tmp_path, what, vectors, queries, k=3, space="ip")[1] is False
    (damaged,) = [path for path in tmp_path.glob("*.json") if json.loads(path.read_text()) == first[0]][:1]
    damaged.write_text("[")
    assert remembered(tmp_path, what, vectors, queries, k=3, space="l2") == first


@pytest.mark.parametrize(
    ("found", "exact", "k", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 3, (3, 3)),
        ([1, 9, 8], [1, 2, 3], 3, (1, 3)),
        ([1, None, 2], [1, 2, 3], 3, (2, 2)),  # a vector of the load stands where the third one would
        ([None, None, None], [1, 2, 3], 3, (0, 0)),
        ([1], [1, 2, 3], 3, (1, 3)),  # what is missing was not found
        ([1, 2], [1, 2], 3, (2, 2)),  # there are no more
        ([1, 2, None], [1, 2], 3, (2, 2)),
        ([1, None, None], [1, 2], 3, (1, 1)),
        ([1, 1, 1], [1, 2, 3], 3, (1, 3)),
    ],
)
def test_hits(found, exact, k, expected):
    assert hits(found, exact, k) == expected


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.integers(1, 40)), min_size=1, max_size=6))
def test_fifth_percentile(recalls):
    every = sorted(recall for recall, count in recalls for _ in range(count))
    found = fifth_percentile(recalls)
    assert sum(recall >= found for recall in every) >= 0.95 * len(every)
    assert found in every


def test_files(tmp_path):
    """Both formats give what was written, and no more than was asked for."""
    wanted = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    np.save(tmp_path / "a.npy", wanted)
    np.save(tmp_path / "b.npy", wanted.astype(np.float64))
    (tmp_path / "c.fvecs").write_bytes(b"".join(struct.pack("<i", 5) + row.tobytes() for row in wanted))
    for name in ("a.npy", "b.npy", "c.fvecs"):
        assert np.array_equal(rows(read_vectors(str(tmp_path / name), 100).vectors), wanted)
        assert len(read_vectors(str(tmp_path / name), 3).vectors) == 3


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.txt", b"", "the name ends in none of"),
        ("a.npy", b"", "not a file of numpy"),
        ("a.npy", b"\x93NUMPY\x01\x00\x04\x00{'a'", "its header makes no sense"),
        ("a.fvecs", b"", "there are no vectors"),
        ("a.fvecs", struct.pack("<iff", 2, 1.0, 2.0) + struct.pack("<if", 1, 1.0), "a vector of 1 numbers behind one of 2"),
        ("a.fvecs", struct.pack("<if", 2, 1.0), "ends early"),
        ("a.fvecs", struct.pack("<iff", 2, 1.0, float("nan")), "not all of its numbers are finite"),
    ],
)
def test_damaged_files(tmp_path, name, data, text):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(FileError, match=text) as raised:
        read_vectors(str(path), 10)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (np.zeros((3, 2), np.int32), "<i4 of shape"),
        (np.zeros(3, np.float32), r"shape \(3,\)"),
        (np.asfortranarray(np.ones((3, 2), np.float32)), "in C's order"),
    ],
)
def test_other_arrays_are_refused(tmp_path, made, text):
    np.save(tmp_path / "a.npy", made)
    with pytest.raises(FileError, match=text):
        read_vectors(str(tmp_path / "a.npy"), 10)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        read_vectors(str(tmp_path / "a.npy"), 10)


def test_hdf5_needs_its_package(tmp_path):
    """This Python has none, and that is said."""
    with pytest.raises(FileError, match="needs h5py"):
        read_vectors(str(tmp_path / "a.hdf5"), 10)


def of_file(path, *, vectors, queries, queries_file=None):
    """Return the rows that are stored and those that are searched for."""
    what = {"file": str(path), "queries_file": queries_file and str(queries_file), "vectors": vectors, "queries": queries}
    return tuple(rows(found)[:, 0].astype(int).tolist() for found in chroma_data_node._from_file(what))


def numbered(count, first=0):
    return np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], 3, axis=1)


@pytest.mark.parametrize(
    ("count", "stored", "asked"),
    [
        (100, range(20), range(20, 25)),  # those that follow what is stored, not the file's last ones
        (25, range(20), range(20, 25)),
        (12, range(7), range(7, 12)),
    ],
)
def test_queries_out_of_the_same_file(tmp_path, count, stored, asked):
    np.save(tmp_path / "a.npy", numbered(count))
    assert of_file(tmp_path / "a.npy", vectors=20, queries=5) == (list(stored), list(asked))


def test_queries_out_of_another_file(tmp_path):
    """Its first ones; all of the first file may be stored then."""
    np.save(tmp_path / "a.npy", numbered(20))
    np.save(tmp_path / "b.npy", numbered(10, 500))
    found = of_file(tmp_path / "a.npy", vectors=20, queries=5, queries_file=tmp_path / "b.npy")
    assert found == (list(range(20)), list(range(500, 505)))


def test_queries_of_hdf5_are_its_own(tmp_path, monkeypatch):
    """The first ones of `test`, of the file with the vectors and of one with queries; `train` alone is stored."""

    class File(dict):
        def __init__(self, path, _mode):
            first = 0 if path.endswith("a.hdf5") else 2000
            super().__init__(train=numbered(100, first), test=numbered(30, first + 1000))

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            pass

    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=File))
    a, b = tmp_path / "a.hdf5", tmp_path / "b.h5"
    assert of_file(a, vectors=20, queries=5) == (list(range(20)), list(range(1000, 1005)))
    assert of_file(a, vectors=20, queries=5, queries_file=b) == (list(range(20)), list(range(3000, 3005)))


def test_finite():
    assert finite(array("f", [1, 2]))
    assert not finite(array("f", [1, float("inf")]))
    assert not finite(array("f", [float("inf"), float("-inf")]))
