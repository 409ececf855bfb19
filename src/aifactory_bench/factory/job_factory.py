"""Making jobs out of entries of a recipe."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast

from attrs import evolve

from ..errors import PluginError, RecipeError, UsageError
from ..jobs.client import Client
from ..jobs.service import Service
from ..plan import Plan
from ..plugins import Registry, check_job_class, load_registry
from ..recipe.converter import structure_class
from ..recipe.model import ClientEntry, Recipe, ServiceEntry
from ..recipe.problems import Place, Problems, with_places
from ..sites.model import Site
from .planner import Planner

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _OnClassToo(Generic[_P, _R]):
    """A method that works on the class as well: then on the default factory."""

    def __init__(self, function: Callable[Concatenate[JobFactory, _P], _R]) -> None:
        self._function = function
        functools.update_wrapper(cast("Any", self), function)

    def __get__(self, factory: JobFactory | None, owner: type[JobFactory]) -> Callable[_P, _R]:
        return functools.partial(self._function, owner.default() if factory is None else factory)


class JobFactory:
    """Makes jobs and plans of the kinds in a registry.

    Its methods work on the class too: `JobFactory.create_service(entry)` acts on one default factory, made on first use.

    Args:
        registry: kinds to choose from; default: everything that is installed, loaded on first use.
    """

    _default: ClassVar[JobFactory | None] = None

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._built = False

    @classmethod
    def default(cls) -> JobFactory:
        """Return the factory on which calls on the class act."""
        if JobFactory._default is None:
            JobFactory._default = JobFactory()
        return JobFactory._default

    @property
    def registry(self) -> Registry:
        """Every kind that this factory knows."""
        if self._registry is None:
            self._registry = load_registry()
        return self._registry

    @_OnClassToo
    def register_service(self, kind: str, cls: type[Service]) -> None:
        """Make a service class known under its kind.

        Raises:
            PluginError: the kind is taken, is not the class's own, the class cannot be used, or a plan was built before.
        """
        self._register("service", kind, cls)

    @_OnClassToo
    def register_client(self, kind: str, cls: type[Client]) -> None:
        """Make a client class known under its kind.

        Raises:
            PluginError: the kind is taken, is not the class's own, the class cannot be used, or a plan was built before.
        """
        self._register("client", kind, cls)

    @_OnClassToo
    def create_service(self, entry: ServiceEntry) -> Service:
        """Return the job of an entry under `services`.

        Raises:
            RecipeError: there is no such kind, or its parameters are wrong.
        """
        if entry.kind is None:
            raise RecipeError(
                f"services.{entry.name}: an external service has no job", "it runs already; name a kind to start one"
            )
        cls = self._class_of("services", entry.name, entry.kind)
        return cast(
            "Service",
            cls(
                entry.name,
                self.parameters_of("services", entry, cls),
                image=entry.image,
                resources=entry.resources,
                replicas=entry.replicas,
                environment=entry.environment,
                ready=entry.ready,
            ),
        )

    @_OnClassToo
    def create_client(self, entry: ClientEntry) -> Client:
        """Return the job of an entry under `clients`.

        Raises:
            RecipeError: there is no such kind, or its parameters or roles are wrong.
        """
        cls = self._class_of("clients", entry.name, entry.kind)
        if set(entry.targets) != set(cls.targets):
            raise RecipeError(
                f"clients.{entry.name}.targets: kind {entry.kind} measures the roles {', '.join(sorted(cls.targets))}, "
                f"got {', '.join(sorted(entry.targets)) or 'none'}",
                "`target: NAME` is short for `targets: {main: NAME}`",
            )
        return cast(
            "Client",
            cls(
                entry.name,
                self.parameters_of("clients", entry, cls),
                image=entry.image,
                resources=entry.resources,
                replicas=entry.replicas,
                environment=entry.environment,
                services=entry.targets,
                load=entry.load,
            ),
        )

    @_OnClassToo
    def build(
        self,
        recipe: Recipe,
        site: Site,
        run_id: str,
        lease_s: float | Literal["recipe"] | None = "recipe",
        attempt: int = 0,
        only: AbstractSet[tuple[str, str]] | None = None,
        running: Mapping[str, str] | None = None,
    ) -> Plan:
        """Return everything that a run of the recipe submits, final.

        Args:
            recipe: not yet expanded.
            site: where it is to run.
            run_id: names the run folder and all jobs.
            lease_s: None is no lease; by default the recipe's.
            attempt: how often jobs were planned for this run before; part of every token.
            only: (client, point id) of the measurements to make, for what is missing of a run; None: all.
            running: service name -> token of a job of this run that serves already and is not planned again.

        Raises:
            UsageError: the lease is not a time.
            RecipeError: kinds, roles or parameters are wrong.
            SiteError: the site lacks an image.
            PluginError: a job class breaks its contract, or a node module cannot be packed.
        """
        self._built = True
        lease_s = recipe.lease_s if lease_s == "recipe" else _checked_lease(lease_s)
        try:
            return Planner(self, recipe, site, run_id, lease_s=lease_s, attempt=attempt, only=only, running=running).plan()
        except RecipeError as error:
            raise RecipeError(with_places(error.text, recipe.places), error.hint) from error.__cause__

    def parameters_of(self, section: str, entry: ServiceEntry | ClientEntry, cls: type[Any]) -> Any:
        """Return an entry's parameters as an instance of the class's `Parameters`; plain values are checked as a recipe's are.

        Raises:
            RecipeError: a parameter is unknown, missing, or not as it should be.
        """
        if isinstance(entry.parameters, cls.Parameters):
            return entry.parameters
        problems = Problems(values={(): Place(origin="recipe")})
        parameters = structure_class(cls.Parameters, entry.parameters, (section, entry.name, "parameters"), problems)
        problems.raise_all()
        return parameters

    def _class_of(self, section: str, name: str, kind: str) -> type[Any]:
        known = self.registry.services if section == "services" else self.registry.clients
        try:
            return known[kind]
        except KeyError:
            raise RecipeError(
                f"{section}.{name}.kind: there is no kind {kind!r}; there is: {', '.join(known) or 'none'}",
                "install the plugin that brings it, or name its file with --plugin",
            ) from None

    def _register(self, role: Literal["service", "client"], kind: str, cls: type[Any]) -> None:
        if self._built:
            raise PluginError(
                f"kind {kind!r} comes too late: this factory has built a plan already",
                "register before, or make another JobFactory",
            )
        try:
            found = check_job_class(cls)
        except TypeError as error:
            raise PluginError(str(error)) from None
        if found != role:
            raise PluginError(f"{cls.__qualname__} is a {found}, not a {role}", f"use register_{found}")
        if cls.kind != kind:
            raise PluginError(f"{cls.__qualname__} has the kind {cls.kind!r}, not {kind!r}", "a class has one kind, its own")
        registry = self.registry
        if kind in registry.sources:
            raise PluginError(f"the kind {kind!r} is taken: by {registry.sources[kind]}", "give the class another kind")
        classes = MappingProxyType({**(registry.services if role == "service" else registry.clients), kind: cls})
        sources = MappingProxyType({**registry.sources, kind: "class given"})
        if role == "service":
            self._registry = evolve(registry, sources=sources, services=classes)
        else:
            self._registry = evolve(registry, sources=sources, clients=classes)


def _checked_lease(lease_s: object) -> float | None:
    """Return the lease if it is one.

    Raises:
        UsageError: it is not.
    """
    if lease_s is None:
        return None
    if isinstance(lease_s, int | float) and not isinstance(lease_s, bool) and 0 < lease_s < math.inf:
        return float(lease_s)
    raise UsageError(f"lease_s must be seconds, more than 0, or None for no lease; got {lease_s!r}")
