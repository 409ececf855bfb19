"""A tunnel to a service: local, over our own SSH connection, and over OpenSSH."""

import asyncio
import contextlib
import os
import socket

import asyncssh
import pytest

from aifactory_bench.errors import RunError, SiteError, UsageError
from aifactory_bench.node.endpoint import Endpoint, publish
from aifactory_bench.plan import Plan, PlannedJob, plan_to_json
from aifactory_bench.sites.model import Login
from aifactory_bench.submitters.base import JobState, JobStatus
from aifactory_bench.testing.ssh_server import Login as ServerLogin
from aifactory_bench.testing.ssh_server import SshServer
from aifactory_bench.transports.local import LocalTransport
from aifactory_bench.transports.ssh import SshTransport
from aifactory_bench.tunnel import Tunnel, tunnel

TOKEN = "afb-r-cache-0"


class Echo:
    """A service that answers when it has read all: what it has read, backwards."""

    def __init__(self) -> None:
        self.open = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error):
        self._server.close()

    async def _serve(self, reader, writer):
        self.open += 1
        try:
            writer.write((await reader.read())[::-1])
            await writer.drain()
            writer.close()
        finally:
            self.open -= 1


@pytest.fixture
def run_folder(tmp_path):
    """Write a run whose service answers on a port; returns the folder of runs."""

    def write(port, *, ranks=1, secret=""):
        runs = tmp_path / "runs"
        folder = runs / "r"
        folder.mkdir(parents=True)
        job = PlannedJob(name="cache", role="service", kind="redis", token=TOKEN, script="", ranks=ranks, time_s=60.0)
        plan = Plan("r", "small", "local", str(folder), (job,), (), {}, None, 8, (), "0" * 16)
        (folder / "plan.json").write_text(plan_to_json(plan))
        (folder / "recipe.yaml").write_text("")
        if port:
            publish(
                folder / "endpoints" / TOKEN / "0.json",
                Endpoint("cache", 0, "127.0.0.1", port, f"http://127.0.0.1:{port}", TOKEN),
            )
        if secret:
            (folder / "endpoints" / TOKEN / "secret").write_text(secret)
        return runs

    return write


@pytest.fixture
def state(monkeypatch):
    """What the scheduler says of the service's job; may be changed."""
    states = {"state": JobState.RUNNING}

    async def poll(_self):
        return {TOKEN: JobStatus(TOKEN, "1", states["state"], "killed by its walltime")}

    monkeypatch.setattr("aifactory_bench.submitters.local.LocalSubmitter.poll", poll)
    monkeypatch.setattr("aifactory_bench.tunnel.LOOK_S", 0.05)
    return states


