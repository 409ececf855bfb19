"""What one worker keeps of every request to an LLM server: columns, which become metrics and a file.

Nothing is computed while the load runs: a settled answer is appended to arrays, some 12 bytes a chunk. Above a bound on
chunks their stamps go into the metrics at once and are dropped, so that memory stays bounded.
"""

import time
from array import array
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from .llm_answer_node import Answer
from .llm_metrics_node import Metrics
from .npz_node import Values, write_npz

KEEP_CHUNKS = 20_000_000
"""Chunks of which the stamps are kept, a worker: 240 MB."""
SOURCES = ("none", "chunk_usage", "usage", "chunks")
"""Where token counts came from; the number of the column `token_source`."""
WARMUP, WINDOW, AFTER = 0, 1, 2
"""Values of the column `phase`."""

_TIMES = ("scheduled_ns", "sent_ns", "header_ns", "first_ns", "first_output_ns", "last_ns", "end_ns")
_SERVER_TIMES = ("load_ns", "prompt_eval_ns", "eval_ns", "truth_received_ns")
_TOKENS = ("prompt_tokens", "output_tokens", "cached_tokens", "prompt_asked", "output_asked")
_FOLD_CHUNKS = 1 << 16
"""Above the bound: this many are folded together."""
_FOLD_REQUESTS = 1 << 10
_ERROR_BYTES = 100
_MOST_ERRORS = 1 << 16


class Columns:
    """The columns; -1 stands for what there is not. Request i has the chunks from `chunk_offset[i]` to before that of i + 1."""

    def __init__(self) -> None:
        self.numbers: "Dict[str, array[int]]" = {
            **{name: array("q") for name in (*_TIMES, *_SERVER_TIMES)},
            **{name: array("i") for name in (*_TOKENS, "chunks")},
            "status": array("H"),
            "error": array("H"),
            "token_source": array("B"),
        }
        self.chunk_offset = array("q", [0])
        self.chunk_ns = array("q")
        self.chunk_tokens = array("I")
        self.truth_sent_ns: "Optional[array[int]]" = None
        """As long as `chunk_ns`; None while no answer came from a truth server."""
        self.errors: List[str] = [""]
        """Classes by the number in the column `error`; 0: it ended well."""

    def __len__(self) -> int:
        return len(self.chunk_offset) - 1


