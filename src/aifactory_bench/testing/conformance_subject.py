"""What the conformance suite looks at: one kind, with an example of it that every check can use."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

import attrs
from attrs import frozen

from ..errors import UsageError
from ..factory import JobFactory
from ..jobs.client import Client
from ..jobs.context import JobContext
from ..jobs.service import Service
from ..node.spec import TargetSpec
from ..plugins import Registry, load_registry
from ..recipe.load import load_recipe
from ..recipe.matrix import expand
from ..recipe.model import SCHEMA, ClientEntry, ServiceEntry
from ..recipe.problems import Problems
from ..recipe.source import read_document, read_source
from ..script.value import Script
from ..sites.local import local_site
from ..sites.model import Site

Plugin = Union[Path, str, type[Any]]
"""A loose plugin file, or a job class."""
IMAGE = "docker://example/image:1"
RUNS = "/scratch/runs"


class ConformanceError(AssertionError):
    """A kind does not do what a check asks for; the text lists everything that was found."""


@frozen(slots=False)
class Subject:
    """One kind under test."""

    kind: str
    registry: Registry
    recipes: tuple[Path, ...] = ()
    """Files that hold the kind."""
    samples: Optional[Path] = None
    """Of a tool: the file that lists recorded output."""
    run: Optional[Path] = None
    """Recipe that is really run."""
    probe_limit_s: float = 2.5
    plugins: tuple[Plugin, ...] = ()

    @property
    def cls(self) -> type[Any]:
        """The job class."""
        known: Mapping[str, type[Any]] = {**self.registry.services, **self.registry.clients}
        return known[self.kind]

    @property
    def is_service(self) -> bool:
        """Whether it is a service, and no client."""
        return self.kind in self.registry.services

    @property
    def is_tool(self) -> bool:
        """Whether it is a client that runs a program of its own."""
        return not self.is_service and self.cls.mode == "tool"

    @cached_property
    def example(self) -> Any:
        """A job of the kind: as the recipe to run has it, or else the first one; without a recipe with default parameters.

        Raises:
            ConformanceError: a parameter has no default, and there is no recipe.
        """
        for path in self.recipes:
            for job in jobs_of(path, self.registry):
                if job.kind == self.kind:
                    return job
        required = [field.name for field in attrs.fields(self.cls.Parameters) if field.default is attrs.NOTHING]
        if required:
            raise ConformanceError(
                f"{self.kind}: {', '.join(required)} must be set, and no recipe says to what: "
                "give one that has the kind, in `recipes`"
            )
        if self.is_service:
            return self.cls("example")
        return self.cls("example", services=dict.fromkeys(self.cls.targets, "target"))

    def with_parameters(self, parameters: Any) -> Any:
        """Return the example with other parameters."""
        job = self.example
        options: dict[str, Any] = {name: getattr(job, name) for name in ("image", "resources", "replicas", "environment")}
        options.update({"ready": job.ready} if self.is_service else {"services": job.services, "load": job.load})
        return self.cls(job.name, parameters, **options)

    def sites(self) -> tuple[Site, ...]:
        """Return the sites on which scripts are made: this machine, Slurm without a container, Slurm with one."""
        images = {image: "/images/example.sif" for image in (IMAGE, self.example.image) if image}
        cluster = Site(name="cluster", submitter="slurm", runs=RUNS, images=images, scheduler={"account": "project"})
        return local_site(Path(RUNS)), cluster, attrs.evolve(cluster, name="containers", runtime="apptainer")

    def script(self, job: Any, site: Site) -> Script:
        """Return the script of a job as a value; what it runs at its points stands in `spec.client.points`."""
        if site.runtime != "host" and not job.image:
            job = copy(job)
            job.image = IMAGE
        return compose(job, site)


def compose(job: Union[Service, Client], site: Site) -> Script:
    """Return the script of one job on its own; its node program has a digest that nobody looks at."""
    context = JobContext(run_id="conformance", node_digest="0" * 16, time_s=600.0)
    if isinstance(job, Service):
        return job.compose(site, attrs.evolve(context, ready_timeout_s=job.ready_timeout_s))
    point = job.compose_point(
        site,
        "conformance",
        id="p0000-r1",
        load=job.load,
        parameters=job.parameters,
        participants={"afb-conformance-client-0": 1},
    )
    targets = {role: TargetSpec(name, f"afb-conformance-{name}-0", 1) for role, name in job.services.items()}
    return job.compose(site, attrs.evolve(context, targets=targets, points=(point,)))


def jobs_of(path: Path, registry: Registry) -> list[Any]:
    """Return the services and clients of a recipe, as its first point has them.

    Raises:
        RecipeError: it is not right.
    """
    factory = JobFactory(registry)
    first = expand(load_recipe(path, registry), registry)[0]
    services: list[ServiceEntry] = [entry for entry in first.services if entry.external is None]
    clients: list[ClientEntry] = list(first.clients)
    return [*map(factory.create_service, services), *map(factory.create_client, clients)]


def subject_of(
    kind: str,
    *,
    plugins: Sequence[Plugin] = (),
    recipes: Sequence[Union[Path, str]] = (),
    samples: Union[Path, str, None] = None,
    run: Union[Path, str, None] = None,
    probe_limit_s: float = 2.5,
) -> Subject:
    """Return the kind, as the suite sees it.

    Args:
        kind: as a recipe names it.
        plugins: loose files and classes that are not installed.
        recipes: files, and folders of which those files are taken that hold the kind.
        samples: of a tool, the file that lists recorded output.
        run: recipe that is really run.
        probe_limit_s: how long a question to a server that is not there may take.

    Raises:
        UsageError: there is no such kind, or a file is not there.
        PluginError: a plugin is broken.
    """
    classes = [plugin for plugin in plugins if isinstance(plugin, type)]
    files = [Path(plugin) for plugin in plugins if not isinstance(plugin, type)]
    registry = load_registry(files=files, classes=classes)
    if kind not in {*registry.services, *registry.clients}:
        left_out = "".join(f"; {warning}" for warning in registry.warnings)
        raise UsageError(
            f"there is no kind {kind!r}; known: {', '.join(sorted({*registry.services, *registry.clients}))}{left_out}",
            "install its plugin, or name its file",
        )
    for what, given in (("samples", samples), ("run", run)):
        if given is not None and not Path(given).is_file():
            raise UsageError(f"{what}: there is no file {given}")
    wanted = [*([] if run is None else [run]), *recipes]
    return Subject(
        kind=kind,
        registry=registry,
        recipes=tuple(dict.fromkeys(path for given in wanted for path in _recipes(Path(given), kind))),
        samples=None if samples is None else Path(samples),
        run=None if run is None else Path(run),
        probe_limit_s=probe_limit_s,
        plugins=tuple(plugins),
    )


def _recipes(path: Path, kind: str) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in sorted(path.glob("*.yaml")) if kind in kinds_in(file))
    elif not path.is_file():
        raise UsageError(f"recipes: there is no file or folder {path}")
    elif kind in kinds_in(path):
        yield path
    else:
        raise UsageError(f"recipes: {path} has nothing of kind {kind!r}; it has: {', '.join(kinds_in(path)) or 'no kinds'}")


def kinds_in(path: Path) -> list[str]:
    """Return the kinds that a file names under `services` and `clients`, right or wrong."""
    document = read_document(read_source(path, "recipe"), str(path), "recipe", SCHEMA, Problems())
    data = document.data if isinstance(document.data, Mapping) else {}
    sections = [section for name in ("services", "clients") if isinstance(section := data.get(name), Mapping)]
    entries = [entry for section in sections for entry in section.values() if isinstance(entry, Mapping)]
    return sorted({str(entry["kind"]) for entry in entries if "kind" in entry})
