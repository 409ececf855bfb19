"""Reads HdrHistogram's compressed format V2, in which load tools hand out whole distributions as one line of base64.

Format: https://github.com/HdrHistogram/HdrHistogram (`AbstractHistogram.encodeIntoCompressedByteBuffer`). All numbers are
big-endian: cookie, length, then zlib of 40 bytes of header and the counts, each as ZigZag LEB128; a negative one skips so
many empty buckets.
"""

import base64
import binascii
import struct
import zlib
from dataclasses import dataclass

from aifactory_bench.node.load.histogram import Histogram

_COMPRESSED, _PLAIN = 0x1C849304, 0x1C849303
_WORD_SIZE_BITS = 0xF0
"""Of a cookie: how wide the counts are in memory, no matter here."""
_OUTER = struct.Struct(">ii")
_HEADER = struct.Struct(">iiiiqqd")
_MAX_BYTES = 16 << 20
_MAX_VALUE_BITS = 62
_LEB_SHIFT = 7
_MOST_DIGITS = 5
_LEB_LAST = 56
"""Shift of the ninth byte, which has no continuation bit."""


@dataclass(frozen=True)
class Bucket:
    """So many values from `low` to `high`, both included."""

    low: int
    high: int
    count: int


def decode(text: str) -> list[Bucket]:
    """Return the buckets that were hit, in rising order, in the tool's own unit.

    Raises:
        ValueError: not a histogram in this format, or damaged.
    """
    try:
        packed = base64.b64decode(text, validate=True)
        cookie, length = _OUTER.unpack_from(packed)
        if cookie & ~_WORD_SIZE_BITS != _COMPRESSED:
            raise ValueError(f"not an HdrHistogram in compressed format V2 (cookie {cookie:#x})")
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed[_OUTER.size : _OUTER.size + length], _MAX_BYTES)
        if not unpacker.eof:
            raise ValueError("an HdrHistogram is cut off or too long")
        cookie, size, offset, digits, lowest, _, _ = _HEADER.unpack_from(data)
    except (binascii.Error, struct.error, zlib.error) as error:
        raise ValueError(f"an HdrHistogram cannot be decoded: {error}") from None
    if cookie & ~_WORD_SIZE_BITS != _PLAIN or offset or not 0 <= digits <= _MOST_DIGITS or lowest < 1:
        raise ValueError("an HdrHistogram has a header that makes no sense")
    counts = data[_HEADER.size : _HEADER.size + size]
    if len(counts) != size:
        raise ValueError("an HdrHistogram is cut off")
    return _buckets(counts, unit_bits=lowest.bit_length() - 1, half_bits=max(0, (2 * 10**digits - 1).bit_length() - 1))


def _buckets(counts: bytes, unit_bits: int, half_bits: int) -> list[Bucket]:
    """Return the buckets; `half_bits` is the logarithm of half the sub-buckets of one power of two."""
    buckets: list[Bucket] = []
    index = 0
    for number in _numbers(counts):
        if number < 0:
            index -= number
            continue
        power = max(0, (index >> half_bits) - 1)
        shift = power + unit_bits
        # Looked at before the shift too: a damaged index would make a number that fills the memory.
        low = 0 if shift > _MAX_VALUE_BITS else (index - (power << half_bits)) << shift
        if shift > _MAX_VALUE_BITS or low.bit_length() > _MAX_VALUE_BITS:
            raise ValueError("an HdrHistogram has more buckets than there can be")
        if number:
            buckets.append(Bucket(low, low + (1 << shift) - 1, number))
        index += 1
    return buckets


def _numbers(data: bytes) -> list[int]:
    numbers = []
    number = shift = 0
    for byte in data:
        if shift == _LEB_LAST:
            number |= byte << shift
        else:
            number |= (byte & 127) << shift
            shift += _LEB_SHIFT
            if byte & 128:
                continue
        numbers.append((number >> 1) ^ -(number & 1))
        number = shift = 0
    if shift:
        raise ValueError("an HdrHistogram is cut off within a number")
    return numbers


def to_histogram(buckets: list[Bucket], unit_ns: int) -> Histogram:
    """Return the same counts as our histogram.

    As in HdrHistogram's own reports a value counts as the upper end of its bucket, and the mean is taken from the middles.
    `unit_ns`: what one of the tool's units is in nanoseconds.

    Raises:
        ValueError: a value is longer than a century.
    """
    total = Histogram()
    sum_ns = 0
    for bucket in buckets:
        one = Histogram()
        one.record(bucket.high * unit_ns)
        total.add(one, bucket.count)
        sum_ns += (bucket.low + bucket.high + 1) * unit_ns // 2 * bucket.count
    if total.min_ns is not None and total.max_ns is not None:
        total.sum_ns = min(max(sum_ns, total.min_ns * total.count), total.max_ns * total.count)
    return total
