"""Scripts for tests, and a bash that runs them with recorders in place of Python and of a setup program."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from aifactory_bench import Command
from aifactory_bench.node.placeholders import literal
from aifactory_bench.node.spec import FileSpec, ServiceSpec, Spec
from aifactory_bench.script.value import Script

RECORDER = """#!/bin/bash
printf '%s\\0' "$@" > {record}
printf '%s' "${{VALUE-}}" > {record}.value
"""


@pytest.fixture
def make_spec():
    """Build the specification of a service."""

    def make(**changes):
        values = {
            "run_id": "r",
            "job": "cache",
            "token": "afb-r-cache-0",
            "role": "service",
            "kind": "stub",
            "attempt": 0,
            "ranks": 1,
            "time_s": 600.0,
            "lease_s": 60.0,
            "node_module": "stub_node",
            "service": ServiceSpec(clients={}, ready_timeout_s=5.0),
        }
        return Spec(**{**values, **changes})

    return make


@pytest.fixture
def shell(tmp_path_factory, make_spec):
    """Put texts into every place of a script that a recipe reaches, run it with real bash, return what arrived where."""
    base = tmp_path_factory.mktemp("shell")
    run_folder, empty, bin_folder = base / "it's a run", base / "empty", base / "bin"
    for folder in (run_folder, empty, bin_folder):
        folder.mkdir()
    python, setup = bin_folder / "python3", bin_folder / "setup"
    for program in (python, setup):
        program.write_text(RECORDER.format(record=f"{program}.argv"))
        program.chmod(0o700)

    def run(texts):
        encoded = [literal(text) for text in texts]
        spec = make_spec(
            environment={f"V{number}": text for number, text in enumerate(encoded)},
            files=[FileSpec("settings", encoded)],
            service=ServiceSpec(clients={}, ready_timeout_s=5.0, parameters={"texts": texts}, prepare=[encoded]),
        )
        script = Script(
            token=spec.token,
            run_folder=str(run_folder),
            spec=spec,
            node_digest="0" * 16,
            python=str(python),
            commands=(Command([str(setup), *texts], {"VALUE": texts[0]}),),
            argv=("program", *encoded),
        )
        path = base / "script.sh"
        path.write_bytes(script.text().encode("utf-8"))
        ended = subprocess.run(["/bin/bash", path], cwd=empty, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False)
        job = run_folder / "jobs" / spec.token
        return SimpleNamespace(
            script=script,
            exit_code=ended.returncode,
            output=ended.stdout + ended.stderr,
            setup=_recorded(setup),
            setup_value=Path(f"{setup}.argv.value").read_bytes().decode("utf-8"),
            argv=_recorded(python),
            encoded=encoded,
            spec_text=(job / "spec.json").read_text(encoding="utf-8"),
            run_folder=run_folder,
            made=sorted(str(path.relative_to(base)) for path in base.rglob("*")),
        )

    return run


def _recorded(program):
    return Path(f"{program}.argv").read_bytes().decode("utf-8").split("\0")[:-1]
