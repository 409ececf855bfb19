"""What the clients of LLM servers do on the node: look at the servers, ask once, measure words, make the driver."""

import os
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aifactory_bench.node.contract import Context, PrepareError
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.load import ProtocolError

from .llm_answer_node import Answer
from .llm_driver_node import Dialect, LlmLoad, Server
from .llm_exchange_node import Exchange, exchange, secure_context
from .llm_http_node import HttpError
from .llm_prompts_node import Prompt, Prompts
from .llm_reading_node import ReadingError
from .llm_request_node import expected, head_of
from .llm_words_node import PART_WORDS, WORDS, Ratio, measured_ratio

_FIRST_LIMIT_S = 300.0
"""Of the first answer: a server may compile, or load the model."""
_FEW_TOKENS = 4


class Flavour(NamedTuple):
    """What differs between the kinds of clients."""

    path: str
    """Of the request, such as `/v1/completions`."""
    models: Callable[[Endpoint, str, Any], List[str]]
    """Names of the models that a server has: of an endpoint, with a secret and a TLS context."""
    dialect: Callable[[Context, str], Dialect]
    """For the name of a model."""
    exact_output: bool
    """Every answer is to have as many tokens as asked for."""
    hint: Callable[[Answer], str]
    """What a user may do about a first answer that failed; empty: nothing known."""


class _Prepared(NamedTuple):
    model: str
    ratio: Optional[Ratio]
    """None: nothing was measured."""
    facts: Dict[str, Any]
    keeps: Tuple[bool, ...]
    """Of each server: it keeps a connection for the next request."""


_prepared: "Dict[Tuple[Any, ...], _Prepared]" = {}
"""What this process has found out: by servers and by what was asked of them."""


def prepare(context: Context, flavour: Flavour) -> "Dict[str, Any]":
    """Check the model on every server, have each give a first answer, and measure how many tokens a word has.

    Done once for the same servers and parameters: further points go on with what was found.

    Raises:
        PrepareError: a server is not there, refuses, lacks the model, or gives no answer.
    """
    key = _key(context, flavour)
    if key not in _prepared:
        _prepared[key] = _look(context, flavour)
    return dict(_prepared[key].facts)


def driver(context: Context, flavour: Flavour) -> LlmLoad:
    """Return the load that the parameters ask for, on all servers.

    Raises:
        PrepareError: as of `prepare`, which is called if it was not; or prompts cannot be made.
    """
    prepare(context, flavour)
    found = _prepared[_key(context, flavour)]
    parameters, load = context.parameters, context.load
    if int(parameters.get("turns") or 1) > 1 and load.get("process", "closed") != "closed":
        raise PrepareError("turns: conversations need process: closed, where a turn follows the answer to the one before")
    workers = int(load.get("workers") or 1)
    parts = context.ranks * workers

    def prompts(part: int) -> Prompts:
        made = Prompts(parameters, load, int(load.get("seed") or 1), part, parts, salt=_salt(context))
        if found.ratio is not None:
            made.fit(found.ratio)
        return made

    return LlmLoad(
        servers_of(context, flavour.path, found.keeps),
        flavour.dialect(context, found.model),
        prompts,
        load=load,
        own_parts=range(context.rank * workers, (context.rank + 1) * workers),
        ahead=expected(load, parts),
        exact_output=flavour.exact_output,
        truth=bool(parameters.get("truth")),
    )


def _salt(context: Context) -> str:
    """Return what differs from run to run and from point to point, and is the same for all generators of one."""
    return f"{os.environ.get('AFB_RUN_DIR', '')}/{context.point}/{context.repetition}"


def servers_of(context: Context, path: str, keeps: Sequence[bool] = ()) -> "List[Server]":
    """Return the servers as requests see them.

    Args:
        context: of the client.
        path: of the request.
        keeps: of each server, whether it keeps a connection for the next request; empty: not known yet.

    Raises:
        PrepareError: the file of certificates cannot be used.
    """
    parameters, secret = context.parameters, context.secrets.get("main") or ""
    servers = []
    for number, endpoint in enumerate(context.endpoints["main"]):
        try:
            tls = secure_context(endpoint.url, parameters.get("ca_file"))
        except OSError as error:
            raise PrepareError(f"ca_file: {parameters.get('ca_file')}: {error.strerror or error}") from None
        keep = keeps[number] if keeps else True
        head = head_of(endpoint, path, secret, stream=bool(parameters.get("stream", True)), keep=keep)
        servers.append(Server(endpoint.host, endpoint.port, head, tls))
    return servers


