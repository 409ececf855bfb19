"""`Service`: a job that answers requests until its clients have ended."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

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
    scratch: ClassVar[tuple[str, ...]] = ()
    """Names of files and folders in `FOLDER` that nobody wants once the job has ended; kept where the server failed."""
    default_ready_timeout_s: ClassVar[float] = 120.0
    """How long it may take to answer where a recipe does not say."""

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

    @property
    def ready_timeout_s(self) -> float:
        """How long it may take to answer: the recipe's word, or the class's."""
        return self.default_ready_timeout_s if self.ready.timeout_s is None else self.ready.timeout_s

    @abstractmethod
    def get_container_command(self) -> Command:
        """Return the command that starts the server in the foreground."""

    def get_service_setup_commands(self) -> Sequence[Command]:
        """Return commands that run on the node before the server, where the server will run; placeholders allowed."""
        return ()

    def get_staged_paths(self) -> Mapping[str, str]:
        """Return target -> source of files and folders that a job of its own copies before this one, without GPUs.

        Both are absolute paths that the nodes see; a target that is there is left as it is.
        """
        return {}

    def get_model_pull_commands(self) -> Sequence[Command]:
        """Return commands that bring the model into place through the running server; placeholders allowed.

        They run where the server runs, once the node module's `alive` says that it answers and before its `probe` is asked,
        and take of the time that it has to get ready. How long they took is the fact `model_pull_s`.
        """
        return ()

    def get_downloads(self) -> Sequence[str]:
        """Return the model where commands pull one."""
        return ("its model",) if self.get_model_pull_commands() else ()

    def _alone(self, site: Site, node_digest: str) -> JobContext:
        return attrs.evolve(super()._alone(site, node_digest), ready_timeout_s=self.ready_timeout_s)

    def _service_spec(self, site: Site, context: JobContext) -> ServiceSpec:
        if len(self.ports) > 1:
            raise TypeError(f"{type(self).__name__}.ports: a service has one port, got {self.ports!r}")
        for name in self.scratch:
            if not isinstance(name, str) or name in {"", ".", ".."} or "/" in name:
                raise TypeError(
                    f"{type(self).__name__}.scratch: {name!r} is not the name of a file or folder in the job's folder"
                )
        prepare = self._checked("get_service_setup_commands", self.get_service_setup_commands(), Command)
        pull = self._checked("get_model_pull_commands", self.get_model_pull_commands(), Command)
        return ServiceSpec(
            clients=dict(context.clients),
            ready_timeout_s=context.ready_timeout_s,
            bind=site.bind,
            scheme=self.scheme,
            port=self.ports[0] if self.ports else None,
            parameters=parameters_to_json(self.parameters),
            prepare=[self._in_container(site, self._without_environment(command), context.run_id) for command in prepare],
            model_pull=[self._in_container(site, self._without_environment(command), context.run_id) for command in pull],
            stop_signal=self.stop_signal,
            stop_timeout_s=self.stop_timeout_s,
            scratch=list(self.scratch),
        )
