"""Fills a collection before the window, and waits until a search sees what was written."""

import hashlib
import json
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from aifactory_bench.node.contract import Context, PrepareError
from aifactory_bench.node.endpoint import Endpoint

from .chroma_api_node import Api, Limits, records
from .chroma_data_node import Data, what_of
from .llm_http_node import HttpError
from .vectors_node import Vectors, chunks

_INDEX = ("space", "ef_construction", "max_neighbors", "ef_search")
_LAST = 8
"""Vectors written last that a search must find."""
_COUNT_S = 60.0
"""How long the count may take to be right."""
_SEEN_S = 5.0
"""How long searches may take to find what was written last; an index that is asked for little never may."""
_BETWEEN_S = 0.05

_filled: "Set[Tuple[str, str, str]]" = set()
"""Servers and collections that this process has filled."""
_made: "Dict[str, List[str]]" = {}
"""Server -> names of the collections that this process has made there, the oldest first."""


class Collection(NamedTuple):
    """A collection that is ready for load."""

    id: str
    limits: Limits


class Writing(NamedTuple):
    """What is written beside the vectors."""

    classes: int = 1
    """As of `vectors_exact_node.nearest`; 1: no class is written."""
    documents: Optional[Callable[[int], str]] = None
    """Number of a vector -> its text."""


def fill(context: Context, endpoint: Endpoint, data: Data, writing: Writing) -> "Tuple[Collection, Dict[str, Any]]":
    """Return a collection that has this rank's part of the vectors, and what was done for it.

    All ranks use one collection, and its name says what is in it. With `reset: data` each point has one of its own, as
    deleting what is in use would be a race between ranks; earlier ones are removed.

    Raises:
        PrepareError: the server refuses, or is not there.
    """
    api = Api(endpoint, context.secrets.get(endpoint_role(context, endpoint), ""))
    name = _name(context, writing)
    hnsw = {option: context.parameters[option] for option in _INDEX}
    first = sum(len(data.vectors) // context.ranks + (rank < len(data.vectors) % context.ranks) for rank in range(context.rank))
    own = range(first, first + context.share(len(data.vectors)))
    try:
        limits = api.limits()
        batch = int(context.parameters["batch"])
        if batch > limits.batch:
            raise PrepareError(
                f"{endpoint.url}: batch is {batch}, and the server takes at most {limits.batch} vectors at a time"
            )
        removed = _remove_older(context, api, endpoint, name)
        made = api.make(name, hnsw)
        collection = Collection(str(made["id"]), limits)
        key = (endpoint.url, endpoint.nonce, collection.id)
        done: Dict[str, Any] = {"collection": name, "collections_removed": removed, "index": _index(made)}
        if key in _filled and api.count(collection.id) >= len(data.vectors):
            done.update(vectors_written=0, vectors_before=api.count(collection.id))
            return collection, done
        done.update(_write(api, collection, data.vectors, own, writing, batch))
        done.update(_settle(api, collection, data.vectors, own, int(context.parameters["k"])))
    except (OSError, HttpError, KeyError) as error:
        raise PrepareError(f"{endpoint.url}: the vectors cannot be written: {error}") from None
    _filled.add(key)
    return collection, done


def endpoint_role(context: Context, endpoint: Endpoint) -> str:
    """Return the role that an endpoint belongs to."""
    return next(role for role, found in context.endpoints.items() if endpoint in found)


def _name(context: Context, writing: Writing) -> str:
    job = context.folder.parents[2].name  # alike for all ranks of a client, and no other client's
    parameters = {name: context.parameters[name] for name in _INDEX}
    text = json.dumps([job, what_of(context), parameters, writing.classes, writing.documents is not None], sort_keys=True)
    name = f"afb-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return f"{name}-{context.point}" if context.reset == "data" else name


def _remove_older(context: Context, api: Api, endpoint: Endpoint, name: str) -> int:
    """Remove collections of earlier points; with several ranks not the last one, which another rank may still be using."""
    names = _made.setdefault(f"{endpoint.url} {endpoint.nonce}", [])
    if name not in names:
        names.append(name)
    removed = 0
    keep = 1 if context.ranks == 1 else 2
    while len(names) > keep:
        older = names.pop(0)
        if context.rank == 0:
            api.remove(older)
            removed += 1
    return removed


def _index(made: Dict[str, Any]) -> Dict[str, Any]:
    """Return the parameters of the index as the server has them, which need not be what was asked for."""
    configuration = made.get("configuration_json")
    found = configuration.get("hnsw") if isinstance(configuration, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def _write(api: Api, collection: Collection, vectors: Vectors, own: range, writing: Writing, batch: int) -> Dict[str, Any]:
    took: List[float] = []
    for begin, end in chunks(len(own), batch, own.start):
        classes = [number % writing.classes for number in range(begin, end)] if writing.classes > 1 else None
        ids = [str(number) for number in range(begin, end)]
        body = json.loads(records(ids, vectors.part(begin, end), classes, packed=collection.limits.base64))
        if writing.documents is not None:
            body["documents"] = [writing.documents(number) for number in range(begin, end)]
        began = time.monotonic()
        api.add(collection.id, body)
        took.append(time.monotonic() - began)
    if not took:
        return {"vectors_written": 0}
    took.sort()
    return {
        "vectors_written": len(own),
        "vectors_per_s": len(own) / sum(took),
        "batch": batch,
        "batch_p50_s": nearest_rank(took, 50),
        "batch_p99_s": nearest_rank(took, 99),
    }


def nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """Return a percentile of numbers in order: the smallest that so many of them do not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def _settle(api: Api, collection: Collection, vectors: Vectors, own: range, k: int) -> Dict[str, Any]:
    """Wait until the count is right and searches see the last vectors; the first search works off what was only logged."""
    began = time.monotonic()
    last = range(max(own.start, own.stop - _LAST), own.stop)
    asked = vectors.part(last.start, last.stop)
    while True:
        counted = api.count(collection.id)
        found = api.nearest(collection.id, asked, k) if last else []
        seen = sum(str(number) in ids for number, ids in zip(last, found))
        took_s = time.monotonic() - began
        if counted >= len(own) and seen == len(last):
            return {"settle_s": took_s, "last_vectors_seen": seen}
        if counted >= len(own) and took_s > _SEEN_S:
            return {"settle_s": None, "last_vectors_seen": seen}
        if took_s > _COUNT_S:
            raise PrepareError(f"{counted} of {len(own)} vectors are there {took_s:.0f} s after they were written")
        time.sleep(_BETWEEN_S)
