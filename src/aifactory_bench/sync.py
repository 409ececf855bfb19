"""The same verbs, blocking: for scripts, and for notebooks, where an event loop is already running.

One private loop in a thread of its own; no logic.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from .async_run import AsyncRun
from .clients import ClientInfo, ClientsModule
from .errors import UsageError
from .events import Listener
from .orchestrator import AS_IN_RECIPE, AsyncBenchmarkOrchestrator
from .plan import Plan
from .recipe.model import Recipe
from .report.text import Report
from .runs.logs import LogText
from .runs.status import RunStatus
from .servers import ServersModule, ServiceInfo

T = TypeVar("T")


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aifactory-bench", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns.

        Raises:
            UsageError: the loop is closed.
        """
        if self._loop.is_closed():
            coroutine.close()
            raise UsageError("this orchestrator is closed", "make another one")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def closed(self) -> bool:
        """Whether nothing can be called any more."""
        return self._loop.is_closed()

    def close(self) -> None:
        """Stop the thread and close the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Run:
    """A run, see `AsyncRun`."""

    def __init__(self, loop: _Loop, run: AsyncRun) -> None:
        self._loop = loop
        self._run = run

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self._run.run_id

    @property
    def folder(self) -> Path:
        """The controller's run folder."""
        return self._run.folder

    @property
    def done(self) -> bool:
        """Whether the controller has nothing left to do for the run."""
        return self._run.done

    def wait(self) -> Report:
        """Wait for the run's end and return its summary; an interrupt of the wait stops the run's jobs."""
        if self._run.done:  # told after the orchestrator was closed, too
            return self._run.summary()
        try:
            return self._loop.call(self._run.wait())
        except KeyboardInterrupt:
            self.cancel()
            raise

    def cancel(self) -> Report:
        """Stop all jobs, keep what was measured, and return the summary."""
        return self._run.summary() if self._run.done else self._loop.call(self._run.cancel())

    def request_stop(self) -> None:
        """Begin to stop all jobs; `wait` returns when they have ended."""
        if not self._run.done:
            self._loop.call(_do(self._run.request_stop))

    def detach(self) -> None:
        """Leave the jobs to themselves: they finish without a controller, or end by their lease."""
        if not self._run.done:
            self._loop.call(_do(self._run.detach))

    def summary(self) -> Report:
        """Return the summary of what has been measured so far."""
        return self._run.summary()


class Servers:
    """Services that run until they are stopped, see `ServersModule`."""

    def __init__(self, loop: _Loop, servers: ServersModule) -> None:
        self._loop = loop
        self._servers = servers

    def start_service(
        self, recipe: Union[str, Path, Recipe], *, overrides: Sequence[str] = (), listener: Optional[Listener] = None
    ) -> ServiceInfo:
        """Start the service of a recipe, without its clients, and return it when it answers."""
        return self._loop.call(self._servers.start_service(recipe, overrides=overrides, listener=listener))

    def stop_service(self, service_id: str) -> bool:
        """Stop a service and return when it has ended; False when there is no such service, or it has ended before."""
        return self._loop.call(self._servers.stop_service(service_id))

    def list_services(self) -> "list[ServiceInfo]":
        """Return the services that were started here and not stopped."""
        return self._servers.list_services()

    def get_service_host(self, service_id: str) -> str:
        """Return the host that a service answers on."""
        return self._servers.get_service_host(service_id)


class Clients:
    """Clients of services that run, see `ClientsModule`."""

    def __init__(self, loop: _Loop, clients: ClientsModule) -> None:
        self._loop = loop
        self._clients = clients

    def start_client(self, recipe: Union[str, Path, Recipe], target: str, *, overrides: Sequence[str] = ()) -> ClientInfo:
        """Start the client of a recipe against a service that runs, and return it at once."""
        return self._loop.call(self._clients.start_client(recipe, target, overrides=overrides))

    def list_clients(self) -> "list[ClientInfo]":
        """Return the clients that were started here, those that have ended included."""
        return self._clients.list_clients()

    def wait(self, client_id: str) -> Report:
        """Wait for a client's end and return the report of its measurements."""
        return self._loop.call(self._clients.wait(client_id))


