"""The service `vllm`: a recipe becomes a command, what cannot work is refused, and a server that starts slowly is awaited.

The program is a double here; a real vLLM is run by `nox -s vllm`.
"""

import json
import sys
import urllib.error
import urllib.request
from textwrap import dedent

import pytest
from attrs import evolve

from aifactory_bench import JobFactory, RecipeError, Resources, ServiceEntry, load_recipe, load_site
from aifactory_bench.jobs.context import JobContext
from aifactory_bench.node.contract import NotReady
from aifactory_bench_services import vllm_node
from aifactory_bench_services.vllm import VllmParameters, VllmService

DOUBLE = """\
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
print(json.dumps(sys.argv[1:]), flush=True)
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith(("VLLM", "HF_", "DO_NOT"))}), flush=True)
options = dict(argument.split("=", 1) for argument in sys.argv if argument.startswith("--") and "=" in argument)
name, key = options.get("--served-model-name", sys.argv[2]), os.environ["VLLM_API_KEY"]
started, counts = time.monotonic(), {"requests": 0}

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def answer(self, status, value):
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        if self.path.startswith("/v1") and self.headers.get("Authorization") != f"Bearer {key}":
            return self.answer(401, {"error": "Unauthorized"})
        if self.path == "/health": return self.answer(200 if time.monotonic() > started + 0.3 else 503, "")
        if self.path == "/version": return self.answer(200, {"version": "0.32.0"})
        if self.path == "/v1/models":
            return self.answer(200, {"data": [{"id": name, "root": sys.argv[2], "max_model_len": 512}]})
        if self.path == "/metrics":
            if counts["requests"] > 1: return self.answer(500, "broken")
            return self.answer(200, f"vllm:generation_tokens_total{{}} {counts['requests']}.0\\n")
        self.answer(404, "")
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {key}": return self.answer(401, {"error": "Unauthorized"})
        counts["requests"] += 1
        self.answer(200, {"model": request["model"], "choices": [{"text": " the"}], "usage": {"completion_tokens": 1}})

at = {name: sys.argv[sys.argv.index(name) + 1] for name in ("--host", "--port")}
ThreadingHTTPServer((at["--host"], int(at["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def programs(tmp_path):
    """A folder with `vllm`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "vllm"
    program.write_text(f"#!{sys.executable}\n{DOUBLE}")
    program.chmod(0o755)
    return folder


def compose(resources=None, replicas=1, site=None, **parameters):
    job = VllmService("llm", VllmParameters(**{"model": "org/name", **parameters}), resources=resources, replicas=replicas)
    return job.compose(site or load_site("local"), JobContext(run_id="r", node_digest="0" * 16, time_s=60.0))


def test_it_is_ready_when_the_model_has_answered_with_the_key(deploy, programs, tmp_path):
    """Facts are the server's; what it counts is sampled; a reading that fails is told and ends nothing."""
    model = tmp_path / "model"
    model.mkdir()
    parameters = VllmParameters(model=str(model), served_model_name="tiny", revision="abc", dtype="float32")
    deployed = deploy(VllmService("llm", parameters), programs)
    endpoint = deployed.endpoint()
    assert {name: endpoint.facts[name] for name in sorted(set(endpoint.facts) - {"first_completion_s"})} == {
        "max_model_len": 512,
        "model": "tiny",
        "model_root": str(model),
        "revision": "abc",
        "server_name": "vllm",
        "server_version": "0.32.0",
    }
    argv, environment = map(json.loads, deployed.log().splitlines()[-2:])
    assert argv[:2] == ["serve", str(model)]
    assert deployed.secret not in argv
    assert environment["VLLM_API_KEY"] == deployed.secret
    assert (environment["HF_HUB_OFFLINE"], environment["VLLM_NO_USAGE_STATS"], environment["DO_NOT_TRACK"]) == ("1", "1", "1")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{endpoint.url}/v1/models", timeout=5)
    assert [row["output_tokens"] for row in deployed.samples(2)[:2]] == ["1", "1"]
    assert vllm_node.counters(endpoint, deployed.secret) == {"output_tokens": 1}
    with pytest.raises(NotReady, match="no model 'other'; it has: tiny"):
        vllm_node.probe(endpoint, deployed.secret, {"model": "other"})
    with pytest.raises(NotReady, match="401"):
        vllm_node.probe(endpoint, "wrong", {})
    vllm_node.probe(endpoint, deployed.secret, {})  # from now on its metrics are broken
    count = len(deployed.samples())
    record = deployed.stop()
    assert record["outcome"] == "stopped"
    assert len(deployed.samples()) <= count + 1
    assert all("500" in event["text"] for event in deployed.events("monitor_failed"))


