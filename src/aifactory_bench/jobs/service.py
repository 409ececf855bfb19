"""`Service`: a job that answers requests until its clients have ended."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..node.spec import ServiceSpec
from ..recipe.model import Ready, Resources
from ..script.commands import Command
from ..sites.model import Site
from .base import BaseJob, parameters_to_json
from .context import JobContext


class Service(BaseJob):
    """A server. Its node module has a `probe` that asks it a real question."""

    role = "service"
    ports: ClassVar[tuple[int, ...]] = ()
    """The port it must have; empty lets the node choose a free one, which the command gets as `PORT`."""
    scheme: ClassVar[str] = "tcp"
    """Of the url that clients see: `<scheme>://host:port`."""
    stop_signal: ClassVar[str] = "TERM"
    """Signal that asks it to end, without `SIG`."""
    stop_timeout_s: ClassVar[float] = 10.0
    """From that signal to KILL."""

    def __init__(
        self,
        name: str,
        parameters: Any = None,
        *,
        image: str | None = None,
        resources: Resources | None = None,
        replicas: int = 1,
        environment: Mapping[str, str] | None = None,
        ready: Ready | None = None,
    ) -> None:
        super().__init__(name, parameters, image=image, resources=resources, replicas=replicas, environment=environment)
        self.ready = ready or Ready()

    @abstractmethod
    def get_container_command(self) -> Command:
        """Return the command that starts the server in the foreground."""

    def get_service_setup_commands(self) -> Sequence[Command]:
        """Return commands that run on the node before the server, where the server will run; placeholders allowed."""
        return ()

    def _service_spec(self, site: Site, context: JobContext) -> ServiceSpec:
        if len(self.ports) > 1:
            raise TypeError(f"{type(self).__name__}.ports: a service has one port, got {self.ports!r}")
        prepare = self._checked("get_service_setup_commands", self.get_service_setup_commands(), Command)
        return ServiceSpec(
            clients=dict(context.clients),
            ready_timeout_s=context.ready_timeout_s,
            bind=site.bind,
            scheme=self.scheme,
            port=self.ports[0] if self.ports else None,
            parameters=parameters_to_json(self.parameters),
            prepare=[self._in_container(site, self._without_environment(command), context.run_id) for command in prepare],
            stop_signal=self.stop_signal,
            stop_timeout_s=self.stop_timeout_s,
        )
