"""What a client asks of its servers and they cannot give, told before anything is started."""

from collections.abc import Mapping

from aifactory_bench import Client, Load, RecipeError, Target


def refuse_several(client: Client, targets: Mapping[str, Target]) -> None:
    """Refuse a service with replicas, for a client that measures one server.

    Raises:
        RecipeError: there are several.
    """
    for role, target in targets.items():
        if target.replicas > 1:
            raise RecipeError(
                f"clients.{client.name}.targets.{role}: {client.kind} measures one server, and {target.name} has "
                f"{target.replicas} replicas",
                f"write `replicas: 1` for services.{target.name}",
            )


def refuse_connections(client: Client, load: Load, targets: Mapping[str, Target], reserved: int) -> None:
    """Refuse a load with more connections than `max_connections` of the service leaves; of an external one nobody knows.

    Args:
        client: whose replicas share the load.
        load: of the point, defaults filled in.
        targets: role -> service.
        reserved: connections of `max_connections` that are not for the load.

    Raises:
        RecipeError: they are too many, over all replicas of the client.
    """
    name = "concurrency" if load.process == "closed" else "connections"
    total = getattr(load, name)
    if total is None and load.search is not None:
        name, total = "search.most", load.search.most
    for target in targets.values():
        most = target.parameters.get("max_connections")
        if target.kind is None or most is None or total is None:
            continue
        left = most - reserved
        if -(-int(total) // target.replicas) > left:
            kept = f", of which {reserved} are not for the load" if reserved else ""
            each = f" on each of {target.replicas} replicas" if target.replicas > 1 else ""
            raise RecipeError(
                f"clients.{client.name}.load.{name}: {total} connections, and {target.name} takes {most}{each}{kept}",
                f"raise services.{target.name}.parameters.max_connections, or lower `{name.rpartition('.')[2]}` to "
                f"{left * target.replicas}",
            )
