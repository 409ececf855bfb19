"""When requests are due: endless streams of times, independent of what the server does.

Times are nanoseconds from the start and absolute, so that no delay ever shifts what comes after it.
"""

from itertools import count
from random import Random
from typing import Iterator

PROCESSES = ("constant", "poisson")


def arrivals(process: str, rate_per_s: float, seed: int, part: int = 0, parts: int = 1) -> "Iterator[int]":
    """Yield the due times (ns from the start, rising) of one of `parts` generators that together make `rate_per_s`.

    `constant`: the merged stream of all parts is evenly spaced. `poisson`: each part is an independent stream of its
    share of the rate, seeded by `seed` and `part`; the sum of independent Poisson streams is one.

    Raises:
        ValueError: an unknown process, a rate that is not above 0, or a part that does not exist.
    """
    if not 0 < rate_per_s < float("inf"):
        raise ValueError(f"a rate must be above 0, got {rate_per_s}")
    if not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts} does not exist")
    if process == "constant":
        return _constant(rate_per_s, part, parts)
    if process == "poisson":
        return _poisson(rate_per_s / parts, Random(f"arrivals/{seed}/{part}/{parts}"))
    raise ValueError(f"unknown arrival process {process!r}, known: {', '.join(PROCESSES)}")


def _constant(rate_per_s: float, part: int, parts: int) -> "Iterator[int]":
    gap_ns = 1e9 / rate_per_s
    for number in count(part, parts):
        yield int(number * gap_ns)


def _poisson(rate_per_s: float, random: Random) -> "Iterator[int]":
    gap = random.expovariate
    rate_per_ns = rate_per_s / 1e9
    due_ns = 0.0
    while True:
        due_ns += gap(rate_per_ns)
        yield int(due_ns)
