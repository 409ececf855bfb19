"""What clients that measure at the same time may do to each other."""

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from ..errors import RecipeError
from ..jobs.client import Client


@frozen
class Aimed:
    """A client at one point, with its parameters and the services it uses."""

    client: Client
    parameters: Any
    services: frozenset[str]


def check_shared_data(clients: Sequence[Aimed]) -> None:
    """Refuse clients that make the same data of one service differently at the same time.

    Args:
        clients: of one point, all that measure at the same time.

    Raises:
        RecipeError: two of them would take each other's data away, or measure it for their own.
    """
    for number, one in enumerate(clients):
        data = one.client.get_shared_data(one.parameters)
        for other in clients[:number]:
            shared = sorted(one.services & other.services)
            others = other.client.get_shared_data(other.parameters)
            if shared and data is not None and others is not None and data[0] == others[0] and data[1] != others[1]:
                first, name = other.client.name, one.client.name
                raise RecipeError(
                    f"clients.{name}: it makes {data[0]} in {shared[0]}, and {first} makes them otherwise at the same time: "
                    f"{_told(data[1])} against {_told(others[1])}",
                    f"let one wait for the other (`after: {first}` in clients.{name}), make both alike, or give each a service",
                )


def _told(which: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in which.items()) if isinstance(which, dict) else str(which)
