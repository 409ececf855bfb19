"""Checks of the node module: what it is made of, which functions it has, and what its questions do when nobody answers."""

import ast
import importlib
import inspect
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

from ..errors import AifactoryBenchError
from ..jobs.base import parameters_to_json
from ..node.contract import NotReady
from ..node.endpoint import Endpoint
from ..script.bundle import build_node_program
from .conformance_servers import SERVERS, closed_port
from .conformance_subject import Subject

OLDEST = (3, 9)
"""Python of a node."""
_NEWER = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}, "field": {"kw_only"}}
"""Function -> arguments that came after 3.9."""
_OF_A_SERVICE: Mapping[str, int] = {"probe": 3, "alive": 3, "locate": 1, "counters": 2, "sample": 2}
_OF_A_CLIENT: Mapping[str, int] = {"prepare": 1, "locate": 1}
_MODE: Mapping[str, str] = {"load": "driver", "tool": "reduce"}
_ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(("probe", "alive"), "endpoint, secret, parameters"),
    **dict.fromkeys(("counters", "sample"), "endpoint, secret"),
    **dict.fromkeys(("prepare", "driver"), "context"),
    "reduce": "context, outcome",
    "locate": "name",
}
_COUNTERS_LIMIT_S = 5.0
NO_SECRET = "0" * 32
_IMPORT_LIMIT_S = 30.0


def module_of(subject: Subject) -> ModuleType:
    """Return the node module, imported here."""
    return importlib.import_module(subject.cls.node_module)


def packed(subject: Subject) -> Iterator[str]:
    """The node module is packed with its siblings, is Python 3.9, and can be imported where there is nothing else."""
    name = subject.cls.node_module
    try:
        program = build_node_program([name])
    except AifactoryBenchError as error:
        yield str(error)
        return
    with zipfile.ZipFile(io.BytesIO(program.data)) as archive:
        files = [file for file in archive.namelist() if not file.startswith(("aifactory_bench/", "__main__"))]
        for file in files:
            yield from too_new(file, archive.read(file))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "node.pyz")
        path.write_bytes(program.data)
        for python in _pythons():
            yield from _imported(python, path, name)


def too_new(file: str, source: bytes) -> Iterator[str]:
    """Yield what in a source Python 3.9 cannot read or run."""
    try:
        tree = ast.parse(source, file, feature_version=OLDEST)
    except SyntaxError as error:
        yield f"{file}:{error.lineno}: not Python {OLDEST[0]}.{OLDEST[1]}: {error.msg}"
        return
    later = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(name.name == "annotations" for name in node.names)
        for node in tree.body
    )
    for node in ast.walk(tree):
        annotations = _annotations(node) if not later else ()
        for annotation in annotations:
            if any(isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr) for part in ast.walk(annotation)):
                yield f"{file}:{annotation.lineno}: `X | Y` in an annotation cannot be run by Python 3.9: put it in quotes"
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            for argument in sorted(given & _NEWER.get(called, set())):
                yield f"{file}:{node.lineno}: {called}({argument}=...) is not there in Python 3.9"


def _annotations(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.AnnAssign):
        yield node.annotation
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        yield from (argument.annotation for argument in every if argument is not None and argument.annotation is not None)
        if node.returns is not None:
            yield node.returns


def _pythons() -> list[str]:
    """Return this interpreter, and the oldest one where it is installed."""
    oldest = shutil.which(f"python{OLDEST[0]}.{OLDEST[1]}")
    works = oldest is not None and subprocess.run([oldest, "-c", ""], capture_output=True, check=False).returncode == 0
    return [sys.executable, *([oldest] if oldest is not None and works else [])]


