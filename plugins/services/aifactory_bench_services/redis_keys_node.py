"""Which keys a load asks for: endless numbers, drawn from a seeded generator in blocks."""

import sys
from array import array
from bisect import bisect
from functools import lru_cache
from itertools import accumulate, chain
from math import exp, expm1, log, log1p
from random import Random
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

_BLOCK = 256
_HIGH_HALF = 1 if sys.byteorder == "little" else 0
_HEAD = 1 << 16
"""So many of the most wanted keys are drawn from a table, the others by rejection."""


class Popularity(NamedTuple):
    """How much each key is asked for."""

    name: str = "uniform"
    """`uniform`, `zipf`, `hot-set` or `sequential`."""
    exponent: float = 0.99
    """Of `zipf`: key number n is drawn in proportion to (n + 1) ** -exponent."""
    hot_keys: float = 0.2
    """Of `hot-set`: share of the keys, the first ones, that get ..."""
    hot_requests: float = 0.8
    """... this share of the requests."""


def numbers(popularity: Popularity, random: Random, within: range, part: int = 0, parts: int = 1) -> Iterator[int]:
    """Yield numbers of keys for ever.

    Args:
        popularity: how they are drawn.
        random: where chance comes from.
        within: all that there are.
        part: which of several generators this is; they go through keys in order from different places.
        parts: how many.
    """
    count = len(within)
    if popularity.name == "sequential":
        return chain(within[part * count // parts :], chain.from_iterable(iter(lambda: within, None)))
    if popularity.name == "zipf":
        drawn = zipf(random, count, popularity.exponent)
    elif popularity.name == "hot-set":
        drawn = hot_set(random, count, popularity.hot_keys, popularity.hot_requests)
    else:
        drawn = uniform(random, count)
    return map(within.start.__add__, drawn) if within.start else drawn


def uniform(random: Random, keys: int) -> Iterator[int]:
    """Yield numbers from 0 to below `keys` (at most 2**48), each as likely as any other.

    A block is made by one multiplication of a long number whose lanes are random: a third of the time of a call a number.
    Lanes are so wide that no number is a thousandth more likely than another.
    """
    bits, code = (32, "I") if keys <= 1 << 22 else (64, "Q")
    lanes = sum((1 << bits) - 1 << 2 * bits * lane for lane in range(_BLOCK))
    size = _BLOCK * bits // 4
    draw = random.getrandbits

    def block() -> "array[int]":
        return array(code, ((draw(8 * size) & lanes) * keys).to_bytes(size, sys.byteorder))[_HIGH_HALF::2]

    return chain.from_iterable(iter(block, None))


def hot_set(random: Random, keys: int, hot_keys: float, hot_requests: float) -> Iterator[int]:
    """Yield numbers below `keys`, of which the first ones get a share of their own; alike within each of the two parts."""
    hot = min(max(1, round(keys * hot_keys)), keys)
    if hot == keys:
        return uniform(random, keys)
    draw = random.random
    hot_numbers, cold_numbers = uniform(random, hot), map(hot.__add__, uniform(random, keys - hot))

    def block() -> "List[int]":
        return [next(hot_numbers) if draw() < hot_requests else next(cold_numbers) for _ in range(_BLOCK)]

    return chain.from_iterable(iter(block, None))


def zipf(random: Random, keys: int, exponent: float) -> Iterator[int]:
    """Yield numbers below `keys`, number n in proportion to (n + 1) ** -exponent, without approximation.

    The first 65536 come from a table of what they add up to. Those beyond are drawn by rejection-inversion (Hormann and
    Derflinger 1996), which needs no table, so that a billion keys take no more memory than a hundred thousand.
    """
    table, tail = _zipf(keys, exponent)
    last, total, draw = len(table) - 1, table[-1], random.random

    def block() -> "List[int]":
        found = [bisect(table, draw() * total, 0, last) for _ in range(_BLOCK)]
        if tail is not None and max(found) == _HEAD:
            found = [tail(draw) if number == _HEAD else number for number in found]
        return found

    return chain.from_iterable(iter(block, None))


@lru_cache(maxsize=8)
def _zipf(keys: int, exponent: float) -> "Tuple[List[float], Optional[Callable[[Callable[[], float]], int]]]":
    """Return what the weights of the first keys add up to, that of all others together at the end, and who draws those."""
    table = list(accumulate((number + 1.0) ** -exponent for number in range(min(keys, _HEAD))))
    if keys <= _HEAD:
        return table, None
    tail = _Tail(_HEAD + 1, keys, exponent)
    table.append(table[-1] + tail.weight)
    return table, tail


class _Tail:
    """Draws ranks (from 1 on) from `first` to `last`; returned as numbers from 0 on."""

    def __init__(self, first: int, last: int, exponent: float) -> None:
        self._first, self._last, self._exponent = first, last, exponent
        slope = self._height(last) * -exponent / last - self._height(first) * -exponent / first
        # Euler and Maclaurin: beyond so many ranks the next term is lost in rounding.
        self.weight = max(
            0.0, self._area(last) - self._area(first) + (self._height(first) + self._height(last)) / 2 + slope / 12
        )
        self._low = self._area(first + 0.5) - self._height(first)
        self._high = self._area(last + 0.5)
        second = first + 1
        self._sure = second - self._rank_of(self._area(second + 0.5) - self._height(second))

    def _height(self, rank: float) -> float:
        return exp(-self._exponent * log(rank))

    def _area(self, rank: float) -> float:
        """Return the integral of the height from 1 to a rank."""
        logarithm = log(rank)
        power = (1.0 - self._exponent) * logarithm
        return logarithm * (expm1(power) / power if abs(power) > 1e-8 else 1.0 + power / 2)

    def _rank_of(self, area: float) -> float:
        power = max(-1.0 + 1e-16, area * (1.0 - self._exponent))
        return exp(area * (log1p(power) / power if abs(power) > 1e-8 else 1.0 - power / 2))

    def __call__(self, draw: "Callable[[], float]") -> int:
        while True:
            area = self._high + draw() * (self._low - self._high)
            place = self._rank_of(area)
            rank = min(max(int(place + 0.5), self._first), self._last)
            if rank - place <= self._sure or area >= self._area(rank + 0.5) - self._height(rank):
                return rank - 1
