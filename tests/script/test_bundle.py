"""The node program: what goes in, what is refused, that it runs."""

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aifactory_bench.errors import PluginError, SiteError
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.node.placeholders import placeholder
from aifactory_bench.node.spec import ClientSpec, PointSpec, Spec, TargetSpec, spec_to_json
from aifactory_bench.script.bundle import NodeProgram, build_node_program, write_node_program


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes the modules of an importable package of the test's own and returns its name."""
    name = f"strangers_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / "site" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("SECRET = 1\n")
    monkeypatch.syspath_prepend(str(folder.parent))

    def write(**modules):
        for module, source in modules.items():
            (folder / f"{module}.py").write_text(source)
        importlib.invalidate_caches()
        return name

    return write


def names(program: NodeProgram) -> "list[str]":
    return zipfile.ZipFile(io.BytesIO(program.data)).namelist()


def text(program: NodeProgram, name: str) -> str:
    return zipfile.ZipFile(io.BytesIO(program.data)).read(name).decode()


def test_holds_the_node_side_and_nothing_of_the_controller():
    """The node package keeps its import name; the package around it is empty."""
    program = build_node_program([])
    found = names(program)
    assert "aifactory_bench/node/measurement.py" in found
    assert "aifactory_bench/node/load/__init__.py" in found
    assert text(program, "aifactory_bench/__init__.py") == ""
    outside = [name for name in found if not name.startswith("aifactory_bench/node/")]
    assert outside == ["__main__.py", "aifactory_bench/__init__.py"]
    assert not [name for name in found if name.endswith(".pyc") or "test" in name]


def test_bytes_are_the_same_each_time_and_named_by_their_hash(package):
    """Order of the modules, times and file modes do not show."""
    name = package(a_node="import json\n", b_node="from . import a_node\n")
    first = build_node_program([f"{name}.a_node", f"{name}.b_node"])
    path = Path(importlib.util.find_spec(f"{name}.a_node").origin)
    os.utime(path, (1, 1))
    path.chmod(0o640)
    second = build_node_program([f"{name}.b_node", f"{name}.a_node", f"{name}.b_node"])
    assert first == second
    assert first.digest == hashlib.sha256(first.data).hexdigest()[:16]
    assert names(first) == sorted(names(first))
    path.write_text("import json, os\n")
    assert build_node_program([f"{name}.a_node", f"{name}.b_node"]).digest != first.digest


def test_siblings_travel_along_and_the_controllers_side_stays(package):
    """A chain of imports of `_node` modules is followed, however it is written; packages come empty."""
    name = package(
        product="import attrs\n",
        product_node="from .wire_node import encode\nfrom . import more_node as more\n",
        wire_node="import {name}.deep_node\nencode = 1\n",
        more_node="X = 1\n",
        deep_node="import os.path\nfrom aifactory_bench.node.contract import NotReady\nfrom aifactory_bench import node\n",
    )
    wire = Path(importlib.util.find_spec(f"{name}.wire_node").origin)
    wire.write_text(wire.read_text().replace("{name}", name))
    program = build_node_program([f"{name}.product_node"])
    found = [path for path in names(program) if path.startswith(name)]
    assert found == [f"{name}/{module}.py" for module in ("__init__", "deep_node", "more_node", "product_node", "wire_node")]
    assert text(program, f"{name}/__init__.py") == ""


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("import os\nimport numpy\n", "import numpy"),
        ("def f():\n    from attrs import frozen\n", "from attrs import frozen"),
        ("\nfrom aifactory_bench import Service\n", "from aifactory_bench import Service"),
        ("\nfrom aifactory_bench.recipe import load\n", "from aifactory_bench.recipe import load"),
        ("\nfrom . import product\n", "from . import product"),
        ("\nfrom .product import x\n", "from .product import x"),
        ("try:\n    import uvloop\nexcept ImportError:\n    uvloop = None\n", "import uvloop"),
        ("\nimport tomllib\n", "import tomllib"),
        ("\nfrom .... import x\n", "from .... import x"),
    ],
)
def test_an_import_that_a_node_lacks_is_refused_with_its_place(package, source, written):
    """File, line and the import itself are named."""
    name = package(bad_node=source, product="x = 1\n")
    with pytest.raises(PluginError) as caught:
        build_node_program([f"{name}.bad_node"])
    line = next(number for number, text in enumerate(source.splitlines(), start=1) if written in text)
    assert f"bad_node.py:{line}:" in caught.value.text
    assert f"`{written}`" in caught.value.text
    assert caught.value.hint


def test_imports_for_type_checkers_only_are_not_imports(package):
    """What is never executed may name anything; what stands in `else` is executed."""
    name = package(a_node="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\nelse:\n    import json\n")
    assert f"{name}/a_node.py" in names(build_node_program([f"{name}.a_node"]))
    package(b_node="import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    import numpy\n")
    with pytest.raises(PluginError, match=r"b_node\.py:5:"):
        build_node_program([f"{name}.b_node"])


def test_a_module_loaded_from_a_loose_file_is_found(tmp_path, monkeypatch):
    """As `--plugin ./mine.py` does it: in sys.modules, not on the path."""
    path = tmp_path / "anything.py"
    path.write_text("import json\n")
    spec = importlib.util.spec_from_file_location("loose_plugin_node", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "loose_plugin_node", module)
    spec.loader.exec_module(module)
    assert text(build_node_program(["loose_plugin_node"]), "loose_plugin_node.py") == "import json\n"


