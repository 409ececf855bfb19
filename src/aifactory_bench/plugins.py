"""Finding plugins: entry points, loose files and classes become one frozen `Registry`."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import attrs
import pluggy
from attrs import frozen

from . import hookspecs
from .errors import PluginError

GROUP = hookspecs.PROJECT
OWN_DISTRIBUTION = "aifactory-bench"
_ALMOST = re.compile("aifactorybench(plugins?)?")
"""Letters of an entry-point group that is meant to be ours."""
_LAST_PORT = 65535
_KIND = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_BASES = {
    "aifactory_bench.jobs.service.Service": "service",
    "aifactory_bench.jobs.client.Client": "client",
}


@frozen
class Registry:
    """Every kind that recipes can name; made by `load_registry` and never changed."""

    services: Mapping[str, type[Any]]
    """Kind -> subclass of `Service`."""
    clients: Mapping[str, type[Any]]
    """Kind -> subclass of `Client`."""
    sources: Mapping[str, str]
    """Kind -> where it comes from: `distribution version`, a file, or `class given`."""
    warnings: "tuple[str, ...]" = ()
    """Plugins that were left out, and why."""


def load_registry(*, files: Sequence[Path] = (), classes: Sequence[type[Any]] = ()) -> Registry:
    """Return every job class that is installed, in a loose file or given.

    A plugin of another distribution that cannot be used is left out with a warning; what the user names for this run
    (files, classes) and our own distribution must be right.

    Args:
        files: loose plugin files, `--plugin`.
        classes: job classes from Python.

    Raises:
        PluginError: our own plugin, a file or a class is broken, or two plugins have the same kind.
    """
    collected = _Collected()
    installed = metadata.entry_points()
    collected.warnings += _misspelt(installed.groups)
    for entry_point in sorted(installed.select(group=GROUP), key=lambda point: point.name):
        source, ours = _origin(entry_point)
        try:
            found = _classes_of(entry_point.load())
        except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
            text = f"plugin {entry_point.name!r} ({entry_point.value}) of {source}: {_cause(error)}"
            if ours:
                raise PluginError(f"{text}; it is part of aifactory-bench", "install aifactory-bench again") from error
            collected.warnings.append(f"{text}; left out")
            continue
        collected.add(found, source)
    for file in files:
        try:
            found = _classes_of_file(Path(file).absolute())
        except (Exception, SystemExit) as error:
            raise PluginError(f"plugin {file}: {_cause(error)}", "correct the file, or leave out --plugin") from error
        collected.add(found, str(file))
    for given in classes:
        try:
            role = check_job_class(given)
        except TypeError as error:
            raise PluginError(str(error)) from None
        collected.add([(role, given)], "class given")
    return collected.registry()


class _Collected:
    def __init__(self) -> None:
        self.kinds: dict[str, tuple[str, type[Any]]] = {}
        self.sources: dict[str, str] = {}
        self.warnings: list[str] = []

    def add(self, found: Iterable[tuple[str, type[Any]]], source: str) -> None:
        for role, cls in found:
            if cls.kind in self.kinds:
                other = self.kinds[cls.kind][1]
                if other is cls:
                    continue
                raise PluginError(
                    f"two plugins have the kind {cls.kind!r}: {_name(other)} of {self.sources[cls.kind]} "
                    f"and {_name(cls)} of {source}",
                    "uninstall one of them, or leave one out",
                )
            self.kinds[cls.kind] = (role, cls)
            self.sources[cls.kind] = source

    def registry(self) -> Registry:
        def of(role: str) -> Mapping[str, type[Any]]:
            return MappingProxyType({kind: cls for kind, (its, cls) in sorted(self.kinds.items()) if its == role})

        return Registry(of("service"), of("client"), MappingProxyType(dict(self.sources)), tuple(self.warnings))


def check_job_class(cls: Any) -> str:
    """Return the role of a job class, `service` or `client`.

    Raises:
        TypeError: it is not one that can be used; the text says why.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_jobs() must give classes, got {cls!r}")
    bases = (f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__)
    role = next((_BASES[base] for base in bases if base in _BASES), None)
    if role is None:
        raise TypeError(f"{_name(cls)} is neither a subclass of Service nor of Client")
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise TypeError(f"{_name(cls)} needs a `kind` of lower-case letters, digits and hyphens, got {kind!r}")
    parameters = getattr(cls, "Parameters", None)
    if not isinstance(parameters, type) or not attrs.has(parameters):
        raise TypeError(f"{_name(cls)}.Parameters must be a frozen attrs class, got {parameters!r}")
    abstract = sorted(getattr(cls, "__abstractmethods__", ()))
    if abstract:
        raise TypeError(f"{_name(cls)} must define {', '.join(abstract)}()")
    if role == "client" and not _are_targets(getattr(cls, "targets", None)):
        raise TypeError(
            f"{_name(cls)}.targets must name at least one role, each with a tuple of service kinds, such as "
            f'{{"main": ("redis",)}}; got {getattr(cls, "targets", None)!r}'
        )
    ports = getattr(cls, "ports", None)
    if role == "service" and not _is_port(ports):
        raise TypeError(
            f"{_name(cls)}.ports must be a tuple: empty, or with the one port of the service, 1 to {_LAST_PORT}; got {ports!r}"
        )
    node_module = getattr(cls, "node_module", None)
    if not isinstance(node_module, str):
        raise TypeError(
            f"{_name(cls)} names no `node_module`, which {'probes' if role == 'service' else 'measures'} on the node"
        )
    try:
        there = node_module in sys.modules or importlib.util.find_spec(node_module) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        raise TypeError(f"{_name(cls)}: there is no module {node_module!r}, which it names as its node_module")
    return role


