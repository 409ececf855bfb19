"""The template of a job and its steps."""

import subprocess

import pytest
from attrs import evolve

from aifactory_bench import Command, File, Load, PluginError, RecipeError, Resources, SiteError, UsageError
from aifactory_bench.jobs.client import DEFAULT_CONCURRENCY, DEFAULT_CONNECTIONS, with_defaults
from aifactory_bench.node.spec import spec_from_json


def test_a_service_becomes_a_specification(stub_service, local, context):
    """Every step has its place in what the node is told."""
    script = stub_service("cache", environment={"STUB": "a@b"}).compose(local, context)
    spec = script.spec
    assert (spec.job, spec.token, spec.role, spec.kind) == ("cache", "afb-r-cache-0", "service", "stub")
    assert (spec.time_s, spec.lease_s, spec.ranks) == (600.0, 60.0, 1)
    assert spec.environment == {"STUB": "a@@b", "PORT": "@{port}", "LEVEL": "3"}
    assert (spec.files[0].name, spec.files[0].lines) == ("stub.conf", ["port", "@{port}"])
    assert spec.service.parameters == {"pause_s": 0.5, "text": "a b"}
    assert spec.service.prepare == [["stub-init", "--text", "a b"]]
    assert (spec.service.scheme, spec.service.stop_signal, spec.service.port) == ("stub", "INT", None)
    assert script.argv == ("stub-server", "--port", "@{port}")
    assert "\nmkdir -p '/tmp/stub x'\n" in script.text()
    assert spec_from_json(script.text().split("<<'AFB_SPECIFICATION'\n")[1].split("\nAFB_SPECIFICATION\n")[0]) == spec


def test_containers_are_around_every_command(stub_service, stub_tool, apptainer, context):
    """The server, what prepares it, and a tool; the environment travels under the runtime's names."""
    service = stub_service("cache", resources=Resources(gpus=1)).compose(apptainer, context)
    head = ("apptainer", "exec", "--cleanenv", "--no-home", "--bind", f"{apptainer.runs}/r", "--nv", "/images/stub.sif")
    assert service.argv[:9] == (*head, "stub-server")
    assert service.spec.service.prepare[0][:9] == [*head, "stub-init"]
    assert service.spec.environment["APPTAINERENV_LEVEL"] == "3"
    point = stub_tool("load").compose_point(
        apptainer, "r", id="p", load=Load(), parameters=None or stub_tool.Parameters(), participants={}
    )
    assert point.commands[0][6:9] == ["/images/stub.sif", "stub-bench", "-c"]
    with pytest.raises(SiteError, match="has no image 'docker://other:2'"):
        stub_service("cache", image="docker://other:2").compose(apptainer, context)


def test_a_fixed_port_is_handed_on(stub_service, local, context):
    """Empty lets the node choose; two have no meaning."""
    fixed = type("Fixed", (stub_service,), {"ports": (8080,)})
    assert fixed("cache").compose(local, context).spec.service.port == 8080
    with pytest.raises(PluginError, match="a service has one port"):
        type("Two", (stub_service,), {"ports": (1, 2)})("cache").compose(local, context)


@pytest.mark.parametrize("name", ["", "..", "a/b", "/data", 5])
def test_what_is_removed_lies_in_the_jobs_folder(stub_service, local, context, name):
    with pytest.raises(PluginError, match="not the name of a file or folder in the job's folder"):
        type("Wide", (stub_service,), {"scratch": (name,)})("cache").compose(local, context)


TEXT = "rm -rf $HOME"
WRONG_STEPS = {
    "get_setup_commands": (TEXT, "must return a sequence of Command values"),
    "get_service_setup_commands": ([TEXT], "would have to be split by a shell"),
    "get_files": ([("a", "b")], "must return File values"),
    "get_container_command": (TEXT, "would have to be split by a shell"),
}


@pytest.mark.parametrize("step", WRONG_STEPS)
def test_text_is_no_command(stub_service, local, context, step):
    """A string is refused with the reason, as an error that names the class and the step."""
    value, reason = WRONG_STEPS[step]
    broken = type("Broken", (stub_service,), {step: lambda self: value})
    with pytest.raises(PluginError, match=reason) as raised:
        broken("cache").compose(local, context)
    assert f"Broken.{step}()" in raised.value.text
    assert "kind stub" in raised.value.text


def test_a_step_that_fails_is_the_plugins_error(stub_service, local, context):
    """The user sees which class failed and how, no traceback."""
    broken = type("Broken", (stub_service,), {"get_files": lambda self: {}["x"]})
    with pytest.raises(PluginError, match=r"kind stub, .*Broken: KeyError: 'x'"):
        broken("cache").compose(local, context)


def test_commands_and_files_refuse_text_themselves():
    """The mistake is told where it is made."""
    with pytest.raises(TypeError, match="never become shell"):
        Command("redis-server --port 1")
    with pytest.raises(TypeError, match="sequence of arguments"):
        File("x", "line")
    with pytest.raises(TypeError, match="got None"):
        Command(["x", None]).encoded()


def test_only_the_container_command_has_an_environment(stub_service, stub_tool, local, context):
    """Others would have it for nothing, so they are refused with where it belongs."""
    wrong = [Command(["x"], {"A": "b"})]
    broken = type("Broken", (stub_service,), {"get_service_setup_commands": lambda self: wrong})
    with pytest.raises(PluginError, match="belong into get_environment"):
        broken("cache").compose(local, context)
    tool = type("Tool", (stub_tool,), {"get_benchmark_commands": lambda self, load, parameters: wrong})
    with pytest.raises(PluginError, match="belong into get_environment"):
        tool("load").compose_point(local, "r", id="p", load=Load(), parameters=tool.Parameters(), participants={})


