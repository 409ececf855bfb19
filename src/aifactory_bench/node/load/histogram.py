"""Counts of durations in log-linear buckets: histograms that add, from which every percentile is taken.

A value below 1024 ns has a bucket of its own; above, every power of two is cut into 512 buckets, so that a bucket is at
most 0.2 % of its value wide. Only buckets that were hit take memory. Adding histograms loses nothing: the sum of two is the
histogram of both recordings together.
"""

import base64
import binascii
import zlib
from collections import Counter
from typing import Any, Dict, Iterable, List, Optional, Sequence

VERSION = 1
SUB_BITS = 9
_LINEAR = 2 << SUB_BITS
"""Values below are their own bucket."""
_MAX_BITS = 62
_MAX_INDEX = ((_MAX_BITS - SUB_BITS + 1) << SUB_BITS) - 1
"""Bucket of the longest value."""
_MAX_BYTES = 1 << 20
"""Of decoded buckets: every bucket there is, in full, needs less."""


def bucket_of(value_ns: int) -> int:
    """Return the bucket of a value."""
    if value_ns < _LINEAR:
        return value_ns
    shift = value_ns.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (value_ns >> shift)


def middle_of(bucket: int) -> int:
    """Return the value in the middle of a bucket."""
    if bucket < _LINEAR:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    return ((bucket - (shift << SUB_BITS)) << shift) + (1 << shift >> 1)


