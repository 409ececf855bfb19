"""The service `ollama`, with a double of the program that follows Ollama's contract: the real one cannot be had here."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import aifactory_bench
from aifactory_bench import JobFactory, RecipeError, ServiceEntry, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.contract import NotReady
from aifactory_bench_services import ollama_node
from aifactory_bench_services.ollama import OllamaParameters, OllamaService

DOUBLE = Path(__file__).with_name("ollama_double.py")
MODEL = "words:1b"
LIBRARY = {MODEL: {"size": 123_456, "quantization": "Q8_0", "parameters": "1.0B", "load_s": 1.5, "pull_s": 0.3}}


@pytest.fixture
def programs(ollama_program):
    """A folder with `ollama`, whose library holds one model."""
    return ollama_program(LIBRARY)


def ask(url, body=None):
    """The JSON objects of an answer, one a line."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
        return [json.loads(line) for line in answer]


def compose(**parameters):
    job = OllamaService("llm", OllamaParameters(**{"model": MODEL, **parameters}))
    return job.compose(load_site("local"), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))


def test_a_model_is_pulled_loaded_and_asked_before_the_service_is_ready(deploy, programs):
    """What each step took stands apart, and what the model is stands in the facts."""
    deployed = deploy(OllamaService("llm", OllamaParameters(model=MODEL, parallel=2, context_length=2048)), programs)
    endpoint = deployed.endpoint()
    facts = endpoint.facts
    assert facts["server_name"] == "ollama"
    assert facts["server_version"].endswith("double")
    assert (facts["model"], facts["quantization"], facts["model_parameters"]) == (MODEL, "Q8_0", "1.0B")
    assert facts["model_size_bytes"] == 123_456
    assert len(facts["digest"]) == 64
    assert facts["max_model_len"] == 2048
    assert 0.3 <= facts["model_pull_s"] < 10
    assert 1.5 <= facts["model_load_s"] < 10
    assert facts["first_completion_s"] < 1.5
    phases = [event["name"] for event in deployed.events("phase")]
    assert phases == ["start", "ready", "pull", "ready", "measure"]
    lines = ask(f"{endpoint.url}/api/generate", {"model": MODEL, "prompt": "one two", "options": {"num_predict": 5}})
    assert [line["done"] for line in lines] == [False] * 5 + [True]
    assert (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"], lines[-1]["done_reason"]) == (2, 5, "length")
    assert deployed.stop()["outcome"] == "stopped"
    assert "success" in deployed.log()


def test_a_model_that_is_there_needs_no_network(deploy, programs, tmp_path, monkeypatch):
    """`pull: false` on an offline node: the folder was filled before, and nothing is downloaded."""
    models = tmp_path / "models"
    models.mkdir()
    first = deploy(OllamaService("llm", OllamaParameters(model=MODEL, models=str(models))), programs)
    first.endpoint()
    first.stop()
    monkeypatch.delenv("OLLAMA_DOUBLE_LIBRARY")
    second = deploy(OllamaService("llm", OllamaParameters(model=MODEL, models=str(models), pull=False)), programs)
    facts = second.endpoint().facts
    assert facts["quantization"] == "Q8_0"
    assert "model_pull_s" not in facts
    assert [event["name"] for event in second.events("phase")] == ["start", "ready", "measure"]


def test_a_model_that_cannot_be_pulled_ends_the_job_and_says_why(deploy, programs):
    """At once, with what Ollama said, and with nothing left running."""
    record = deploy(OllamaService("llm", OllamaParameters(model="unknown:7b")), programs).record()
    assert record["outcome"] == "failed"
    assert record["text"].startswith("bringing the model into place failed: ollama ended with exit code 1")
    assert "file does not exist" in record["log_tail"]
    assert record["phases_s"]["pull"] > 0


def test_a_pull_that_takes_too_long_is_ended(deploy, programs, tmp_path, monkeypatch):
    """The time to get ready is for all steps together."""
    library = tmp_path / "slow.json"
    library.write_text(json.dumps({MODEL: {**LIBRARY[MODEL], "pull_s": 600}}))
    monkeypatch.setenv("OLLAMA_DOUBLE_LIBRARY", str(library))
    record = deploy(OllamaService("llm", OllamaParameters(model=MODEL)), programs, ready_timeout_s=2.0).record()
    assert record["outcome"] == "not_ready"
    assert "ollama did not bring the model into place within 2 s" in record["text"]


def test_a_server_that_dies_during_the_pull_is_told_as_that(deploy, programs, tmp_path, monkeypatch):
    """Not as a pull that failed."""
    library = tmp_path / "slow.json"
    library.write_text(json.dumps({MODEL: {**LIBRARY[MODEL], "pull_s": 600}}))
    monkeypatch.setenv("OLLAMA_DOUBLE_LIBRARY", str(library))
    (programs / "ollama").write_text(
        f'#!/bin/sh\nif [ "$1" = serve ]; then exec timeout -s KILL 2 {sys.executable} {DOUBLE} serve; fi\n'
        f'if [ "$1" = pull ]; then exec sleep 600; fi\nexec {sys.executable} {DOUBLE} "$@"\n'
    )
    record = deploy(OllamaService("llm", OllamaParameters(model=MODEL)), programs).record()
    assert record["outcome"] == "failed"
    assert "before it was ready" in record["text"]


def test_a_program_that_is_not_there_is_named(deploy, tmp_path):
    """Before anything is started."""
    record = deploy(OllamaService("llm", OllamaParameters(model=MODEL)), tmp_path).record()
    assert record["outcome"] == "failed"
    assert "preparing the service on" in record["text"]
    assert "ollama" in record["text"]
    assert "No such file or directory" in record["text"]


def test_a_folder_of_models_that_is_not_there_is_named(deploy, programs, tmp_path):
    """With the node on which it was looked for."""
    parameters = OllamaParameters(model=MODEL, models=str(tmp_path / "nowhere"), pull=False)
    record = deploy(OllamaService("llm", parameters), programs).record()
    assert record["outcome"] == "failed"
    assert str(tmp_path / "nowhere") in record["text"]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_the_double_in_front_of_the_truth_server(deploy, programs, monkeypatch, path):
    """Answers whose truth is known behind a service that was pulled, loaded and asked."""
    node = str(Path(aifactory_bench.__file__).parents[1])
    truth = subprocess.Popen(
        [sys.executable, "-m", "aifactory_bench.node", "truth-server", "--port", "0", "--ttft", "20ms", "--gap", "5ms"],
        env={**os.environ, "PYTHONPATH": node},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert truth.stdout is not None
        monkeypatch.setenv("OLLAMA_DOUBLE_UPSTREAM", truth.stdout.readline().split()[-1])
        url = deploy(OllamaService("llm", OllamaParameters(model=MODEL)), programs).endpoint().url
        asked = {"prompt": "one two"} if path == "/api/generate" else {"messages": [{"role": "user", "content": "one two"}]}
        lines = ask(f"{url}{path}", {"model": MODEL, **asked, "options": {"num_predict": 4}, "afb_truth": True})
        stamps = [line["afb"] for line in lines if not line["done"]]
        assert len(stamps) == 4
        assert stamps[0][1] - stamps[0][0] >= 20_000_000
        assert lines[-1]["eval_count"] == 4
    finally:
        truth.terminate()
        truth.communicate(timeout=10)


def test_settings_are_variables():
    """Nothing but the model's name is an argument, and the server does not unload the model by itself."""
    script = compose(parallel=4, context_length=8192, flash_attention=True, max_queue=64, models="/models", keep_alive_s=300.0)
    assert script.spec.environment == {
        "OLLAMA_HOST": "@{bind}:@{port}",
        "OLLAMA_MODELS": "/models",
        "OLLAMA_KEEP_ALIVE": "300s",
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_MAX_QUEUE": "64",
        "OLLAMA_FLASH_ATTENTION": "1",
    }
    assert script.argv == ("env", "HOME=@{folder}", "ollama", "serve")
    assert script.spec.service.model_pull == [["env", "HOME=@{folder}", "ollama", "pull", MODEL]]
    assert script.spec.service.prepare[0] == ["ls", "-d", "--", "/models"]
    assert compose().spec.environment["OLLAMA_KEEP_ALIVE"] == "-1"
    assert compose().spec.environment["OLLAMA_MODELS"] == "@{folder}/models"
    assert compose().spec.service.ready_timeout_s == 120.0  # of the context; a plan gives the class's own
    assert OllamaService.default_ready_timeout_s == 1800.0


def test_a_model_that_can_be_nowhere_is_refused():
    """Neither downloaded nor brought along."""
    with pytest.raises(RecipeError, match="pull: false, and no models"):
        compose(pull=False)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "model: missing"),
        ({"model": "--help"}, "must be the name of a model"),
        ({"model": MODEL, "models": "models"}, "must be an absolute path"),
        ({"model": MODEL, "parallel": 0}, "at least 1"),
        ({"model": MODEL, "keep_alive": 300}, "must be a duration"),
        ({"model": MODEL, "api_key": "x"}, "unknown key"),
    ],
)
def test_wrong_parameters(parameters, text):
    """Each with its place."""
    with pytest.raises(RecipeError) as raised:
        JobFactory().create_service(ServiceEntry("llm", kind="ollama", parameters=parameters))
    assert text in raised.value.text