class Records:
    """The records of one worker.

    Args:
        start_ns: Of the window, CLOCK_MONOTONIC.
        end_ns: As planned; a request belongs to the window when it was due (closed loop: sent) from start to before end.
        is_open: The load has a schedule.
        slo: Name -> seconds, see `llm_metrics_node.SLOS`.
        keep_chunks: Chunks of which the stamps are kept.

    Raises:
        ValueError: an SLO that is not known.
    """

    def __init__(
        self,
        start_ns: int,
        end_ns: int,
        *,
        is_open: bool = False,
        slo: "Optional[Mapping[str, float]]" = None,
        keep_chunks: int = KEEP_CHUNKS,
    ) -> None:
        self.columns = Columns()
        self.absent: Dict[str, str] = {}
        """What was not kept -> why."""
        self._metrics = Metrics(start_ns, end_ns, is_open=is_open, slo=slo or {})
        self._keep_chunks = keep_chunks
        self._kept: Optional[int] = None
        """Requests before this one keep their stamps; None: all do."""
        self._taken = 0
        """Requests from `_kept` to before this one are in the metrics already."""
        self._end_ns = end_ns
        self._start_ns = start_ns
        self._numbers: Dict[str, int] = {"": 0}
        self._anchors = [_anchor()]
        appends = {name: column.append for name, column in self.columns.numbers.items()}
        self._append_times = [appends[name] for name in _TIMES]
        self._append_tokens = [appends[name] for name in _TOKENS]
        self._append = appends

    def add(self, answer: Answer) -> None:
        """Keep a settled request, well or badly ended, of whatever phase."""
        columns, append = self.columns, self._append
        stamps = answer.chunk_ns
        chunks = len(stamps)
        times = (
            *(answer.due_ns, answer.sent_ns, answer.header_ns, answer.first_ns),
            *(answer.first_output_ns, answer.last_ns, answer.end_ns),
        )
        for keep, moment in zip(self._append_times, times):
            keep(-1 if moment is None else moment)
        tokens, source = answer.output_tokens, answer.token_source
        if tokens is None and chunks:
            own = answer.chunk_tokens
            tokens, source = (chunks, "chunks") if own is None else (sum(own), "chunk_usage")
        for keep, number in zip(
            self._append_tokens,
            (answer.prompt_tokens, tokens, answer.cached_tokens, answer.prompt_asked, answer.output_asked),
        ):
            keep(-1 if number is None else number)
        append["load_ns"](-1 if answer.load_ns is None else answer.load_ns)
        append["prompt_eval_ns"](-1 if answer.prompt_eval_ns is None else answer.prompt_eval_ns)
        append["eval_ns"](-1 if answer.eval_ns is None else answer.eval_ns)
        append["chunks"](chunks)
        append["status"](answer.status)
        append["error"](self._number_of(answer.error))
        append["token_source"](SOURCES.index(source))
        columns.chunk_ns.extend(array("q", stamps))
        own = answer.chunk_tokens
        if own is None or len(own) != chunks:
            own = spread(tokens or 0, chunks)
        columns.chunk_tokens.extend(array("I", own))
        self._keep_truth(answer, chunks)
        columns.chunk_offset.append(len(columns.chunk_ns))
        if self._kept is not None:
            waiting = len(columns) - self._taken
            if waiting >= _FOLD_REQUESTS or len(columns.chunk_ns) - columns.chunk_offset[self._kept] >= _FOLD_CHUNKS:
                self._fold()
        elif len(columns.chunk_ns) >= self._keep_chunks:
            self._kept = self._taken = len(columns)
            self.absent["chunk_ns"] = f"stamps are kept of the first {len(columns.chunk_ns)} chunks of a worker, and no more"

    def results(self, end_ns: int) -> Dict[str, Any]:
        """Return distributions, sums, metrics, totals and what is absent, as `load.Driver.results` has them; to be asked once.

        Args:
            end_ns: of the window as it was; earlier than planned when the measurement was cut.
        """
        self._end_ns = end_ns
        self._metrics.end_at(end_ns)
        total = len(self.columns)
        if self._kept is None:
            self._metrics.take(self.columns, 0, total)
        else:
            self._fold()
            self._metrics.take(self.columns, 0, self._kept)
        results = self._metrics.results()
        results["absent"] = {**results["absent"], **self.absent}
        return results

    def write(self, folder: Path, part: int) -> Path:
        """Write the columns to `requests-<part>.npz` and return its path; docs/llm-records.md says what they hold.

        Raises:
            OSError: the file cannot be written.
        """
        columns = self.columns
        phases = array("B", bytes(len(columns)))
        for number, due_ns in enumerate(columns.numbers["scheduled_ns"]):
            phases[number] = WARMUP if due_ns < self._start_ns else WINDOW if due_ns < self._end_ns else AFTER
        empty = {name for name in _SERVER_TIMES if max(columns.numbers[name], default=-1) < 0}
        arrays: Dict[str, Values] = {name: column for name, column in columns.numbers.items() if name not in empty}
        arrays.update(
            phase=phases,
            chunk_offset=columns.chunk_offset,
            chunk_ns=columns.chunk_ns,
            chunk_tokens=columns.chunk_tokens,
            error_names=[error.encode("utf-8", "replace")[:_ERROR_BYTES] for error in columns.errors],
            token_source_names=[name.encode() for name in SOURCES],
            window_ns=array("q", (self._start_ns, self._end_ns)),
            anchor=array("q", [*self._anchors[0], *_anchor()]),
        )
        if columns.truth_sent_ns is not None:
            arrays["truth_sent_ns"] = columns.truth_sent_ns
        path = folder / f"requests-{part}.npz"
        write_npz(path, arrays, {"anchor": (2, 2)})
        return path

    def _number_of(self, error: str) -> int:
        """Return the number of an error class; the last one stands for all that are too many."""
        known = self._numbers.get(error)
        if known is None:
            errors = self.columns.errors
            if len(errors) == _MOST_ERRORS:
                return _MOST_ERRORS - 1
            known = self._numbers[error] = len(errors)
            errors.append(error)
        return known

    def _keep_truth(self, answer: Answer, chunks: int) -> None:
        columns, truth = self.columns, answer.truth
        usable = truth is not None and len(truth) == chunks > 0
        if usable and columns.truth_sent_ns is None:
            columns.truth_sent_ns = array("q", [-1]) * (len(columns.chunk_ns) - chunks)
        if columns.truth_sent_ns is not None:
            sent = [sent_ns for _, sent_ns in truth] if usable and truth else [-1] * chunks
            columns.truth_sent_ns.extend(array("q", sent))
        columns.numbers["truth_received_ns"].append(truth[0][0] if usable and truth else -1)

    def _fold(self) -> None:
        """Take what came above the bound into the metrics, and drop its stamps."""
        columns, kept = self.columns, self._kept
        assert kept is not None
        self._metrics.take(columns, self._taken, len(columns))
        base = columns.chunk_offset[kept]
        for number in range(self._taken, len(columns)):
            columns.chunk_offset[number + 1] = base
        del columns.chunk_ns[base:]
        del columns.chunk_tokens[base:]
        if columns.truth_sent_ns is not None:
            del columns.truth_sent_ns[base:]
        self._taken = len(columns)


def spread(tokens: int, chunks: int) -> "List[int]":
    """Return how many tokens each chunk has when only their sum is known: as even as whole numbers allow.

    No chunk has more than its share before the last one, and together they have all. One token more than chunks is the
    one that ends an answer and has no text: every chunk has one, and that one is in none.
    """
    if tokens - chunks in (0, 1):
        return [1] * chunks
    return [(number + 1) * tokens // chunks - number * tokens // chunks for number in range(chunks)]


def _anchor() -> "tuple[int, int]":
    """Return wall clock and CLOCK_MONOTONIC of one moment, ns."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    return wall, (before + time.monotonic_ns()) // 2
