"""llama-server of llama.cpp: one GGUF file behind an OpenAI interface."""

from collections.abc import Mapping, Sequence

from attrs import field, frozen, validators

from aifactory_bench import BIND, PORT, SECRET, Argument, BaseJob, Command, RecipeError, Service, hookimpl

from .extra_arguments import Scalar, check_model, check_names, extra_arguments, staged_model

_TAKEN = {
    **dict.fromkeys(("host", "port", "reuse-port"), "the run gives the address"),
    **dict.fromkeys(("api-key", "api-key-file", "ssl-key-file", "ssl-cert-file"), "the run gives the key"),
    **dict.fromkeys(("metrics", "no-metrics", "ui", "webui", "no-ui", "no-webui"), "it is set for every run"),
    **{name: f"write the parameter {name}" for name in ("model", "alias", "parallel", "threads")},
    "ctx-size": "write the parameter context",
    "gpu-layers": "write the parameter gpu_layers",
    "n-gpu-layers": "write the parameter gpu_layers",
    "cache-prompt": "write the parameter prompt_cache",
    "no-cache-prompt": "write the parameter prompt_cache",
}
_POSITIVE = validators.optional(validators.ge(1))


@frozen
class LlamaServerParameters:
    """What a recipe says about a llama-server."""

    model: str = field(validator=check_model(paths_only=True))
    """Absolute path of the GGUF file on the node."""
    stage_from: str | None = field(default=None, validator=validators.optional(check_model(paths_only=True)))
    """File that is copied to `model` before, in a job of its own without GPUs, unless `model` is there."""
    alias: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """What requests call the model. None: the file's name."""
    context: int | None = field(default=None, validator=_POSITIVE)
    """Tokens that all slots have together. None: what the model was made for."""
    parallel: int | None = field(default=None, validator=_POSITIVE)
    """Slots: requests that are worked on at a time. None: llama-server's own."""
    threads: int | None = field(default=None, validator=_POSITIVE)
    """CPU threads for generation. None: llama-server's own."""
    gpu_layers: int | None = field(default=None, validator=validators.optional(validators.ge(0)))
    """Layers that are kept on GPUs. None: llama-server's own."""
    prompt_cache: bool = True
    """Whether a slot keeps the prompt that it had, and leaves out what the next one begins with alike."""
    program: str = field(default="llama-server", validator=validators.min_len(1))
    """Name or path of the program; in the image that llama.cpp publishes it is `/app/llama-server`."""
    extra_args: Mapping[str, Scalar] = field(factory=dict, validator=check_names(_TAKEN))
    """Further options by name: `{flash-attn: "on"}`; true: the bare option, false: its `--no-` form."""


class LlamaServerService(Service):
    """llama-server with an API key of its own for the run, and its metrics."""

    kind = "llama-server"
    Parameters = LlamaServerParameters
    node_module = "aifactory_bench_services.llama_server_node"
    default_image = "docker://ghcr.io/ggml-org/llama.cpp:server-b11176"
    scheme = "http"
    default_ready_timeout_s = 600.0
    parameters: LlamaServerParameters

    def get_environment(self) -> Mapping[str, Argument]:
        """Return the key, which is in no argument vector."""
        return {"LLAMA_API_KEY": SECRET}

    def get_binds(self) -> Sequence[str]:
        """Return where the model is."""
        return [self.parameters.model]

    def get_staged_paths(self) -> Mapping[str, str]:
        """Return where the model is to be, and where it comes from."""
        return staged_model(self.name, self.parameters.model, self.parameters.stage_from)

    def get_service_setup_commands(self) -> Sequence[Command]:
        """Return a look at the file, so that a wrong path is told by name and at once."""
        return [Command(["ls", "-d", "--", self.parameters.model])]

    def get_container_command(self) -> Command:
        """Return `llama-server` with its options.

        Raises:
            RecipeError: layers are wanted on GPUs, and the recipe asks for none.
        """
        parameters = self.parameters
        if parameters.gpu_layers and not self.resources.gpus:
            raise RecipeError(
                f"services.{self.name}: gpu_layers is {parameters.gpu_layers}, and resources.gpus is 0",
                "write resources: {gpus: 1}, or gpu_layers: 0",
            )
        options: dict[str, Scalar | None] = {
            "model": parameters.model,
            "alias": parameters.alias,
            "ctx-size": parameters.context,
            "parallel": parameters.parallel,
            "threads": parameters.threads,
            "gpu-layers": parameters.gpu_layers,
            "cache-prompt": parameters.prompt_cache,
            "metrics": True,
            "webui": False,
            **parameters.extra_args,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return Command([parameters.program, "--host", BIND, "--port", PORT, *extra_arguments(given, joined=False)])


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server."""
    return [LlamaServerService]