class BenchmarkOrchestrator:
    """Runs recipes on a site, see `AsyncBenchmarkOrchestrator`; leaving the `with` block stops unfinished runs."""

    def __init__(
        self,
        site: str = "local",
        *,
        runs_dir: "Union[str, Path, None]" = None,
        plugins: "Sequence[Union[str, Path, type]]" = (),
        answer: "Optional[Callable[[str, bool], str]]" = None,
    ) -> None:
        self._async = AsyncBenchmarkOrchestrator(site, runs_dir=runs_dir, plugins=plugins, answer=answer)
        self._loop = _Loop()
        self.servers = Servers(self._loop, self._async.servers)
        self.clients = Clients(self._loop, self._async.clients)

    @property
    def registry(self) -> Any:
        """The kinds of jobs that are known."""
        return self._async.registry

    @property
    def site(self) -> Any:
        """The site's profile."""
        return self._async.site

    @property
    def store(self) -> Any:
        """The run folders."""
        return self._async.store

    @property
    def runs_dir(self) -> Path:
        """The folder of run folders."""
        return self._async.runs_dir

    def load_recipe(self, path: Union[str, Path], overrides: Sequence[str] = ()) -> Recipe:
        """Read and check a recipe."""
        return self._async.load_recipe(path, overrides)

    def resolve_images(self, recipe: Recipe) -> Any:
        """Look up in the site's cache which images a recipe needs; plans made afterwards use them."""
        return self._loop.call(self._async.resolve_images(recipe))

    def plan(self, recipe: Recipe, *, run_id: str = "preview", lease_s: Any = AS_IN_RECIPE) -> Plan:
        """Return what would be submitted, final, without submitting anything."""
        if isinstance(recipe, Recipe):
            self.resolve_images(recipe)
        return self._async.plan(recipe, run_id=run_id, lease_s=lease_s)

    def run(
        self,
        recipe: Union[str, Path, Recipe],
        *,
        overrides: Sequence[str] = (),
        run_id: Optional[str] = None,
        lease_s: Any = AS_IN_RECIPE,
        listener: Optional[Listener] = None,
        max_node_hours: Optional[float] = None,
    ) -> Run:
        """Begin a run and return it; the listener is called on a thread of its own."""
        coroutine = self._async.run(
            recipe, overrides=overrides, run_id=run_id, lease_s=lease_s, listener=listener, max_node_hours=max_node_hours
        )
        return Run(self._loop, self._loop.call(coroutine))

    def attach(self, run_id: str, *, take_over: bool = False, listener: Optional[Listener] = None) -> Run:
        """Take a run up where it is."""
        return Run(self._loop, self._loop.call(self._async.attach(run_id, take_over=take_over, listener=listener)))

    def status(self, run_id: str) -> RunStatus:
        """Return how a run stands."""
        return self._loop.call(self._async.status(run_id))

    def list_runs(self) -> "list[RunStatus]":
        """Return how every run in the folder stands, oldest first."""
        return self._loop.call(self._async.list_runs())

    def cancel(self, run_id: str) -> Report:
        """Stop a run's jobs, whoever drives it, keep what was measured, and return the summary."""
        return self._loop.call(self._async.cancel(run_id))

    def summary(self, run_id: str) -> Report:
        """Return the summary of a run."""
        return self._async.summary(run_id)

    def logs(self, run_id: str, job: Optional[str] = None) -> "list[LogText]":
        """Return the logs of a run's jobs; job: only of the one with this name."""
        return self._async.logs(run_id, job)

    def start_service(self, recipe: Union[str, Path, Recipe]) -> str:
        """Start the service of a recipe and return its id when it answers."""
        return self._loop.call(self._async.start_service(recipe))

    def start_client(self, recipe: Union[str, Path, Recipe], target: str) -> str:
        """Start the client of a recipe against a service that runs, and return its id."""
        return self._loop.call(self._async.start_client(recipe, target))

    def stop_service(self, service_id: str) -> bool:
        """Stop a service; False when there is none of that id."""
        return self._loop.call(self._async.stop_service(service_id))

    def show_status(self) -> "dict[str, Any]":
        """Return what runs: `services`, `clients` (started here) and `runs` (of the folder), as plain values."""
        return self._loop.call(self._async.show_status())

    def close(self) -> None:
        """Stop every run that is not finished, and the loop; closing again does nothing."""
        if not self._loop.closed:
            self._loop.call(self._async.close())
            self._loop.close()

    def __enter__(self) -> "BenchmarkOrchestrator":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


async def _do(function: Any) -> None:
    function()
