"""A client: waits for its services' endpoints, then lets `measure` begin and watches both."""

import importlib
import json
import subprocess
import time
from types import ModuleType
from typing import Any, Dict, Optional, Set, Tuple

from .child import Child, OrphanReaper
from .ending import Ending
from .endpoint import Endpoint
from .endpoint import read as read_endpoint
from .execution import Execution
from .exit_record import clean, last_line, log_tail, read_exit
from .external import external_endpoint
from .placeholders import names
from .program import node_command
from .readiness import ReadyTimeout, wait_until_ready
from .spec import ClientSpec, TargetSpec
from .targets import Targets, secret_of
from .values import client_values, rank_values, resolve_environment, write_files
from .watch import appeared

TARGET_GRACE_S = 10.0
"""From a target's end to the moment at which a client that has not noticed is stopped."""
_TARGET_LOOK_S = 1.0
_EXIT_GRACE_S = 0.3


class ClientRole:
    """One rank of a client."""

    def __init__(self, execution: Execution, client: ClientSpec) -> None:
        self._execution = execution
        self._client = client

    def all_measured(self) -> bool:
        """Return whether every measurement of this rank exists already."""
        return all(self._execution.paths.measurement(point.id).is_file() for point in self._client.points)

    def run(self) -> None:
        """Measure every point.

        Raises:
            Ending: always; how it ended.
        """
        execution = self._execution
        execution.events.phase("start")
        child = self._start()
        execution.monitors.start_fingerprint()
        module = execution.node_module()
        execution.events.phase("ready")
        started = time.monotonic()
        targets = self._client.targets
        endpoints = self._await_endpoints({role: target for role, target in targets.items() if target.url is None}, started)
        for role, target in targets.items():
            if target.url is not None:
                endpoints[role] = (self._ask_external(target, module, started),)
        execution.events.append(
            "endpoints", **{role: [endpoint.url for endpoint in found] for role, found in endpoints.items()}
        )
        self._begin(child, endpoints)
        self._watch(child)

    def _await_endpoints(self, targets: Dict[str, TargetSpec], started: float) -> Dict[str, Tuple[Endpoint, ...]]:
        """Return the endpoints of our own services, once all of them are there."""
        execution = self._execution
        found: Dict[Tuple[str, int], Endpoint] = {}
        wanted = [(role, target, replica) for role, target in targets.items() for replica in range(target.replicas)]
        while True:
            for role, target, replica in wanted:
                self._check_target(target, replica)
                if (role, replica) not in found:
                    endpoint = self._read_endpoint(target, replica)
                    if endpoint is not None:
                        found[role, replica] = endpoint
            if len(found) == len(wanted):
                return {
                    role: tuple(found[role, replica] for replica in range(target.replicas)) for role, target in targets.items()
                }
            if time.monotonic() - started > self._client.wait_timeout_s:
                missing = [
                    f"{target.service} (rank {replica})" for role, target, replica in wanted if (role, replica) not in found
                ]
                text = f"no endpoint of {', '.join(missing)} within {self._client.wait_timeout_s:g} s"
                raise Ending("no_endpoint", f"{text}; was the service's job started, and what does its log say?")
            execution.watch.pause()

    def _read_endpoint(self, target: TargetSpec, replica: int) -> Optional[Endpoint]:
        path = self._execution.run.endpoint(target.token, replica)
        if not appeared(path):
            return None
        try:
            return read_endpoint(path)
        except ValueError as error:
            raise Ending("no_endpoint", str(error)) from None

    def _check_target(self, target: TargetSpec, replica: int) -> None:
        text = self._end_of(target, replica)
        if text is not None:
            raise Ending("no_endpoint", text)

    def _end_of(self, target: TargetSpec, replica: int) -> Optional[str]:
        """Return how a target ended, or None while it has not."""
        paths = self._execution.run.job(target.token).rank(replica)
        if not appeared(paths.exit):
            return None
        record = read_exit(paths) or {}
        why = clean(f"{record.get('outcome')}: {record.get('text')}", self._execution.hidden)[:1000]
        return f"the service {target.service} (rank {replica}) has ended: {why}"

    def _ask_external(self, target: TargetSpec, module: Optional[ModuleType], started: float) -> Endpoint:
        execution = self._execution
        try:
            endpoint = external_endpoint(target)
        except ValueError as error:
            raise Ending("no_endpoint", str(error)) from None
        secret = secret_of(execution.run, target)
        if target.has_secret and not secret:
            path = execution.run.external_secret(target.service)
            raise Ending("no_endpoint", f"the secret of the external service {target.service} is not in the run folder: {path}")
        execution.hidden.extend(filter(None, [secret]))
        ask = getattr(module, "probe", None)
        if ask is None and target.node_module:
            ask = getattr(importlib.import_module(target.node_module), "probe", None)
        if ask is None:
            return endpoint  # the product has no way to ask; the load will show

        def probe() -> Dict[str, Any]:
            facts: Dict[str, Any] = ask(endpoint, secret or "", dict(target.parameters))
            return facts

        left_s = max(0.0, self._client.wait_timeout_s - (time.monotonic() - started))
        try:
            wait_until_ready(probe, execution.watch, left_s, lambda _waited_s: None)
        except ReadyTimeout as error:
            text = (
                f"the external service {target.service} at {endpoint.url} did not answer in {self._client.wait_timeout_s:g} s"
            )
            raise Ending("no_endpoint", f"{text}; at last: {clean(str(error), execution.hidden)[:500]}") from None
        return endpoint

    def _start(self) -> Child:
        """Start `measure`; it loads all that it needs while the endpoints are waited for."""
        execution, paths = self._execution, self._execution.paths
        values = rank_values(execution.spec, execution.rank, paths)
        known = {name: text for name, text in execution.spec.environment.items() if name not in self._late_variables()}
        environment = execution.environment(resolve_environment(known, values))
        argv = [*node_command(), "measure", execution.spec_path, "--run-dir", str(execution.run.folder), "--wait"]
        try:
            return Child(argv, environment, paths.work, paths.log, execution.guard, name="measure", stdin=subprocess.PIPE)
        except OSError as error:
            raise Ending("failed", f"measure could not be started: {error}") from None

    def _late_variables(self) -> Set[str]:
        """Return the variables of the environment that tell of endpoints."""
        encoded = self._execution.spec.environment
        return {name for name, text in encoded.items() if any(part.startswith("endpoint.") for part in names(text))}

    def _begin(self, child: Child, endpoints: Dict[str, Tuple[Endpoint, ...]]) -> None:
        """Let `measure` begin, with what it could not know before."""
        execution, paths = self._execution, self._execution.paths
        secrets = Targets(execution.run, self._client.targets).secrets()
        execution.hidden.extend(secrets.values())
        values = {**rank_values(execution.spec, execution.rank, paths), **client_values(endpoints, secrets)}
        write_files(execution.spec.files, paths.work, values)
        late = {name: execution.spec.environment[name] for name in self._late_variables()}
        text = json.dumps(resolve_environment(late, values))
        execution.child = child
        execution.events.append("started", pid=child.pid, argv0="measure")
        child.tell(text.encode())
        execution.monitors.start_sampler(lambda: [child.pid])

    def _watch(self, child: Child) -> None:
        execution = self._execution
        orphans = OrphanReaper()
        look_at_s = 0.0
        dead_since_s: Optional[float] = None
        while not child.ended():
            execution.watch.pause()
            orphans.reap({child.pid, execution.guard.pid})
            now_s = time.monotonic()
            if now_s < look_at_s:
                continue
            look_at_s = now_s + _TARGET_LOOK_S
            dead = self._dead_target()
            if dead is None:
                continue
            dead_since_s = now_s if dead_since_s is None else dead_since_s
            if now_s - dead_since_s > TARGET_GRACE_S:
                raise Ending("failed", f"{dead}; the client had not ended {TARGET_GRACE_S:g} s later")
        execution.watch.look_at_files()
        if child.exit_code == 0 and self.all_measured():
            raise Ending("completed")
        end = time.monotonic() + _EXIT_GRACE_S
        while time.monotonic() < end:  # whoever stops a job may have sent the signal to the child too
            execution.watch.pause(end - time.monotonic())
        dead = self._dead_target()
        missing = [point.id for point in self._client.points if not execution.paths.measurement(point.id).is_file()]
        text = child.how_it_ended()
        if missing:
            text += f", not measured: {', '.join(missing)}"
        last = last_line(log_tail(execution.paths.log, execution.hidden, child.log_start_bytes))
        if dead or last:
            text += f"; {dead or 'its last line: ' + last}"
        raise Ending("failed", text)

    def _dead_target(self) -> Optional[str]:
        for target in self._client.targets.values():
            if target.url is None:
                for replica in range(target.replicas):
                    text = self._end_of(target, replica)
                    if text is not None:
                        return text
        return None
