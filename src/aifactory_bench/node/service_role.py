"""A service: prepared, started on a port of its own, asked until it answers, published, watched until its clients end."""

import os
import signal
import socket
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

from .addresses import interfaces, reachable_host
from .after import Ends
from .child import Child, OrphanReaper, sweep
from .credentials import service_secret
from .ending import Ending
from .endpoint import Endpoint, publish
from .execution import Execution
from .exit_record import clean, last_line, log_tail
from .ports import PortError, PortTaken, Reservation, foreign, says_in_use
from .procfs import descendants
from .program import find
from .readiness import ReadyFacts, ReadyTimeout, wait_until_ready
from .spec import ServiceSpec
from .values import rank_values, resolve_all, resolve_environment, service_values, write_files
from .watch import appeared

PORT_ATTEMPTS = 5
_FOREIGN_CHECK_S = 1.0
_OUTLAST_S = 5.0
"""How much longer than its clients a service may live when all are told to stop; the engine sends TERM after 8 s."""
_GRACE_S = 0.3
"""Between a child's end and the judgement: whoever stops a job may have sent the signal to the child too."""


class ServiceRole:
    """One rank of a service."""

    def __init__(self, execution: Execution, service: ServiceSpec, argv: List[str]) -> None:
        self._execution = execution
        self._service = service
        self._argv = argv
        self._clients = Ends(execution.run, service.clients)
        self._secret = ""

    def run(self) -> None:
        """Serve until there is a reason to end.

        Raises:
            Ending: always; how it ended.
        """
        execution = self._execution
        if not self._argv:
            raise Ending("failed", "there is no command after '--': a service needs one")
        if self._clients_ended():
            raise Ending("completed", "every client had ended before the service was started")
        execution.events.phase("start")
        if self._service.once:
            self._run_once()
        # Of an execution before a restart by the scheduler: its port may be anybody's by now.
        execution.run.endpoint(execution.spec.token, execution.rank).unlink(missing_ok=True)
        self._secret = service_secret(execution.run.secret(execution.spec.token))
        execution.hidden.append(self._secret)
        self._publish(*self._start())
        execution.monitors.start_fingerprint()
        self._serve()

    def _run_once(self) -> NoReturn:
        execution = self._execution
        values = rank_values(execution.spec, execution.rank, execution.paths)
        argv = resolve_all(self._argv, values)
        child = self._launch(argv, execution.environment(resolve_environment(execution.spec.environment, values)))
        execution.events.append("started", pid=child.pid, argv0=argv[0])
        execution.events.phase("prepare")
        while not child.ended():
            execution.watch.pause()
        self._let_stop_signals_arrive()
        last = last_line(log_tail(execution.paths.log, [], child.log_start_bytes))
        if child.exit_code == 0:
            raise Ending("completed", last or "everything is in its place")
        raise Ending("failed", last or child.how_it_ended())

    def _start(self) -> Tuple[Endpoint, ReadyFacts]:
        attempts = PORT_ATTEMPTS if self._service.port is None else 1
        taken = ""
        for attempt in range(attempts):
            try:
                # A server without SO_REUSEADDR trips over the port being held: it gets its second chance.
                reservation = Reservation(self._service.bind, self._service.port, hold=attempt == 0)
            except PortError as error:
                raise Ending("failed", str(error)) from None
            try:
                return self._try_port(reservation.port, first=attempt == 0)
            except PortTaken as error:
                taken = str(error)
                self._execution.events.append("port_taken", port=reservation.port, text=taken)
            finally:
                reservation.release()
            self._discard_child()
        if self._service.port is not None:
            raise Ending("failed", f"port {self._service.port} is taken: {taken}; choose another port, or none for a free one")
        raise Ending("failed", f"the service could not listen on any of {attempts} free ports: {taken}")

    def _try_port(self, port: int, *, first: bool) -> Tuple[Endpoint, ReadyFacts]:
        execution, paths = self._execution, self._execution.paths
        values = {**rank_values(execution.spec, execution.rank, paths), **service_values(self._service, port, self._secret)}
        environment = execution.environment(resolve_environment(execution.spec.environment, values))
        write_files(execution.spec.files, paths.work, values)
        if first:
            for command in self._service.prepare:
                self._prepare(resolve_all(command, values), environment)
        argv = resolve_all(self._argv, values)
        child = self._launch(argv, environment)
        execution.events.append("started", pid=child.pid, argv0=argv[0])
        execution.monitors.start_sampler(lambda: [execution.child.pid] if execution.child else [])
        execution.events.phase("ready")
        endpoint = self._endpoint(port)
        until = time.monotonic() + self._service.ready_timeout_s
        if not self._service.model_pull:
            return endpoint, self._await(child, endpoint, "probe", until)
        self._await(child, endpoint, "alive", until)
        execution.events.phase("pull")
        began = time.monotonic()
        for command in self._service.model_pull:
            self._pull(child, endpoint, self._spawn(resolve_all(command, values), environment), until)
        pull_s = round(time.monotonic() - began, 6)
        execution.events.phase("ready")
        ready = self._await(child, endpoint, "probe", until)
        ready.facts["model_pull_s"] = pull_s
        return endpoint, ready

    def _launch(self, argv: List[str], environment: Dict[str, str]) -> Child:
        child = self._execution.child = self._spawn(argv, environment)
        return child

    def _spawn(self, argv: List[str], environment: Dict[str, str]) -> Child:
        execution = self._execution
        path = find(argv[0], environment, execution.node_module)
        try:
            return Child(
                [path, *argv[1:]], environment, execution.paths.work, execution.paths.log, execution.guard, _called(argv)
            )
        except (OSError, ValueError) as error:
            raise Ending("failed", f"{path} could not be started: {error}") from None

    def _prepare(self, argv: List[str], environment: Dict[str, str]) -> None:
        child = self._launch(argv, environment)
        while not child.ended():
            self._execution.watch.pause()
        self._execution.child = None
        if child.exit_code != 0:
            last = last_line(log_tail(self._execution.paths.log, [self._secret], child.log_start_bytes))
            place = f"preparing the service on {socket.gethostname()} failed"
            raise Ending("failed", f"{place}: {child.how_it_ended()}" + (f"; its last line: {last}" if last else ""))

    def _pull(self, child: Child, endpoint: Endpoint, puller: Child, until: float) -> None:
        """Wait for a program that brings the model into place; whatever ends this ends that too, with all that is left."""
        while not puller.ended():
            self._execution.watch.pause()
            if child.ended():
                self._judge_early_end(child, endpoint.port)
            if time.monotonic() > until:
                text = f"{puller.name} did not bring the model into place within {self._service.ready_timeout_s:g} s"
                raise Ending("not_ready", f"{text}; see the log, or give it more time under `ready: timeout`")
        if puller.exit_code != 0:
            last = last_line(log_tail(self._execution.paths.log, [self._secret], puller.log_start_bytes))
            raise Ending("failed", f"bringing the model into place failed: {puller.how_it_ended()}; its last line: {last}")

    def _await(self, child: Child, endpoint: Endpoint, question: str, until: float) -> ReadyFacts:
        """Ask until the node module's function of that name returns.

        Raises:
            PortTaken, Ending: it never will, or not in time.
        """
        ask = self._function(question)  # imported only now: the service starts meanwhile
        next_look_s = _FOREIGN_CHECK_S

        def check(waited_s: float) -> None:
            nonlocal next_look_s
            if child.ended():
                self._judge_early_end(child, endpoint.port)
            if waited_s >= next_look_s:
                next_look_s = waited_s + _FOREIGN_CHECK_S
                self._check_owner(endpoint.port)

        def probe() -> Dict[str, Any]:
            facts: Dict[str, Any] = ask(endpoint, self._secret, dict(self._service.parameters))
            return facts

        try:
            ready = wait_until_ready(probe, self._execution.watch, max(0.0, until - time.monotonic()), check)
        except ReadyTimeout as error:
            said = clean(str(error), [self._secret])[:500]
            text = f"{child.name} did not answer within {self._service.ready_timeout_s:g} s; at last: {said}"
            raise Ending("not_ready", f"{text}; see its log, or give it more time under `ready: timeout`") from None
        if child.ended():
            self._judge_early_end(child, endpoint.port)
        self._check_owner(endpoint.port)
        return ready

    def _function(self, name: str) -> Callable[..., Dict[str, Any]]:
        spec = self._execution.spec
        function: Optional[Callable[..., Dict[str, Any]]] = getattr(self._execution.node_module(), name, None)
        if function is None:
            raise Ending("failed", f"the node module {spec.node_module!r} of kind {spec.kind!r} has no function `{name}`")
        return function

    def _judge_early_end(self, child: Child, port: int) -> None:
        """Say what a child's end before it was ready means; always raises."""
        self._let_stop_signals_arrive()
        tail = log_tail(self._execution.paths.log, [self._secret], child.log_start_bytes)
        if says_in_use(tail) or foreign(port, descendants([os.getpid()])):
            raise PortTaken(f"{child.how_it_ended()}, the address was in use")
        last = last_line(tail)
        raise Ending(
            "failed",
            f"{child.how_it_ended()}, before it was ready" + (f"; its last line: {last}" if last else "; it printed nothing"),
        )

    def _check_owner(self, port: int) -> None:
        if foreign(port, descendants([os.getpid()])):
            raise PortTaken("another program listens on it")

    def _discard_child(self) -> None:
        execution = self._execution
        if execution.child is not None:
            execution.child.stop(signal.SIGKILL, 1.0, execution.watch.idle)
            execution.tell_child_exited()
            execution.child = None
            sweep(execution.spare(), execution.watch.idle)

    def _endpoint(self, port: int) -> Endpoint:
        spec = self._execution.spec
        host = reachable_host(self._service.bind, self._execution.spec.fabric)
        return Endpoint(
            service=spec.job,
            replica=self._execution.rank,
            host=host,
            port=port,
            url=f"{self._service.scheme}://{f'[{host}]' if ':' in host else host}:{port}",
            token=spec.token,
            job_id=self._execution.job_id,
            restart=self._execution.restart,
            nonce=os.urandom(8).hex(),
        )

    def _publish(self, endpoint: Endpoint, ready: ReadyFacts) -> None:
        execution = self._execution
        execution.events.append("ready", attempts=ready.attempts, waited_s=round(ready.waited_s, 6), facts=ready.facts)
        known = replace(endpoint, interfaces=interfaces(), facts=ready.facts, published_wall_ns=time.time_ns())
        publish(execution.run.endpoint(execution.spec.token, execution.rank), known)
        execution.events.append("published", host=known.host, port=known.port)
        sample = getattr(execution.node_module(), "sample", None)
        if sample is not None:
            execution.monitors.start_service(lambda: sample(known, self._secret))
        execution.events.phase("measure")

    def _serve(self) -> None:
        execution = self._execution
        child = execution.child
        if child is None:
            raise Ending("failed", "the service is not running")
        orphans = OrphanReaper()
        while True:
            try:
                execution.watch.pause()
            except Ending:
                self._outlast_clients(child)
                raise
            if child.ended():
                self._let_stop_signals_arrive()
                if self._clients_ended():
                    raise Ending("completed", "every client has ended")
                raise Ending("failed", f"{child.how_it_ended()}, while it was serving")
            if self._clients_ended():
                raise Ending("completed", "every client has ended")
            orphans.reap({child.pid, execution.guard.pid})

    def _outlast_clients(self, child: Child) -> None:
        """Serve on while clients that are told to stop as well write down what they measured.

        Else they would see a service that dies, and say so. Only `stop/all` tells both.
        """
        run, watch = self._execution.run, self._execution.watch
        began = {
            token: ranks
            for token, ranks in self._service.clients.items()
            if any(run.job(token).rank(rank).events.exists() for rank in range(ranks))
        }
        ends, until = Ends(run, began), time.monotonic() + _OUTLAST_S
        while appeared(run.stop_file("all")) and time.monotonic() < until and not ends.all_there():
            if child.ended() or watch.wakeup.stop_signal is not None:
                return
            watch.idle(_OUTLAST_S)

    def _clients_ended(self) -> bool:
        return bool(self._service.clients) and self._clients.all_there()

    def _let_stop_signals_arrive(self) -> None:
        end = time.monotonic() + _GRACE_S
        while time.monotonic() < end:
            self._execution.watch.pause(end - time.monotonic())


def _called(argv: List[str]) -> str:
    """Return what people call a program: behind `env NAME=value ...` the program itself."""
    words = iter(argv)
    name = next(words)
    if os.path.basename(name) == "env":
        name = next((word for word in words if "=" not in word), name)
    return os.path.basename(name)
