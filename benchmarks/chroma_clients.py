"""Two other clients of Chroma: its official one with threads, and a minimal one on aiohttp. Run by chroma_load.py.

python benchmarks/chroma_clients.py official|aiohttp PORT COLLECTION CONCURRENCY SECONDS QUERIES

QUERIES is a JSON file: k, and of each query its vector and the ids of its exact neighbours. Prints one JSON object.
"""

import asyncio
import json
import resource
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Seen:
    """What the workers have seen: latencies, and how many exact neighbours were found."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.k: int = asked["k"]
        self.queries: list[tuple[list[float], set[str]]] = [(each[0], set(each[1])) for each in asked["queries"]]
        self.latency_s: list[float] = []
        self.found = 0

    def add(self, sent_s: float, ids: list[str], exact: set[str]) -> None:
        """Keep one answer."""
        self.latency_s.append(time.monotonic() - sent_s)
        self.found += len(exact.intersection(ids))


def official(port: int, collection: str, concurrency: int, until_s: float, seen: Seen) -> None:
    """Ask with threads: the client has no other way to have several requests under way, but its asynchronous one."""
    import chromadb

    def work(first: int) -> None:
        client = chromadb.HttpClient("127.0.0.1", port)
        there = client.get_collection(collection, embedding_function=None)
        number = first
        while time.monotonic() < until_s:
            vector, exact = seen.queries[number % len(seen.queries)]
            sent_s = time.monotonic()
            answer = there.query(query_embeddings=[vector], n_results=seen.k, include=[])
            seen.add(sent_s, answer["ids"][0], exact)
            number += 1

    threads = [threading.Thread(target=work, args=(17 * number,)) for number in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def minimal(port: int, collection: str, concurrency: int, until_s: float, seen: Seen) -> None:
    """Ask with bodies that were made before."""
    import aiohttp

    root = f"http://127.0.0.1:{port}/api/v2/tenants/default_tenant/databases/default_database/collections"
    bodies = [
        json.dumps({"query_embeddings": [vector], "n_results": seen.k, "include": []}).encode() for vector, _ in seen.queries
    ]
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        async with session.get(f"{root}/{collection}") as answer:
            url = f"{root}/{(await answer.json())['id']}/query"

        async def work(first: int) -> None:
            number = first
            while time.monotonic() < until_s:
                at = number % len(bodies)
                sent_s = time.monotonic()
                async with session.post(url, data=bodies[at]) as answer:
                    found = await answer.json()
                seen.add(sent_s, found["ids"][0], seen.queries[at][1])
                number += 1

        await asyncio.gather(*(work(17 * number) for number in range(concurrency)))


def main() -> None:
    """Ask for some seconds and print what was seen."""
    kind, port, collection, concurrency, seconds, path = sys.argv[1:]
    seen = Seen(json.loads(Path(path).read_text()))
    arguments = (int(port), collection, int(concurrency))
    if kind == "official":
        official(*arguments, time.monotonic() + 0.5, Seen(json.loads(Path(path).read_text())))  # imports, first connections
    before = resource.getrusage(resource.RUSAGE_SELF)
    began_s = time.monotonic()
    until_s = began_s + float(seconds)
    if kind == "official":
        official(*arguments, until_s, seen)
    else:
        try:
            import uvloop
        except ImportError:
            asyncio.run(minimal(*arguments, until_s, seen))
        else:
            uvloop.run(minimal(*arguments, until_s, seen))
    took_s = time.monotonic() - began_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    count = len(seen.latency_s)
    figures = {
        "per_s": count / took_s,
        "p50_ms": 1000 * statistics.median(seen.latency_s),
        "cpu_us": 1e6 * cpu_s / count,
        "recall": seen.found / count / seen.k,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