def test_a_model_that_is_not_on_the_node_is_named(deploy, programs, tmp_path):
    """Before the server is started, which would take a minute to say so."""
    record = deploy(VllmService("llm", VllmParameters(model=f"{tmp_path}/nowhere")), programs).record()
    assert record["outcome"] == "failed"
    assert "preparing the service on " in record["text"]
    assert f"{tmp_path}/nowhere" in record["text"]
    assert "No such file" in record["text"]


def test_the_whole_command():
    """Every parameter is an option, in one argument with its value."""
    script = compose(
        Resources(gpus=8),
        model="/models/m",
        served_model_name="m",
        tensor_parallel=2,
        pipeline_parallel=2,
        data_parallel=2,
        max_model_len=8192,
        dtype="bfloat16",
        quantization="fp8",
        gpu_memory_utilization=0.85,
        max_num_seqs=128,
        max_num_batched_tokens=4096,
        enable_prefix_caching=False,
        load_format="safetensors",
        tokenizer="/models/t",
        extra_args={
            "block-size": 32,
            "trust-remote-code": True,
            "async-scheduling": False,
            "kv-transfer-config": '{"a": "@b"}',
        },
        cache="/scratch/cache",
    )
    assert script.argv == (
        *("vllm", "serve", "/models/m", "--host", "@{bind}", "--port", "@{port}", "--served-model-name=m"),
        *("--tensor-parallel-size=2", "--pipeline-parallel-size=2", "--data-parallel-size=2", "--max-model-len=8192"),
        *("--dtype=bfloat16", "--quantization=fp8", "--gpu-memory-utilization=0.85", "--max-num-seqs=128"),
        *("--max-num-batched-tokens=4096", "--no-enable-prefix-caching", "--load-format=safetensors", "--tokenizer=/models/t"),
        *("--enable-prompt-tokens-details", "--block-size=32", "--trust-remote-code", "--no-async-scheduling"),
        '--kv-transfer-config={"a": "@@b"}',
    )
    assert script.spec.environment == {
        "VLLM_API_KEY": "@{secret}",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": "/scratch/cache/vllm",
        "TRITON_CACHE_DIR": "/scratch/cache/triton",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "/scratch/cache/huggingface",
    }
    assert script.spec.service.prepare == [["ls", "-d", "--", "/models/m", "/models/t", "/scratch/cache"]]


def test_the_module_entry_and_a_cpu():
    """For installations whose command does not work, and for nodes without a GPU."""
    script = compose(entry="module", kv_cache_memory_bytes=64 << 20, enforce_eager=True, offline=False)
    assert script.argv[:5] == ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "org/name")
    assert "--kv-cache-memory-bytes=67108864" in script.argv
    assert "--enforce-eager" in script.argv
    assert script.spec.environment["VLLM_CACHE_ROOT"] == "@{folder}/cache/vllm"
    assert "HF_HUB_OFFLINE" not in script.spec.environment
    assert script.spec.service.prepare == []


def test_a_container_sees_the_model():
    """The paths are bound where they are; the key is in no argument."""
    site = evolve(load_site("local"), runtime="apptainer", images={VllmService.default_image: "/vllm.sif"})
    script = compose(Resources(gpus=1), site=site, model="/models/m", cache="/scratch/cache")
    argv = list(script.argv)
    head = argv[: argv.index("/vllm.sif")]
    assert [head[place + 1] for place, word in enumerate(head) if word == "--bind"][1:] == ["/models/m", "/scratch/cache"]
    assert "--nv" in head
    assert script.spec.environment["APPTAINERENV_VLLM_API_KEY"] == "@{secret}"
    assert "@{secret}" not in " ".join(argv)


