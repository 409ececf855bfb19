"""Chunks of a stream that differ in their text alone: most of most streams, and read without parsing each.

A chunk that was parsed shows where its text stands. One that has the same bytes before and behind, and between them
something that can stand in a JSON string as it is, is the same JSON with another text.
"""

import json
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .llm_reading_node import decode

_FEW = 8
"""Streams of fewer chunks are parsed as they are."""
_LOOKED_AT = 4
_CONTENT, _TEXT = re.compile(rb'"content"\s*:\s*"'), re.compile(rb'"text"\s*:\s*"')
"""Before the text of a chat, and of a completion."""
_USUAL = frozenset(("content", "role"))
"""Of a delta."""
_MORE = ("usage", "timings", "error")


def decode_alike(payloads: Sequence[bytes]) -> List[Union[Dict[str, Any], str]]:
    """Return what `decode` does, but a chunk that differs from a former one in its text alone as that text, never empty.

    Raises:
        ReadingError: one payload is no JSON object.
    """
    frame = None
    if len(payloads) >= _FEW:
        frame = next(filter(None, map(_frame, payloads[1:_LOOKED_AT])), None)
    if frame is None:
        return list(decode(payloads))
    before, behind = frame
    begin, end = len(before), -len(behind)
    # What is not alike is empty here, as an empty text is: both are parsed.
    between = [payload[begin:end] if payload.startswith(before) and payload.endswith(behind) else b"" for payload in payloads]
    try:
        texts = b"\n".join(between).decode().split("\n")
    except ValueError:
        return list(decode(payloads))
    if len(texts) != len(payloads):  # a payload of several lines
        return list(decode(payloads))
    items: List[Union[Dict[str, Any], str]] = list(texts)
    others = [number for number, text in enumerate(texts) if not text or '"' in text or "\\" in text]
    for number, found in zip(others, decode([payloads[number] for number in others])):
        items[number] = found
    return items


def _frame(payload: bytes) -> Optional[Tuple[bytes, bytes]]:
    """Return what stands before and behind the text of a chunk that carries text and nothing else, or None."""
    try:
        found = json.loads(payload.decode())
        (choice,) = found["choices"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(choice, dict) or choice.get("finish_reason") or any(found.get(name) for name in _MORE):
        return None
    delta = choice.get("delta")
    if delta is None:
        text, key = choice.get("text"), _TEXT
    elif isinstance(delta, dict) and not any(value for name, value in delta.items() if name not in _USUAL):
        text, key = delta.get("content"), _CONTENT
    else:
        return None
    places = list(key.finditer(payload))
    if not isinstance(text, str) or not text or len(places) != 1:
        return None
    at = places[0].end()
    raw = text.encode("utf-8", "replace")
    if not payload.startswith(raw + b'"', at) or b"\\" in raw or b'"' in raw:
        return None
    return payload[:at], payload[at + len(raw) :]
