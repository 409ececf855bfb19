"""`vllm bench serve`, the load tool that comes with vLLM, as a client of any OpenAI server."""

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import RAW, Argument, BaseJob, Command, Joined, Load, Placeholder, RecipeError, hookimpl

from .llm_tool import PATHS, SEED, LlmToolClient, LlmToolParameters, check_tokenizer, plain

OUTPUT = "vllm-bench.json"
PROMPTS = "prompts.jsonl"


@frozen
class VllmBenchParameters(LlmToolParameters):
    """What a recipe says about the load of vllm bench serve."""

    tokenizer: str | None = field(default=None, validator=validators.optional(check_tokenizer), kw_only=True)
    """Folder of the model's tokenizer on the client's node; nothing is downloaded. None: prompts are made of `input_tokens`
    short words, which most vocabularies have as one token each."""
    requests: int | None = field(
        default=None, validator=validators.optional([validators.ge(1), validators.le(100_000_000)]), kw_only=True
    )
    """Closed loop only, and then needed: requests of all replicas together, those of the warm-up included; the tool has no
    duration. In open loop they follow from `rate`, `warmup` and `duration`."""


class VllmBenchClient(LlmToolClient):
    """`vllm bench serve` with its records of each request; what it sent in the warm-up is cut off afterwards."""

    kind = "vllm-bench"
    Parameters = VllmBenchParameters
    node_module = "aifactory_bench_services.vllm_bench_node"
    default_image = "docker://vllm/vllm-openai:latest"
    program = "vllm bench serve"
    arrivals = ("closed", "constant", "poisson", "gamma")
    many_workers = False
    slos: ClassVar = ("ttft", "tpot", "stall", "e2e")

    def get_environment(self) -> Mapping[str, Argument]:
        """Return the run's key, where the tool looks for it, and that nothing is to be fetched or sent home."""
        return {
            "OPENAI_API_KEY": self.target_endpoint.secret,
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }

    def get_benchmark_commands(self, load: Load, parameters: VllmBenchParameters) -> Sequence[Command]:
        """Return the one command of a point."""
        self.check_load(load)
        closed = load.process == "closed"
        self._check_requests(load, parameters)
        return [
            Command(
                [
                    *("vllm", "bench", "serve", "--backend", "openai-chat" if parameters.api == "chat" else "openai"),
                    *("--base-url", self.target_endpoint.url, "--endpoint", PATHS[parameters.api], "--model", parameters.model),
                    *_prompts(parameters),
                    *("--num-prompts", Placeholder("share.requests") if closed else self.open_requests(load)),
                    *("--max-concurrency", self.in_flight(load)),
                    *("--request-rate", "inf" if closed else Placeholder("share.rate")),
                    *("--burstiness", "inf" if load.process == "constant" else plain(load.burstiness or 1.0)),
                    *("--seed", SEED, "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99,99.9"),
                    *("--save-result", "--save-detailed", "--result-dir", RAW, "--result-filename", OUTPUT),
                    # The trial request before the run would put its prompt into the cache, and the server would count it.
                    *("--ready-check-timeout-sec", "0", "--disable-tqdm"),
                ]
            )
        ]

    def _check_requests(self, load: Load, parameters: VllmBenchParameters) -> None:
        where = f"clients.{self.name}.parameters.requests"
        if load.process == "closed" and parameters.requests is None:
            raise RecipeError(
                f"{where}: missing; vllm bench serve has no duration, in closed loop it ends after so many requests",
                f"write what fits into the {plain(load.warmup_s + load.duration_s)} s of warmup and duration, "
                f"such as requests: 1000",
            )
        if load.process == "closed" and parameters.requests is not None and parameters.requests < self.replicas:
            raise RecipeError(f"{where}: {parameters.requests} for {self.replicas} replicas, at least one each is needed")
        if load.process != "closed" and parameters.requests is not None:
            raise RecipeError(
                f"{where}: is for process: closed; with {load.process} the requests follow from rate, warmup and duration",
                "leave it out",
            )


def _prompts(parameters: VllmBenchParameters) -> Sequence[Argument]:
    """Return where prompts come from: made by the tool with a tokenizer, or from a file that the job has written."""
    if parameters.tokenizer is not None:
        return [
            *("--tokenizer", parameters.tokenizer, "--dataset-name", "random"),
            *("--random-input-len", parameters.input_tokens, "--random-output-len", parameters.output_tokens, "--ignore-eos"),
        ]
    # Without a tokenizer the tool asks for one token whatever the file says, unless the body says otherwise.
    limit = "max_completion_tokens" if parameters.api == "chat" else "max_tokens"
    body = json.dumps({limit: parameters.output_tokens, "ignore_eos": True})
    return [
        *("--skip-tokenizer-init", "--dataset-name", "custom", "--dataset-path", Joined((RAW, f"/{PROMPTS}"))),
        *("--skip-chat-template", "--disable-shuffle", "--extra-body", body),
    ]


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [VllmBenchClient]
