"""What answers of all servers have in common: JSON out of payloads, errors out of statuses and bodies."""

import json
from typing import Any, Dict, List, Optional, Sequence

from .llm_answer_node import Answer
from .llm_framing_node import Head

_TEXT_LIMIT = 500


class ReadingError(Exception):
    """An answer makes no sense as what it says it is; `error` is the class."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.error = error


def decode(payloads: Sequence[bytes]) -> List[Dict[str, Any]]:
    """Return the JSON objects of all payloads, in one call where all are well.

    Raises:
        ReadingError: one is no JSON object, as `stream:json`.
    """
    objects: List[Dict[str, Any]]
    try:
        objects = json.loads((b"[" + b",".join(payloads) + b"]").decode())
    except ValueError:
        objects = []
    # Two payloads that are nonsense could make sense together.
    if len(objects) == len(payloads) and set(map(type, objects)) <= {dict}:
        return objects
    objects = []
    for payload in payloads:
        one = _object(payload)
        if one is None:
            raise ReadingError("stream:json", f"no JSON object: {short(payload)}")
        objects.append(one)
    return objects


def decode_beginning(payloads: Sequence[bytes]) -> List[Dict[str, Any]]:
    """Return the JSON objects of the payloads up to the first that is none: of an answer that was broken off."""
    objects: List[Dict[str, Any]] = []
    for payload in payloads:
        one = _object(payload)
        if one is None:
            break
        objects.append(one)
    return objects


def _object(payload: bytes) -> Optional[Dict[str, Any]]:
    try:
        one = json.loads(payload.decode())
    except ValueError:
        return None
    return one if isinstance(one, dict) else None


def refuse(answer: Answer, head: Head, data: bytes) -> bool:
    """Note an answer whose status is no success; return whether it was one."""
    answer.status = head.status
    if head.status in range(200, 300):
        if head.encoding:
            raise ReadingError("protocol", f"the server compresses ({head.encoding}) what was not to be compressed")
        return False
    answer.error = f"http:{head.status}"
    try:
        said = message(json.loads(data.decode()))
    except ValueError:
        said = ""
    answer.error_text = said or short(data) or head.location
    return True


def message(found: Any) -> str:
    """Return what an error says, of the many places where servers put it."""
    while isinstance(found, dict):
        found = next((found[name] for name in ("error", "message", "detail", "type") if found.get(name)), "")
    if isinstance(found, list):
        found = json.dumps(found)
    return short(str(found).encode()) if found else ""


def short(data: bytes) -> str:
    """Return the begin of a text in one line."""
    return " ".join(data[: 4 * _TEXT_LIMIT].decode("utf-8", "replace").split())[:_TEXT_LIMIT]


def whole_number(value: Any) -> int:
    """Return a count of JSON; anything that is none is 0."""
    return value if isinstance(value, int) and value > 0 else 0


def stamped(entries: Sequence[Dict[str, Any]]) -> "List[tuple[int, int]] | None":
    """Return the truth server's stamps of chunks, or None where one lacks them."""
    stamps = [entry.get("afb") for entry in entries]
    if not all(isinstance(stamp, list) and len(stamp) == 2 for stamp in stamps):
        return None
    return [(int(stamp[0]), int(stamp[1])) for stamp in stamps if stamp]
