"""The text of scripts, against golden files; `AFB_WRITE_GOLDEN=1` writes these anew."""

import os
import subprocess
from pathlib import Path

import pytest

from aifactory_bench import PORT, Command, Resources, SiteError
from aifactory_bench.node.placeholders import literal
from aifactory_bench.node.spec import ClientSpec, PointSpec, TargetSpec
from aifactory_bench.script.value import Script

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "0123456789abcdef"


def service(make_spec, **changes):
    """A service alone on a node, no container."""
    argv = ("redis-server", "--port", str(PORT), literal("user@host it's"))
    values = {"run_folder": "/runs/r", "node_digest": DIGEST, "python": "python3", "argv": argv}
    spec = make_spec(**changes.pop("spec", {}))
    return Script(token=spec.token, spec=spec, **{**values, **changes})


def client(make_spec, **changes):
    """A client with one point of a tool."""
    token = "afb-r-load-0"
    point = PointSpec(
        id="p0000-r1",
        repetition=1,
        reset="none",
        parameters={"keys": 10},
        load={"process": "closed", "concurrency": 50},
        participants={token: 2},
        commands=[["redis-benchmark", "-h", "@{endpoint.main.0.host}"]],
    )
    spec = {
        "job": "load",
        "token": token,
        "role": "client",
        "service": None,
        "after": {"afb-r-first-0": 1},
        "environment": {"NAME": literal("a@b")},
        "client": ClientSpec({"main": TargetSpec("cache", "afb-r-cache-0", 1)}, [point], 60.0, "tool"),
        **changes.pop("spec", {}),
    }
    return service(make_spec, spec=spec, argv=(), **changes)


CASES = {
    "service-local": lambda make: service(make),
    "service-slurm": lambda make: service(
        make,
        spec={"time_s": 3600.0},
        run_folder="/project/p 1/runs/r",
        srun=True,
        resources=Resources(cpus=8, memory_bytes=16 << 30, gpus=2),
        scheduler={"account": "p200", "partition": "gpu"},
        modules=("Apptainer/1.3.6", "odd name"),
        setup=("source /etc/profile", "export SCRATCH=/scratch"),
        commands=(Command(["mkdir", "-p", "/scratch/it's"]), Command(["A=b", 1], {"LANG": "C.UTF-8 x"})),
        argv=("apptainer", "exec", "--nv", "/images/redis.sif", "redis-server"),
    ),
    "service-local-ranks": lambda make: service(make, spec={"ranks": 3}),
    "client-local": lambda make: client(make),
    "client-slurm-ranks": lambda make: client(make, spec={"ranks": 4}, srun=True, resources=Resources(nodes=2, cpus=8)),
}


@pytest.mark.parametrize("name", CASES)
def test_text_is_as_recorded(name, make_spec):
    """Byte for byte what is submitted, and bash can read it."""
    text = CASES[name](make_spec).text()
    path = GOLDEN / f"{name}.sh"
    if os.environ.get("AFB_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    checked = subprocess.run(["/bin/bash", "-n", path], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_golden_files_are_all_used():
    """None is left over from a case that is gone."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


def test_rendering_twice_gives_the_same(make_spec):
    """No time, no random name, no order of a set."""
    assert client(make_spec).text() == client(make_spec).text()


def test_setup_commands_hold_nothing_of_the_node(make_spec):
    """They run in the batch script, where no port is known yet."""
    with pytest.raises(TypeError, match="before anything is known of the node"):
        service(make_spec, commands=(Command(["echo", PORT]),)).text()
    with pytest.raises(TypeError, match="not the name of an environment variable"):
        service(make_spec, commands=(Command(["true"], {"A; touch x": "1"}),)).text()


def test_a_failing_setup_command_ends_the_job(make_spec, tmp_path):
    """Nothing is started on a half-made ground."""
    script = service(make_spec, run_folder=str(tmp_path / "r"), commands=(Command(["false"]),), python="/bin/echo")
    ended = subprocess.run(["/bin/bash", "-c", script.text()], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""


def test_a_first_word_is_never_a_keyword_or_an_assignment(make_spec, tmp_path):
    """A program called `if` or `A=b` is looked for as a program."""
    for word in ("if", "A=b", "{", "!", "[[", "in", "A=b c", "while"):
        script = service(make_spec, run_folder=str(tmp_path / "r"), commands=(Command([word, "x"]),), python="/bin/echo")
        ended = subprocess.run(
            ["/bin/bash", "-c", script.text()], capture_output=True, text=True, check=False, env={"PATH": "/bin"}
        )
        assert ended.returncode == 127, (word, ended)
        assert f"{word}: command not found" in ended.stderr


def test_site_setup_may_read_unset_variables(make_spec, tmp_path):
    """Profiles of sites do; what comes after is strict again."""
    script = service(make_spec, run_folder=str(tmp_path / "r"), setup=('echo "[$NOT_SET]"',), python="/bin/echo")
    ended = subprocess.run(
        ["/bin/bash", "-c", script.text()], capture_output=True, text=True, check=False, env={"PATH": "/bin"}
    )
    assert ended.stdout.startswith("[]\n")
    assert ended.returncode == 0


def test_files_of_a_job_are_private(make_spec, tmp_path):
    """The specification is made 0600 in a folder 0700, whatever the user's umask."""
    script = service(make_spec, run_folder=str(tmp_path / "r"), python="/bin/true")
    subprocess.run(["/bin/bash", "-c", f"umask 000\n{script.text()}"], check=True)
    spec = tmp_path / "r/jobs/afb-r-cache-0/spec.json"
    assert spec.stat().st_mode & 0o777 == 0o600
    assert spec.parent.stat().st_mode & 0o777 == 0o700


def test_a_site_option_that_is_none_is_an_error_of_the_site(make_spec):
    """It is found when the script is made, before anything is submitted."""
    with pytest.raises(SiteError, match="'wrap': cannot be set"):
        service(make_spec, scheduler={"wrap": "x"}).text()
