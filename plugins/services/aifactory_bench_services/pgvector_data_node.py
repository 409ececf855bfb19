"""Vectors for pgvector: made in clusters from a seed, written into a table, with the right neighbours of every query.

The right neighbours are found by the server without an index, by the same arithmetic as those that are measured.
"""

import json
import struct
import sys
import time
from array import array
from itertools import chain
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from .postgresql_wire_node import Client
from .vectors_node import Clusters, Vectors

OPERATORS = {"cosine": ("<=>", "vector_cosine_ops"), "l2": ("<->", "vector_l2_ops"), "inner_product": ("<#>", "vector_ip_ops")}
"""Metric -> operator of distance, class of operators of an index."""
VECTORS, QUERIES = "afb_vectors", "afb_queries"
_INDEX = "afb_vectors_index"
_SPREAD = 1.0
"""Clusters touch: with less, almost any search finds all."""
_PART_ROWS = 10_000
_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TAIL = struct.pack(">h", -1)
_PART_BYTES = 1 << 20


def vectors_of(parameters: "Mapping[str, Any]", seed: int) -> "Iterator[Vectors]":
    """Yield the rows of the table, in parts that fit into memory."""
    clusters, count = _clusters(parameters, seed), int(parameters["vectors"])
    for origin in range(0, count, _PART_ROWS):
        yield clusters.draw(min(_PART_ROWS, count - origin), "vectors", origin)


def queries_of(parameters: "Mapping[str, Any]", seed: int) -> Vectors:
    """Return the queries, around the same centres; they are no rows of the table."""
    return _clusters(parameters, seed).draw(int(parameters["queries"]), "queries")


def _clusters(parameters: "Mapping[str, Any]", seed: int) -> Clusters:
    return Clusters(int(parameters["dimensions"]), int(parameters["clusters"]), _SPREAD, seed)


def binary(vector: "array[float]") -> bytes:
    """Return a vector as pgvector sends and takes it."""
    copy = array("f", vector)
    if sys.byteorder == "little":
        copy.byteswap()
    return struct.pack(">hh", len(vector), 0) + copy.tobytes()


def _rows(parts: "Iterable[Vectors]") -> "Iterator[bytes]":
    """Yield rows (number, vector) in PostgreSQL's binary format, in parts."""
    part = bytearray(_HEAD)
    for number, vector in enumerate(chain.from_iterable(parts)):
        data = binary(vector)
        part += struct.pack(">hiii", 2, 4, number, len(data)) + data
        if len(part) > _PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part) + _TAIL


def key_of(parameters: "Mapping[str, Any]", seed: int) -> "Dict[str, Dict[str, Any]]":
    """Return what tells one state of the tables from another: rows, index, right neighbours."""
    kind = parameters["index"]
    options = {"hnsw": ("m", "ef_construction"), "ivfflat": ("lists",), "none": ()}[kind]
    rows = {name: parameters[name] for name in ("vectors", "dimensions", "clusters")}
    metric = {"metric": parameters["metric"]}
    return {
        "rows": {**rows, "seed": seed},
        "index": {"index": kind, **metric, **{name: parameters[name] for name in options}},
        "truth": {**metric, "k": parameters["k"], "queries": parameters["queries"]},
    }


