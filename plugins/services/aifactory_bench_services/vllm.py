"""vLLM: its OpenAI server, on the GPUs of one node a replica, or on its CPU."""

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import field, frozen, validators

from aifactory_bench import (
    BIND,
    FOLDER,
    PORT,
    SECRET,
    Argument,
    BaseJob,
    Command,
    Joined,
    RecipeError,
    Service,
    Share,
    SizeBytes,
    hookimpl,
)

from .extra_arguments import Scalar, check_model, check_names, extra_arguments, paths_of, staged_model

_TAKEN = {
    **dict.fromkeys(("host", "port", "uds"), "the run gives the address"),
    **dict.fromkeys(("api-key", "ssl-keyfile", "ssl-certfile"), "the run gives the key"),
    **{
        name: f"write the parameter {name.replace('-', '_')}"
        for name in (
            *("model", "served-model-name", "dtype", "quantization", "max-model-len", "max-num-seqs", "max-num-batched-tokens"),
            *("gpu-memory-utilization", "enforce-eager", "enable-prefix-caching", "load-format", "tokenizer", "revision"),
        )
    },
    "kv-cache-memory-bytes": "write the parameter kv_cache_memory",
    "tensor-parallel-size": "write the parameter tensor_parallel",
    "pipeline-parallel-size": "write the parameter pipeline_parallel",
    "data-parallel-size": "write the parameter data_parallel",
    "nnodes": "a replica runs on one node",
}
_POSITIVE = validators.optional(validators.ge(1))


@frozen
class VllmParameters:
    """What a recipe says about a vLLM server."""

    model: str = field(validator=check_model())
    """Absolute path of the model's folder on the node, or its reference on a hub, such as `org/name`."""
    stage_from: str | None = field(default=None, validator=validators.optional(check_model(paths_only=True)))
    """Folder that is copied to `model` before, in a job of its own without GPUs, unless `model` is there."""
    served_model_name: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """What requests call the model. None: what `model` says."""
    tensor_parallel: int = field(default=1, validator=validators.ge(1))
    """GPUs that share each layer."""
    pipeline_parallel: int = field(default=1, validator=validators.ge(1))
    """Groups of GPUs that share the layers."""
    data_parallel: int = field(default=1, validator=validators.ge(1))
    """Copies of the model behind one endpoint."""
    max_model_len: int | None = field(default=None, validator=_POSITIVE)
    """Longest prompt and answer together, in tokens. None: what the model was made for."""
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """Of weights and activations."""
    quantization: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """Method, such as `awq` or `fp8`. None: what the model says."""
    gpu_memory_utilization: Share | None = field(
        default=None, validator=validators.optional([validators.gt(Share(0.0)), validators.le(Share(1.0))])
    )
    """Share of each GPU's memory that is taken. None: vLLM's own."""
    kv_cache_memory_bytes: SizeBytes | None = field(
        default=None, validator=validators.optional(validators.ge(SizeBytes(1 << 20)))
    )
    """Memory for keys and values, in place of a share; on a CPU it should be set."""
    enforce_eager: bool = False
    """Neither compile the model nor capture graphs: starts sooner, answers slower."""
    max_num_seqs: int | None = field(default=None, validator=_POSITIVE)
    """Requests that are worked on at a time. None: vLLM's own."""
    max_num_batched_tokens: int | None = field(default=None, validator=_POSITIVE)
    """Tokens of one step. None: vLLM's own."""
    enable_prefix_caching: bool | None = None
    """Whether prompts that begin alike share their work. None: vLLM's own."""
    load_format: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """Of the weights; `dummy` takes random ones and needs no file. None: what is there."""
    tokenizer: str | None = field(default=None, validator=validators.optional(check_model()))
    """Path or reference. None: the model's own."""
    revision: str | None = field(default=None, validator=validators.optional(validators.min_len(1)))
    """Commit, tag or branch of the model on its hub."""
    offline: bool = True
    """Ask no hub for anything. `false`: the server may download the model as it starts, inside the allocation."""
    cache: str | None = field(default=None, validator=validators.optional(check_model(paths_only=True)))
    """Folder that outlives the run: hub downloads and compiled kernels. None: kernels are compiled anew for each run."""
    entry: Literal["command", "module"] = "command"
    """`command`: `vllm serve`; `module`: `python3 -m`, for installations whose command does not work."""
    extra_args: Mapping[str, Scalar] = field(factory=dict, validator=check_names(_TAKEN))
    """Further options by name: `{block-size: 32}`; true: the bare option, false: its `--no-` form."""


