"""Services and clients: from plain values to entries, with the parameters that their kinds declare."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from .converter import BAD, structure, structure_class
from .load_model import slo_problems
from .model import ClientEntry, ServiceEntry, name_text
from .problems import Path, Problems, shown, suggestion

Section = Literal["services", "clients"]
RESERVED = "all"
"""No job is called so: `stop/all` ends every job."""
_LIKE_A_KIND = 0.75
"""More than for other words: kinds that end alike, in -load, are not near for that."""
_NO_PLUGIN = "for another one install its plugin, or name its file with --plugin"
_OF_A_JOB = ("image", "resources", "replicas", "environment", "parameters", "staging")


class Kinds(Protocol):
    """What recipes need of a registry: `plugins.Registry` is one."""

    @property
    def services(self) -> Mapping[str, type[Any]]:
        """Kind -> class with `Parameters`."""

    @property
    def clients(self) -> Mapping[str, type[Any]]:
        """Kind -> class with `Parameters`, `targets` and `slos`."""


def build_entry(section: Section, name: str, data: Any, registry: Kinds, problems: Problems) -> Any:
    """Return a `ServiceEntry` or a `ClientEntry`, or `BAD`.

    Args:
        section: where it stands.
        name: in the recipe.
        data: plain.
        registry: known kinds.
        problems: gets what is wrong.
    """
    path: Path = (section, name)
    cls: type[Any] = ServiceEntry if section == "services" else ClientEntry
    if not isinstance(data, Mapping):
        return structure_class(cls, data, path, problems)
    before = len(problems)
    given: dict[str, Any] = {"name": name, "parameters": {}}
    if section == "services" and _is_external(data, path, registry, problems):
        for key in _OF_A_JOB:
            if key in data:
                problems.add((*path, key), "has no meaning with external: the service runs already", at="key")
    elif (job_class := _job_class(section, data.get("kind"), path, registry, problems)) is not None:
        given["parameters"] = structure(job_class.Parameters, data.get("parameters", {}), (*path, "parameters"), problems)
    entry = structure_class(cls, data, path, problems, given)
    if isinstance(entry, ClientEntry):
        allowed = getattr(registry.clients.get(entry.kind), "slos", ())
        for inner, text in slo_problems(entry.load, allowed, entry.kind).items():
            problems.add((*path, "load", *inner), text, at="key")
    return entry if len(problems) == before else BAD


def _is_external(data: Mapping[str, Any], path: Path, registry: Kinds, problems: Problems) -> bool:
    if "external" in data and "kind" in data:
        problems.add((*path, "external"), "stands in place of kind: leave one out", at="key")
    elif "external" not in data and "kind" not in data:
        problems.add(
            path, f"kind is missing; known: {_known(registry.services)}; or external: {{url: ...}} for one that runs already"
        )
    return "external" in data or "kind" not in data


def _job_class(section: Section, kind: Any, path: Path, registry: Kinds, problems: Problems) -> type[Any] | None:
    ours, other = (registry.services, registry.clients) if section == "services" else (registry.clients, registry.services)
    if not isinstance(kind, str):
        return None  # Missing or no text: the entry's class says so.
    if kind in ours:
        return ours[kind]
    where = (*path, "kind")
    if kind in other:
        belongs = "clients" if section == "services" else "services"
        problems.add(where, f"{kind} belongs under {belongs}; known here: {_known(ours)}")
    else:
        near = suggestion(kind, ours, _LIKE_A_KIND)
        problems.add(where, f"unknown kind {shown(kind)}{near}; known: {_known(ours)}; {_NO_PLUGIN}")
    return None


def _known(kinds: Mapping[str, Any]) -> str:
    return ", ".join(sorted(kinds)) or "none"


def check_names(services: Mapping[str, Any], clients: Mapping[str, Any], problems: Problems) -> None:
    """Check the names of all entries: their form, and that each names one job."""
    for section, names in (("services", services), ("clients", clients)):
        for name in names:
            if text := name_text(name):
                problems.add((section, name), text, at="key")
            elif name == RESERVED:
                problems.add((section, name), f"{RESERVED} is reserved: it means every job", at="key")
    for name in clients:
        if name in services:
            problems.add(("clients", name), "a service has this name already; names are for all jobs", at="key")


def check_targets(services: Mapping[str, Any], clients: Mapping[str, Any], registry: Kinds, problems: Problems) -> None:
    """Check that every client has a fitting service for each of its roles."""
    for name, client in clients.items():
        kind = _kind(client, registry.clients)
        targets = client.get("targets", {}) if kind else None
        if kind is None or not isinstance(targets, Mapping):
            continue
        roles: Mapping[str, tuple[str, ...]] = registry.clients[kind].targets
        path: Path = ("clients", name, "targets")
        for role, kinds in roles.items():
            if role not in targets:
                what = "target" if role == "main" else f"targets.{role}"
                fitting = f"of kind {' or '.join(kinds)}" if kinds else "of any kind"
                problems.add((*path, role), f"missing; {kind} needs {what}: the name of a service {fitting}")
        for role, service in targets.items():
            if role not in roles:
                known = f"; {kind} knows {', '.join(roles) or 'none'}"
                problems.add((*path, role), f"unknown role{suggestion(role, roles)}{known}", at="key")
            elif isinstance(service, str):
                target_kind = _kind(services.get(service), registry.services)
                if service not in services:
                    known = f"; known: {_known(services)}"
                    problems.add((*path, role), f"there is no service {shown(service)}{suggestion(service, services)}{known}")
                elif target_kind and roles[role] and target_kind not in roles[role]:
                    fitting = " or ".join(roles[role])
                    problems.add((*path, role), f"{service} is of kind {target_kind}, and {kind} measures {fitting}")


def _kind(entry: Any, known: Mapping[str, Any]) -> str | None:
    """Return the kind of an entry; None where it has none that is known, which is said elsewhere."""
    kind = entry.get("kind") if isinstance(entry, Mapping) else None
    return kind if isinstance(kind, str) and kind in known else None


def check_after(clients: Mapping[str, Any], problems: Problems) -> None:
    """Check that `after` names another client and never leads back."""
    after: dict[str, str] = {}
    for name, client in clients.items():
        earlier = client.get("after") if isinstance(client, Mapping) else None
        if not isinstance(earlier, str):
            continue
        if earlier not in clients:
            path = ("clients", name, "after")
            problems.add(path, f"there is no client {shown(earlier)}{suggestion(earlier, clients)}; known: {_known(clients)}")
        else:
            after[name] = earlier
    told: set[str] = set()
    for name in after:
        chain = [name]
        while chain[-1] in after and after[chain[-1]] not in chain:
            chain.append(after[chain[-1]])
        back = after.get(chain[-1])
        if back == name and name not in told:
            told.update(chain)
            problems.add(("clients", name, "after"), f"goes round in a circle: {' after '.join([*chain, name])}")
