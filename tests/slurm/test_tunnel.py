"""A tunnel to a service on a node of a real Slurm, through a real sshd on the login node, and through a gate."""

import asyncio
import os
import shutil
import signal

import pytest

from aifactory_bench.tunnel import Tunnel

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed"),
]
RECIPE = """\
schema: aifactory-bench/1
name: small
services:
  cache: {kind: redis, resources: {time: 5m, memory: 500MiB}}
clients:
  load:
    kind: redis-load
    target: cache
    resources: {time: 5m, memory: 500MiB}
    parameters: {keys: 500}
    load: {process: constant, rate: 20/s, warmup: 200ms, duration: 60s}
"""


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_redis_on_a_node(cluster, site, command, tmp_path, transport, monkeypatch):
    """Two connections at a time; a run's end ends the tunnel."""
    monkeypatch.setattr("aifactory_bench.tunnel.LOOK_S", 0.5)
    path = site()
    if transport == "openssh":
        wrapper = tmp_path / "bin"
        wrapper.mkdir()
        (wrapper / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/home/.ssh/config "$@"\n')
        (wrapper / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{wrapper}:{os.environ['PATH']}")
        path.write_text(path.read_text().replace("transport: ssh", "transport: openssh"))
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    child = command("run", recipe, "--site", path, "--run-id", f"tunnel-{transport}", "--quiet")
    folder = tmp_path / "runs" / f"tunnel-{transport}"

    async def ping(port, password):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        answer = await reader.readuntil(b"PONG\r\n")
        writer.close()
        return answer

    async def go():
        while not list(folder.glob("endpoints/*/0.json")):
            await asyncio.sleep(0.2)
        one = Tunnel(f"tunnel-{transport}", "cache", site=str(path), runs_dir=tmp_path / "runs")
        await one.open()
        try:
            place, password = await one.password(show=True)
            answers = await asyncio.gather(*(ping(one.port, password) for _ in range(2)))
            child.send_signal(signal.SIGINT)
            return place, answers, await asyncio.wait_for(one.wait(), 60)
        finally:
            await one.close()

    place, answers, ended = asyncio.run(asyncio.wait_for(go(), 120))
    assert place.startswith(f"{cluster.runs}/tunnel-{transport}/endpoints/")
    assert answers == [b"+OK\r\n+PONG\r\n"] * 2
    assert ended.startswith("the service has ended: ")
    child.communicate(timeout=60)