def _imported(python: str, program: Path, name: str) -> Iterator[str]:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import importlib; importlib.import_module(sys.argv[2])"
    # Isolated and without site-packages: the standard library and the program, as on a node.
    done = subprocess.run(
        [python, "-I", "-S", "-c", code, program, name], capture_output=True, text=True, timeout=_IMPORT_LIMIT_S, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        yield f"{name} cannot be imported by {Path(python).name} with the standard library alone: {last}"


def functions(subject: Subject) -> Iterator[str]:
    """The node module has the functions of its role, each taking what the core gives it."""
    module = module_of(subject)
    if subject.is_service:
        needed, known = "probe", dict(_OF_A_SERVICE)
        if subject.example.get_model_pull_commands() and not hasattr(module, "alive"):
            yield f"{module.__name__} has no alive({_ARGUMENTS['alive']}), and there are get_model_pull_commands()"
    else:
        needed = _MODE[subject.cls.mode]
        known = {**_OF_A_CLIENT, needed: 2 if needed == "reduce" else 1}
    if not hasattr(module, needed):
        yield f"{module.__name__} has no {needed}({_ARGUMENTS[needed]})"
    for name, count in known.items():
        function = getattr(module, name, None)
        if function is None:
            continue
        if not callable(function):
            yield f"{module.__name__}.{name} is no function: {function!r}"
            continue
        try:
            inspect.signature(function).bind(*range(count))
        except (TypeError, ValueError) as error:
            yield f"{module.__name__}.{name} must take ({_ARGUMENTS[name]}): {error}"
        if inspect.iscoroutinefunction(function):
            yield f"{module.__name__}.{name} must be a plain function, not an async one"


def not_ready(subject: Subject) -> Iterator[str]:
    """While no server answers the probe says so, with NotReady and soon."""
    module = module_of(subject)
    parameters = json.loads(json.dumps(parameters_to_json(subject.example.parameters)))
    for name in ("probe", "alive"):
        function = getattr(module, name, None)
        if not callable(function):
            continue
        with ExitStack() as servers:
            ports = {what: servers.enter_context(server()) for what, server in SERVERS.items()}
            answers = {
                what: Answer(partial(function, _endpoint(subject, port), NO_SECRET, parameters)) for what, port in ports.items()
            }
            for what, answer in answers.items():
                yield from _judged(name, what, answer, subject.probe_limit_s)


def _judged(name: str, what: str, answer: "Answer", limit_s: float) -> Iterator[str]:
    if not answer.came_within(limit_s):
        yield f"{name}() has not come back for {limit_s:g} s from {what}: give its sockets a timeout"
    elif answer.error is None:
        yield f"{name}() calls {what} ready: it returned {answer.value!r}"
    elif not isinstance(answer.error, NotReady):
        yield f"{name}() raised {type(answer.error).__name__} at {what}, not NotReady: {answer.error}"
    elif not str(answer.error).strip():
        yield f"{name}() raised NotReady at {what} without a text: a user reads why nothing is ready"


class Answer:
    """What a call comes to, in a thread that is left behind where it does not come back; it begins at once."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._call = call
        self._began = time.monotonic()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def came_within(self, limit_s: float) -> bool:
        """Wait, and return whether it came back before so many seconds had passed since it began."""
        self._thread.join(max(0.0, self._began + limit_s - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.value = self._call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            self.error = error


def _endpoint(subject: Subject, port: int) -> Endpoint:
    scheme = getattr(subject.cls, "scheme", "tcp")
    return Endpoint("example", 0, "127.0.0.1", port, f"{scheme}://127.0.0.1:{port}")


def no_made_up_numbers(subject: Subject) -> Iterator[str]:
    """Where there is no server, `counters` and `sample` raise: they never give numbers that nobody said."""
    module = module_of(subject)
    for name in ("counters", "sample"):
        function = getattr(module, name, None)
        if not callable(function):
            continue
        with closed_port() as port:
            answer = Answer(partial(function, _endpoint(subject, port), NO_SECRET))
            came = answer.came_within(_COUNTERS_LIMIT_S)
        if not came:
            yield f"{name}() has not come back for {_COUNTERS_LIMIT_S:g} s from a closed port"
        elif answer.error is None:
            yield f"{name}() returned {answer.value!r}, and there is no server"


def wrong_figures(name: str, value: Any) -> Iterator[str]:
    """Yield what is wrong with what `counters` or `sample` returned."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        yield f"{name}() must return a dict of names and numbers, got {value!r}"
        return
    for key, number in value.items():
        if (number is None and name == "sample") or (isinstance(number, (int, float)) and not isinstance(number, bool)):
            continue
        yield f"{name}()[{key!r}] must be a number, got {number!r}"
