"""What a plan sees to for clients that search: that nobody disturbs them, and that they judge by the recipe's limits."""

from collections.abc import Iterable, Mapping

from ..errors import RecipeError
from ..node.spec import PointSpec
from ..node.trust import LIMITS
from ..recipe.model import ClientEntry


def check_alone(entry: ClientEntry, together: Iterable[str]) -> None:
    """Refuse a search beside which others make load: what it finds would be the share that they leave.

    Args:
        entry: the client.
        together: names of all clients that measure at the same time, this one among them.

    Raises:
        RecipeError: there are others.
    """
    others = [name for name in together if name != entry.name]
    if entry.load.search is not None and others:
        raise RecipeError(
            f"clients.{entry.name}.load.search: a search must be alone at its point, and {', '.join(others)} would measure "
            f"at the same time as {entry.name}",
            f"let one wait for the other, such as `after: {entry.name}` in clients.{others[0]}, or measure them in two runs",
        )


def give_limits(point: PointSpec, limits: Mapping[str, float]) -> None:
    """Hand the limits of a recipe that are about the generator on to the search of a point, if it has one."""
    if point.load.get("search"):
        point.load["search"]["limits"] = {name: limit for name, limit in limits.items() if name in LIMITS}