def _is_port(ports: Any) -> bool:
    one_at_most = isinstance(ports, tuple) and len(ports) <= 1
    return one_at_most and all(type(port) is int and 1 <= port <= _LAST_PORT for port in ports)


def _are_targets(targets: Any) -> bool:
    return isinstance(targets, Mapping) and bool(targets) and all(isinstance(kinds, tuple) for kinds in targets.values())


def _classes_of(module: Any) -> list[tuple[str, type[Any]]]:
    """Return role and class of everything that one plugin registers."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    hook = manager.hook.register_jobs
    if not hook.get_hookimpls():
        raise TypeError("it has no function register_jobs() marked with @hookimpl")
    answers = hook()
    if not answers or isinstance(answers[0], type):
        raise TypeError(f"register_jobs() must return a list of classes, got {answers[0] if answers else None!r}")
    return [(check_job_class(cls), cls) for cls in answers[0]]


def _classes_of_file(path: Path) -> list[tuple[str, type[Any]]]:
    """Return what a loose file registers; its node modules are imported too, while its folder can be searched."""
    if path.is_dir():
        raise IsADirectoryError("it is a folder; name the Python file in it")
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    folder = str(path.parent)
    sys.path.append(folder)
    try:
        found = _classes_of(_import_file(path))
        for _, cls in found:
            importlib.import_module(cls.node_module)
    finally:
        sys.path.remove(folder)
    return found


def _import_file(path: Path) -> ModuleType:
    """Return the file as a module called by its stem; a second time the same one."""
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None:
        place = getattr(loaded, "__file__", None)
        if place == str(path):
            return loaded
        raise ImportError(f"a module called {name!r} is already there ({place or 'built in'}): give the file another name")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _misspelt(groups: Iterable[str]) -> list[str]:
    """Return a warning for each entry point whose group nearly is ours: nobody else would ever tell its author."""
    return [
        f"plugin {point.name!r} of {_origin(point)[0]}: the entry-point group {point.group!r} must be {GROUP!r}; left out"
        for group in sorted(groups)
        if group != GROUP and _ALMOST.fullmatch(re.sub(r"[^a-z]", "", group.lower()))
        for point in metadata.entry_points(group=group)
    ]


def _origin(entry_point: metadata.EntryPoint) -> tuple[str, bool]:
    """Return `distribution version` of an entry point and whether it is our own."""
    distribution = entry_point.dist
    if distribution is None:
        return "an unknown distribution", False
    own = re.sub(r"[-_.]+", "-", distribution.name).lower() == OWN_DISTRIBUTION
    return f"{distribution.name} {distribution.version}", own


def _name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _cause(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
