"""Connections to ports of the site, over a real sshd, by both of our transports; and over the test kit's server."""

import asyncio

import pytest

from aifactory_bench.errors import NotExecutedError
from aifactory_bench.sites.model import Login
from aifactory_bench.transports.local import LocalTransport
from aifactory_bench.transports.openssh import OpenSshTransport
from aifactory_bench.transports.ssh import SshTransport
from aifactory_bench.transports.stream import ForbiddenError, UnreachableError


@pytest.fixture(params=["ssh", "openssh", "local"])
def transport(request, sshd, home, login):
    """One of the transports, to a real sshd."""
    config = sshd.admit(home)
    if request.param == "local":
        return LocalTransport()
    return SshTransport(login) if request.param == "ssh" else OpenSshTransport(login, program=("ssh", "-F", str(config)))


async def _echo(reader, writer):
    writer.write((await reader.read())[::-1])
    await writer.drain()
    writer.close()


def run(coroutine):
    """Run a coroutine with a time limit."""

    async def limited():
        async with asyncio.timeout(40):
            return await coroutine

    return asyncio.run(limited())


def test_there_and_back_with_the_ways_ended_apart(transport):
    async def go():
        server = await asyncio.start_server(_echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await transport.check("127.0.0.1", port)

        async def ask(data):
            stream = await transport.connect("127.0.0.1", port)
            await stream.write(data)
            await stream.end()
            answer = b""
            while piece := await stream.read():
                answer += piece
            await stream.close()
            return answer

        answers = await asyncio.gather(*(ask(bytes([number]) * 300_000) for number in range(4)))
        await transport.close()
        server.close()
        return answers

    assert [answer[:1] * 300_000 == answer for answer in run(go())] == [True] * 4


def test_nobody_listens(transport):
    async def go():
        try:
            await transport.check("127.0.0.1", 1)
        finally:
            await transport.close()

    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 cannot be reached"):
        run(go())


def test_forwarding_is_forbidden(transport, sshd):
    key = sshd.folder / "user.pub"
    key.write_text(f"no-port-forwarding {key.read_text()}")

    async def go():
        try:
            await transport.check("127.0.0.1", sshd.port)
        finally:
            await transport.close()

    if isinstance(transport, LocalTransport):
        run(go())
        return
    with pytest.raises((ForbiddenError, UnreachableError), match="forwards nothing"):
        run(go())


@pytest.mark.parametrize("kind", [SshTransport, OpenSshTransport])
def test_a_site_that_is_away(kind):
    async def go():
        transport = kind(Login("127.0.0.1", port=1))
        try:
            await transport.check("127.0.0.1", 22)
        finally:
            await transport.close()

    with pytest.raises(NotExecutedError, match="cannot be reached"):
        run(go())
