"""Whether a client can measure what it is aimed at."""

from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError
from ..recipe.model import ClientEntry, ServiceEntry


def check_target(
    entry: ClientEntry,
    role: str,
    allowed: "tuple[str, ...]",
    target: ServiceEntry,
    kind: "str | None",
    known: "Mapping[str, type[Any]]",
) -> None:
    """Refuse a service that a client cannot measure.

    Args:
        entry: The client.
        role: For which the service stands.
        allowed: Kinds that the role takes; empty: any.
        target: The service.
        kind: Of the job that serves; None for one that runs already.
        known: All kinds of services.

    Raises:
        RecipeError: It is of another kind, or its url of another protocol; a kind of scheme `tcp` names no protocol.
    """
    if kind is not None and allowed and kind not in allowed:
        raise RecipeError(
            f"clients.{entry.name}.targets.{role}: kind {entry.kind} measures services of kind {', '.join(allowed)}; "
            f"{target.name} is of kind {kind}"
        )
    schemes = {known[name].scheme for name in allowed if name in known}
    if target.external is None or not schemes or "tcp" in schemes:
        return
    if "http" in schemes:
        schemes.add("https")
    if target.external.url.partition("://")[0] not in schemes:
        raise RecipeError(
            f"services.{target.name}.external.url: {target.external.url} is of another protocol than "
            f"clients.{entry.name}.targets.{role} speaks: {', '.join(f'{scheme}://' for scheme in sorted(schemes))}"
        )


def module_of_external(target: ServiceEntry, allowed: "tuple[str, ...]", known: "Mapping[str, type[Any]]") -> "str | None":
    """Return the node module that can ask a service which runs already: that of the only kind which speaks its protocol.

    Args:
        target: The service.
        allowed: Kinds that the client measures; of several that speak it nobody knows which one this is.
        known: All kinds of services.
    """
    scheme = "" if target.external is None else target.external.url.partition("://")[0]
    modules = [known[name].node_module for name in allowed if name in known and known[name].scheme == scheme]
    return modules[0] if len(modules) == 1 else None