def test_a_server_without_the_model_is_not_ready(deploy, programs, tmp_path):
    """Which models it has is said."""
    models = tmp_path / "models"
    models.mkdir()
    deployed = deploy(OllamaService("llm", OllamaParameters(model=MODEL, models=str(models))), programs)
    endpoint = deployed.endpoint()
    with pytest.raises(NotReady, match="no model 'other'; it has: words:1b"):
        ollama_node.probe(endpoint, "", {"model": "other"})
    # One that runs already, without a word about the model: its first.
    assert ollama_node.probe(endpoint, "", {})["model"] == MODEL
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(f"{endpoint.url}/api/generate", {"model": "other", "prompt": "x"})


def test_the_double_speaks_as_the_contract_says(programs, tmp_path):
    """Load and unload, errors, pulls that are streamed or not, versions: what the tests above rest on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OLLAMA_HOST": f"127.0.0.1:{port}"}
    server = subprocess.Popen([programs / "ollama", "serve"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        server.stderr.readline()
        url = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.read() == b"Ollama is running"
        assert ask(f"{url}/api/tags") == [{"models": []}]
        pulled = ask(f"{url}/api/pull", {"model": MODEL})
        assert pulled[0] == {"status": "pulling manifest"}
        assert pulled[-1] == {"status": "success"}
        assert ask(f"{url}/api/pull", {"model": MODEL, "stream": False}) == [{"status": "success"}]
        assert "error" in ask(f"{url}/api/pull", {"model": "none"})[-1]
        assert ask(f"{url}/api/ps") == [{"models": []}]
        (loaded,) = ask(f"{url}/api/generate", {"model": MODEL})
        assert (loaded["response"], loaded["done"], loaded["done_reason"]) == ("", True, "load")
        assert ask(f"{url}/api/ps")[0]["models"][0]["name"] == MODEL
        (said,) = ask(f"{url}/api/chat", {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": False})
        assert said["message"]["role"] == "assistant"
        assert said["eval_count"] == 16
        assert ask(f"{url}/api/generate", {"model": MODEL, "keep_alive": 0})[0]["done_reason"] == "unload"
        assert ask(f"{url}/api/ps") == [{"models": []}]
    finally:
        server.terminate()
        server.communicate(timeout=10)
