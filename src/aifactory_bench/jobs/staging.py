"""`Staging`: the job that copies what a service needs to where it needs it, before the service's job and without its GPUs."""

from collections.abc import Mapping
from dataclasses import replace

from attrs import evolve

from ..errors import RecipeError
from ..node.spec import ServiceSpec
from ..recipe.model import Resources, ServiceEntry
from ..script.commands import Command, Placeholder
from ..script.value import Script
from ..sites.model import Site
from .context import JobContext
from .service import Service

STAGING_TIME_S = 3600.0
"""Walltime of a job that copies, where the recipe says none."""


class Staging(Service):
    """Copies files and folders on a node of the site; ends when they are in place."""

    kind = "staging"

    def __init__(self, name: str, paths: Mapping[str, str], resources: Resources) -> None:
        super().__init__(name, resources=resources)
        self.paths = dict(paths)
        """Target -> source."""

    def get_container_command(self) -> Command:
        """Return the node program's own copying."""
        pairs = [path for target, source in self.paths.items() for path in (source, target)]
        return Command([Placeholder("python"), Placeholder("node"), "place", *pairs])

    def _compose(self, site: Site, context: JobContext) -> Script:
        # The node program needs no image, and sees the node's files as they are.
        return super()._compose(evolve(site, runtime="host"), context)

    def _service_spec(self, site: Site, context: JobContext) -> ServiceSpec:
        return replace(super()._service_spec(site, context), once=True)


def staging_of(entry: ServiceEntry, service: Service) -> Staging | None:
    """Return the job that is to run before a service; None where the service has everything.

    Raises:
        RecipeError: the recipe says what such a job takes, and there is none.
    """
    paths = service.get_staged_paths()
    if paths:
        return Staging(f"{entry.name}-staging", paths, entry.staging or Resources())
    if entry.staging is not None:
        raise RecipeError(
            f"services.{entry.name}.staging: nothing is copied before a service of kind {entry.kind} with these parameters",
            "leave it out, or name what is to be copied, such as the parameter stage_from of vllm",
        )
    return None
