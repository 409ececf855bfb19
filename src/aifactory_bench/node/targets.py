"""The services of a client as its point loop sees them: where they are, whether they still are, and their own counters."""

import socket
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from .endpoint import Endpoint, read
from .exit_record import read_exit
from .external import external_endpoint
from .files import read_text
from .paths import RankPaths, RunPaths
from .spec import TargetSpec
from .watch import appeared

ReadCounters = Callable[[Endpoint, str], Mapping[str, float]]
"""`counters` of a node module."""
_CONNECT_LIMIT_S = 2.0
_REPORT_LIMIT_S = 3.0


class TargetLost(Exception):
    """A service is not where it was; the text says which and what is known."""


class Targets:
    """All targets of one client."""

    def __init__(self, run: RunPaths, specs: Mapping[str, TargetSpec]) -> None:
        self._run = run
        self._specs = dict(specs)

    def endpoints(self) -> Dict[str, Tuple[Endpoint, ...]]:
        """Return role -> replicas, read anew.

        Raises:
            TargetLost: an endpoint that was there is not, or is damaged.
        """
        return {role: self._endpoints_of(target) for role, target in self._specs.items()}

    def _endpoints_of(self, target: TargetSpec) -> Tuple[Endpoint, ...]:
        if target.url is not None:
            try:
                return (external_endpoint(target),)
            except ValueError as error:
                raise TargetLost(str(error)) from None
        found: List[Endpoint] = []
        for replica in range(target.replicas):
            path = self._run.endpoint(target.token, replica)
            try:
                endpoint = read(path)
            except (OSError, ValueError) as error:
                raise TargetLost(f"service {target.service}: its endpoint cannot be read: {error}") from None
            if endpoint is None:
                raise TargetLost(f"service {target.service}: the endpoint of replica {replica} is not there ({path})")
            found.append(endpoint)
        return tuple(found)

    def secrets(self) -> Dict[str, str]:
        """Return role -> password or token; empty for an external service that takes none."""
        return {role: secret_of(self._run, target) or "" for role, target in self._specs.items()}

    def parameters(self) -> Dict[str, Dict[str, Any]]:
        """Return role -> parameters of the service."""
        return {role: dict(target.parameters) for role, target in self._specs.items()}

    def died(self) -> Optional[str]:
        """Return which service has ended and how, or None; a look at a few folders."""
        for role in self._specs:
            text = self._died(role)
            if text:
                return text
        return None

    def died_after_trouble(self) -> Optional[str]:
        """The same after requests have failed: a service whose port is closed is given 3 s to say how it ended."""
        end = time.monotonic() + _REPORT_LIMIT_S
        while True:
            text = self.died()
            if text or time.monotonic() >= end or self._all_reachable():
                return text
            time.sleep(0.05)

    def _all_reachable(self) -> bool:
        try:
            endpoints = [endpoint for role in self.endpoints().values() for endpoint in role]
        except TargetLost:
            return False
        return all(reachable(endpoint) for endpoint in endpoints)

    def _died(self, role: str) -> Optional[str]:
        target = self._specs[role]
        if not target.token:
            return None
        for replica in range(target.replicas):
            paths = self._run.job(target.token).rank(replica)
            if appeared(paths.exit):
                name = target.service if target.replicas == 1 else f"{target.service}.{replica}"
                return f"service {name} has ended: {_how(paths)}"
        return None

    def fates(self, before: Mapping[str, Tuple[Endpoint, ...]]) -> Dict[str, Dict[str, Any]]:
        """Return role -> {died, restarted, text}, now compared with the endpoints before, as far as these are known."""
        found: Dict[str, Dict[str, Any]] = {}
        for role, target in self._specs.items():
            died = self._died(role)
            restarted = None
            if not died:
                try:
                    restarted = _restarted(before.get(role, ()), self._endpoints_of(target))
                except TargetLost as error:
                    died = str(error)
            found[role] = {"died": bool(died), "restarted": bool(restarted), "text": died or restarted or ""}
        return found

    def counters(self, read_counters: Optional[ReadCounters], secrets: Mapping[str, str]) -> Dict[str, float]:
        """Return the servers' own totals, added over replicas and roles; empty when the product gives none."""
        total: Dict[str, float] = {}
        if read_counters is not None:
            for role, endpoints in self.endpoints().items():
                for endpoint in endpoints:
                    for name, value in read_counters(endpoint, secrets[role]).items():
                        total[name] = total.get(name, 0) + value
        return total


def secret_of(run: RunPaths, target: TargetSpec) -> Optional[str]:
    """Return a service's password or token; None: it has none, or it is not there."""
    if target.url is None:
        path = run.secret(target.token)
    elif target.has_secret:
        path = run.external_secret(target.service)
    else:
        return None
    text = read_text(path, limit_bytes=1 << 16)
    return None if text is None else text.rstrip("\n")


def reachable(endpoint: Endpoint) -> bool:
    """Return whether something accepts connections there."""
    try:
        socket.create_connection((endpoint.host, endpoint.port), timeout=_CONNECT_LIMIT_S).close()
    except OSError:
        return False
    return True


def _restarted(before: Tuple[Endpoint, ...], after: Tuple[Endpoint, ...]) -> Optional[str]:
    for old, new in zip(before, after):
        if (old.nonce, old.restart) != (new.nonce, new.restart):
            return f"service {new.service}: replica {new.replica} was started again (restart {new.restart})"
    return None


def _how(paths: RankPaths) -> str:
    try:
        record = read_exit(paths)
    except OSError:
        record = None
    return str((record or {}).get("text") or (record or {}).get("outcome") or "it does not say how")[:1000]
