"""A port of this machine that leads to a service of a run, through the connection to its site."""

import asyncio
import contextlib
import errno
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Optional, Union

from .calls import is_path, refuse
from .errors import RunError, SiteError, TransportError, UsageError
from .existing import ExistingRun, ExistingRuns
from .node.endpoint import Endpoint, read
from .plan import PlannedJob
from .runs.store import RunStore, default_runs_folder
from .sites.load import load_site
from .submitters.base import JobStatus
from .submitters.open import Submitters
from .transports.base import Transport
from .transports.open import open_transport
from .transports.stream import ForbiddenError, Stream, UnreachableError

LOCAL = "127.0.0.1"
PIECE_BYTES = 1 << 16
LOOK_S = 5.0
"""How often it is asked whether the service still runs."""
_ANSWER_S = 15.0
"""How long a published address is waited for."""
_KEPT = '[ -f "$1" ] || exit 3\n[ "$2" != show ] || cat "$1"\n'
_HIGHEST_PORT = 65535


class Tunnel:
    """A tunnel to one service; `open`, then `wait` for its end, then `close`.

    Args:
        run_id: Of the run.
        service: Name of the service in the recipe.
        site: Where to look for the run; one that is in the folder of runs knows its site.
        runs_dir: Folder of run folders; default `$AIFACTORY_BENCH_RUNS`, or `runs` in the working folder.
        port: Of this machine; 0: any that is free.
        replica: Of the service, from 0.
        answer: Asks a person for a password or a second factor; None: nobody is asked.
        say: Is told what goes wrong meanwhile.
    """

    def __init__(
        self,
        run_id: str,
        service: str,
        *,
        site: str = "local",
        runs_dir: "Union[str, Path, None]" = None,
        port: int = 0,
        replica: int = 0,
        answer: Optional[Callable[[str, bool], str]] = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        if runs_dir is not None and not is_path(runs_dir):
            raise refuse("runs_dir", "the path of a folder", runs_dir)
        if not isinstance(port, int) or not 0 <= port <= _HIGHEST_PORT:
            raise refuse("port", f"a number from 0 to {_HIGHEST_PORT}", port)
        store = RunStore(Path(runs_dir) if runs_dir is not None else default_runs_folder())
        here = load_site(site, runs=store.folder)
        self._submitters = Submitters(lambda login, name: open_transport(login, answer=answer, site=name))
        self._existing = ExistingRuns(store, here, self._submitters)
        self._run_id = run_id
        self._service = service
        self._replica = replica
        self._wanted_port = port
        self._say = say
        self._found: Optional[ExistingRun] = None
        self._server: Optional[asyncio.Server] = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._watching: Optional[asyncio.Task[str]] = None
        self.port = 0
        self.url = ""
        """Of the service as it is reached here."""
        self.place = ""
        """Where the service is, for people."""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._carrying)

    async def open(self) -> None:
        """Find the service, see that it can be reached, and listen.

        Raises:
            RunError: no such run or service, or one that has ended or does not answer yet.
            UsageError: the port is taken.
            SiteError: the site forwards nothing, or does not reach the service.
            TransportError: the site could not be spoken to.
        """
        try:
            self._found = await self._existing.open(self._run_id)
            self._job, self._endpoint = await self._service_of(self._found)
            self._transport = self._submitters.transport_of(self._existing.site_of(self._found.plan))
            self.place = f"{self._endpoint.host}:{self._endpoint.port} through {self._transport.label}"
            await self._check(self._transport)
            await self._listen()
        except BaseException:
            await self.close()
            raise
        self._watching = asyncio.create_task(self._watch(self._found))

    async def _check(self, transport: Transport) -> None:
        try:
            await transport.check(self._endpoint.host, self._endpoint.port)
        except ForbiddenError as error:
            raise SiteError(
                f"{self._service}: {error.text}",
                "ask the site for AllowTcpForwarding, or measure by a client of the recipe, which runs on its nodes",
            ) from None
        except UnreachableError as error:
            raise SiteError(
                f"{self._service}: {error.text}",
                "see with `status` that the service still runs; a site may keep login nodes from compute nodes",
            ) from None

    async def _listen(self) -> None:
        try:
            self._server = await asyncio.start_server(self._accept, LOCAL, self._wanted_port)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                raise UsageError(
                    f"port {self._wanted_port} of this machine cannot be used: {error.strerror}",
                    "choose another one with --port, or leave it out",
                ) from None
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = re.sub(r"//(\[[^\]]*\]|[^/:]*):\d+", f"//{LOCAL}:{self.port}", self._endpoint.url, count=1)

    async def password(self, *, show: bool = False) -> "tuple[str, str]":
        """Return where the service's password is kept on the site, and with `show` the password; both empty: it has none.

        Raises:
            TransportError: the site could not be asked.
        """
        assert self._found is not None
        path = f"{self._found.plan.run_folder}/endpoints/{self._job.token}/secret"
        done = await self._transport.run(_KEPT, path, "show" if show else "")
        return (path, done.stdout.decode("ascii", "replace").strip()) if done.exit_code == 0 else ("", "")

    async def wait(self) -> str:
        """Return why the tunnel is of no use any more: how the service ended."""
        assert self._watching is not None
        return await asyncio.shield(self._watching)

    async def close(self) -> None:
        """Stop listening, end all connections and that to the site."""
        if self._server is not None:
            self._server.close()
        if self._watching is not None:
            self._watching.cancel()
        tasks = [*self._carrying, *([self._watching] if self._watching is not None else [])]
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._found is not None:
            await self._found.submitter.close()
        await self._submitters.close()

    async def _service_of(self, found: ExistingRun) -> "tuple[PlannedJob, Endpoint]":
        jobs = [job for job in found.plan.jobs if job.role == "service"]
        named = [job for job in jobs if re.fullmatch(rf"{re.escape(self._service)}(-s\d+)?", job.name)]
        if not named:
            known = ", ".join(dict.fromkeys(job.name for job in jobs)) or "none"
            raise RunError(f"run {self._run_id} has no service {self._service!r} of its own; it has: {known}")
        loop = asyncio.get_running_loop()
        until = loop.time() + _ANSWER_S
        while True:
            statuses = await found.submitter.poll()
            job = _newest(named, statuses)
            if job is None:
                raise RunError(f"{self._service}: {_ended(named, statuses)}", "start the recipe again")
            if not 0 <= self._replica < job.ranks:
                raise UsageError(f"{job.name} has the replicas 0 to {job.ranks - 1}; got {self._replica}")
            endpoint = read(found.paths.endpoint(job.token, self._replica))
            if endpoint is not None:
                return job, endpoint
            if loop.time() > until:
                state = statuses[job.token].state.value if job.token in statuses else "not submitted yet"
                raise RunError(f"{job.name} does not answer yet: {state}", "try again when `status` shows it running")
            await asyncio.sleep(1.0)

    async def _watch(self, found: ExistingRun) -> str:
        """Return how the service ended."""
        away = False
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                statuses = await found.submitter.poll()
            except TransportError as error:
                if not away:
                    self._say(f"{error.text}; trying again")
                away = True
                continue
            away = False
            status = statuses.get(self._job.token)
            if status is not None and status.state.final:
                return _ended([self._job], statuses)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        stream: Optional[Stream] = None
        try:
            stream = await self._transport.connect(self._endpoint.host, self._endpoint.port)
            await _carry(reader, writer, stream)
        except SiteError as error:
            self._say(f"{self._service}: {error.text}")
        except (OSError, asyncio.CancelledError):
            pass  # one end is gone, or the tunnel is closed; asyncio's own callback takes a cancelled handler for a fault
        finally:
            writer.transport.abort() if stream is None else writer.close()
            if stream is not None:
                await stream.close()
            self._carrying.discard(task)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream) -> None:
    """Carry both ways until both have ended; each may end before the other."""

    async def out() -> None:
        while data := await reader.read(PIECE_BYTES):
            await stream.write(data)
        await stream.end()

    async def back() -> None:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    ways = [asyncio.create_task(out()), asyncio.create_task(back())]
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