def _key(context: Context, flavour: Flavour) -> "Tuple[Any, ...]":
    servers = tuple((endpoint.url, endpoint.nonce, endpoint.restart) for endpoint in context.endpoints["main"])
    names = ("model", "tokens_per_word", "prompts", "stream", "extra", "options", "exact_output", "ca_file")
    return (servers, flavour.path, *(repr(context.parameters.get(name)) for name in names))


def _look(context: Context, flavour: Flavour) -> _Prepared:
    parameters, secret = context.parameters, context.secrets.get("main") or ""
    servers = servers_of(context, flavour.path)
    name: Optional[str] = parameters.get("model")
    first_s: List[float] = []
    loads_s: List[float] = []
    keeps: List[bool] = []
    answer = Answer(0, 0)
    for server, endpoint in zip(servers, context.endpoints["main"]):
        name = _model_of(flavour, endpoint, secret, server, name)
        answer, took_s, kept = _ask(flavour, context, endpoint, server, name, WORDS[:PART_WORDS])
        first_s.append(took_s)
        loads_s.append((answer.load_ns or 0) / 1e9)
        keeps.append(kept)
    if name is None:
        raise PrepareError("there is no server to ask")
    facts: Dict[str, Any] = {"model": name, "first_completion_s": max(first_s), "token_source": answer.token_source}
    if answer.load_ns is not None:
        facts["cold_start_s"] = max(loads_s)
    if not all(keeps):
        facts["connections"] = "one a request: the server closes them behind its answers"
    ratio = None
    if not parameters.get("prompts") and parameters.get("tokens_per_word") is None:
        ask = partial(_ask, flavour, context, context.endpoints["main"][-1], servers[-1], name)
        ratio = measured_ratio(answer.prompt_tokens, lambda words: ask(words).answer.prompt_tokens)
        if ratio is not None:
            facts["tokens_per_word"], facts["prompt_overhead_tokens"] = ratio.tokens_per_word, ratio.overhead
    return _Prepared(name, ratio, facts, tuple(keeps))


def _model_of(flavour: Flavour, endpoint: Endpoint, secret: str, server: Server, name: Optional[str]) -> str:
    try:
        names = flavour.models(endpoint, secret, server.tls)
    except HttpError as error:
        if error.status == 404 and name is not None:
            return name  # some gateways have no list; the first answer will show
        raise PrepareError(f"{endpoint.url}: the server's models cannot be listed: {error}") from None
    except OSError as error:
        raise PrepareError(f"{endpoint.url}: {error.strerror or error}") from None
    if name is None and names:
        return names[0]
    if name is None or not _has(names, name):
        there = ", ".join(names) or "none"
        raise PrepareError(
            f"model: {endpoint.url} has no model {name!r}; it has: {there}" if name else f"{endpoint.url} has no model"
        )
    return name


def _has(names: Sequence[str], name: str) -> bool:
    return name in names or f"{name}:latest" in names


def _ask(
    flavour: Flavour, context: Context, endpoint: Endpoint, server: Server, model: str, words: "Sequence[str]"
) -> Exchange:
    """Return the answer to a prompt of these words, and how it came.

    Raises:
        PrepareError: there is none.
    """
    text = " ".join(words)
    prompt = Prompt(text, ({"role": "user", "content": text},), len(words), _few(context.parameters))
    try:
        done = exchange(server, flavour.dialect(context, model), prompt, _FIRST_LIMIT_S)
    except (ReadingError, ProtocolError) as error:
        raise PrepareError(f"{endpoint.url}: the first answer makes no sense: {error}") from None
    except OSError as error:
        raise PrepareError(f"{endpoint.url}: there is no first answer: {error.strerror or error}") from None
    answer = done.answer
    if answer.error:
        hint = flavour.hint(answer)
        raise PrepareError(
            f"{endpoint.url}: the first answer failed ({answer.error}): {answer.error_text}{'; ' if hint else ''}{hint}"
        )
    return done


def _few(parameters: "Mapping[str, Any]") -> int:
    asked = parameters.get("output_tokens")
    return min(_FEW_TOKENS, asked) if isinstance(asked, int) else _FEW_TOKENS
