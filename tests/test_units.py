"""Units: what is written is what is meant, exactly, and what is ambiguous is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifactory_bench.units import (
    QUANTITIES,
    DurationS,
    RatePerS,
    Share,
    SizeBytes,
    format_duration,
    format_rate,
    format_share,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)

NANOSECONDS = st.integers(0, 3650 * 86400 * 10**9).map(lambda number: number / 1e9)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5.0),
        ("0s", 0.0),
        ("1.5h", 5400.0),
        ("30m", 1800.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("01:30:00", 5400.0),
        ("100:00:01", 360001.0),
        ("0.1s", 0.1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Every unit means what it says."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("64B", 64), ("4KiB", 4096), ("1.5KiB", 1536), ("16GiB", 16 << 30), ("16GB", 16 * 10**9), ("2kB", 2000)]
)
def test_sizes(text: str, size: int) -> None:
    """Powers of 1024 and of 1000 are told apart."""
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "rate"), [("20000/s", 20000.0), ("600/m", 10.0), ("3600/h", 1.0), ("0.5/s", 0.5)])
def test_rates(text: str, rate: float) -> None:
    """Rates come per second."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(("value", "share"), [("1%", 0.01), ("0.1%", 0.001), ("100%", 1.0), (0.01, 0.01), (0, 0.0), (1.0, 1.0)])
def test_shares(value: object, share: float) -> None:
    """Percent and plain parts of one are the same."""
    assert parse_share(value) == share


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        5,
        5.0,
        True,
        None,
        [],
        {},
        "5 s",
        "-5s",
        "5S",
        "5sec",
        "1e3s",
        ".5s",
        "5.s",
        "05s",
        "\u0665s",
        "5s\n",
        "1:2:3",
        "01:60:00",
        "3651d",
        "9" * 50 + "s",
        "nan s",
        "infs",
        "90",
    ],
)
def test_no_duration(value: object) -> None:
    """What is no duration is refused by a sentence that shows what would be one."""
    with pytest.raises(ValueError, match=r"500ms, 5s, 30m|at most 3650d"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["16", 16, "16G", "16gib", "-1B", "1.5", True, None, "1 GiB"])
def test_no_size(value: object) -> None:
    """A size has a unit of its own."""
    with pytest.raises(ValueError, match=r"64B, 4KiB, 16GiB or 16GB"):
        parse_size(value)


def test_no_whole_bytes() -> None:
    """A size is whole bytes, and fits a file."""
    with pytest.raises(ValueError, match=r"whole number of bytes"):
        parse_size("1.5B")
    with pytest.raises(ValueError, match=r"less than"):
        parse_size("9999999TiB")


@pytest.mark.parametrize("value", ["5", 5, 5.0, "5k/s", "5/d", "/s", "5 /s", "5/second", True, None, "9" * 20 + "/s"])
def test_no_rate(value: object) -> None:
    """Rates are plain numbers per second, minute or hour."""
    with pytest.raises(ValueError, match=r"20000/s|at most"):
        parse_rate(value)


@pytest.mark.parametrize("value", ["101%", 1.5, -0.1, 2, "0.01", True, None, "1 %", float("nan")])
def test_no_share(value: object) -> None:
    """A share lies between nothing and all."""
    with pytest.raises(ValueError, match=r"1%, 0.5% or 0.01"):
        parse_share(value)


def test_one_is_no_share() -> None:
    """A bare 1 could be 1% or all of it."""
    with pytest.raises(ValueError, match=r"1% or 100%"):
        parse_share(1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (0.0005, "0.5ms"), (1.5, "1.5s"), (90, "90s"), (1800, "30m"), (5400, "90m"), (86400, "1d")],
)
def test_printed_durations(seconds: float, text: str) -> None:
    """A duration is printed in the largest unit that needs no fraction."""
    assert format_duration(seconds) == text


def test_what_cannot_be_printed() -> None:
    """A negative or infinite duration is no duration."""
    for value in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"neither"):
            format_duration(value)


@given(NANOSECONDS)
def test_duration_round_trip(seconds: float) -> None:
    """What is printed is read as the same number of seconds."""
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, (1 << 63) - 1))
def test_size_round_trip(size: int) -> None:
    """What is printed is read as the same number of bytes."""
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**18).map(lambda number: number / 1e6))
def test_rate_round_trip(rate: float) -> None:
    """What is printed is read as the same rate."""
    assert parse_rate(format_rate(rate)) == rate


@given(st.integers(0, 10**9).map(lambda number: number / 1e9))
def test_share_round_trip(share: float) -> None:
    """What is printed is read as the same share."""
    assert parse_share(format_share(share)) == share


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_nothing_but_value_errors(value: object) -> None:
    """Whatever comes is read or refused."""
    for quantity in QUANTITIES.values():
        try:
            read = quantity.parse(value)
        except ValueError:
            continue
        assert quantity.parse(quantity.format(read)) == read


@given(st.sampled_from([DurationS, SizeBytes, RatePerS]), st.text("0123456789.:msdhBKiGkb/% ", max_size=8))
def test_patterns(type_: object, text: str) -> None:
    """The pattern that editors get takes what the parser takes."""
    quantity = QUANTITIES[type_]
    try:
        quantity.parse(text)
        read = True
    except ValueError:
        read = False
    # JavaScript's $ has no exception for a last newline.
    assert bool(re.search(quantity.pattern.replace("$", r"\Z"), text)) or not read


def test_share_pattern() -> None:
    """The pattern of shares takes percent."""
    assert re.search(QUANTITIES[Share].pattern, "12.5%")