@pytest.mark.parametrize(
    ("resources", "replicas", "parameters", "text"),
    [
        (Resources(gpus=4), 1, {"tensor_parallel": 2}, "takes 2 GPUs a replica, and resources.gpus is 4 a node"),
        (Resources(gpus=4), 1, {}, "takes 1 GPUs a replica, and resources.gpus is 4 a node"),
        (None, 1, {"tensor_parallel": 2}, "tensor_parallel 2 x pipeline_parallel 1 x data_parallel 1 takes 2 GPUs"),
        (Resources(gpus=4), 1, {"tensor_parallel": 4, "data_parallel": 2}, "takes 8 GPUs a replica"),
        (Resources(gpus=1), 2, {}, "2 replicas on 1 nodes would share the 1 GPUs of a node"),
    ],
)
def test_gpus_that_do_not_fit_are_refused(resources, replicas, parameters, text):
    """Reserved and not used is as wrong as used and not reserved."""
    with pytest.raises(RecipeError, match=r"^services\.llm: ") as raised:
        compose(resources, replicas, **parameters)
    assert text in raised.value.text


@pytest.mark.parametrize(
    ("resources", "replicas", "parameters"),
    [
        (None, 1, {}),
        (None, 3, {}),
        (Resources(gpus=1), 1, {}),
        (Resources(gpus=8), 1, {"tensor_parallel": 4, "data_parallel": 2}),
        (Resources(gpus=4, nodes=2), 2, {"tensor_parallel": 4}),
    ],
)
def test_gpus_that_fit(resources, replicas, parameters):
    """One replica a node, all of its GPUs."""
    assert compose(resources, replicas, **parameters).argv[0] == "vllm"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "model: missing"),
        ({"model": "--help"}, "must be an absolute path, or a reference"),
        ({"model": "./here"}, "must be an absolute path, or a reference"),
        ({"model": "m", "tensor_parallel": 0}, "tensor_parallel: must be at least 1"),
        ({"model": "m", "dtype": "int8"}, "dtype: must be auto"),
        ({"model": "m", "gpu_memory_utilization": "120%"}, "gpu_memory_utilization"),
        ({"model": "m", "kv_cache_memory": 64}, "kv_cache_memory: must be a size"),
        ({"model": "m", "extra_args": {"--block-size": 1}}, "'--block-size' is no name of an option"),
        ({"model": "m", "extra_args": {"api-key": "x"}}, "'api-key' is not set here: the run gives the key"),
        ({"model": "m", "extra_args": {"tensor-parallel-size": 2}}, "write the parameter tensor_parallel"),
        ({"model": "m", "extra_args": {"a": [1]}}, "extra_args.a"),
    ],
)
def test_wrong_parameters(parameters, text):
    """Each with its place."""
    with pytest.raises(RecipeError) as raised:
        JobFactory().create_service(ServiceEntry("llm", kind="vllm", parameters=parameters))
    assert text in raised.value.text


RECIPE = """\
    schema: aifactory-bench/1
    name: r
    services:
      llm: {{kind: vllm, parameters: {{model: org/name}}{ready}}}
      cache: {{kind: redis}}
    clients:
      load: {{kind: redis-load, target: cache, load: {{concurrency: 1, warmup: 0s, duration: 1s}}}}
"""


@pytest.mark.parametrize(("ready", "timeout_s"), [("", 900.0), (", ready: {timeout: 3m}", 180.0)])
def test_a_kind_has_its_own_time_to_get_ready(tmp_path, ready, timeout_s):
    """A server that loads a model has longer than others, where the recipe does not say."""
    path = tmp_path / "r.yaml"
    path.write_text(dedent(RECIPE.format(ready=ready)))
    factory = JobFactory()
    plan = factory.build(load_recipe(path, factory.registry), load_site("local"), "r")
    waits = {job.name: json.loads(job.script.split("'AFB_SPECIFICATION'\n")[1].split("\nAFB_")[0]) for job in plan.jobs}
    assert waits["llm"]["service"]["ready_timeout_s"] == timeout_s
    assert waits["cache"]["service"]["ready_timeout_s"] == 120.0
    assert waits["load"]["client"]["wait_timeout_s"] == 180.0
    alone = VllmService("llm", VllmParameters(model="org/name")).generate_slurm_script()
    assert '"ready_timeout_s": 900.0' in alone


@pytest.mark.parametrize(
    ("parameters", "downloads"),
    [
        ({"model": "org/name"}, ()),
        ({"model": "org/name", "offline": False}, ("the model org/name",)),
        ({"model": "/models/name", "offline": False}, ()),
    ],
)
def test_what_it_would_download(parameters, downloads):
    """For sites whose nodes have no internet."""
    assert VllmService("llm", VllmParameters(**parameters)).get_downloads() == downloads
