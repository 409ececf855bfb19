"""Writing a starting plugin: `python -m aifactory_bench.testing.new_service NAME`.

What is written is a distribution of its own with a server, a load, a recipe and tests, all of which work as they stand.
"""

import argparse
import keyword
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from ..errors import AifactoryBenchError, UsageError
from ..plugins import load_registry

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 40
_RECIPE = """\
# NEW-SERVICE on this machine, and two seconds of load on it.
schema: aifactory-bench/1
name: new-service

services:
  server:
    kind: new-service
    parameters: {answer_size: 1KiB}

clients:
  load:
    kind: new-service-load
    target: server
    load: {process: closed, concurrency: 4, warmup: 500ms, duration: 2s}
"""
_PROJECT = """\
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "aifactory-bench-new-service"
version = "0.1.0"
description = "new-service for aifactory-bench: the server and a load on it."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["aifactory-bench>=0.1"]

[project.optional-dependencies]
test = ["pytest>=8.3"]

# This line is all that makes it a plugin: any name, and the module with the hook.
[project.entry-points.aifactory_bench]
new-service = "aifactory_bench_new_service.new_service"

[tool.hatch.build.targets.wheel]
packages = ["aifactory_bench_new_service"]

[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = ["--import-mode=importlib"]
"""
_README = """\
# aifactory-bench-new-service

The service kind `new-service` and the client kind `new-service-load` for aifactory-bench.

    pip install -e '.[test]'
    aifactory-bench run recipes/new-service.yaml
    pytest

After an edit nothing has to be installed again.

| file | what is in it |
| --- | --- |
| `aifactory_bench_new_service/new_service.py` | for the controller: parameters, commands, kinds |
| `aifactory_bench_new_service/new_service_node.py` | for the job: questions to the server, the load, and a server |
| `recipes/new-service.yaml` | a recipe |
| `tests/test_new_service.py` | the conformance suite, with a real start and a real measurement |

To put a product in the server's place:

1. `get_container_command` gives its command, `default_image` the image for sites with a container runtime.
2. Delete the server in Python: `_Handler`, what stands below it, and `get_environment`.
3. `probe` and `counters` ask the product, `_Connection` makes its requests and reads its answers. One that knows no password
   leaves out `SECRET` and does not look at `secret`.

All functions and attributes: `docs/writing-a-plugin.md` in the sources of aifactory-bench.
"""
_TESTS = '''\
"""The plugin as its users get it: needs aifactory-bench, pytest, and this distribution installed."""

from pathlib import Path

import pytest

from aifactory_bench.testing.conformance import checks

RECIPE = Path(__file__).parent.parent / "recipes" / "new-service.yaml"


@pytest.mark.parametrize(*checks("new-service", recipes=[RECIPE], run=RECIPE))
def test_service(check):
    check()


@pytest.mark.parametrize(*checks("new-service-load", recipes=[RECIPE], run=RECIPE))
def test_load(check):
    check()
'''


def new_service(name: str, folder: Path) -> list[Path]:
    """Write a plugin into `<folder>/<name>` and return its files, relative to the folder.

    Raises:
        UsageError: the name cannot be a kind, there is such a kind, or the folder is there already.
    """
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"{name!r} cannot be the name of a service",
            f"at most {_LONGEST} lower-case letters, digits and single hyphens between them, a letter first, such as my-store",
        )
    if keyword.iskeyword(module):
        raise UsageError(f"{name!r} is a word of Python's own", "choose another name")
    registry = load_registry()
    for kind in (name, f"{name}-load"):
        if kind in registry.sources:
            raise UsageError(f"the kind {kind!r} is there already, from {registry.sources[kind]}", "choose another name")
    target = folder / name
    if target.exists():
        raise UsageError(f"{target} is there already", "choose another name, or remove it")
    written = []
    for place, text in _texts(name, module).items():
        path = target / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from None
        written.append(path.relative_to(folder))
    return written


def _texts(name: str, module: str) -> Mapping[str, str]:
    """Return path -> text of the plugin's files."""
    template = resources.files(f"{__package__}.template")
    package = f"aifactory_bench_{module}"
    texts = {
        "pyproject.toml": _PROJECT,
        "README.md": _README,
        f"{package}/__init__.py": '"""new-service for aifactory-bench."""\n',
        f"{package}/{module}.py": (template / "new_service.py").read_text(encoding="utf-8"),
        f"{package}/{module}_node.py": (template / "new_service_node.py").read_text(encoding="utf-8"),
        f"recipes/{name}.yaml": _RECIPE,
        f"tests/test_{module}.py": _TESTS,
    }
    changes = {
        f"{__package__}.template": package,
        "new_service": module,
        "NEW_SERVICE": module.upper(),
        "new-service": name,
        "NEW-SERVICE": name[0].upper() + name[1:],
        "NewService": "".join(part.capitalize() for part in name.split("-")),
    }
    pattern = re.compile("|".join(map(re.escape, changes)))
    return {place: pattern.sub(lambda found: changes[found[0]], text) for place, text in texts.items()}


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Write a plugin into the current folder and say what comes next; 0, or 2 for a name that cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m aifactory_bench.testing.new_service", description="Write a starting service plugin into ./NAME."
    )
    parser.add_argument("name", metavar="NAME", help="of the service's kind, such as my-store")
    name = parser.parse_args(arguments).name
    try:
        written = new_service(name, Path.cwd())
    except AifactoryBenchError as error:
        print(f"new_service: {error}", file=sys.stderr)  # noqa: T201 - a program speaks
        return 2
    print("\n".join(map(str, written)))  # noqa: T201
    print(f"next: pip install -e ./{name} && aifactory-bench run {name}/recipes/{name}.yaml")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