class Histogram:
    """Durations in nanoseconds; `count`, `min_ns`, `max_ns` and `sum_ns` are exact."""

    __slots__ = ("_buckets", "count", "max_ns", "min_ns", "sum_ns")

    def __init__(self) -> None:
        self._buckets: "Counter[int]" = Counter()
        self.count = 0
        self.sum_ns = 0
        self.min_ns: Optional[int] = None
        """None: nothing was recorded."""
        self.max_ns: Optional[int] = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Histogram(count={self.count}, min_ns={self.min_ns}, max_ns={self.max_ns})"

    def _state(self) -> "tuple[Any, ...]":
        return dict(self._buckets), self.count, self.sum_ns, self.min_ns, self.max_ns

    def record(self, value_ns: int) -> None:
        """Count one value.

        Raises:
            ValueError: it is negative, or a century long.
        """
        self.record_many((value_ns,))

    def record_many(self, values_ns: Sequence[int]) -> None:
        """Count many values, all or none.

        Raises:
            ValueError: one is negative, or a century long.
        """
        if not values_ns:
            return
        low, high = min(values_ns), max(values_ns)
        if low < 0 or high >> _MAX_BITS:
            raise ValueError(f"a duration must be 0 to 2**{_MAX_BITS} ns, got {low if low < 0 else high}")
        if low >= _LINEAR:  # the same as bucket_of, without a call a value
            self._buckets.update([((shift := value.bit_length() - 10) << 9) + (value >> shift) for value in values_ns])
        else:
            self._buckets.update(map(bucket_of, values_ns))
        self.count += len(values_ns)
        self.sum_ns += sum(values_ns)
        self._stretch(low, high)

    def _stretch(self, low: int, high: int) -> None:
        if self.min_ns is None or low < self.min_ns:
            self.min_ns = low
        if self.max_ns is None or high > self.max_ns:
            self.max_ns = high

    def add(self, other: "Histogram", times: int = 1) -> None:
        """Count everything that another histogram has counted, so many times over."""
        if other.min_ns is None or other.max_ns is None or times < 1:
            return
        buckets = self._buckets
        for bucket, count in tuple(other._buckets.items()):
            buckets[bucket] += count * times
        self.count += other.count * times
        self.sum_ns += other.sum_ns * times
        self._stretch(other.min_ns, other.max_ns)

    @property
    def mean_us(self) -> Optional[float]:
        """Mean in microseconds, from the exact sum; None when nothing was recorded."""
        return self.sum_ns / self.count / 1000 if self.count else None

    @property
    def deviation_us(self) -> Optional[float]:
        """Standard deviation in microseconds, at most 0.1 % of the largest value off; None when nothing was recorded."""
        if not self.count:
            return None
        mean = self.sum_ns / self.count
        squares = sum(count * (middle_of(bucket) - mean) ** 2 for bucket, count in self._buckets.items())
        return float((squares / self.count) ** 0.5) / 1000

    @property
    def min_us(self) -> Optional[float]:
        """Smallest value in microseconds; None when nothing was recorded."""
        return None if self.min_ns is None else self.min_ns / 1000

    @property
    def max_us(self) -> Optional[float]:
        """Largest value in microseconds; None when nothing was recorded."""
        return None if self.max_ns is None else self.max_ns / 1000

    def percentile_us(self, percent: float) -> Optional[float]:
        """Return the value in microseconds that `percent` (0 to 100) of the recorded values do not exceed.

        Nearest rank, at most 0.1 % off; 0 and 100 are exact. None when nothing was recorded.

        Raises:
            ValueError: not a percentage.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is 0 to 100, got {percent}")
        if self.min_ns is None or self.max_ns is None:
            return None
        # Ceiling of the exact product; the small term keeps 99.9 % of 1000 at 999 in spite of binary fractions.
        rank = max(1, -int(-(percent * self.count / 100 - 1e-9) // 1))
        if rank <= 1 and percent == 0:
            return self.min_ns / 1000
        if rank >= self.count:
            return self.max_ns / 1000
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(max(middle_of(bucket), self.min_ns), self.max_ns) / 1000
        raise AssertionError("count and buckets differ")

    def count_up_to(self, value_ns: int) -> int:
        """Return how many of the recorded values are at most this one; those in its own bucket count if the middle is."""
        if self.max_ns is None or value_ns >= self.max_ns:
            return self.count
        return sum(count for bucket, count in self._buckets.items() if middle_of(bucket) <= value_ns)

    def to_json(self) -> Dict[str, Any]:
        """Return a JSON object: exact figures, and the buckets as base64 of zlib of pairs of varints (gap, count)."""
        numbers: List[int] = []
        last = 0
        for bucket in sorted(self._buckets):
            numbers += (bucket - last, self._buckets[bucket])
            last = bucket
        packed = base64.b64encode(zlib.compress(_varints(numbers), 6)).decode("ascii")
        return {
            "v": VERSION,
            "sub_bits": SUB_BITS,
            "count": self.count,
            "sum_ns": self.sum_ns,
            "min_ns": self.min_ns,
            "max_ns": self.max_ns,
            "buckets": packed,
        }

    @classmethod
    def from_json(cls, data: Any) -> "Histogram":
        """Build a histogram from its JSON object; whatever does not fit together is refused.

        Raises:
            ValueError: not a histogram of this version.
        """
        if not isinstance(data, dict) or data.get("v") != VERSION or data.get("sub_bits") != SUB_BITS:
            raise ValueError(f"not a histogram of version {VERSION} with {SUB_BITS} bits")
        histogram = cls()
        for name in ("count", "sum_ns"):
            setattr(histogram, name, _whole(data, name))
        numbers = _numbers(data.get("buckets"))
        bucket = 0
        for position, (gap, count) in enumerate(zip(numbers[::2], numbers[1::2])):
            if (gap < 1 and position) or count < 1:
                raise ValueError("a histogram's buckets must rise and be counted")
            bucket += gap
            histogram._buckets[bucket] = count
        if bucket > _MAX_INDEX or sum(histogram._buckets.values()) != histogram.count:
            raise ValueError("a histogram's buckets do not agree with its count")
        if not histogram.count:
            if histogram.sum_ns or data.get("min_ns") is not None or data.get("max_ns") is not None:
                raise ValueError("a histogram without values has figures")
            return histogram
        low, high = _whole(data, "min_ns"), _whole(data, "max_ns")
        if bucket_of(low) != min(histogram._buckets) or bucket_of(high) != bucket:
            raise ValueError("a histogram's smallest and largest value do not agree with its buckets")
        if not low * histogram.count <= histogram.sum_ns <= high * histogram.count:
            raise ValueError("a histogram's sum does not agree with its values")
        histogram._stretch(low, high)
        return histogram


def _whole(data: Dict[str, Any], name: str) -> int:
    value = data.get(name)
    if type(value) is not int or value < 0:
        raise ValueError(f"a histogram's {name} must be a whole number, got {value!r:.40}")
    return value


def _varints(numbers: Iterable[int]) -> bytes:
    packed = bytearray()
    for number in numbers:
        rest = number
        while rest > 127:
            packed.append(rest & 127 | 128)
            rest >>= 7
        packed.append(rest)
    return bytes(packed)


def _numbers(text: Any) -> "list[int]":
    if not isinstance(text, str):
        raise ValueError("a histogram's buckets must be text")
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(base64.b64decode(text.encode("ascii"), validate=True), _MAX_BYTES)
    except (binascii.Error, UnicodeEncodeError, zlib.error) as error:
        raise ValueError(f"a histogram's buckets cannot be decoded: {error}") from None
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("a histogram's buckets are cut off or too long")
    numbers = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
        elif shift > 63:
            raise ValueError("a histogram's buckets hold a number that is too large")
    if shift or len(numbers) % 2:
        raise ValueError("a histogram's buckets are cut off")
    return numbers


def merged(histograms: "Iterable[Histogram]") -> Histogram:
    """Return the sum of histograms."""
    total = Histogram()
    for histogram in histograms:
        total.add(histogram)
    return total
