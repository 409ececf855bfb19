"""A minimal client on aiohttp: what most load generators are made of. Run by llm_load.py; prints one JSON object.

python benchmarks/llm_client_aiohttp.py URL STREAMS SECONDS TOKENS
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parent))
from llm_client_result import Seen, print_result

HEADERS = {"Content-Type": "application/json"}


async def stream(session: aiohttp.ClientSession, url: str, body: bytes, until: float, seen: Seen) -> None:
    while time.monotonic() < until:
        sent = time.monotonic_ns()
        stamps = []
        async with session.post(f"{url}/v1/chat/completions", data=body, headers=HEADERS) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    now = time.monotonic_ns()
                    event = json.loads(line[6:])
                    if event["choices"] and event["choices"][0]["delta"].get("content"):
                        stamps.append(now)
        seen.add(sent, stamps)


async def main() -> None:
    url, streams, seconds, tokens = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    body = json.dumps(
        {
            "model": "truth",
            "messages": [{"role": "user", "content": "word " * 32}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    seen = Seen()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        before = resource.getrusage(resource.RUSAGE_SELF)
        until = time.monotonic() + seconds
        await asyncio.gather(*(stream(session, url, body, until, seen) for _ in range(streams)))
        after = resource.getrusage(resource.RUSAGE_SELF)
    print_result("aiohttp", aiohttp.__version__, seen, before, after)


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
