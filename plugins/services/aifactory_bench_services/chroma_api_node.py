"""What is said to a Chroma server outside the measured load: its interface of version 2, one question a connection."""

import base64
import json
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from aifactory_bench.node.endpoint import Endpoint

from .llm_http_node import HttpError, ask_json
from .vectors_node import Vectors, text_of

ROOT = "/api/v2/tenants/default_tenant/databases/default_database"
_PROBE_S = 1.5
_TIMEOUT_S = 120.0
"""Of what may take long: a batch of vectors, the first search after many of them."""


class Limits(NamedTuple):
    """What a server says that it takes."""

    batch: int
    """Vectors at a time."""
    base64: bool
    """It reads vectors that are packed, and not written out."""


class Api:
    """One server."""

    def __init__(self, endpoint: Endpoint, secret: str, timeout_s: float = _TIMEOUT_S) -> None:
        self._endpoint = endpoint
        self._secret = secret
        self._timeout_s = timeout_s

    def ask(self, path: str, body: Optional[Any] = None, method: str = "") -> Any:
        """Return the answer to a question.

        Raises:
            OSError: the server cannot be reached, or is silent.
            HttpError: it answers something else.
        """
        return ask_json(self._endpoint, path, body, secret=self._secret, method=method, timeout_s=self._timeout_s)

    def limits(self) -> Limits:
        """Return what the server takes at a time."""
        answer = _mapping(self.ask("/api/v2/pre-flight-checks"))
        return Limits(int(answer.get("max_batch_size", 1000)), bool(answer.get("supports_base64_encoding")))

    def collections(self) -> List[Dict[str, Any]]:
        """Return what there is of collections."""
        answer = self.ask(f"{ROOT}/collections")
        if not isinstance(answer, list):
            raise HttpError(200, "the answer is no list of collections")
        return [_mapping(entry) for entry in answer]

    def make(self, name: str, hnsw: Dict[str, Any]) -> Dict[str, Any]:
        """Return a collection, made unless it is there."""
        body = {"name": name, "get_or_create": True, "configuration": {"hnsw": hnsw}}
        return _mapping(self.ask(f"{ROOT}/collections", body))

    def remove(self, name: str) -> None:
        """Remove a collection."""
        self.ask(f"{ROOT}/collections/{name}", method="DELETE")

    def count(self, collection: str) -> int:
        """Return how many vectors a collection has."""
        answer = self.ask(f"{ROOT}/collections/{collection}/count")
        if not isinstance(answer, int):
            raise HttpError(200, f"the answer is no count: {str(answer)[:100]}")
        return answer

    def add(self, collection: str, records: Dict[str, Any]) -> None:
        """Add vectors; those whose ids are there already are left as they are."""
        self.ask(f"{ROOT}/collections/{collection}/add", records)

    def nearest(self, collection: str, vectors: Vectors, k: int) -> List[List[str]]:
        """Return the ids of what the server finds for each vector."""
        asked = [list(vector) for vector in vectors]
        body = {"query_embeddings": asked, "n_results": k, "include": []}
        ids = _mapping(self.ask(f"{ROOT}/collections/{collection}/query", body)).get("ids")
        if not isinstance(ids, list) or len(ids) != len(asked):
            raise HttpError(200, "the answer to a search has no ids")
        return ids


def probe_api(endpoint: Endpoint, secret: str) -> Api:
    """Return the server, asked as a probe asks: briefly."""
    return Api(endpoint, secret, _PROBE_S)


def totals(endpoint: Endpoint, secret: str) -> Dict[str, int]:
    """Return the number of collections and of all vectors in them."""
    api = Api(endpoint, secret, 10.0)
    found = api.collections()
    return {"collections": len(found), "vectors": sum(api.count(entry["id"]) for entry in found)}


def embeddings(vectors: Vectors, *, packed: bool) -> str:
    """Return vectors as the JSON of a request: packed as 32-bit numbers, as Chroma's own client does, or written out."""
    if not packed:
        return f"[{','.join(map(text_of, vectors))}]"
    texts = []
    for vector in vectors:
        if sys.byteorder == "big":
            vector.byteswap()
        texts.append(base64.b64encode(vector.tobytes()).decode())
    return json.dumps(texts)


def records(ids: Sequence[str], vectors: Vectors, classes: Optional[Sequence[int]] = None, *, packed: bool) -> bytes:
    """Return the body of a request that adds or replaces vectors.

    Args:
        ids: one a vector.
        vectors: what is written.
        classes: of each vector, kept as its metadata `class`; None: they have no metadata.
        packed: as of `embeddings`.
    """
    more = "" if classes is None else f',"metadatas":{json.dumps([{"class": number} for number in classes])}'
    return f'{{"ids":{json.dumps(list(ids))},"embeddings":{embeddings(vectors, packed=packed)}{more}}}'.encode()


def _mapping(answer: Any) -> Dict[str, Any]:
    if not isinstance(answer, dict):
        raise HttpError(200, f"the answer is no object: {str(answer)[:100]}")
    return answer