async def ask(port, data):
    """Send, end, and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def over(monkeypatch, transport):
    """Let tunnels go over a transport."""
    monkeypatch.setattr("aifactory_bench.tunnel.Submitters.transport_of", lambda _self, _site: transport)


@contextlib.asynccontextmanager
async def transports(kind, tmp_path, monkeypatch):
    """Give one kind of connection for tunnels."""
    if kind == "local":
        over(monkeypatch, LocalTransport())
        yield
        return
    async with SshServer() as server:
        server.admit(tmp_path / "home")
        transport = SshTransport(Login("login"))
        over(monkeypatch, transport)
        yield
        await transport.close()


@pytest.mark.parametrize("kind", ["local", "ssh"])
def test_many_connections_each_whole_and_half_closed(kind, run_folder, state, tmp_path, monkeypatch):
    async def go():
        async with (
            Echo() as echo,
            transports(kind, tmp_path, monkeypatch),
            tunnel("r", "cache", runs_dir=run_folder(echo.port)) as port,
        ):
            data = [os.urandom(200_000 + number) for number in range(8)]
            answers = await asyncio.gather(*(ask(port, piece) for piece in data))
            assert answers == [piece[::-1] for piece in data]
        return port

    port = asyncio.run(go())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_nothing_is_left(run_folder, state, tmp_path, monkeypatch):
    """Connections that hang are ended with the tunnel."""

    async def go():
        before = len(asyncio.all_tasks())
        async with Echo() as echo, transports("ssh", tmp_path, monkeypatch):
            one = Tunnel("r", "cache", runs_dir=run_folder(echo.port))
            await one.open()
            clients = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(3)]
            while echo.open < 3:
                await asyncio.sleep(0.01)
            assert one.connections == 3
            await one.close()
            assert one.connections == 0
            for reader, writer in clients:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            while echo.open:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) == before

    asyncio.run(asyncio.wait_for(go(), 30))


def test_url_and_place_of_the_password(run_folder, state):
    async def go():
        async with Echo() as echo:
            runs = run_folder(echo.port, secret="swordfish")
            one = Tunnel("r", "cache", runs_dir=runs)
            await one.open()
            try:
                assert one.url == f"http://127.0.0.1:{one.port}"
                assert await one.password() == (f"{runs}/r/endpoints/{TOKEN}/secret", "")
                assert (await one.password(show=True))[1] == "swordfish"
            finally:
                await one.close()

    asyncio.run(go())


def test_the_end_of_the_service_is_told(run_folder, state):
    async def go():
        async with Echo() as echo:
            one = Tunnel("r", "cache", runs_dir=run_folder(echo.port))
            await one.open()
            try:
                state["state"] = JobState.TIMEOUT
                return await asyncio.wait_for(one.wait(), 10)
            finally:
                await one.close()

    assert asyncio.run(go()) == "the service has ended: timeout, killed by its walltime"


def test_a_site_that_forbids_it(run_folder, state, tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")

    monkeypatch.setattr(ServerLogin, "connection_requested", refuse)

    async def go():
        async with Echo() as echo, transports("ssh", tmp_path, monkeypatch):
            await Tunnel("r", "cache", runs_dir=run_folder(echo.port)).open()

    with pytest.raises(SiteError, match="forwards nothing") as caught:
        asyncio.run(go())
    assert "AllowTcpForwarding" in caught.value.hint


@pytest.mark.parametrize("kind", ["local", "ssh"])
def test_a_service_that_nobody_answers_for(kind, run_folder, state, tmp_path, monkeypatch):
    async def go():
        async with transports(kind, tmp_path, monkeypatch):
            await Tunnel("r", "cache", runs_dir=run_folder(1)).open()

    with pytest.raises(SiteError, match="cannot be reached"):
        asyncio.run(go())


def test_a_port_that_is_taken(run_folder, state):
    async def go():
        async with Echo() as echo:
            await Tunnel("r", "cache", runs_dir=run_folder(echo.port), port=echo.port).open()

    with pytest.raises(UsageError, match="cannot be used"):
        asyncio.run(go())


@pytest.mark.parametrize(
    ("service", "replica", "final", "error", "text"),
    [
        ("nosuch", 0, False, RunError, "has no service 'nosuch' of its own; it has: cache"),
        ("cache", 3, False, UsageError, "replicas 0 to 0; got 3"),
        ("cache", 0, True, RunError, "the service has ended: failed"),
    ],
)
def test_no_such_service(run_folder, state, service, replica, final, error, text):
    state["state"] = JobState.FAILED if final else JobState.RUNNING
    one = Tunnel("r", service, runs_dir=run_folder(1), replica=replica)
    with pytest.raises(error, match=text):
        asyncio.run(one.open())


def test_a_service_that_does_not_answer_yet(run_folder, state, monkeypatch):
    monkeypatch.setattr("aifactory_bench.tunnel._ANSWER_S", 0.0)
    with pytest.raises(RunError, match="does not answer yet: running"):
        asyncio.run(Tunnel("r", "cache", runs_dir=run_folder(0)).open())


def test_a_port_that_is_none():
    with pytest.raises(UsageError, match="port must be a number"):
        Tunnel("r", "cache", port=70000)
