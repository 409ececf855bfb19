"""Discovery: entry points of real distributions, loose files and classes."""

import sys
import textwrap
from pathlib import Path

import pytest

from aifactory_bench import Client, PluginError, Service, hookspecs, load_registry
from aifactory_bench.plugins import GROUP, check_job_class

MODULE = """\
from aifactory_bench import Command, Service, hookimpl


class Stub(Service):
    kind = "{kind}"
    node_module = "{node_module}"

    def get_container_command(self):
        return Command(["true"])


@hookimpl
def register_jobs():
    return [Stub]
"""
NODE = "def probe(endpoint, secret, parameters):\n    return {}\n"


@pytest.fixture
def site_packages(tmp_path, monkeypatch):
    """A folder of installed distributions, forgotten after the test."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def install(site_packages):
    """Install a distribution with one module and, unless told otherwise, an entry point for it."""

    def install(distribution, module, text, *, version="1.2.3", node="", group=GROUP):
        (site_packages / f"{module}.py").write_text(text)
        if node:
            (site_packages / f"{node}.py").write_text(NODE)
        info = site_packages / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{module} = {module}\n")

    return install


@pytest.fixture
def loose_file(tmp_path, site_packages):
    """Write a plugin as a loose file in a folder that is on no path."""

    def write(name, text, *, node=""):
        folder = tmp_path / "loose"
        folder.mkdir(exist_ok=True)
        if node:
            (folder / f"{node}.py").write_text(NODE)
        path = folder / name
        path.write_text(text)
        return path

    return write


def stub(kind="stub", node_module="stub_node"):
    return MODULE.format(kind=kind, node_module=node_module)


def warnings_of(registry, distribution="stub-plugin"):
    (warning,) = [warning for warning in registry.warnings if distribution in warning]
    return warning


def test_our_own_products_are_there():
    """Found through entry points like a stranger's, with the distribution they come from."""
    registry = load_registry()
    assert registry.services["redis"].kind == "redis"
    assert registry.clients["redis-load"].targets == {"main": ("redis",)}
    assert registry.sources["redis"].startswith("aifactory-bench ")


def test_the_registry_cannot_be_changed():
    """A kind that is looked up twice is the same one."""
    registry = load_registry()
    with pytest.raises(TypeError):
        registry.services["x"] = Service
    with pytest.raises(AttributeError):
        registry.services = {}


def test_a_stranger_is_found(install):
    """An installed distribution with an entry point is enough."""
    install("stub-plugin", "stub_plugin", stub(), node="stub_node")
    registry = load_registry()
    assert registry.services["stub"].__module__ == "stub_plugin"
    assert registry.sources["stub"] == "stub-plugin 1.2.3"
    assert registry.warnings == ()


