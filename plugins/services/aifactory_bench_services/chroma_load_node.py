"""`chroma-load` on the node: bring the vectors into place, and drive the load."""

from typing import Any, Dict, List

from aifactory_bench.node.contract import Context
from aifactory_bench.node.endpoint import Endpoint

from .chroma_api_node import totals
from .chroma_data_node import data_of
from .chroma_driver_node import ChromaLoad, Server
from .chroma_fill_node import Collection, Writing, fill

_collections: "Dict[str, Collection]" = {}
"""Url of a server -> what `prepare` has made there for the point that comes."""


def prepare(context: Context) -> "Dict[str, Any]":
    """Fill a collection on every replica of the server; see `chroma_fill_node.fill`.

    Raises:
        PrepareError: the data cannot be had, or the server refuses it.
    """
    classes = int(context.parameters["filter_classes"])
    data = data_of(context, classes)
    done: Dict[str, Any] = {"vectors": len(data.vectors), "dimension": data.vectors.dimension, **data.facts}
    filled: List[Dict[str, Any]] = []
    for endpoint in context.endpoints["main"]:
        collection, own = fill(context, endpoint, data, Writing(classes))
        _collections[endpoint.url] = collection
        filled.append(own)
    done.update(filled[0])
    if len(filled) > 1:
        done["replicas"] = filled
    return done


def driver(context: Context) -> ChromaLoad:
    """Return the load that the parameters ask for, on all replicas."""
    secret = context.secrets.get("main", "")
    servers = []
    for endpoint in context.endpoints["main"]:
        collection = _collections[endpoint.url]
        servers.append(Server(endpoint.host, endpoint.port, collection.id, secret, packed=collection.limits.base64))
    return ChromaLoad(context, servers, data_of(context, int(context.parameters["filter_classes"])))


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return what can be compared with what clients count: by how much all collections together have grown.

    Chroma counts no requests: there is no `operations`.

    Raises:
        OSError, HttpError: the server does not answer as Chroma does.
    """
    return {"vectors_inserted": float(totals(endpoint, secret)["vectors"])}
