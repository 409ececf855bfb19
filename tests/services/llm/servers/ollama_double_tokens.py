"""What the double of Ollama generates: words of its own at an even pace, or the tokens of a real llama-server."""

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

_WORDS = ("the", "of", "to", "and", "in", "it", "that", "was", "for", "on", "are", "with", "as", "his", "they", "be", "at")


def words(prompt: str, limit: int, figures: dict[str, Any]) -> Iterator[str]:
    """Words at an even pace."""
    token_s, began = float(os.environ.get("OLLAMA_DOUBLE_TOKEN_S", "0.002")), time.monotonic_ns()
    time.sleep(token_s)
    first = time.monotonic_ns()
    for number in range(limit):
        if number:
            time.sleep(token_s)
        yield " " + _WORDS[number % len(_WORDS)]
    figures.update(
        done_reason="length",
        prompt_eval_count=len(prompt.split()),
        prompt_eval_duration=first - began,
        eval_count=limit,
        eval_duration=time.monotonic_ns() - first,
    )


def from_llama(url: str, prompt: str, limit: int, figures: dict[str, Any]) -> Iterator[str]:
    """Tokens of a llama-server as they come."""
    body = {"prompt": prompt, "n_predict": limit, "stream": True, "ignore_eos": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('OLLAMA_DOUBLE_LLAMA_KEY', '')}"}
    request = urllib.request.Request(f"{url}/completion", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if not event.get("stop"):
                yield event["content"]
                continue
            timings = event["timings"]
            figures.update(
                done_reason="length" if event.get("stop_type") == "limit" else "stop",
                prompt_eval_count=timings["prompt_n"] + timings.get("cache_n", 0),
                prompt_eval_duration=int(timings["prompt_ms"] * 1e6),
                eval_count=timings["predicted_n"],
                eval_duration=int(timings["predicted_ms"] * 1e6),
            )