BROKEN = {
    "unimportable": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "not Python": ("def (", "SyntaxError"),
    "exits": ("raise SystemExit('bye')", "SystemExit: bye"),
    "no hook": ("x = 1", "no function register_jobs() marked with @hookimpl"),
    "unknown hook": (
        "from aifactory_bench import hookimpl\n@hookimpl\ndef register_job():\n    return []",
        "unknown hook 'register_job'",
    ),
    "hook with arguments": (
        "from aifactory_bench import hookimpl\n@hookimpl\ndef register_jobs(manager):\n    return []",
        "manager",
    ),
    "hook fails": (
        "from aifactory_bench import hookimpl\n@hookimpl\ndef register_jobs():\n    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "returns nothing": (
        "from aifactory_bench import hookimpl\n@hookimpl\ndef register_jobs():\n    pass",
        "must return a list of classes, got None",
    ),
    "not a class": (
        "from aifactory_bench import hookimpl\n@hookimpl\ndef register_jobs():\n    return ['redis']",
        "must give classes, got 'redis'",
    ),
    "wrong base": (
        "from aifactory_bench import hookimpl\n@hookimpl\ndef register_jobs():\n    return [dict]",
        "builtins.dict is neither a subclass of Service nor of Client",
    ),
    "no kind": (stub().replace('    kind = "stub"\n', ""), "needs a `kind`"),
    "odd kind": (stub(kind="Stub; x"), "lower-case letters, digits and hyphens, got 'Stub; x'"),
    "no node module": (stub().replace('    node_module = "stub_node"\n', ""), "names no `node_module`"),
    "lost node module": (stub(node_module="not_there_node"), "there is no module 'not_there_node'"),
    "parameters are no attrs class": (
        stub().replace("    kind", "    Parameters = dict\n    kind"),
        "must be a frozen attrs class",
    ),
    "abstract": (stub().replace("get_container_command", "other"), "must define get_container_command()"),
    "overrides a final step": (
        stub() + "\nclass Other(Stub):\n    def compose(self, site, context):\n        return None\n",
        "stub_plugin.Other overrides compose(), which is final",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_stranger_is_left_out_with_a_warning(install, case):
    """The warning names plugin, distribution, version and cause; our own products still work."""
    text, cause = BROKEN[case]
    install("stub-plugin", "stub_plugin", text, node="stub_node")
    registry = load_registry()
    warning = warnings_of(registry)
    assert "plugin 'stub_plugin' (stub_plugin) of stub-plugin 1.2.3" in warning
    assert cause in warning
    assert "stub" not in registry.sources
    assert "redis" in registry.services


@pytest.mark.parametrize("name", ["aifactory-bench", "Aifactory_Bench"])
def test_our_own_broken_plugin_stops_with_its_cause(install, name):
    """A half-installed product of ours is not passed over, however the name is written."""
    install(name, "stub_plugin", "import no_such_module_at_all")
    with pytest.raises(PluginError, match="No module named 'no_such_module_at_all'") as raised:
        load_registry()
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)
    assert "plugin 'stub_plugin'" in raised.value.text


def test_a_clash_names_both_sides(install):
    """Which of two would be meant cannot be guessed."""
    install("stub-plugin", "stub_plugin", stub(kind="redis"), node="stub_node")
    with pytest.raises(PluginError, match="two plugins have the kind 'redis'") as raised:
        load_registry()
    assert "stub_plugin.Stub of stub-plugin 1.2.3" in raised.value.text
    assert "aifactory_bench_services.redis.RedisService of aifactory-bench " in raised.value.text


def test_two_strangers_clash_too(install):
    """The same kind from two distributions."""
    install("stub-plugin", "stub_plugin", stub(), node="stub_node")
    install("other-plugin", "other_plugin", stub(), version="9")
    with pytest.raises(PluginError, match=r"other_plugin.Stub of other-plugin 9 and stub_plugin.Stub of stub-plugin 1.2.3"):
        load_registry()


def test_another_group_is_none_of_our_business(install):
    """Only our group is loaded."""
    install("stub-plugin", "stub_plugin", "raise RuntimeError", group="console_scripts_of_others")
    assert load_registry().warnings == ()


def test_a_loose_file_brings_its_node_module(loose_file):
    """Its folder is searched while it is loaded, and is on no path later."""
    path = loose_file("mine.py", stub(node_module="mine_node"), node="mine_node")
    registry = load_registry(files=[path])
    assert registry.services["stub"].__module__ == "mine"
    assert registry.sources["stub"] == str(path)
    assert str(path.parent) not in sys.path
    assert sys.modules["mine_node"].__file__ == str(path.parent / "mine_node.py")


def test_a_loose_file_can_be_loaded_twice(loose_file):
    """A second registry in one process has the same class."""
    path = loose_file("mine.py", stub(node_module="mine_node"), node="mine_node")
    first, second = load_registry(files=[path]), load_registry(files=[path, path])
    assert first.services["stub"] is second.services["stub"]


@pytest.mark.parametrize("case", ["unimportable", "no hook", "wrong base", "lost node module"])
def test_a_broken_loose_file_is_an_error(loose_file, case):
    """The user asked for it, so it is not left out."""
    text, cause = BROKEN[case]
    path = loose_file("mine.py", text)
    with pytest.raises(PluginError) as raised:
        load_registry(files=[path])
    assert f"plugin {path}: " in raised.value.text
    assert cause in raised.value.text
    assert str(path.parent) not in sys.path


def test_a_loose_file_that_is_not_there(tmp_path):
    """One clear error."""
    with pytest.raises(PluginError, match="there is no such file"):
        load_registry(files=[tmp_path / "none.py"])


def test_a_loose_file_hides_no_module(loose_file):
    """`json.py` is not imported in place of the library's."""
    path = loose_file("json.py", stub())
    with pytest.raises(PluginError, match="a module called 'json' is already there"):
        load_registry(files=[path])


def test_a_class_from_python(install, site_packages):
    """As from a notebook cell."""
    (site_packages / "stub_node.py").write_text(NODE)
    namespace = {"__name__": "__main__"}
    exec(textwrap.dedent(stub()), namespace)
    registry = load_registry(classes=[namespace["Stub"]])
    assert registry.services["stub"] is namespace["Stub"]
    assert registry.sources["stub"] == "class given"


@pytest.mark.parametrize("given", [dict, "redis", Service])
def test_a_class_that_is_no_job_is_an_error(given):
    """Said by name."""
    with pytest.raises(PluginError):
        load_registry(classes=[given])


def test_final_methods_cannot_be_overridden():
    """Whoever tries learns of it where the class is written."""
    with pytest.raises(TypeError, match="which is final"):
        type("Mine", (Service,), {"generate_slurm_script": lambda self: ""})


def test_the_example_in_the_hook_is_a_plugin(loose_file):
    """The two blocks of the docstring, as they stand."""
    blocks = _blocks(hookspecs.register_jobs.__doc__)
    assert len(blocks) == 2
    plugin, node = blocks
    path = loose_file("file_server.py", plugin)
    (path.parent / "file_server_node.py").write_text(node)
    registry = load_registry(files=[path])
    cls = registry.services["file-server"]
    assert check_job_class(cls) == "service"
    script = cls("files", cls.Parameters(folder="/data x")).generate_slurm_script()
    assert script.splitlines()[-1].endswith("-- python3 -m http.server --directory '/data x' '@{port}'")
    assert callable(sys.modules["file_server_node"].probe)


def _blocks(text):
    """Return the indented blocks of a docstring."""
    lines = textwrap.dedent(text.split("\n", 1)[1]).splitlines()
    blocks, block = [], []
    for line in [*lines, "end"]:
        if line.startswith("    ") or (block and not line):
            block.append(line)
        elif block:
            blocks.append(textwrap.dedent("\n".join(block)).strip() + "\n")
            block = []
    return blocks


def test_every_hook_has_its_heading():
    """`docs/hooks.md` has each hook."""
    page = (Path(__file__).parent.parent / "docs" / "hooks.md").read_text(encoding="utf-8")
    hooks = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")]
    assert hooks == [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]


@pytest.mark.parametrize("targets", [{}, {"main": "redis"}, ("redis",), None])
def test_a_client_that_measures_nothing_is_refused(targets):
    """Roles are named, each with a tuple of kinds."""
    cls = type("Odd", (Client,), {"kind": "odd", "node_module": "json", "targets": targets})
    with pytest.raises(TypeError, match="targets must name at least one role"):
        check_job_class(cls)


@pytest.mark.parametrize("ports", [(70000,), (-1,), (0,), ("x",), (True,), 5, (1, 2), [6379], None])
def test_ports_that_are_none_are_refused(ports):
    """Said where the class is given, with what is allowed."""
    steps = {"kind": "odd", "node_module": "json", "get_container_command": lambda self: None}
    cls = type("Odd", (Service,), {**steps, "ports": ports})
    with pytest.raises(PluginError, match="one port of the service, 1 to 65535") as raised:
        load_registry(classes=[cls])
    assert repr(ports) in raised.value.text
    assert check_job_class(type("Even", (Service,), {**steps, "ports": (6379,)})) == "service"


def test_a_folder_is_no_plugin(tmp_path):
    """Said as what it is."""
    with pytest.raises(PluginError, match="it is a folder"):
        load_registry(files=[tmp_path])
