"""What a cluster printed is data: it never garbles a terminal, never turns into something else, and never breaks a parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.slurm.printed import JOB_ID, clean, lines_of, number_of, seconds_of, size_of


@given(st.text(), st.integers(0, 50))
def test_cleaned_text_is_short_and_printable(text, longest):
    cleaned = clean(text, longest)
    assert len(cleaned) <= longest
    assert cleaned.isprintable()


def test_a_hidden_character_does_not_make_one_name_of_another():
    assert clean("afb-run-cache-1\x1b[2J", 100) == "afb-run-cache-1?[2J"
    assert clean("afb-run-\u202ecache-1", 100) == "afb-run-?cache-1"
    assert clean("  ok \r", 100) == "ok"


@given(st.text(), st.text())
def test_only_a_newline_ends_a_line(left, right):
    lines = lines_of(f"a{left}\nb{right}")
    assert lines == [line for line in [*f"a{left}".split("\n"), *f"b{right}".split("\n")] if line.strip()]


@pytest.mark.parametrize(
    ("text", "size"),
    [("122568K", 122568 << 10), ("1.00M", 1 << 20), ("77055", 77055), ("0", 0), ("1.50G", 3 << 29), (" 2T ", 2 << 40)],
)
def test_sizes(text, size):
    assert size_of(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:07.751", 7.751),
        ("07:51", 471.0),
        ("01:00:00", 3600.0),
        ("2-01:00:00", 176400.0),
        ("2-01:00:00.5", 176400.5),
        ("00:00:03", 3.0),
    ],
)
def test_seconds(text, seconds):
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "Unknown", "INVALID", "None", "-1", "1x", "12:", "\u0663", "K", "1e3", "nan", "9" * 30])
def test_what_is_no_number_is_none(text):
    assert (size_of(text), seconds_of(text), number_of(text)) == (None, None, None)


@given(st.integers(0, 999_999), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59999))
def test_durations_come_back(days, hours, minutes, milliseconds):
    text = f"{days}-{hours:02d}:{minutes:02d}:{milliseconds / 1000:06.3f}"
    assert seconds_of(text) == pytest.approx(days * 86400 + hours * 3600 + minutes * 60 + milliseconds / 1000)


@pytest.mark.parametrize("text", ["4", "9_2", "15+1", "4294967295"])
def test_job_ids(text):
    assert JOB_ID.fullmatch(text)


@pytest.mark.parametrize("text", ["", "0", "04", "9_[2-5]", "4.batch", "-4", "4 5", "4\n", "x", "\u0664"])
def test_what_is_no_job_id(text):
    assert not JOB_ID.fullmatch(text)
