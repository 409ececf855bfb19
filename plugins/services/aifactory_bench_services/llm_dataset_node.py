"""Prompts out of a file on the node: JSON lines, or conversations in the format of ShareGPT. Nothing is ever fetched."""

import json
import os
import socket
import stat
from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from aifactory_bench.node.contract import PrepareError

Message = Dict[str, Any]
"""`role` and `content`, as the chat API has them."""

_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant"), "assistant"),
    "system": "system",
}
_SHOWN = 80
_LARGEST_TOKENS = 10**9


class Entry(NamedTuple):
    """One conversation of a file, or one prompt."""

    turns: Tuple[Tuple[Message, ...], ...]
    """What the user's side says in each turn; the first may begin with a system message."""
    text: Optional[str]
    """The prompt as text where the file has it as such; then there is one turn."""
    output_tokens: Optional[int]


def entries_of(path: str) -> "Tuple[Entry, ...]":
    """Return what a file holds, in its order; read once as long as it does not change.

    A file that begins with `[` is a list in the format of ShareGPT, `{"conversations": [{"from": ..., "value": ...}]}`; what
    the assistant said is left out, conversations without a word of the user too. Any other is JSON lines: objects with
    `prompt` or `messages`, and optionally `output_tokens` (or `max_tokens`). Other keys are left alone.

    Raises:
        PrepareError: the file cannot be read, or holds something else; the text names the node, the file, the place, what
            was found and what is allowed.
    """
    node = socket.gethostname()
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise PrepareError(f"prompts: {path} on node {node} is no file")
        return _read(path, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise PrepareError(
            f"prompts: {path} cannot be read on node {node}: {error.strerror or error}; nothing is fetched, bring it there"
        ) from None
    except _WrongError as error:
        raise PrepareError(f"prompts: {path}{error} (on node {node})") from None


class _WrongError(Exception):
    """The text begins with the place."""


@lru_cache(maxsize=2)
def _read(path: str, _mtime_ns: int, _size: int) -> "Tuple[Entry, ...]":
    with open(path, encoding="utf-8") as file:
        try:
            begin = file.read(1)
            while begin.isspace():
                begin = file.read(1)
            file.seek(0)
            entries = _share_gpt(json.load(file)) if begin == "[" else _lines(file)
        except UnicodeDecodeError as error:
            raise _WrongError(f": not UTF-8 text: {error.reason}") from None
        except (ValueError, RecursionError) as error:
            raise _WrongError(f": not JSON: {error}") from None
    if not entries:
        raise _WrongError(': has no prompts; one JSON object a line is needed, such as {"prompt": "Why?"}')
    return tuple(entries)


def _lines(file: Any) -> "List[Entry]":
    entries = []
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _WrongError(f":{number}: must be one JSON object a line: {error}; found {_shown(line.strip())}") from None
        entries.append(_row(row, f":{number}"))
    return entries


def _row(row: Any, where: str) -> Entry:
    if not isinstance(row, dict):
        raise _WrongError(f"{where}: must be a JSON object; found {_shown(row)}")
    name = next((name for name in ("output_tokens", "max_tokens") if row.get(name) is not None), "")
    output = row[name] if name else None
    if output is not None and (type(output) is not int or not 1 <= output <= _LARGEST_TOKENS):
        raise _WrongError(f"{where}: {name} must be a whole number of tokens, at least 1; found {_shown(output)}")
    if "messages" in row:
        return Entry(_turns(row["messages"], where), None, output)
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        found = _shown(prompt) if "prompt" in row else f"the keys {', '.join(map(str, row)) or '(none)'}"
        raise _WrongError(f"{where}: must have a text as prompt, or messages; found {found[: 2 * _SHOWN]}")
    return Entry((({"role": "user", "content": prompt},),), prompt, output)


def _turns(messages: Any, where: str) -> "Tuple[Tuple[Message, ...], ...]":
    """Return messages as one turn: what the file has the assistant say is part of the prompt."""
    if not isinstance(messages, list) or not messages:
        raise _WrongError(f"{where}: messages must be a list of at least one; found {_shown(messages)}")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            raise _WrongError(f"{where}: a message must have role and content; found {_shown(message)}")
    return (tuple(messages),)


def _share_gpt(document: Any) -> "List[Entry]":
    entries = []
    for number, item in enumerate(document):
        where = f": item {number}"
        if not isinstance(item, dict):
            raise _WrongError(f"{where}: must be a JSON object with conversations; found {_shown(item)}")
        said = item.get("conversations")
        if not isinstance(said, list):
            raise _WrongError(f"{where}: must have a list as conversations; found {_shown(said)}")
        turns: List[Tuple[Message, ...]] = []
        waiting: List[Message] = []
        for one in said:
            role = _ROLES.get(str(one.get("from")), "") if isinstance(one, dict) else ""
            if not role or not isinstance(one.get("value"), str):
                known = ", ".join(_ROLES)
                raise _WrongError(f"{where}: must have from (one of {known}) and a text as value; found {_shown(one)}")
            if role != "assistant" and one["value"]:
                waiting.append({"role": role, "content": one["value"]})
                if role == "user":
                    turns.append(tuple(waiting))
                    waiting = []
        if turns:
            entries.append(Entry(tuple(turns), None, None))
    return entries


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = repr(text) if isinstance(value, str) else text
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
