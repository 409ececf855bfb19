"""The request function of `vllm bench serve`, unmodified, in a closed loop. Run by llm_load.py with a Python that has vLLM.

python benchmarks/llm_client_vllm.py URL STREAMS SECONDS TOKENS
"""

import asyncio
import resource
import sys
import time
from pathlib import Path

import aiohttp
import vllm
from vllm.benchmarks.lib.endpoint_request_func import RequestFuncInput, async_request_openai_completions

sys.path.insert(0, str(Path(__file__).parent))
from llm_client_result import Seen, print_result


async def stream(session, request, until, seen):
    while time.monotonic() < until:
        answer = await async_request_openai_completions(request, session=session)
        stamps = [round(answer.ttft * 1e9)]
        for gap in answer.itl:
            stamps.append(stamps[-1] + round(gap * 1e9))
        if answer.success:
            seen.add(0, stamps)


async def main():
    url, streams, seconds, tokens = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    request = RequestFuncInput(
        prompt="word " * 32,
        api_url=f"{url}/v1/completions",
        prompt_len=32,
        output_len=tokens,
        model="truth",
        ignore_eos=True,
    )
    seen = Seen()
    # As `vllm bench serve` makes them.
    connector = aiohttp.TCPConnector(limit=streams, limit_per_host=streams, keepalive_timeout=60, force_close=False)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=6 * 3600)) as session:
        before = resource.getrusage(resource.RUSAGE_SELF)
        until = time.monotonic() + seconds
        await asyncio.gather(*(stream(session, request, until, seen) for _ in range(streams)))
        after = resource.getrusage(resource.RUSAGE_SELF)
    print_result("vllm bench serve", vllm.__version__, seen, before, after)


asyncio.run(main())
