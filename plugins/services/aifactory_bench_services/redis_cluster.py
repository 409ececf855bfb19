"""What cannot be measured of a Redis cluster, told before it is started."""

from collections.abc import Mapping

from aifactory_bench import Client, RecipeError, Target


def refuse_cluster(client: Client, targets: Mapping[str, Target]) -> None:
    """Refuse servers that are one cluster, for a client that asks each for any key.

    Raises:
        RecipeError: they are.
    """
    for role, target in targets.items():
        if target.parameters.get("cluster"):
            raise RecipeError(
                f"clients.{client.name}.targets.{role}: {client.kind} knows no cluster, and {target.name} is one",
                "use the kind redis-load, or leave `cluster` out",
            )
