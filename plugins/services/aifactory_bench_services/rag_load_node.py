"""`rag-load` on the node: fill the collection with texts, look at the model, drive the load."""

import dataclasses
from random import Random
from typing import Any, Dict

from aifactory_bench.node.contract import Context, PrepareError
from aifactory_bench.node.endpoint import Endpoint

from . import openai_load_node
from .chroma_api_node import totals
from .chroma_data_node import data_of
from .chroma_driver_node import Server, head_of, queries_of
from .chroma_fill_node import Collection, Writing, fill
from .llm_counters_node import counters as counters_of_model
from .llm_exchange_node import secure_context
from .llm_http_node import HttpError
from .llm_request_node import head_of as model_head
from .llm_words_node import random_words
from .rag_driver_node import Asking, Model, Question, RagLoad, Store

_PATH = "/v1/chat/completions"

_collections: "Dict[str, Collection]" = {}
"""Url of a server -> what `prepare` has made there for the point that comes."""
_models: "Dict[str, Dict[str, Any]]" = {}
"""Point -> what the model's servers are."""


def prepare(context: Context) -> "Dict[str, Any]":
    """Fill a collection on every replica of the store, and have every server of the model give a first answer.

    Raises:
        PrepareError: a server is not there or refuses, or the data cannot be had.
    """
    data = data_of(context)
    words, seed = int(context.parameters["document_words"]), context.parameters["data_seed"]

    def document(number: int) -> str:
        return " ".join(random_words(Random(f"{seed}:document:{number}"), words))

    done: Dict[str, Any] = {"vectors": len(data.vectors), "dimension": data.vectors.dimension, **data.facts}
    for endpoint in context.endpoints["vectors"]:
        _collections[endpoint.url], filled = fill(context, endpoint, data, Writing(documents=document))
        done.update(filled)
    _models[context.point] = openai_load_node.prepare(_of_model(context))
    return {**done, "model": _models[context.point]}


def driver(context: Context) -> RagLoad:
    """Return the load that the parameters ask for, on all replicas of both services.

    Raises:
        PrepareError: an address of the model cannot be spoken to.
    """
    parameters, model = context.parameters, _models[context.point]
    stores = []
    for endpoint in context.endpoints["vectors"]:
        collection, secret = _collections[endpoint.url], context.secrets.get("vectors", "")
        server = Server(endpoint.host, endpoint.port, collection.id, secret, packed=collection.limits.base64)
        stores.append(Store(endpoint.host, endpoint.port, head_of(server, "query")))
    models = []
    for endpoint in context.endpoints["model"]:
        try:
            tls = secure_context(endpoint.url, None)
        except OSError as error:
            raise PrepareError(f"{endpoint.url}: {error.strerror or error}") from None
        # A server that closes its connections without a word must be asked to: else the next request may meet the end of one.
        keep = "connections" not in model
        head = model_head(endpoint, _PATH, context.secrets.get("model", ""), stream=True, keep=keep)
        models.append(Model(endpoint.host, endpoint.port, head, tls))
    seed, words = parameters["data_seed"], int(parameters["question_words"])
    k = int(parameters["k"])
    questions = [
        Question(query.body, query.exact, " ".join(random_words(Random(f"{seed}:question:{number}"), words)))
        for number, query in enumerate(queries_of(data_of(context), k, include='"documents"'))
    ]
    common: Dict[str, Any] = {
        "model": model["model"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": parameters["temperature"],
        "max_tokens": int(parameters["output_tokens"]),
    }
    if model["exact_output"]:
        common.update(min_tokens=int(parameters["output_tokens"]), ignore_eos=True)
    return RagLoad(stores, models, Asking(questions, k, common))


def counters(endpoint: Endpoint, secret: str) -> "Dict[str, float]":
    """Return a server's totals since its start, under names that begin with its role: `vectors.`, `model.`.

    They are kept and not compared: a client of two services is not, see `results.totals`. A model that has no `/metrics`
    gives none, which takes nothing from the store's.

    Raises:
        OSError: the server is not there.
        HttpError: the store does not answer as Chroma does.
        ValueError: the model's page is no page of metrics.
    """
    if endpoint.url in _collections:
        return {"vectors.vectors_inserted": float(totals(endpoint, secret)["vectors"])}
    try:
        return {f"model.{name}": value for name, value in counters_of_model(endpoint, secret).items()}
    except HttpError:
        return {}


def _of_model(context: Context) -> Context:
    """Return the context as that of a client of the model alone."""
    asked = {name: context.parameters[name] for name in ("model", "output_tokens", "exact_output", "temperature")}
    return dataclasses.replace(
        context,
        endpoints={"main": context.endpoints["model"]},
        secrets={"main": context.secrets.get("model", "")},
        parameters={**asked, "api": "chat", "tokens_per_word": 1.0},
    )
