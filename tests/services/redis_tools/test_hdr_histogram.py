"""HdrHistogram's compressed format V2, against what its reference implementation for Python says of the same bytes."""

import base64
import json
import random
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aifactory_bench.node.load.histogram import Histogram
from aifactory_bench_services.hdr_histogram_node import decode, to_histogram

REFERENCE = json.loads((Path(__file__).parent / "samples" / "hdr-histogram-reference.json").read_text())


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["name"])
def test_it_reads_what_the_reference_reads(case):
    buckets = decode(case["encoded"])
    histogram = to_histogram(buckets, 1000)
    assert histogram.count == case["count"]
    if case["mean"] is not None:
        assert histogram.mean_us == pytest.approx(case["mean"], rel=0.001)
    for percent, value in case["percentiles"].items():
        seen = 0
        rank = max(1, round(float(percent) / 100 * case["count"]))
        for bucket in buckets:
            seen += bucket.count
            if seen >= rank:
                break
        assert bucket.high == value, "bucket by bucket the same"
        assert histogram.percentile_us(float(percent)) == pytest.approx(value, rel=0.002)
    assert Histogram.from_json(histogram.to_json()) == histogram


def test_two_decoded_ones_add():
    first, second = (to_histogram(decode(case["encoded"]), 1000) for case in REFERENCE[:2])
    count = first.count + second.count
    first.add(second)
    assert first.count == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HISTFAAA",
        "not base64!",
        base64.b64encode(b"\0" * 60).decode(),
        base64.b64encode(b"\x1c\x84\x93\x14\0\0\0\x10" + zlib.compress(b"\0" * 40)).decode(),
    ],
)
def test_what_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"HdrHistogram"):
        decode(text)


def test_an_index_beyond_all_numbers_is_refused_at_once():
    """It would otherwise be a shift by so many bits that no memory holds the result."""
    skip = (1 << 60) * 2 - 1  # ZigZag of -(2**60)
    numbers = bytes([(skip >> shift & 127) | 128 for shift in range(0, 56, 7)]) + bytes([skip >> 56, 2])
    header = struct.pack(">iiiiqqd", 0x1C849303 | 0x10, len(numbers), 0, 3, 1, 1 << 40, 1.0)
    packed = zlib.compress(header + numbers)
    with pytest.raises(ValueError, match="more buckets than there can be"):
        decode(base64.b64encode(struct.pack(">ii", 0x1C849304 | 0x10, len(packed)) + packed).decode())


@given(case=st.sampled_from(REFERENCE), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_damage_is_refused_or_gives_a_histogram(case, seed):
    """Damage inside the compressed bytes, where zlib's checksum is put right again, included."""
    random_ = random.Random(seed)
    data = bytearray(base64.b64decode(case["encoded"]))
    if random_.random() < 0.5:
        inner = bytearray(zlib.decompress(bytes(data[8:])))
        for _ in range(random_.randrange(1, 5)):
            inner[random_.randrange(len(inner))] = random_.randrange(256)
        inner = inner[: random_.choice((len(inner), random_.randrange(len(inner))))]
        packed = zlib.compress(bytes(inner))
        data = data[:4] + len(packed).to_bytes(4, "big") + packed
    else:
        data[random_.randrange(len(data))] = random_.randrange(256)
    try:
        histogram = to_histogram(decode(base64.b64encode(data).decode()), 1000)
    except ValueError:
        return
    assert Histogram.from_json(histogram.to_json()) == histogram
