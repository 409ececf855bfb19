"""The keys and values that Redis clients write and read: the same ones in every run."""

from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Iterator, List, Mapping, NamedTuple, Tuple

if TYPE_CHECKING:
    from random import Random

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_BLOCK = 256


def key_of(number: int) -> bytes:
    """Return the name of a key, as redis-benchmark would."""
    return b"key:%012d" % number


def value_of(size_bytes: int) -> bytes:
    """Return the value that every key has: letters and digits, the same ones in every run; a shorter one begins a longer."""
    from random import Random  # only who writes values pays for it

    return bytes(Random("value").choices(_ALPHABET, k=size_bytes))


class Sizes(NamedTuple):
    """How large values are, in bytes."""

    weighted: "Tuple[Tuple[int, int], ...]" = ()
    """Size and weight of each; empty: every size from `least` to `most` is as likely as any other."""
    least: int = 1
    most: int = 1

    @property
    def largest(self) -> int:
        """The largest that can be drawn."""
        return max((size for size, weight in self.weighted if weight), default=self.most)

    @property
    def constant(self) -> bool:
        """Whether there is only one."""
        return len({size for size, weight in self.weighted if weight}) == 1 if self.weighted else self.least == self.most

    def drawn(self, random: "Random") -> "Iterator[int]":
        """Yield sizes for ever."""
        if self.weighted:
            sizes = [size for size, _ in self.weighted]
            chances = list(accumulate(weight for _, weight in self.weighted))

            def block() -> "List[int]":
                return random.choices(sizes, cum_weights=chances, k=_BLOCK)

        else:
            span = self.most - self.least + 1

            def block() -> "List[int]":
                return [self.least + int(random.random() * span) for _ in range(_BLOCK)]

        return chain.from_iterable(iter(block, None))


def sizes_of(parameters: "Mapping[str, Any]") -> Sizes:
    """Return the sizes that a client's parameters ask for."""
    weighted = parameters.get("value_sizes")
    if weighted:
        return Sizes(tuple((int(one["size_bytes"]), int(one["weight"])) for one in weighted))
    span = parameters.get("value_range")
    if span:
        return Sizes((), int(span["least_bytes"]), int(span["most_bytes"]))
    size = int(parameters["value_size_bytes"])
    return Sizes((), size, size)
