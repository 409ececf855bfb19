"""A file of arrays is what numpy opens, byte for byte what was put in."""

import zipfile
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench_services.npz_node import write_npz

BOUNDS = {
    "b": (-128, 127),
    "B": (0, 255),
    "H": (0, 65535),
    "i": (-(2**31), 2**31 - 1),
    "I": (0, 2**32 - 1),
    "q": (-(2**63), 2**63 - 1),
}


@given(data=st.data())
def test_numpy_reads_back_what_was_written(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    columns = {
        code: array(code, data.draw(st.lists(st.integers(*bounds), max_size=50), label=code)) for code, bounds in BOUNDS.items()
    }
    # numpy itself takes zero bytes at the end for padding
    texts = data.draw(st.lists(st.binary(max_size=20).map(lambda text: text.rstrip(b"\0")), max_size=8))
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    write_npz(path, {**columns, "texts": texts})
    with np.load(path, allow_pickle=False) as found:
        assert set(found.files) == {*columns, "texts"}
        for code, column in columns.items():
            assert found[code].dtype == np.dtype(code)
            assert found[code].tolist() == column.tolist()
        assert found["texts"].tolist() == texts


def test_an_array_may_have_rows(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"pairs": array("q", [1, 2, 3, 4])}, {"pairs": (2, 2)})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["pairs"].tolist() == [[1, 2], [3, 4]]


def test_a_shape_that_does_not_fit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"4 values cannot have the shape \(3, 2\)"):
        write_npz(tmp_path / "a.npz", {"pairs": array("q", [1, 2, 3, 4])}, {"pairs": (3, 2)})
    assert not (tmp_path / "a.npz").exists()


def test_the_file_is_nobody_elses_and_replaces_an_older_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("older")
    write_npz(path, {"x": array("q", [7])})
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.glob("a*")] == ["a.npz"]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["x.npy"]
        assert archive.testzip() is None


def test_stamps_take_little_space(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"x": array("q", range(10**15, 10**15 + 10**9, 20_000))})
    assert (tmp_path / "a.npz").stat().st_size < 50_000 * 8
