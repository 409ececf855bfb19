"""AIPerf as a client of any OpenAI server."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import FOLDER, RAW, Argument, BaseJob, Command, File, Joined, Load, Placeholder, hookimpl

from .llm_parameters import TIMEOUT_S
from .llm_tool import SEED, LlmToolClient, TokenizerParameters, plain

CONFIGURATION = "aiperf.yaml"


@frozen
class AiperfParameters(TokenizerParameters):
    """What a recipe says about the load of AIPerf."""

    prompts: int = field(default=1000, validator=[validators.ge(1), validators.le(10_000_000)], kw_only=True)
    """Closed loop: different prompts of a replica; those are made before the run, and come again when they are used up. In open
    loop there is one for each request."""


class AiperfClient(LlmToolClient):
    """`aiperf profile` for a fixed time with a warm-up of its own; `workers` are the most processes that send."""

    kind = "aiperf"
    Parameters = AiperfParameters
    node_module = "aifactory_bench_services.aiperf_node"
    program = "aiperf"
    arrivals = ("closed", "constant", "poisson", "gamma")
    slos: ClassVar = ("ttft", "ttfo", "tpot", "stall", "e2e")

    def get_environment(self) -> Mapping[str, Argument]:
        """Return the run's key, for the configuration to take it from, and that a tokenizer's folder is no name of a hub's."""
        return {"OPENAI_API_KEY": self.target_endpoint.secret, "HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": ""}

    def get_files(self) -> Sequence[File]:
        """Return the configuration: the key comes from the environment, which no option of the command can say."""
        return [
            File(
                CONFIGURATION,
                [
                    'schemaVersion: "2.0"',
                    "benchmark:",
                    "  model: the-commands",
                    '  endpoint: {url: "http://127.0.0.1:1", api_key: "${OPENAI_API_KEY:}"}',
                    # What is needed of a configuration; the command says otherwise.
                    "  dataset: {type: synthetic, prompts: {isl: 1, osl: 1}}",
                    "  phases: {type: concurrency, concurrency: 1, duration: 1}",
                ],
            )
        ]

    def get_benchmark_commands(self, load: Load, parameters: AiperfParameters) -> Sequence[Command]:
        """Return the one command of a point."""
        self.check_load(load)
        arrivals: list[Argument] = ["--concurrency", self.in_flight(load)]
        if load.process != "closed":
            arrivals += ["--request-rate", Placeholder("share.rate"), "--arrival-pattern", load.process]
        if load.process == "gamma":
            arrivals += ["--arrival-smoothness", plain(load.burstiness or 1.0)]
        if load.warmup_s:
            arrivals += ["--warmup-duration", plain(load.warmup_s)]
        # The last request of a constant rate would be due at the very end, where it is not sent any more.
        more_s = self.replicas / load.rate_per_s / 2 if load.process == "constant" and load.rate_per_s else 0.0
        timeout_s = plain(load.timeout_s or TIMEOUT_S)
        prompts = parameters.prompts if load.process == "closed" else self.open_requests(load)
        return [
            Command(
                [
                    *("aiperf", "profile", "--config", Joined((FOLDER, f"/{CONFIGURATION}")), "--model", parameters.model),
                    *("--url", self.target_endpoint.url, "--endpoint-type", parameters.api, "--streaming"),
                    *("--use-server-token-count", "--tokenizer", parameters.tokenizer, "--isl", parameters.input_tokens),
                    *("--osl", parameters.output_tokens, "--extra-inputs", "ignore_eos:true", "--num-dataset-entries", prompts),
                    *arrivals,
                    *("--benchmark-duration", plain(load.duration_s + more_s)),
                    *("--benchmark-grace-period", timeout_s, "--request-timeout-seconds", timeout_s),
                    *("--workers-max", load.workers, "--random-seed", SEED, "--artifact-dir", RAW, "--ui", "none"),
                    *("--no-server-metrics", "--no-gpu-telemetry"),
                ]
            )
        ]


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [AiperfClient]
