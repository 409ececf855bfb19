"""Commands as values: argument vectors whose parts may be known only on the node."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Union

from attrs import field, frozen

from ..node import placeholders


@frozen
class Placeholder:
    """A value that the node side fills in; see `aifactory_bench.node.placeholders` for the names."""

    name: str

    def __str__(self) -> str:
        return placeholders.placeholder(self.name)


PORT = Placeholder("port")
"""The service's own port."""
BIND = Placeholder("bind")
"""The address to listen on."""
HOST = Placeholder("host")
"""The node's own host name."""
RANK = Placeholder("rank")
FOLDER = Placeholder("folder")
"""The rank's private work folder."""
RAW = Placeholder("raw")
"""Of a tool: the folder for its output."""
SECRET = Placeholder("secret")
"""The service's own throw-away password; only for files, and for tools that take it no other way."""
SEED = Placeholder("seed")


@frozen
class Endpoint:
    """A target of a client, by role: `Endpoint("main").host`, `.port`, `.url`, `.secret`."""

    role: str
    replica: int = 0

    def _part(self, name: str) -> Placeholder:
        return Placeholder(f"endpoint.{self.role}.{self.replica}.{name}")

    @property
    def host(self) -> Placeholder:
        """Host name or address."""
        return self._part("host")

    @property
    def port(self) -> Placeholder:
        """TCP port."""
        return self._part("port")

    @property
    def url(self) -> Placeholder:
        """`scheme://host:port`."""
        return self._part("url")

    @property
    def secret(self) -> Placeholder:
        """The service's throw-away password."""
        return self._part("secret")


def _parts(value: "Iterable[Union[str, Placeholder]]") -> "tuple[Union[str, Placeholder], ...]":
    return tuple(value)


@frozen
class Joined:
    """Parts put together without a blank, e.g. `Joined((FOLDER, "/data"))`."""

    parts: "tuple[Union[str, Placeholder], ...]" = field(converter=_parts)


Argument = Union[str, int, float, Placeholder, Joined]


def encode(argument: Argument) -> str:
    """Return the argument as an encoded string.

    Raises:
        TypeError: not an argument.
    """
    if isinstance(argument, Placeholder):
        return str(argument)
    if isinstance(argument, Joined):
        return "".join(encode(part) for part in argument.parts)
    if isinstance(argument, bool) or not isinstance(argument, (str, int, float)):
        raise TypeError(f"an argument must be text, a number or a placeholder, got {argument!r}")
    return placeholders.literal(str(argument))


def _arguments(value: "Sequence[Argument]") -> "tuple[Argument, ...]":
    if isinstance(value, str):
        raise TypeError(
            f"a command is a sequence of arguments, not text: got {value!r}; text would have to be split by a shell, "
            f'and recipe values never become shell: write Command(["program", "argument"])'
        )
    return tuple(value)


@frozen
class Command:
    """One program with its arguments; never a shell line."""

    argv: "tuple[Argument, ...]" = field(converter=_arguments)
    environment: "Mapping[str, Argument]" = field(factory=dict)

    def encoded(self) -> "list[str]":
        """Return the argument vector, encoded."""
        return [encode(argument) for argument in self.argv]


@frozen
class File:
    """A file that is written into the rank's private work folder, mode 0600, before the command starts."""

    name: str
    lines: "tuple[Argument, ...]" = field(converter=_arguments)

    def encoded(self) -> "list[str]":
        """Return the lines, encoded."""
        return [encode(line) for line in self.lines]
