"""`BaseJob`: a template method that makes a batch script out of steps that a product's class fills in."""

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, final

import attrs
from attrs import frozen

from ..errors import AifactoryBenchError, PluginError, UsageError
from ..node import placeholders
from ..node.spec import ClientSpec, FileSpec, ImageSpec, ServiceSpec, Spec
from ..recipe.model import VARIABLE, Resources
from ..script.bundle import build_node_program
from ..script.commands import Argument, Command, File, encode
from ..script.container import container_argv, container_environment
from ..script.value import Script
from ..sites.load import load_site
from ..sites.model import Site
from .context import JobContext, job_token


@frozen
class NoParameters:
    """Parameters of a kind that has none."""


class BaseJob(ABC):
    """One job: a `Service` or a `Client`.

    A product's class sets the class attributes and overrides steps. Steps are pure: they may be called any number of times,
    return `Command` and `File` values, and know nothing of a node; what only the node knows is a placeholder.
    """

    role: ClassVar[Literal["service", "client"]]
    kind: ClassVar[str]
    """Registry key, as a recipe names it."""
    Parameters: ClassVar[type] = NoParameters
    """A frozen attrs class; the type of a field says what a recipe may write and in which unit the field is."""
    node_module: ClassVar[str | None] = None
    """Import path of the product's module for the node, see `aifactory_bench.node.contract`."""
    default_image: ClassVar[str | None] = None
    """Image reference where a recipe names none."""
    credential_in_arguments: ClassVar[str] = ""
    """Why a password stands in an argument of a command, where other users of the node can read it; empty: none does."""

    def __init__(
        self,
        name: str,
        parameters: Any = None,
        *,
        image: str | None = None,
        resources: Resources | None = None,
        replicas: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.parameters = self.Parameters() if parameters is None else parameters
        self.image = image or self.default_image
        self.resources = resources or Resources()
        self.replicas = replicas
        self.environment = dict(environment or {})
        self.job_id: str | None = None
        """The scheduler's id; None until the job is submitted."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in cls.__dict__:
            if any(getattr(base.__dict__.get(name), "__final__", False) for base in cls.__mro__[1:]):
                raise TypeError(
                    f"{cls.__module__}.{cls.__qualname__} overrides {name}(), which is final: "
                    f"override the steps, such as get_setup_commands, get_files, get_container_command"
                )

    # Steps.

    def get_setup_commands(self) -> Sequence[Command]:
        """Return commands that the batch script runs before anything else, on the first node; no placeholders."""
        return ()

    def get_files(self) -> Sequence[File]:
        """Return files that are written into the private work folder before the command starts."""
        return ()

    def get_environment(self) -> Mapping[str, Argument]:
        """Return variables of the command's environment; the recipe's own come on top."""
        return {}

    def get_container_command(self) -> Command | None:
        """Return the command that the job runs, inside its image where the site has a container runtime; clients have none."""
        return None

    def get_binds(self) -> Sequence[str]:
        """Return absolute paths of the node that the container sees, at the same place, such as that of a model."""
        return ()

    def get_downloads(self) -> Sequence[str]:
        """Return what the job fetches from the internet while it runs, in words; refused where nodes have no internet."""
        return ()

    # The template.

    @final
    def generate_slurm_script(self, site: Site | None = None) -> str:
        """Return the whole batch script of this job on its own: header, setup, execution.

        The run is called `manual`; a service lives until it is stopped or its time is over, a client makes one
        measurement. Scripts of a recipe's jobs come from `JobFactory.build`. Default site: `local`.
        """
        site = load_site("local") if site is None else site
        modules = () if self.node_module is None else (self.node_module,)
        return self.compose(site, self._alone(site, build_node_program(modules).digest)).text()

    @final
    def compose(self, site: Site, context: JobContext) -> Script:
        """Return the job's script as a value.

        Raises:
            PluginError: a step failed, or returned something else than it should.
            SiteError: the site has no image for it.
        """
        with self._blamed():
            return self._compose(site, context)

    def _compose(self, site: Site, context: JobContext) -> Script:
        run_folder = f"{site.runs}/{context.run_id}"
        token = job_token(context.run_id, f"{self.name}{context.suffix}", context.attempt)
        command = self.get_container_command()
        if command is not None:
            command = self._checked("get_container_command", [command], Command)[0]
        spec = Spec(
            run_id=context.run_id,
            job=self.name,
            token=token,
            role=self.role,
            kind=self.kind,
            attempt=context.attempt,
            ranks=self.replicas,
            time_s=context.time_s,
            lease_s=context.lease_s,
            node_module=self.node_module,
            after=dict(context.after),
            monitors={name: dict(options) for name, options in context.monitors.items()},
            environment=self._environment(site, {} if command is None else command.environment),
            files=[FileSpec(file.name, file.encoded()) for file in self._checked("get_files", self.get_files(), File)],
            fabric=_fabric(site),
            service=self._service_spec(site, context),
            client=self._client_spec(context),
            image=self._image_spec(site),
        )
        return Script(
            token=token,
            run_folder=run_folder,
            spec=spec,
            node_digest=context.node_digest,
            python=site.python,
            resources=self.resources,
            scheduler=site.scheduler,
            modules=site.modules,
            setup=site.setup,
            commands=tuple(self._checked("get_setup_commands", self.get_setup_commands(), Command)),
            argv=() if command is None else tuple(self._in_container(site, command, context.run_id)),
            srun=site.submitter == "slurm",
            rules=site.rules,
            shapes=site.nodes,
        )

    # What the two roles add.

    def _service_spec(self, site: Site, context: JobContext) -> ServiceSpec | None:  # noqa: ARG002
        return None

    def _client_spec(self, context: JobContext) -> ClientSpec | None:  # noqa: ARG002
        return None

    def _alone(self, site: Site, node_digest: str) -> JobContext:  # noqa: ARG002
        return JobContext(run_id="manual", node_digest=node_digest, time_s=self.resources.time_s or 1800.0)

    # Parts.

    def _image_spec(self, site: Site) -> ImageSpec | None:
        """Return what the node checks of the image, where it is from the site's cache."""
        cached = None if site.runtime == "host" or self.image is None else site.cached.get(self.image)
        if cached is None or self.image in site.images:
            return None
        return ImageSpec(str(self.image), cached.path, cached.digest, cached.size_bytes, cached.modified_s)

    def _in_container(self, site: Site, command: Command, run_id: str) -> list[str]:
        run_folder = f"{site.runs}/{run_id}"
        return container_argv(
            site,
            self.image,
            command.encoded(),
            run_folder=run_folder,
            gpus=self.resources.gpus,
            job=self.name,
            binds=self.get_binds(),
        )

    def _without_environment(self, command: Command) -> Command:
        if command.environment:
            raise TypeError(
                f"{type(self).__name__}: {command.argv[0]!r} has an environment of its own; "
                f"only the container command may, variables of every command of the job belong into get_environment()"
            )
        return command

    def _environment(self, site: Site, of_command: Mapping[str, Argument]) -> dict[str, str]:
        values = {name: encode(value) for name, value in {**self.get_environment(), **of_command}.items()}
        values.update((name, placeholders.literal(value)) for name, value in self.environment.items())
        for name in values:
            if not VARIABLE.fullmatch(name):
                raise UsageError(
                    f"{self.name}: {name!r} is not the name of an environment variable",
                    "letters, digits and underscores, no digit first",
                )
        return container_environment(site, values)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Make whatever a step raises an error of the plugin's, without a traceback for the user."""
        try:
            yield
        except AifactoryBenchError:
            raise
        except Exception as error:
            cause = str(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {error}"
            raise PluginError(f"kind {self.kind}, {type(self).__module__}.{type(self).__qualname__}: {cause}") from error

    def _checked(self, step: str, values: Any, kind: type) -> list[Any]:
        """Return what a step gave as a list, or say what it should have given."""
        where = f"{type(self).__name__}.{step}()"
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise TypeError(f"{where} must return a sequence of {kind.__name__} values, got {values!r}")
        for value in values:
            if isinstance(value, str):
                raise TypeError(
                    f"{where} returned the text {value!r} where a {kind.__name__} is needed: text would have to be split "
                    f"by a shell, and recipe values never become shell; write {kind.__name__}([...]) with one item an argument"
                )
            if not isinstance(value, kind):
                raise TypeError(f"{where} must return {kind.__name__} values, got {value!r}")
        return list(values)


def _fabric(site: Site) -> dict[str, Any]:
    """Return how nodes are reached over the site's fast network, as the node gets it."""
    found: dict[str, Any] = {}
    if site.rules.fabric_suffix:
        found["suffix"] = site.rules.fabric_suffix
    if site.interfaces:
        found["interfaces"] = list(site.interfaces)
    return found


def parameters_to_json(parameters: Any) -> dict[str, Any]:
    """Return parameters as the node gets them: field names with their unit, nested values plain, as JSON has them."""
    return attrs.asdict(
        parameters, value_serializer=lambda _object, _field, value: list(value) if isinstance(value, tuple) else value
    )
