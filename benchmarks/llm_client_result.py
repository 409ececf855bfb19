"""What a peer's client has seen, as llm_load.py reads it."""

import json
from itertools import pairwise


def quantile(values, share):
    """Return the nearest rank; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Seen:
    """Times of all requests of a client, nanoseconds."""

    def __init__(self):
        self.ttfts = []
        self.first_wave = []
        self.gaps = []
        self.tokens = 0

    def add(self, sent, stamps, *, first=False):
        """Take one answer: when its request was sent, and when each token was seen."""
        if stamps:
            self.ttfts.append(stamps[0] - sent)
            if first:
                self.first_wave.append(stamps[0] - sent)
            self.gaps.extend(after - before for before, after in pairwise(stamps))
            self.tokens += len(stamps)


def print_result(name, version, seen, before, after):
    """Print the object; before and after are `resource.getrusage` around the load."""
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps(
            {
                "client": name,
                "version": version,
                "requests": len(seen.ttfts),
                "tokens": seen.tokens,
                "cpu_us_per_token": cpu_s * 1e6 / max(1, seen.tokens),
                "ttft_p50_ms": quantile(seen.ttfts, 0.5) / 1e6,
                "ttft_p99_ms": quantile(seen.ttfts, 0.99) / 1e6,
                "gap_p50_ms": quantile(seen.gaps, 0.5) / 1e6,
                "gap_p99_ms": quantile(seen.gaps, 0.99) / 1e6,
            }
        )
    )