def test_names_of_variables_are_checked(stub_service, local, context):
    """Before anything is submitted."""
    with pytest.raises(UsageError, match="'A B' is not the name of an environment variable"):
        stub_service("cache", environment={"A B": "c"}).compose(local, context)


def test_a_point_holds_the_load_with_its_defaults(stub_load, local):
    """Totals of the client; a client of the load core runs no command."""
    point = stub_load("load").compose_point(
        local,
        "r",
        id="p0000-r2",
        load=Load(duration_s=3.0, warmup_s=1.0, timeout_s=2.0),
        parameters=stub_load.Parameters(),
        participants={"afb-r-load-0": 2},
        repetition=2,
        reset="data",
    )
    assert (point.id, point.repetition, point.reset, point.commands) == ("p0000-r2", 2, "data", [])
    assert point.load == {
        "process": "closed",
        "rate_per_s": None,
        "rates": [],
        "burstiness": None,
        "burst_size": None,
        "burst_every_s": None,
        "trace": None,
        "trace_scale": None,
        "slo": {},
        "search": None,
        "concurrency": DEFAULT_CONCURRENCY,
        "connections": None,
        "warmup_s": 1.0,
        "duration_s": 3.0,
        "timeout_s": 2.0,
        "seed": 1,
        "workers": 1,
    }
    assert point.budget_s == 66.0
    assert point.participants == {"afb-r-load-0": 2}


@pytest.mark.parametrize(
    ("replicas", "load"),
    [
        (1, Load(concurrency=2, workers=3)),
        (2, Load(process="poisson", rate_per_s=1.0, connections=3, workers=2)),
        (51, Load()),
    ],
)
def test_a_worker_without_a_connection_is_refused(stub_load, local, replicas, load):
    """With the number that is needed; exactly that many are enough."""
    client = stub_load("load", replicas=replicas, load=load)
    asked = {"id": "p", "parameters": stub_load.Parameters(), "participants": {}}
    with pytest.raises(RecipeError, match="at least that many are needed") as error:
        client.compose_point(local, "r", load=load, **asked)
    least = replicas * load.workers
    assert f"is {least}," in str(error.value)
    enough = {"concurrency": least} if load.process == "closed" else {"connections": least}
    assert client.compose_point(local, "r", load=evolve(load, **enough), **asked).load["workers"] == load.workers


def test_defaults_of_load():
    """A pool in open loop, a number of requests in flight in closed loop, and never both."""
    opened = with_defaults(Load(process="poisson", rate_per_s=10.0))
    assert (opened.connections, opened.concurrency) == (DEFAULT_CONNECTIONS, None)
    asked = Load(concurrency=3, timeout_s=5.0)
    assert with_defaults(asked) is asked


def test_a_tools_command_knows_its_target_by_role(stub_tool, local):
    """The only role is the target; its address is a placeholder."""
    point = stub_tool("load").compose_point(
        local, "r", id="p", load=Load(concurrency=7), parameters=stub_tool.Parameters(), participants={}
    )
    assert point.commands == [["stub-bench", "-c", "7", "-p", "@{endpoint.store.0.port}"]]


@pytest.mark.parametrize(
    ("mode", "commands", "text"), [("tool", [], "returned nothing"), ("load", [Command(["x"])], "returned commands")]
)
def test_mode_and_commands_must_agree(stub_tool, local, mode, commands, text):
    """Otherwise the node would measure nothing, or leave the commands unused."""
    wrong = type("Wrong", (stub_tool,), {"mode": mode, "get_benchmark_commands": lambda self, load, parameters: commands})
    with pytest.raises(PluginError, match=text):
        wrong("load").compose_point(local, "r", id="p", load=Load(), parameters=wrong.Parameters(), participants={})


def test_a_job_alone(stub_service, stub_load, stub_tool, apptainer, monkeypatch, tmp_path):
    """`generate_slurm_script` gives the whole text, for `local` where no site is named."""
    monkeypatch.chdir(tmp_path)
    jobs = [
        stub_service("cache"),
        stub_load("load", services={"main": "cache"}),
        stub_tool("bench", services={"store": "cache"}),
    ]
    for job in jobs:
        assert job.job_id is None
        text = job.generate_slurm_script()
        assert f"#SBATCH --job-name=afb-manual-{job.name}-0" in text
        assert f"AFB_RUN_DIR={tmp_path}/runs/manual" in text
        assert subprocess.run(["/bin/bash", "-n"], input=text, text=True, capture_output=True, check=False).stderr == ""
    assert '"token": "afb-manual-cache-0"' in jobs[1].generate_slurm_script()
    several = stub_service("cache", replicas=3, resources=Resources(nodes=3, time_s=7200.0)).generate_slurm_script(apptainer)
    assert "#SBATCH --time=02:00:00" in several
    assert "exec srun --ntasks=3" in several


def test_a_suffix_names_the_job_and_not_the_entry(stub_service, local, context):
    """A matrix has several jobs of one entry: the token differs, measurements are told by the name in the recipe."""
    script = stub_service("cache").compose(local, evolve(context, suffix="-s1", attempt=2))
    assert script.spec.job == "cache"
    assert script.spec.token == "afb-r-cache-s1-2"
    assert script.spec.attempt == 2
