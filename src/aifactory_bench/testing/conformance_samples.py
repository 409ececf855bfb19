"""Checks of a tool's `reduce` against recorded output: whole it gives the numbers that are known, cut short it gives none.

The samples of a kind are listed in one JSON file, with the files that they name beside it:

    {
      "get": {
        "parameters": {"keys": 1000},                 as in a recipe
        "load": {"concurrency": 10, "duration": "3s"},   as in a recipe
        "exit_code": 0, "duration_s": 3.4,            how the tool ended
        "stdout": "get.txt", "stderr": "get.err",     what it printed
        "raw": {"out.json": "get.json"},              name in the folder `RAW` -> file
        "truncate": ["stdout"],                       which of them are cut; without it all of `raw`, or else `stdout`
        "expect": {"status": "ok", "counts": {"ok": 1000}}
      }
    }

Every key but `expect` may be left out. `expect` names what of the measurement is known; numbers are equal within a millionth.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from ..errors import RecipeError, UsageError
from ..jobs.base import parameters_to_json
from ..jobs.client import load_to_json, with_defaults
from ..node.contract import Context, Counts, Measurement, ToolOutcome
from ..node.endpoint import Endpoint
from ..node.events import EventLog
from ..node.measurement import STATUSES, Health, from_json, to_json
from ..recipe.converter import structure_class
from ..recipe.load_model import Load
from ..recipe.problems import Problems
from ..results.validity import CHECKS
from .conformance_node import module_of
from .conformance_subject import Subject

_SHARES = (0.0, 0.5, 0.9)
"""Of a file, that are left when it is cut short."""
_CLOSE = 1e-6
_SHORT = next(check.limits["window_short"] for check in CHECKS if check.code == "window_short")
_START_WALL_NS = 1_700_000_000_000_000_000


@frozen
class Sample:
    """One recorded run of a tool."""

    name: str
    expect: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(factory=dict)
    load: Mapping[str, Any] = field(factory=dict)
    exit_code: int = 0
    duration_s: float = 10.0
    stdout: str = ""
    stderr: str = ""
    raw: Mapping[str, str] = field(factory=dict)
    truncate: Sequence[str] = ()
    argv: Sequence[str] = ()
    timed_out: bool = False
    stopped: bool = False


def read_samples(path: Path) -> list[Sample]:
    """Return the samples that a file lists.

    Raises:
        UsageError: it is not JSON, names what is not known, or a file that it names is not there.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(data, dict) or not data or not all(isinstance(one, dict) for one in data.values()):
        raise UsageError(f"{path}: must be an object of samples, each an object with `expect`")
    return [_sample(path, name, one) for name, one in data.items()]


def _sample(path: Path, name: str, data: Mapping[str, Any]) -> Sample:
    known = [attribute.name for attribute in Sample.__attrs_attrs__ if attribute.name != "name"]
    if unknown := sorted(set(data) - set(known)):
        raise UsageError(f"{path}: {name}: unknown {', '.join(unknown)}; known: {', '.join(known)}")
    if not isinstance(data.get("expect"), dict) or "status" not in data["expect"]:
        raise UsageError(f"{path}: {name}: `expect` must be an object with at least `status`")
    sample = Sample(name=name, **data)
    files = {"stdout": sample.stdout, "stderr": sample.stderr, **sample.raw}
    for file in filter(None, files.values()):
        if not (path.parent / file).is_file():
            raise UsageError(f"{path}: {name}: there is no file {path.parent / file}")
    if strange := [cut for cut in sample.truncate if not files.get(cut)]:
        raise UsageError(f"{path}: {name}: truncate: {strange[0]!r} is none of its files: {', '.join(files)}")
    return sample


def reduced(subject: Subject) -> Iterator[str]:
    """`reduce` reads each recorded sample right, and does not take one that was cut short for a measurement."""
    assert subject.samples is not None
    for sample in read_samples(subject.samples):
        measurement, problem = _reduce(subject, sample, {})
        if measurement is None:
            yield f"{sample.name}: {problem}"
            continue
        try:
            document = json.loads(json.dumps(to_json(measurement), allow_nan=False))
            from_json(document)
        except (TypeError, ValueError) as error:
            yield f"{sample.name}: the measurement cannot be written: {error}"
            continue
        yield from (f"{sample.name}: {difference}" for difference in differences(sample.expect, document))
        if sample.expect["status"] == "ok":
            yield from _cut_short(subject, sample)


def _cut_short(subject: Subject, sample: Sample) -> Iterator[str]:
    names = sample.truncate or list(sample.raw) or ["stdout"]
    for name in names:
        for share in _SHARES:
            measurement, problem = _reduce(subject, sample, {name: share})
            what = f"{sample.name}: {name} cut to {share:.0%}"
            if measurement is None:
                yield f"{what}: {problem}"
            elif _is_taken(measurement):
                yield f"{what} is taken for a measurement: {measurement.counts.ok} ok in {measurement.window_s:g} s"
            elif measurement.status != "ok" and not measurement.reason:
                yield f"{what}: the status is {measurement.status!r} without a reason"