def _newest(jobs: "list[PlannedJob]", statuses: Mapping[str, JobStatus]) -> Optional[PlannedJob]:
    """Return the job of a service that has not ended, the last one planned; None: all have."""
    live = [job for job in jobs if job.token not in statuses or not statuses[job.token].state.final]
    running = [job for job in live if job.token in statuses]
    return (running or live)[-1] if live else None


def _ended(jobs: "list[PlannedJob]", statuses: Mapping[str, JobStatus]) -> str:
    status = statuses.get(jobs[-1].token)
    if status is None:
        return "the service has ended"
    return f"the service has ended: {status.state.value}{f', {status.text}' if status.text else ''}"


@contextlib.asynccontextmanager
async def tunnel(
    run_id: str,
    service: str,
    *,
    site: str = "local",
    runs_dir: "Union[str, Path, None]" = None,
    port: int = 0,
    replica: int = 0,
    answer: Optional[Callable[[str, bool], str]] = None,
) -> AsyncIterator[int]:
    """Give the number of a port of this machine that leads to a service, as long as the context lasts; see `Tunnel`."""
    one = Tunnel(run_id, service, site=site, runs_dir=runs_dir, port=port, replica=replica, answer=answer)
    await one.open()
    try:
        yield one.port
    finally:
        await one.close()
