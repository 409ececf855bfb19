"""What runs beside the child: samplers and the fingerprint. If one fails, an event tells, and the job goes on."""

import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from .files import write_json
from .paths import RankPaths

_STOP_S = 3.0
DEFAULT_INTERVAL_S = 1.0
DEFAULT_SERVICE_INTERVAL_S = 5.0


class Monitors:
    """Starts and stops the monitors of one rank; failures are kept until the main thread takes them."""

    def __init__(self, paths: RankPaths, options: Dict[str, Dict[str, Any]]) -> None:
        self._paths = paths
        self._options = options
        self._failures: List[Tuple[str, str]] = []
        self._sampler: Any = None
        self._service: Any = None
        self._fingerprint: Optional[threading.Thread] = None

    def start_sampler(self, pids: Callable[[], Iterable[int]]) -> None:
        """Sample the node and the trees of some processes, if the job is to be watched and is not yet."""
        if "node" not in self._options or self._sampler is not None:
            return
        try:
            from .sampler import NodeSampler

            interval_s = float(self._options["node"].get("interval_s", DEFAULT_INTERVAL_S))
            self._sampler = NodeSampler(self._paths.samples / "node.csv", interval_s, pids)
            self._sampler.start()
        except Exception as error:
            self._failed("node", error)

    def start_service(self, read: Callable[[], Mapping[str, Optional[float]]]) -> None:
        """Keep what the service says of itself, if the job is to be watched and is not yet; read: asks it."""
        if "service" not in self._options or self._service is not None:
            return
        try:
            from .service_sampler import ServiceSampler

            interval_s = float(self._options["service"].get("interval_s", DEFAULT_SERVICE_INTERVAL_S))
            self._service = ServiceSampler(self._paths.samples / "service.csv", interval_s, read)
            self._service.start()
        except Exception as error:
            self._failed("service", error)

    def start_fingerprint(self) -> None:
        """Find out in a thread what the node is; once."""
        if self._fingerprint is None:
            self._fingerprint = threading.Thread(
                target=self._collect, args=(self._paths.fingerprint,), name="fingerprint", daemon=True
            )
            self._fingerprint.start()

    def let_service_go(self) -> None:
        """Ask the service no more: it is about to be stopped, and does not answer for a reason that is known."""
        if self._service is not None:
            self._service.stop(0.0)

    def stop(self) -> None:
        """End them; one that does not end is left behind."""
        if self._sampler is not None:
            self._sampler.stop(_STOP_S)
        if self._service is not None:
            self._service.stop(_STOP_S)
        if self._fingerprint is not None:
            self._fingerprint.join(_STOP_S)

    def take_failures(self) -> List[Tuple[str, str]]:
        """Return (monitor, what happened) of what has failed since the last call."""
        found = []
        if self._sampler is not None and self._sampler.failure:
            found.append(("node", self._sampler.failure))
            self._sampler = None
        if self._service is not None:
            found += [("service", text) for text in self._service.take_failures()]
        while self._failures:
            found.append(self._failures.pop(0))
        return found

    def _collect(self, path: Path) -> None:
        try:
            from .fingerprint import collect

            write_json(path, collect())
        except Exception as error:
            self._failed("fingerprint", error)

    def _failed(self, monitor: str, error: BaseException) -> None:
        self._failures.append((monitor, f"{type(error).__name__}: {error}"))