def _is_taken(measurement: Measurement) -> bool:
    """Return whether the verdict could call it valid."""
    long_enough = measurement.window_s >= measurement.window_asked_s * (1 - _SHORT)
    return measurement.status == "ok" and measurement.counts.ok > 0 and long_enough


def _reduce(subject: Subject, sample: Sample, cut: Mapping[str, float]) -> tuple[Measurement | None, str]:
    """Return the measurement of a sample, or why there is none; cut: file -> share that is left of it."""
    assert subject.samples is not None
    home = subject.samples.parent
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "raw")
        folder.mkdir()
        placed = {"stdout": folder / "command-1.out", "stderr": folder / "command-1.err"}
        placed.update((name, folder / name) for name in sample.raw)
        sources = {"stdout": sample.stdout, "stderr": sample.stderr, **sample.raw}
        for name, path in placed.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if sources[name]:
                shutil.copyfile(home / sources[name], path)
            else:
                path.touch()
            if name in cut:
                data = path.read_bytes()
                path.write_bytes(data[: int(len(data) * cut[name])])
        outcome = ToolOutcome(
            argv=tuple(sample.argv) or (f"sample-of-{subject.kind}",),
            exit_code=sample.exit_code,
            timed_out=sample.timed_out,
            stopped=sample.stopped,
            start_wall_ns=_START_WALL_NS,
            duration_s=sample.duration_s,
            cpu_s=sample.duration_s / 2,
            stdout=placed["stdout"],
            stderr=placed["stderr"],
        )
        try:
            measurement = module_of(subject).reduce(context_of(subject, sample, folder), outcome)
        except RecipeError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - a stranger's reduce
            # Of whole output the error is the reducer's own: nothing failed that it could tell.
            advice = "; it should return a measurement that failed, with the reason"
            return None, f"reduce() raised {type(error).__name__}: {error}{advice if _is_no_success(sample, cut) else ''}"
    if not isinstance(measurement, Measurement):
        return None, f"reduce() must return a Measurement, got {measurement!r}"
    wrong = _wrong_types(measurement)
    return (None, f"reduce() returned a Measurement whose {wrong}") if wrong else (measurement, "")


def _is_no_success(sample: Sample, cut: Mapping[str, float]) -> bool:
    return bool(cut) or sample.expect["status"] != "ok"


def _wrong_types(measurement: Measurement) -> str:
    """Return what of a measurement is not of its type, which a dataclass does not look at; empty: nothing."""
    if measurement.status not in STATUSES:
        return f"status is {measurement.status!r}; it must be {', '.join(STATUSES[:-1])} or {STATUSES[-1]}"
    if not isinstance(measurement.counts, Counts):
        return f"counts must be Counts(ok=..., error=...), got {measurement.counts!r}"
    if not isinstance(measurement.health, Health):
        return f"health must be Health(...), got {measurement.health!r}"
    numbers = {f"counts.{name}": value for name, value in vars(measurement.counts).items()}
    numbers.update((name, getattr(measurement, name)) for name in ("window_asked_s", "window_s"))
    return next((f"{name} must be a number, got {value!r}" for name, value in numbers.items() if not _is_number(value)), "")


def context_of(subject: Subject, sample: Sample, folder: Path) -> Context:
    """Return the context of the one rank that ran a sample.

    Raises:
        RecipeError: its parameters or its load are not what a recipe may hold.
    """
    problems = Problems()
    parameters = structure_class(subject.cls.Parameters, sample.parameters, (sample.name, "parameters"), problems)
    load = structure_class(Load, sample.load, (sample.name, "load"), problems)
    problems.raise_all()
    return Context(
        client="sample",
        kind=subject.kind,
        rank=0,
        ranks=1,
        seed=1,
        endpoints={role: (Endpoint(role, 0, "127.0.0.1", 1, "http://127.0.0.1:1"),) for role in subject.cls.targets},
        secrets=dict.fromkeys(subject.cls.targets, "0" * 32),
        service_parameters={role: {} for role in subject.cls.targets},
        parameters=parameters_to_json(parameters),
        load=load_to_json(with_defaults(load, subject.cls)),
        point="p0000-r1",
        repetition=1,
        reset="none",
        first=True,
        folder=folder,
        events=EventLog(folder.parent / "events.jsonl", "sample", 0),
    )


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Yield where a value is not what was expected; keys that are not expected do not matter."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            yield f"{where} is {found!r}, expected a mapping"
            return
        for key, value in expected.items():
            inner = f"{where}.{key}" if where else str(key)
            if key not in found:
                yield f"{inner} is not there, expected {value!r}"
            else:
                yield from differences(value, found[key], inner)
    elif _is_number(expected) and _is_number(found):
        if abs(expected - found) > _CLOSE * max(abs(expected), abs(found)):
            yield f"{where} is {found!r}, expected {expected!r}"
    elif expected != found:
        yield f"{where} is {found!r}, expected {expected!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
