"""Bodies of inserts and upserts, made ahead: a generator has better to do while it measures."""

import time
from array import array
from collections import deque
from random import Random
from typing import Deque, Iterator

from aifactory_bench.node.contract import Context

from .chroma_api_node import records
from .chroma_data_node import Data, fresh
from .vectors_node import Vectors

_AHEAD = 64
"""Bodies of each kind that are ready at the start."""
_NUMBERS_AHEAD = 2_000_000
"""Of all vectors in them: about 0.2 s of work."""


class Writes:
    """What one generator writes; of a part of the vectors that is its own."""

    def __init__(self, context: Context, data: Data, part: int, parts: int, *, packed: bool) -> None:
        """Make what there is no time for later.

        Args:
            context: of the rank.
            data: what is there.
            part: which of the generators, over all ranks.
            parts: how many there are.
            packed: as of `chroma_api_node.records`.
        """
        parameters = context.parameters
        self._size = int(parameters["insert_batch"])
        self._classes = int(parameters["filter_classes"])
        self._data = data
        self._packed = packed
        self._part, self._parts = part, parts
        self._random = Random(f"{context.point}:{part}")
        self._fresh: "Iterator[array[float]]" = fresh(context, data, part)
        # The id of no other vector: not of an earlier point, nor of an execution before a restart.
        self._name = f"n{part}-{time.time_ns():x}"
        self._made = 0
        self._ahead = max(2, min(_AHEAD, _NUMBERS_AHEAD // (self._size * data.vectors.dimension)))
        weights = parameters["operations"]
        self._inserts: Deque[bytes] = deque(self._insert() for _ in range(self._ahead if weights.get("insert") else 0))
        self._upserts: Deque[bytes] = deque(self._upsert() for _ in range(self._ahead if weights.get("upsert") else 0))
        self.inserts_made_late = 0
        """Bodies that were made when they were wanted."""
        self.upserts_made_late = 0

    def insert(self) -> bytes:
        """Return vectors that are not there yet."""
        if self._inserts:
            return self._inserts.popleft()
        self.inserts_made_late += 1
        return self._insert()

    def upsert(self) -> bytes:
        """Return vectors that are there, as they are; others each time, so that not a few hot ones are written."""
        if self._upserts:
            return self._upserts.popleft()
        self.upserts_made_late += 1
        return self._upsert()

    def refill_inserts(self) -> None:
        """Make a body ahead, unless there are enough."""
        if len(self._inserts) < self._ahead:
            self._inserts.append(self._insert())

    def refill_upserts(self) -> None:
        """Make a body ahead, unless there are enough."""
        if len(self._upserts) < self._ahead:
            self._upserts.append(self._upsert())

    def _insert(self) -> bytes:
        values = array("f")
        for _ in range(self._size):
            values.extend(next(self._fresh))
        ids = [f"{self._name}-{self._made}-{number}" for number in range(self._size)]
        self._made += 1
        return self._records(ids, range(self._size), Vectors(values, self._data.vectors.dimension))

    def _upsert(self) -> bytes:
        stored = len(self._data.vectors)
        begin, end = stored * self._part // self._parts, stored * (self._part + 1) // self._parts
        at = self._random.randrange(begin, max(begin, end - self._size) + 1)
        numbers = range(at, max(at + 1, min(at + self._size, end)))
        return self._records(list(map(str, numbers)), numbers, self._data.vectors.part(numbers.start, numbers.stop))

    def _records(self, ids: "list[str]", numbers: range, vectors: Vectors) -> bytes:
        classes = [number % self._classes for number in numbers] if self._classes > 1 else None
        return records(ids, vectors, classes, packed=self._packed)
