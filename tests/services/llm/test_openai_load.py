"""`openai-load`: its parameters, what is asked before the load, what is refused and how."""

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from aifactory_bench import Load, RatePerS, RecipeError, load_recipe, load_registry
from aifactory_bench.node.contract import PrepareError
from aifactory_bench.node.endpoint import Endpoint
from aifactory_bench_services import llm_metrics_node, openai_load_node
from aifactory_bench_services.llm_parameters import SLOS
from aifactory_bench_services.llm_request_node import path_of

RECIPE = """
schema: aifactory-bench/1
name: x
services:
  llm: {{external: {{url: "http://127.0.0.1:9"}}}}
clients:
  load:
    kind: openai-load
    target: llm
    parameters: {parameters}
    load: {load}
"""


class Front:
    """A server that keeps what it is asked, and answers as told or passes it on to the truth server."""

    def __init__(self, behind: "Endpoint | None" = None, tls: "ssl.SSLContext | None" = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.refuse: Callable[[dict[str, Any]], "tuple[int, Any] | None"] = lambda _body: None
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                front.paths.append(self.path)
                self._pass_on(None)

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                front.paths.append(self.path)
                front.headers.append(dict(self.headers))
                front.bodies.append(json.loads(data))
                refused = front.refuse(front.bodies[-1])
                if refused is not None:
                    self._answer(refused[0], json.dumps(refused[1]).encode(), "application/json")
                else:
                    self._pass_on(data)

            def _pass_on(self, data: "bytes | None") -> None:
                assert behind is not None
                path = self.path.removeprefix("/gateway")
                request = Request(behind.url + path, data, {"Content-Type": "application/json"})
                with urlopen(request, timeout=10) as answer:
                    self._answer(answer.status, answer.read(), answer.headers["Content-Type"])

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def endpoint(self, url: str = "", **facts: Any) -> Endpoint:
        host = urlsplit(url).hostname or "127.0.0.1"
        return Endpoint("llm", 0, host, self.port, url or f"http://127.0.0.1:{self.port}", facts=facts)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def front() -> Iterator[Callable[..., Front]]:
    fronts = []

    def start(*args: Any, **options: Any) -> Front:
        fronts.append(Front(*args, **options))
        return fronts[-1]

    yield start
    for one in fronts:
        one.close()


def recipe(tmp_path: Path, parameters: str, load: str = "{process: closed}") -> Any:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(parameters=parameters, load=load))
    return load_recipe(path, load_registry())


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ("{api: embeddings}", "api"),
        ("{input_tokens: 0}", "must be from 1"),
        ("{output_tokens: {least: 5, most: 2}}", "output_tokens"),
        ("{extra: {max_tokens: 5}}", "write the parameter output_tokens"),
        ("{extra: {stream_options: x}}", "continuous_usage"),
        ("{prompts: data.jsonl}", "absolute path"),
        ("{shared_prefix: 120%}", "shared_prefix"),
        ("{token: abc}", "unknown key"),
        ("{stream: false, continuous_usage: true}", "continuous_usage"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, parameters: str, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        recipe(tmp_path, parameters)


def test_lengths_are_numbers_or_distributions(tmp_path: Path) -> None:
    found = recipe(tmp_path, "{input_tokens: 512, output_tokens: {mean: 200, deviation: 50, least: 10, most: 400}}")
    parameters = found.clients[0].parameters
    assert parameters.input_tokens == 512
    assert (parameters.output_tokens.mean, parameters.output_tokens.most) == (200.0, 400)


def test_objectives_are_those_that_are_measured() -> None:
    assert SLOS == llm_metrics_node.SLOS
    for kind in ("openai-load", "ollama-load"):
        client = load_registry().clients[kind]
        assert client.slos == SLOS
        assert client.default_timeout_s == 600


def test_turns_need_a_closed_loop() -> None:
    kind = load_registry().clients["openai-load"]
    client = kind("load", kind.Parameters(turns=3), load=Load(process="constant", rate_per_s=RatePerS(5.0)))
    with pytest.raises(RecipeError, match=r"clients\.load\.parameters\.turns.*process: closed"):
        client.get_benchmark_commands(client.load, client.parameters)


def test_what_is_asked_for(truth: Any, context_of: Any, front: Any) -> None:
    between = front(truth(ttft="1ms", gap="1ms"))
    context = context_of(between.endpoint(), secret="s3cret", api="chat", temperature=0.5)
    context.parameters.update(seed=7, extra={"top_p": 0.9})
    openai_load_node.prepare(context)
    body = between.bodies[0]
    assert body.pop("messages")[0]["role"] == "user"
    assert body == {
        "model": "truth",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "seed": 7,
        "ignore_eos": True,
        "max_tokens": 4,
        "min_tokens": 4,
        "afb_truth": True,
        "top_p": 0.9,
    }
    assert between.headers[0]["Authorization"] == "Bearer s3cret"
    assert between.headers[0]["Host"] == f"127.0.0.1:{between.port}"


def test_a_server_that_ends_by_itself_is_not_asked_for_a_length(truth: Any, context_of: Any, front: Any) -> None:
    between = front(truth(ttft="1ms", gap="1ms"))
    facts = openai_load_node.prepare(context_of(between.endpoint(server_name="ollama"), api="completions"))
    assert facts["exact_output"] is False
    assert not {"ignore_eos", "min_tokens"} & set(between.bodies[0])


def test_a_prefix_in_the_url_is_kept(truth: Any, context_of: Any, front: Any) -> None:
    between = front(truth(ttft="1ms", gap="1ms"))
    for end in ("/gateway", "/gateway/", "/gateway/v1"):
        openai_load_node.prepare(context_of(between.endpoint(f"http://127.0.0.1:{between.port}{end}"), api="completions"))
    assert set(between.paths) == {"/gateway/v1/models", "/gateway/v1/completions"}
    assert path_of(Endpoint("s", 0, "h", 80, "http://h:80"), "/v1/models") == "/v1/models"


def test_what_was_found_is_said(truth: Any, context_of: Any) -> None:
    facts = openai_load_node.prepare(context_of(truth(ttft="30ms", gap="10ms"), tokens_per_word=None))
    assert facts["model"] == "truth"
    assert facts["token_source"] == "usage"
    assert 0.06 <= facts["first_completion_s"] < 0.5
    assert (facts["tokens_per_word"], facts["prompt_overhead_tokens"]) == (1.0, 0.0)


def test_a_model_that_is_not_there(truth: Any, context_of: Any) -> None:
    with pytest.raises(PrepareError, match="no model 'other'; it has: truth"):
        openai_load_node.prepare(context_of(truth(), model="other"))


def test_a_server_that_does_not_know_exact_lengths(truth: Any, context_of: Any, front: Any) -> None:
    between = front(truth())
    between.refuse = lambda body: (422, {"detail": "ignore_eos: extra inputs"}) if "ignore_eos" in body else None
    with pytest.raises(PrepareError, match=r"http:422.*ignore_eos.*exact_output: false"):
        openai_load_node.prepare(context_of(between.endpoint()))
    openai_load_node.prepare(context_of(between.endpoint(), exact_output=False))


def test_a_server_that_is_not_there(context_of: Any) -> None:
    with pytest.raises(PrepareError, match="Connection refused"):
        openai_load_node.prepare(context_of(Endpoint("llm", 0, "127.0.0.1", 1, "http://127.0.0.1:1")))


def test_the_key_is_used(truth: Any, context_of: Any, measure: Any, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("t0ken\n")
    path.chmod(0o600)
    endpoint = truth(ttft="1ms", gap="1ms", key_file=path)
    assert measure(context_of(endpoint, secret="t0ken")).errors == {}
    with pytest.raises(PrepareError, match="401"):
        openai_load_node.prepare(context_of(endpoint, secret="wrong", model="truth"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of `localhost`, signed by itself."""
    path = tmp_path / "server.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(argv, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_tls_is_checked(truth: Any, context_of: Any, measure: Any, front: Any, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    between = front(truth(ttft="1ms", gap="1ms"), tls=context)
    good = between.endpoint(f"https://localhost:{between.port}")
    run = measure(context_of(good, ca_file=str(certificate), concurrency=2, truth=False))
    assert run.errors == {}
    assert run.counts.ok > 2
    with pytest.raises(PrepareError, match="certificate"):
        openai_load_node.prepare(context_of(good))
    other = between.endpoint(f"https://127.0.0.1:{between.port}")
    with pytest.raises(PrepareError, match="certificate"):
        openai_load_node.prepare(context_of(other, ca_file=str(certificate)))
    with pytest.raises(PrepareError, match="ca_file"):
        openai_load_node.prepare(context_of(good, ca_file="/nowhere.pem"))


def test_the_servers_totals(truth: Any, context_of: Any, measure: Any) -> None:
    endpoint = truth(ttft="2ms", gap="1ms")
    openai_load_node.prepare(context_of(endpoint))
    before = openai_load_node.counters(endpoint, "")
    run = measure(context_of(endpoint))
    after = openai_load_node.counters(endpoint, "")
    for name in ("output_tokens", "prompt_tokens", "ttft_count"):
        assert after[name] - before[name] == run.measurement.totals[name], name