def read_key(client: Client) -> "Dict[str, Any]":
    """Return what the tables are said to hold; empty: nothing that we have made."""
    rows = client.ask(f"SELECT obj_description(to_regclass('{VECTORS}')) AS key")
    try:
        found = json.loads(rows[0]["key"] or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write_key(client: Client, key: "Mapping[str, Any]") -> None:
    """Say what the tables hold."""
    text = json.dumps(key, sort_keys=True).replace("'", "''")
    client.ask(f"COMMENT ON TABLE {VECTORS} IS '{text}'")


def fill(client: Client, parameters: "Mapping[str, Any]", seed: int, fresh: bool) -> "Dict[str, Any]":
    """Bring rows, right neighbours and index into place, each only where it is not as asked for; return what was done.

    Raises:
        OSError, ServerError, WireError: the server refuses.
    """
    wanted = key_of(parameters, seed)
    found = {} if fresh else read_key(client)
    done: "Dict[str, Any]" = {"rows_written": 0}
    if found.get("rows") != wanted["rows"]:
        found = {}
        began = time.monotonic()
        dimensions, count = int(parameters["dimensions"]), int(parameters["vectors"])
        client.ask(f"DROP TABLE IF EXISTS {VECTORS}, {QUERIES}")
        client.ask(f"CREATE TABLE {VECTORS} (id int PRIMARY KEY, embedding vector({dimensions}) NOT NULL)")
        client.copy(f"COPY {VECTORS} FROM STDIN BINARY", _rows(vectors_of(parameters, seed)))
        client.ask(f"VACUUM ANALYZE {VECTORS}")
        done.update(rows_written=count, rows_s=_since(began))
    if found.get("truth") != wanted["truth"]:
        began = time.monotonic()
        _find_truth(client, parameters, seed)
        done["neighbours_s"] = _since(began)
    if found.get("index") != wanted["index"]:
        began = time.monotonic()
        client.ask(f"DROP INDEX IF EXISTS {_INDEX}")
        sql = _index_sql(parameters)
        if sql:
            client.ask(sql)
            done.update(index_s=_since(began), index_bytes=_size(client, _INDEX))
    write_key(client, wanted)
    return {**done, "table_bytes": _size(client, VECTORS)}


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _size(client: Client, name: str) -> int:
    return int(client.ask(f"SELECT pg_table_size('{name}') AS n")[0]["n"] or 0)


def _index_sql(parameters: "Mapping[str, Any]") -> Optional[str]:
    kind, (_, operators) = parameters["index"], OPERATORS[parameters["metric"]]
    if kind == "none":
        return None
    names = ("m", "ef_construction") if kind == "hnsw" else ("lists",)
    options = ", ".join(f"{name} = {int(parameters[name])}" for name in names)
    return f"CREATE INDEX {_INDEX} ON {VECTORS} USING {kind} (embedding {operators}) WITH ({options})"


def _find_truth(client: Client, parameters: "Mapping[str, Any]", seed: int) -> None:
    dimensions, k = int(parameters["dimensions"]), int(parameters["k"])
    operator = OPERATORS[parameters["metric"]][0]
    client.ask(f"DROP TABLE IF EXISTS {QUERIES}")
    client.ask(f"CREATE TABLE {QUERIES} (id int PRIMARY KEY, embedding vector({dimensions}) NOT NULL, neighbours int[])")
    client.copy(f"COPY {QUERIES} (id, embedding) FROM STDIN BINARY", _rows([queries_of(parameters, seed)]))
    # In one message, so that the settings hold for nothing else; two at the same distance stand in order of number.
    nearest = f"SELECT v.id FROM {VECTORS} v ORDER BY v.embedding {operator} q.embedding, v.id LIMIT {k}"  # noqa: S608 - our own
    without_index = "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off"
    client.ask(f"BEGIN; {without_index}; UPDATE {QUERIES} q SET neighbours = array({nearest}); COMMIT")  # noqa: S608 - as above


def read_truth(client: Client) -> "List[Tuple[int, ...]]":
    """Return the right neighbours of every query, by its number."""
    rows = client.ask(f"SELECT neighbours FROM {QUERIES} ORDER BY id")  # noqa: S608 - a name of our own
    return [tuple(map(int, (row["neighbours"] or "{}")[1:-1].split(","))) for row in rows]


def settings_of(parameters: "Mapping[str, Any]") -> "Sequence[str]":
    """Return what a session sets before it asks."""
    kind = parameters["index"]
    if kind == "none":
        return ["SET enable_indexscan = off"]
    # On a small table the planner takes the table itself for cheaper, and the index would not be what is measured.
    own = (
        f"hnsw.ef_search = {int(parameters['ef_search'])}"
        if kind == "hnsw"
        else f"ivfflat.probes = {int(parameters['probes'])}"
    )
    return ["SET enable_seqscan = off", f"SET {own}"]


def query_sql(parameters: "Mapping[str, Any]") -> str:
    """Return the query; its one parameter is the vector."""
    operator = OPERATORS[parameters["metric"]][0]
    return f"SELECT id FROM {VECTORS} ORDER BY embedding {operator} $1::vector LIMIT {int(parameters['k'])}"  # noqa: S608 - as above
