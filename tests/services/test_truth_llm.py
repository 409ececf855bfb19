"""The truth server as a service: what a recipe says becomes a command, and the node module speaks with the real server."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from attrs import evolve

from aifactory_bench import JobFactory, RecipeError, ServiceEntry, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench.node.placeholders import resolve
from aifactory_bench.script.bundle import build_node_program
from aifactory_bench_services.truth_llm import TruthLlmParameters, TruthLlmService
from aifactory_bench_services.truth_llm_node import counters, probe

SECRET = "throw-away"
MODULE = "aifactory_bench_services.truth_llm_node"


@pytest.fixture
def compose(tmp_path):
    def compose(site=None, **parameters):
        job = TruthLlmService("llm", TruthLlmParameters(**parameters))
        return job.compose(site or load_site("local", runs=tmp_path), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))

    return compose


@pytest.fixture
def serve(compose, tmp_path):
    """Start the server as the node side would; returns its endpoint, folder, process and what the probe learned."""
    started = []

    def serve(**parameters):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        archive = tmp_path / "node.pyz"
        archive.write_bytes(build_node_program([MODULE]).data)
        folder = tmp_path / "work folder"
        folder.mkdir()
        values = {"port": str(port), "bind": "127.0.0.1", "secret": SECRET, "folder": str(folder), "node": str(archive)}
        script = compose(python=sys.executable, **parameters)
        environment = {name: resolve(value, values) for name, value in script.spec.environment.items()}
        argv = [resolve(part, values) for part in script.argv]
        assert SECRET not in " ".join(argv)
        server = subprocess.Popen(argv, cwd=folder, env={**os.environ, **environment})
        started.append(server)
        endpoint = Endpoint("llm", 0, "127.0.0.1", port, f"http://127.0.0.1:{port}")
        until = time.monotonic() + 10
        while True:
            try:
                return endpoint, folder, server, probe(endpoint, SECRET, {"model": script.spec.service.parameters["model"]})
            except NotReady:
                assert time.monotonic() < until
                time.sleep(0.02)

    yield serve
    for server in started:
        server.terminate()
        server.wait(10)


def test_it_answers_and_counts(serve):
    """The probe wants a token with the key; counters are those of all language models."""
    endpoint, folder, _, facts = serve(model="mine", ttft="20s", error_status=500, segment_bytes=5)
    assert facts == {"server_name": "truth-server", "server_version": facts["server_version"], "model": "mine"}
    assert facts["server_version"]
    with pytest.raises(NotReady, match="401"):
        probe(endpoint, "wrong", {})
    before = counters(endpoint, SECRET)
    assert (before["operations"], before["output_tokens"], before["prompt_tokens"]) == (2, 1, 1)
    assert (before["ttft_count"], before["ttft_s"] < 1) == (1, True)
    assert counters(endpoint, SECRET) == before
    assert list(folder.iterdir()) == []


def test_the_log_is_in_the_folder(serve):
    """Written when the service is stopped."""
    endpoint, folder, server, _ = serve()
    log = folder / "truth.jsonl"
    server.terminate()
    until = time.monotonic() + 10
    while not log.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    summary, record = map(json.loads, log.read_text().splitlines())
    assert (summary["requests"], record["output_tokens"]) == (1, 1)
    with pytest.raises(NotReady):
        probe(endpoint, SECRET, {})


def test_the_command(compose):
    """Only what differs from the defaults; the key comes through the environment."""
    script = compose()
    assert script.argv == (
        *("python3", "@{node}", "truth-server", "--host", "@{bind}", "--port", "@{port}"),
        *("--log", "@{folder}/truth.jsonl"),
    )
    assert script.spec.environment == {"AFB_TRUTH_KEY": "@{secret}"}
    assert "@{secret}" not in " ".join(script.argv)
    script = compose(ttft="uniform:10ms:20ms", tokens=5, slots=4, seed=9, stall=("3:1s", "5:1s"), segment_bytes=7, keep=9)
    assert script.argv[9:] == (
        *("--ttft", "uniform:10ms:20ms", "--tokens", "5", "--slots", "4", "--server-seed", "9"),
        *("--segment-bytes", "7", "--keep", "9", "--stall", "3:1s", "--stall", "5:1s"),
    )


def test_every_parameter_is_an_option_of_the_server(compose):
    """One that the server does not know would stop it."""
    from aifactory_bench.node.truth_server import _parser, _settings

    others = {
        "ttft": "1ms",
        "gap": "2ms",
        "tokens": 3,
        "tokens_per_chunk": 2,
        "slots": 1,
        "seed": 5,
        "model": "x",
        "prompt_tokens": 4,
        "cached_tokens": 2,
        "reasoning": 1,
        "role": "none",
        "empty_before": 1,
        "empty_every": 2,
        "usage": "last",
        "stall": ("1:1ms",),
        "error_status": 500,
        "error_after": 1,
        "abort_after": 2,
        "fault_share": 0.5,
        "text": "utf8",
        "segment_bytes": 9,
        "load": "1ms",
        "pull": "2ms",
        "keep": 10,
        "python": "python3.12",
    }
    defaults = TruthLlmParameters()
    assert {name for name in others if others[name] != getattr(defaults, name)} == {
        field.name for field in TruthLlmParameters.__attrs_attrs__
    }
    argv = [resolve(part, {"node": "n", "bind": "b", "port": "1", "folder": "f"}) for part in compose(**others).argv]
    assert argv[:3] == ["python3.12", "n", "truth-server"]
    settings = _settings(_parser().parse_args(argv[3:]))
    options = settings.options
    assert (settings.model, settings.seed, settings.load.constant_ns, settings.pull.constant_ns) == ("x", 5, 10**6, 2 * 10**6)
    assert (options.tokens, options.tokens_per_chunk, options.stall) == (3, (2,), ((1, 10**6),))
    assert (options.usage, options.role, options.text, options.fault_share) == ("last", "none", "utf8", 0.5)


def test_in_a_container(compose):
    """The program of the run folder, which the container sees, by the image's own Python; the key in no argument."""
    site = evolve(load_site("local"), runtime="apptainer", images={"docker://python:3.12-slim": "/python.sif"})
    script = compose(site)
    assert script.argv[-10:-6] == ("/python.sif", "python3", "@{node}", "truth-server")
    assert script.spec.environment == {"APPTAINERENV_AFB_TRUTH_KEY": "@{secret}"}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"ttft": "soon"}, "ttft: must be a duration such as 50ms"),
        ({"gap": "normal:1ms:1ms"}, "gap: must be one of 50ms, constant:50ms"),
        ({"stall": ["1"]}, "stall: must be TOKENS:PAUSE"),
        ({"error_status": 200}, "error_status: must be 0, or a status from 400 to 599"),
        ({"role": "user"}, "role: must be at_once, before_first, with_first or none"),
        ({"slots": -1}, "slots: must be at least 0"),
        ({"segment": "x"}, "segment: must be a size"),
        ({"port": 1}, "unknown key"),
    ],
)
def test_wrong_parameters(parameters, text):
    """Each with its place."""
    with pytest.raises(RecipeError) as raised:
        JobFactory().create_service(ServiceEntry("llm", kind="truth-llm", parameters=parameters))
    assert text in raised.value.text
