"""Traces: read once, strictly, with the line of what is wrong."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench.node.load.schedule import arrivals, offered_per_s
from aifactory_bench.node.load.trace import Row, trace_rows

SECOND = 10**9
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes rows, or lines as they are, and returns the path."""

    def write(*rows: "Mapping[str, Any] | str") -> str:
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return str(path)

    return write


def load(path: str, **more: Any) -> dict[str, Any]:
    return {"process": "trace", "trace": path, "warmup_s": 2.0, "duration_s": 3.0, **more}


def test_the_format_of_mooncake(write: Write) -> None:
    """Milliseconds, lengths and the hashes of the prompt's blocks; other keys are left alone."""
    path = write(
        {"timestamp": 27000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2], "type": "chat"},
        "",
        {"timestamp": 30250, "input_length": 7, "output_length": 1, "hash_ids": []},
    )
    assert trace_rows(path) == (Row(0, 6758, 500, (0, 1, 2)), Row(3_250_000_000, 7, 1, ()))


def test_seconds_alone(write: Write) -> None:
    """Lengths need not be known; rows may fall on the same instant."""
    assert trace_rows(write({"timestamp_s": -1}, {"timestamp_s": 0.5}, {"timestamp_s": 0.5})) == (
        Row(0, None, None, ()),
        Row(1_500_000_000, None, None, ()),
        Row(1_500_000_000, None, None, ()),
    )


def test_large_times_keep_their_microseconds(write: Write) -> None:
    """Unix time in milliseconds is exact: the first row is taken off before anything becomes a float."""
    assert trace_rows(write({"timestamp": 1_760_000_000_123}, {"timestamp": 1_760_000_000_124}))[1].at_ns == 1_000_000


def test_a_file_is_read_once_as_long_as_it_stays(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew when it has changed."""
    path = write({"timestamp_s": 0})
    rows = trace_rows(path)
    assert trace_rows(path) is rows
    write({"timestamp_s": 0}, {"timestamp_s": 1})
    os.utime(path, ns=(5, 5))
    assert len(trace_rows(path)) == 2


def test_rows_begin_with_the_window_and_are_scaled(write: Write) -> None:
    """Twice as fast: half the time between rows. In the warm-up nothing is due, and after the last row neither."""
    path = write(*({"timestamp_s": 10 + number} for number in range(10)))
    assert list(arrivals(load(path), 1)) == [(2 + number) * SECOND for number in range(10)]
    assert list(arrivals(load(path, trace_scale=2.0), 1)) == [2 * SECOND + number * SECOND // 2 for number in range(10)]
    assert offered_per_s(load(path)) == 1
    assert offered_per_s(load(path, trace_scale=2.0)) == 2
    assert offered_per_s(load(path, duration_s=100.0)) == 0.1


@pytest.mark.parametrize("parts", [1, 3, 4, 30])
def test_rows_are_dealt_out_in_turn(write: Write, parts: int) -> None:
    """So part i has the rows i, i + parts, ...: who makes prompts can count along."""
    path = write(*({"timestamp_s": number * number} for number in range(20)))
    whole = list(arrivals(load(path), 1))
    for part in range(parts):
        assert list(arrivals(load(path), 1, part, parts)) == whole[part::parts]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "has no rows"),
        (["", ""], "has no rows"),
        ([{"at": 1}], r":1: must have timestamp_s \(seconds\) or timestamp \(milliseconds\)"),
        ([{"timestamp": 1}, {"timestamp_s": 2}], ":2: timestamp must be a number of milliseconds.*found nothing"),
        ([{"timestamp_s": 1}, {"timestamp_s": 2}, {"timestamp_s": 1.5}], r":3: timestamp_s must not be less .* 2; found 1\.5"),
        ([{"timestamp_s": True}], ":1: timestamp_s must be a number of seconds"),
        ([{"timestamp_s": "1"}], r":1: .*found '\"1\"'"),
        (['{"timestamp_s": NaN}'], ":1: timestamp_s must be a number"),
        ([f'{{"timestamp_s": 1{"0" * 400}}}'], ":1: timestamp_s must be a number"),
        (["[1]"], ":1: must be a JSON object"),
        (["{"], ":1: must be one JSON object a line"),
        (["[" * 5000], ":1: must be one JSON object a line"),
        ([{"timestamp_s": 1, "input_length": 1.5}], ":1: input_length must be a whole number of tokens.*1.5"),
        ([{"timestamp_s": 1, "output_length": -1}], ":1: output_length must be a whole number"),
        ([{"timestamp_s": 1, "hash_ids": [1, "a"]}], ":1: hash_ids must be a list of whole numbers"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(write: Write, rows: list[Any], text: str) -> None:
    """Path and line, what was found, what is allowed; when the schedule is made, not at the first row."""
    path = write(*rows)
    with pytest.raises(ValueError, match=text) as error:
        arrivals(load(path), 1)
    assert path in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, a pipe, or no text at all."""
    with pytest.raises(ValueError, match=r"none\.jsonl: cannot be read on this node: No such file"):
        trace_rows(str(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match="is no file"):
        trace_rows(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is no file"):
        trace_rows(str(tmp_path / "pipe"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x9f\n")
    with pytest.raises(ValueError, match=":1: must be one JSON object a line"):
        trace_rows(str(tmp_path / "binary"))
