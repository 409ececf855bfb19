"""Exit codes of several runs at once; see `docs/cli.md`."""

from collections.abc import Sequence

INTERRUPTED = 130
# Worst first: an interruption hides everything else, and a bad recipe says more than a bad number.
_PRECEDENCE = (INTERRUPTED, 2, 1, 4, 3, 0)


def worst(codes: Sequence[int]) -> int:
    """Return the exit code that stands for all, by precedence and not by size; one of nobody's knowing counts as 1."""
    known = [code if code in _PRECEDENCE else 1 for code in codes]
    return min(known, key=_PRECEDENCE.index, default=0)
