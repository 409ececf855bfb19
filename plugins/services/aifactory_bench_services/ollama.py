"""Ollama: its server with one model, brought into place by Ollama itself where it may."""

from collections.abc import Mapping, Sequence

from attrs import field, frozen, validators

from aifactory_bench import (
    BIND,
    FOLDER,
    PORT,
    Argument,
    BaseJob,
    Command,
    DurationS,
    Joined,
    RecipeError,
    Service,
    hookimpl,
)

from .extra_arguments import check_model, paths_of

_POSITIVE = validators.optional(validators.ge(1))


def _check_name(_instance: object, _attribute: object, value: str) -> None:
    if not value or not value.isprintable() or value.startswith(("-", "/", ".", "~")) or " " in value:
        raise ValueError(f"must be the name of a model, such as llama3.2:3b; found {value!r}")


@frozen
class OllamaParameters:
    """What a recipe says about an Ollama server."""

    model: str = field(validator=_check_name)
    """Name of the model in Ollama's library, such as `llama3.2:3b`; without a tag it is `latest`."""
    pull: bool = True
    """Download the model if it is not in `models`. `false` where nodes are offline: it must be there."""
    models: str | None = field(default=None, validator=validators.optional(check_model(paths_only=True)))
    """Folder on the node where Ollama keeps models; it outlives the run. None: the job's private folder, new for each run."""
    parallel: int | None = field(default=None, validator=_POSITIVE)
    """Requests that are worked on at a time. None: Ollama's own."""
    context_length: int | None = field(default=None, validator=_POSITIVE)
    """Tokens of one request, prompt and answer together. None: Ollama's own."""
    keep_alive_s: DurationS | None = field(default=None, validator=validators.optional(validators.ge(DurationS(1.0))))
    """How long the model stays in memory after a request. None: as long as the server runs."""
    flash_attention: bool | None = None
    """None: Ollama's own."""
    max_queue: int | None = field(default=None, validator=_POSITIVE)
    """Requests that may wait; more are refused with status 503. None: Ollama's own."""


class OllamaService(Service):
    """Ollama's server with its model in memory; it knows no password."""

    kind = "ollama"
    Parameters = OllamaParameters
    node_module = "aifactory_bench_services.ollama_node"
    default_image = "docker://ollama/ollama:0.24.0"
    scheme = "http"
    default_ready_timeout_s = 1800.0
    parameters: OllamaParameters

    def get_environment(self) -> Mapping[str, Argument]:
        """Return Ollama's settings, all of which are variables."""
        parameters = self.parameters
        flash = parameters.flash_attention
        values: dict[str, Argument | None] = {
            "OLLAMA_HOST": Joined((BIND, ":", PORT)),
            "OLLAMA_MODELS": parameters.models or Joined((FOLDER, "/models")),
            "OLLAMA_KEEP_ALIVE": "-1" if parameters.keep_alive_s is None else f"{parameters.keep_alive_s:g}s",
            "OLLAMA_NUM_PARALLEL": parameters.parallel,
            "OLLAMA_MAX_LOADED_MODELS": 1,
            "OLLAMA_CONTEXT_LENGTH": parameters.context_length,
            "OLLAMA_MAX_QUEUE": parameters.max_queue,
            "OLLAMA_FLASH_ATTENTION": None if flash is None else str(int(flash)),
        }
        return {name: value for name, value in values.items() if value is not None}

    def get_binds(self) -> Sequence[str]:
        """Return where models are kept."""
        return paths_of((self.parameters.models,))

    def get_service_setup_commands(self) -> Sequence[Command]:
        """Return a call of the program, so that one that is not there is told at once."""
        look = [Command(["ls", "-d", "--", self.parameters.models])] if self.parameters.models is not None else []
        return [*look, _at_home(["ollama", "--version"])]

    def get_container_command(self) -> Command:
        """Return `ollama serve`.

        Raises:
            RecipeError: the model can be nowhere.
        """
        if not self.parameters.pull and self.parameters.models is None:
            raise RecipeError(
                f"services.{self.name}.parameters: pull: false, and no models: the model can be nowhere",
                "write models: the folder on the node where the model was pulled to before",
            )
        return _at_home(["ollama", "serve"])

    def get_model_pull_commands(self) -> Sequence[Command]:
        """Return `ollama pull`, unless nothing may be downloaded."""
        return [_at_home(["ollama", "pull", self.parameters.model])] if self.parameters.pull else []


def _at_home(argv: Sequence[str]) -> Command:
    # Ollama writes a key of its own to its home. A container has no home of ours, and its runtime lets none be given.
    return Command(["env", Joined(("HOME=", FOLDER)), *argv])


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server."""
    return [OllamaService]
