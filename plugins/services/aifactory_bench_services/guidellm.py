"""GuideLLM as a client of any OpenAI server."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import RAW, Argument, BaseJob, Command, DurationS, Joined, Load, Placeholder, RecipeError, hookimpl

from .llm_parameters import TIMEOUT_S
from .llm_tool import PATHS, SEED, LlmToolClient, TokenizerParameters, plain

OUTPUT = "guidellm.json"


@frozen
class GuidellmParameters(TokenizerParameters):
    """What a recipe says about the load of GuideLLM."""

    cooldown_s: DurationS = field(default=DurationS(10.0), validator=validators.ge(DurationS(0)), kw_only=True)
    """How long the load goes on after the window, for answers of the window to come to their end: at its own end the tool
    cancels what is in flight. Requests of the window that take longer count as errors."""


class GuidellmClient(LlmToolClient):
    """`guidellm run` for a fixed time; `workers` are its processes."""

    kind = "guidellm"
    Parameters = GuidellmParameters
    node_module = "aifactory_bench_services.guidellm_node"
    default_image = "docker://ghcr.io/vllm-project/guidellm:latest"
    program = "guidellm"
    slos: ClassVar = ("ttft", "ttfo", "tpot", "e2e")

    def get_environment(self) -> Mapping[str, Argument]:
        """Return the run's key, where the tool looks for it, the number of its processes, and that nothing is to be fetched."""
        return {
            "GUIDELLM__SPEC__BACKEND__API_KEY": self.target_endpoint.secret,
            "GUIDELLM__MAX_WORKER_PROCESSES": self.load.workers,
            "HF_HUB_OFFLINE": "1",
        }

    def get_benchmark_commands(self, load: Load, parameters: GuidellmParameters) -> Sequence[Command]:
        """Return the one command of a point."""
        self.check_load(load)
        target = self.target_endpoint
        closed = load.process == "closed"
        profile = ("kind=concurrent,streams=",) if closed else (f"kind={load.process},rate=", Placeholder("share.rate"))
        lasts_s = load.warmup_s + load.duration_s + parameters.cooldown_s
        cap = () if closed else (",max_concurrency=",)
        return [
            Command(
                [
                    *("guidellm", "run", "--disable-console"),
                    "--backend",
                    Joined(
                        (
                            *("kind=openai_http,target=", target.url, f",model={parameters.model}"),
                            f",request_format={PATHS[parameters.api]},validate_backend=false",
                            f",timeout={plain(load.timeout_s or TIMEOUT_S)}",
                        )
                    ),
                    "--profile",
                    Joined(
                        (
                            *(*profile, *cap, self.in_flight(load)),
                            f",warmup.value={plain(load.warmup_s)},warmup.mode=duration",
                            f",cooldown.value={plain(parameters.cooldown_s)},cooldown.mode=duration",
                        )
                    ),
                    *("--constraint", f"kind=max_duration,seconds={plain(lasts_s)}"),
                    *("--tokenizer", f"kind=huggingface_auto,model={parameters.tokenizer}", "--data"),
                    f"kind=synthetic_text,prompt_tokens={parameters.input_tokens},output_tokens={parameters.output_tokens}",
                    *("--seed", Joined(("kind=static,value=", SEED))),
                    # The times of every request are kept, their texts are not.
                    *("--metrics", "kind=generative,sample_size=0"),
                    *("--output", Joined(("kind=json,path=", RAW, f"/{OUTPUT}"))),
                ]
            )
        ]

    def check_load(self, load: Load) -> None:
        """Refuse a load that the tool cannot offer.

        Raises:
            RecipeError: as any tool; or poisson from several processes, or workers that differ from point to point.
        """
        super().check_load(load)
        where = f"clients.{self.name}.load.workers"
        if load.workers != self.load.workers:
            raise RecipeError(f"{where}: guidellm learns of them once a job, found {self.load.workers} and {load.workers}")
        if load.process == "poisson" and load.workers != 1:
            raise RecipeError(
                f"{where}: {load.workers} with process: poisson; each process of guidellm draws the same gaps, so that "
                f"arrivals come in groups of equal gaps",
                "write workers: 1, or process: constant, or use the kind openai-load",
            )


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [GuidellmClient]
