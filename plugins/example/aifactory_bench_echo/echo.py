"""What the controller knows: two job classes and the hook that registers them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import BIND, PORT, Argument, BaseJob, Client, Command, Placeholder, Service, SizeBytes, hookimpl

_NODE_MODULE = "aifactory_bench_echo.echo_node"


class EchoService(Service):
    """A server that sends back every line."""

    kind = "echo"
    node_module = _NODE_MODULE
    scheme = "echo"

    def get_environment(self) -> Mapping[str, Argument]:
        """Return a path on which Python finds the node module: the program that the run brings along."""
        return {"PYTHONPATH": Placeholder("node")}

    def get_container_command(self) -> Command:
        """Return the server: the node module run as a program."""
        return Command([Placeholder("python"), "-m", _NODE_MODULE, BIND, PORT])


@frozen
class EchoLoadParameters:
    """What a recipe says about the load."""

    message_size_bytes: SizeBytes = field(
        default=SizeBytes(64), validator=[validators.ge(SizeBytes(1)), validators.le(SizeBytes(1 << 20))]
    )
    """Of one line, its end included."""


class EchoLoadClient(Client):
    """Sends lines and waits for them to come back."""

    kind = "echo-load"
    Parameters = EchoLoadParameters
    node_module = _NODE_MODULE
    targets: ClassVar = {"main": ("echo",)}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return both classes."""
    return [EchoService, EchoLoadClient]
