"""What the controller knows of new-service: the server, a load on it, and the hook that registers both."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import BIND, PORT, SECRET, Argument, BaseJob, Client, Command, Placeholder, Service, SizeBytes, hookimpl

_NODE_MODULE = "aifactory_bench.testing.template.new_service_node"


@frozen
class NewServiceParameters:
    """What a recipe says about the server."""

    answer_size_bytes: SizeBytes = field(
        default=SizeBytes(64), validator=[validators.ge(SizeBytes(1)), validators.le(SizeBytes(1 << 20))]
    )
    """Of each answer; in a recipe `answer_size: 1KiB`."""


class NewService(Service):
    """A small HTTP server that comes with the node module; put the command of your own in its place."""

    # A site with a container runtime needs `default_image = "docker://..."`, in which the server is run.
    kind = "new-service"
    Parameters = NewServiceParameters
    node_module = _NODE_MODULE
    scheme = "http"
    parameters: NewServiceParameters

    def get_environment(self) -> Mapping[str, Argument]:
        """Return the run's password, which must not be an argument, and where Python finds the node module.

        Delete it with the server in Python, if yours takes its password from a file (`get_files`) or has none.
        """
        return {"NEW_SERVICE_PASSWORD": SECRET, "PYTHONPATH": Placeholder("node")}

    def get_container_command(self) -> Command:
        """Return the server in the foreground: one item an argument, never a shell line."""
        return Command([Placeholder("python"), "-m", _NODE_MODULE, BIND, PORT, self.parameters.answer_size_bytes])


class NewServiceLoad(Client):
    """Asks for one answer after another on connections that stay open."""

    # What a recipe may say about the load: a `Parameters` as above, which the node module finds in `context.parameters`.
    kind = "new-service-load"
    node_module = _NODE_MODULE
    targets: ClassVar = {"main": ("new-service",)}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return both classes."""
    return [NewService, NewServiceLoad]