def test_loose_files_share_what_lies_beside_them(tmp_path, monkeypatch):
    """As `from memcached_node import counters` in `memcached_load_node.py`; what is no node module stays."""
    (tmp_path / "loose_store_node.py").write_text("X = 1\n")
    (tmp_path / "loose_store.py").write_text("Y = 1\n")
    (tmp_path / "loose_load_node.py").write_text("from loose_store_node import X\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    program = build_node_program(["loose_load_node"])
    assert {"loose_load_node.py", "loose_store_node.py"} <= set(names(program))
    assert "loose_store.py" not in names(program)
    for written in ("from loose_store import Y", "import no_such_node"):
        (tmp_path / "loose_load_node.py").write_text(f"{written}\n")
        with pytest.raises(PluginError, match=f"`{written}` is not there on a node"):
            build_node_program(["loose_load_node"])


@pytest.mark.parametrize("name", ["no_such_module_anywhere", "no_such.module_node", "sys", "json"])
def test_a_module_without_a_source_file_of_its_own_is_refused(name):
    """Missing, built in, or a package."""
    with pytest.raises(PluginError, match=f"node module {name}"):
        build_node_program([name])


def test_a_module_that_is_no_python_is_refused_with_its_line(package):
    """A syntax error is shown where it is."""
    name = package(broken_node="x = 1\ndef f(:\n")
    with pytest.raises(PluginError, match=r"broken_node\.py:2: node module .*broken_node is not Python"):
        build_node_program([f"{name}.broken_node"])


def test_is_written_once_for_the_owner_only(tmp_path):
    """The same bytes are left alone, others are replaced as a whole."""
    program, folder = build_node_program([]), tmp_path / "run"
    folder.mkdir()
    path = write_node_program(folder, program)
    assert path == folder / f"node-{program.digest}.pyz"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_ino
    assert write_node_program(folder, program).stat().st_ino == before
    path.write_bytes(b"cut off")
    write_node_program(folder, program)
    assert path.read_bytes() == program.data
    assert [entry.name for entry in folder.iterdir()] == [path.name]


def test_a_run_folder_that_is_not_there_is_a_sites_error(tmp_path):
    """With the path and what to do."""
    with pytest.raises(SiteError, match="cannot be written"):
        write_node_program(tmp_path / "nowhere", build_node_program([]))


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_runs_on_the_oldest_and_the_newest_python(tmp_path, package, python_of, version):
    """A bare call prints the usage and ends with 2; a packed product module and every node module can be imported there."""
    python = python_of(version)
    name = package(a_node="from aifactory_bench.node.measurement import Measurement\n")
    path = write_node_program(tmp_path, build_node_program([f"{name}.a_node"]))
    bare = subprocess.run([python, "-I", path], capture_output=True, text=True, cwd="/", check=False, timeout=60)
    assert bare.returncode == 2, bare.stderr
    assert "usage" in bare.stdout + bare.stderr
    modules = [
        entry.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for entry in names(build_node_program([]))
        if entry.startswith("aifactory_bench/") and not entry.endswith("__main__.py")
    ]
    code = f"import sys, importlib; sys.path[:0] = [{str(path)!r}]\n"
    code += f"for m in {[*modules, f'{name}.a_node']}: importlib.import_module(m)"
    imported = subprocess.run(
        [python, "-I", "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert imported.returncode == 0, imported.stderr


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_a_point_is_measured_out_of_the_archive(tmp_path, package, python_of, version):
    """The point loop with a product's module, its sibling, and a tool that is the very same Python."""
    name = package(
        tool_node="from aifactory_bench.node.measurement import Counts, Measurement\nfrom .read_node import number\n"
        "def reduce(context, outcome):\n    counts = Counts(ok=number(outcome.stdout))\n"
        "    return Measurement(context.point, context.client, context.kind, context.rank, 'ok', counts=counts)\n",
        read_node="def number(path):\n    return int(path.read_text())\n",
    )
    python, folder = python_of(version), tmp_path / "run"
    folder.mkdir()
    program = write_node_program(folder, build_node_program([f"{name}.tool_node"]))
    command = [placeholder("python"), "-c", "import sys; print(7 if sys.argv[1].endswith('.pyz') else 0)", placeholder("node")]
    point = PointSpec("p0000-r1", 1, "none", {}, {"duration_s": 1.0}, {"afb-r-load-1": 1}, [command])
    client = ClientSpec({"main": TargetSpec("cache", "", 1, {}, "tcp://127.0.0.1:9")}, [point], 10.0, "tool")
    spec = Spec("r", "load", "afb-r-load-1", "client", "own", 1, 1, 60.0, None, f"{name}.tool_node", client=client)
    (tmp_path / "spec.json").write_text(spec_to_json(spec))
    argv = [python, "-I", "-W", "error", program, "measure", tmp_path / "spec.json", "--run-dir", folder]
    ran = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(RunPaths(folder).job("afb-r-load-1").rank(0).measurement("p0000-r1").read_text())
    assert (found["status"], found["counts"]["ok"]) == ("ok", 7), found["reason"]
    assert found["provenance"]["python"].startswith(f"{version}.")