class VllmService(Service):
    """vLLM's OpenAI server with an API key of its own for the run."""

    kind = "vllm"
    Parameters = VllmParameters
    node_module = "aifactory_bench_services.vllm_node"
    default_image = "docker://vllm/vllm-openai:v0.29.0"
    scheme = "http"
    stop_timeout_s = 30.0
    default_ready_timeout_s = 900.0
    parameters: VllmParameters

    def get_environment(self) -> Mapping[str, Argument]:
        """Return the key, which is in no argument vector, what keeps the server from calling out, and where it may write."""
        cache = Joined((FOLDER, "/cache")) if self.parameters.cache is None else self.parameters.cache
        values: dict[str, Argument] = {
            "VLLM_API_KEY": SECRET,
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_CACHE_ROOT": _below(cache, "vllm"),
            "TRITON_CACHE_DIR": _below(cache, "triton"),
        }
        if self.parameters.offline:
            values["HF_HUB_OFFLINE"] = "1"
        if self.parameters.cache is not None:
            values["HF_HOME"] = _below(cache, "huggingface")
        return values

    def get_binds(self) -> Sequence[str]:
        """Return where model, tokenizer and cache are."""
        return paths_of((self.parameters.model, self.parameters.tokenizer, self.parameters.cache))

    def get_downloads(self) -> Sequence[str]:
        """Return the model where the server may ask its hub for it."""
        missing = not self.parameters.model.startswith("/") and not self.parameters.offline
        return (f"the model {self.parameters.model}",) if missing else ()

    def get_staged_paths(self) -> Mapping[str, str]:
        """Return where the model is to be, and where it comes from.

        Raises:
            RecipeError: the model is a reference, so that there is no place for a copy.
        """
        return staged_model(self.name, self.parameters.model, self.parameters.stage_from)

    def get_service_setup_commands(self) -> Sequence[Command]:
        """Return a look at the paths, so that a wrong one is told by name and at once."""
        paths = paths_of((self.parameters.model, self.parameters.tokenizer, self.parameters.cache))
        return [Command(["ls", "-d", "--", *paths])] if paths else []

    def get_container_command(self) -> Command:
        """Return `vllm serve` with its options.

        Raises:
            RecipeError: the GPUs that the parameters need are not those that the recipe asks for.
        """
        self._check_gpus()
        parameters = self.parameters
        start: list[Argument] = ["vllm", "serve", parameters.model]
        if parameters.entry == "module":
            start = ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", parameters.model]
        options: dict[str, Scalar | None] = {
            "served-model-name": parameters.served_model_name,
            "tensor-parallel-size": parameters.tensor_parallel if parameters.tensor_parallel > 1 else None,
            "pipeline-parallel-size": parameters.pipeline_parallel if parameters.pipeline_parallel > 1 else None,
            "data-parallel-size": parameters.data_parallel if parameters.data_parallel > 1 else None,
            "max-model-len": parameters.max_model_len,
            "dtype": parameters.dtype,
            "quantization": parameters.quantization,
            "gpu-memory-utilization": parameters.gpu_memory_utilization,
            "kv-cache-memory-bytes": parameters.kv_cache_memory_bytes,
            "enforce-eager": parameters.enforce_eager or None,
            "max-num-seqs": parameters.max_num_seqs,
            "max-num-batched-tokens": parameters.max_num_batched_tokens,
            "enable-prefix-caching": parameters.enable_prefix_caching,
            "load-format": parameters.load_format,
            "tokenizer": parameters.tokenizer,
            "revision": parameters.revision,
            # Without it usage does not tell how many tokens of a prompt a cache had.
            "enable-prompt-tokens-details": True,
            **parameters.extra_args,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return Command([*start, "--host", BIND, "--port", PORT, *extra_arguments(given, joined=True)])

    def _check_gpus(self) -> None:
        parameters, resources = self.parameters, self.resources
        where = f"services.{self.name}"
        factors = {name: getattr(parameters, name) for name in ("tensor_parallel", "pipeline_parallel", "data_parallel")}
        needed = parameters.tensor_parallel * parameters.pipeline_parallel * parameters.data_parallel
        said = " x ".join(f"{name} {value}" for name, value in factors.items())
        if resources.gpus != needed and (resources.gpus > 0 or needed > 1):
            raise RecipeError(
                f"{where}: {said} takes {needed} GPUs a replica, and resources.gpus is {resources.gpus} a node",
                f"a replica runs on one node: write resources: {{gpus: {needed}}}, or parameters with another product",
            )
        nodes = min(resources.nodes, self.replicas)
        if resources.gpus > 0 and self.replicas > nodes:
            raise RecipeError(
                f"{where}: {self.replicas} replicas on {nodes} nodes would share the {resources.gpus} GPUs of a node",
                f"write resources: {{nodes: {self.replicas}}}, or data_parallel in place of replicas on one node",
            )


def _below(folder: Argument, name: str) -> Argument:
    return Joined((*folder.parts, f"/{name}")) if isinstance(folder, Joined) else f"{folder}/{name}"


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server."""
    return [VllmService]
