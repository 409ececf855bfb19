"""The server on the controller and on the node: what is started, who gets in, what is known of it."""

import dataclasses

import pytest

from aifactory_bench import load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.contract import NotReady
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench_services import chroma_node
from aifactory_bench_services.chroma import ChromaParameters, ChromaService
from aifactory_bench_services.chroma_api_node import Api
from aifactory_bench_services.llm_http_node import HttpError

SECRET = "throw-away"


def compose(tmp_path, **parameters):
    job = ChromaService("vectors", ChromaParameters(**parameters))
    return job.compose(load_site("local", runs=tmp_path), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))


def test_chroma_run_gets_a_folder_of_the_run(tmp_path):
    script = compose(tmp_path)
    assert [part.lstrip("'") for part in script.argv] == [
        "chroma",
        "run",
        "--path",
        "@{folder}/data",
        "--host",
        "@{bind}",
        "--port",
        "@{port}",
    ]
    assert script.spec.environment == {"ANONYMIZED_TELEMETRY": "False", "RUST_LOG": "warn"}


def test_a_folder_of_ones_own(tmp_path):
    job = ChromaService("vectors", ChromaParameters(path="/data/chroma"))
    assert job.get_binds() == ["/data/chroma"]
    assert "/data/chroma" in compose(tmp_path, path="/data/chroma").argv


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"storage": "memory"}, "needs server: python"),
        ({"storage": "memory", "server": "python", "path": "/data"}, "path has no meaning"),
        ({"path": "data"}, "absolute path"),
        ({"log": "info", "server": "python"}, "log is of chroma run"),
    ],
)
def test_what_cannot_be_is_refused(parameters, text):
    with pytest.raises(ValueError, match=text):
        ChromaParameters(**parameters)


def test_chroma_run_lets_in_whoever_comes(chroma):
    """That is how it is, and the facts say it; what it is, is read off the package."""
    server = chroma()
    assert server.endpoint.facts["server_version"] == "1.5.9"
    assert server.endpoint.facts["api_version"] == "1.0.0"
    assert server.endpoint.facts["token_enforced"] is False
    assert server.endpoint.facts["hnsw_defaults"]["ef_search"] == 100
    assert server.endpoint.facts["max_batch_size"] == 5461
    assert Api(server.endpoint, "").collections() == []  # the probe has left nothing behind
    assert (server.folder / "data/chroma.sqlite3").exists()
    assert "INFO" not in (server.folder / "log").read_text()
    assert chroma_node.sample(server.endpoint, SECRET) == {"collections": 0.0, "vectors": 0.0}


def test_the_server_in_python_asks_for_the_token(chroma):
    """In memory, with nothing on the disk; who has no token or another one is refused."""
    server = chroma(server="python", storage="memory")
    assert server.endpoint.facts["token_enforced"] is True
    assert server.endpoint.facts["server_version"] == "1.5.9"
    for secret in ("", "another"):
        with pytest.raises(HttpError) as raised:
            Api(server.endpoint, secret).collections()
        assert raised.value.status == 403
    assert Api(server.endpoint, SECRET).collections() == []
    assert [path.name for path in server.folder.iterdir()] == ["log"]
    assert SECRET not in (server.folder / "log").read_text()


def test_a_server_that_should_ask_for_a_token_and_does_not_is_not_ready(chroma):
    server = chroma()
    with pytest.raises(NotReady, match="answers without a token"):
        chroma_node.probe(server.endpoint, SECRET, {"server": "python", "program": None})


def test_nobody_there():
    with pytest.raises(NotReady):
        chroma_node.probe(Endpoint("vectors", 0, "127.0.0.1", 1, "http://127.0.0.1:1"), "", {})


def test_another_server_is_no_chroma(chroma):
    """What answers HTTP with something else is not ready, in one sentence."""
    server = chroma()
    wrong = dataclasses.replace(server.endpoint)
    with pytest.raises(HttpError, match="status 404"):
        Api(wrong, "").ask("/api/v2/nothing")
