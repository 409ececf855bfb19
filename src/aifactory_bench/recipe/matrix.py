"""The matrix: its factors checked value by value, and the points it stands for."""

import itertools
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ..errors import RecipeError
from .converter import BAD
from .document import Document
from .entries import Kinds, Section, build_entry
from .model import ClientEntry, Factor, Recipe, ServiceEntry, Variant
from .problems import Path, Problem, Problems, path_text, shown, suggestion

MOST_POINTS = 100_000
"""Measurements of one run."""
_MOST_CHECKED = 1000
"""Combinations of one entry that are checked when a recipe is loaded; the others are when they are expanded."""
FACTORS: Mapping[Section, tuple[str, ...]] = {
    "services": ("image", "resources", "replicas", "environment", "parameters"),
    "clients": ("image", "resources", "replicas", "environment", "parameters", "load"),
}
"""What a matrix may vary; the others decide which jobs there are."""
_WITHIN_A_JOB = ("load", "parameters")


def split(path: str) -> tuple[str, ...]:
    """Return the keys of a factor's path."""
    return tuple(path.split("."))


def read_factors(document: Document, problems: Problems) -> tuple[Factor, ...]:
    """Return the factors of a document, less those that make no sense; these are added to the problems."""
    matrix = document.get(("matrix",))
    factors: list[Factor] = []
    for path, values in matrix.items() if isinstance(matrix, Mapping) else ():
        at: Path = ("matrix", path)
        if text := _path_text(path, document):
            problems.add(at, text, at="key")
        elif not isinstance(values, list) or not values:
            problems.add(
                at, f"must be a list of values, such as [1, 2]; found {'an empty list' if values == [] else shown(values)}"
            )
        elif (other := next((factor.path for factor in factors if _overlap(factor.path, path)), None)) is not None:
            problems.add(at, f"sets a part of what {other} sets", at="key")
        else:
            seen: dict[str, int] = {}
            for position, value in enumerate(values):
                first = seen.setdefault(json.dumps(value, sort_keys=True), position)
                if first != position:
                    problems.add((*at, position), f"the same value as [{first}]")
            factors.append(Factor(path, tuple(values)))
    return tuple(factors)


def _path_text(path: str, document: Document) -> str:
    parts = split(path)
    section = parts[0]
    if section not in FACTORS:
        return f"must begin with services. or clients.{suggestion(section, FACTORS)}"
    names = document.get((section,))
    names = list(names) if isinstance(names, Mapping) else []
    if len(parts) < 2 or parts[1] not in names:
        name = ".".join(parts[1:2])
        return f"there is no {path_text(parts[:2])}{suggestion(name, names)}; known: {', '.join(names) or 'none'}"
    allowed = FACTORS[cast("Section", section)]
    key = parts[2] if len(parts) > 2 else ""
    if key not in allowed:
        return f"a matrix can vary {', '.join(allowed)} of {path_text(parts[:2])}{suggestion(key, allowed)}"
    return "" if all(parts) else "has an empty part"


def _overlap(one: str, other: str) -> bool:
    length = min(len(split(one)), len(split(other)))
    return split(one)[:length] == split(other)[:length]


def check_size(factors: Sequence[Factor], repetitions: int, problems: Problems) -> None:
    """Check that the matrix is of a size that can be run."""
    points = math.prod(len(factor.values) for factor in factors)
    if points * repetitions > MOST_POINTS:
        what = f"{points} points x {repetitions} repetitions = {points * repetitions} measurements"
        problems.add(("matrix",) if factors else ("repetitions",), f"at most {MOST_POINTS} are possible; found {what}")


def _set(data: Any, path: Sequence[str], value: Any) -> Any:
    """Return a copy with one value set; what has no place for it becomes a mapping that nobody knows."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, Mapping) else {}
    copy[path[0]] = _set(copy.get(path[0]), path[1:], value)
    return copy


class EntryMaker:
    """Makes one entry at any combination of the factors that touch it."""

    def __init__(self, section: Section, name: str, data: Any, factors: Sequence[Factor], registry: Kinds) -> None:
        self.section: Section = section
        self.name = name
        self.data = data
        self.registry = registry
        self.factors = tuple(factor for factor in factors if split(factor.path)[:2] == (section, name))
        self._made: dict[tuple[int, ...], Any] = {}

    def make(self, positions: tuple[int, ...], problems: Problems) -> Any:
        """Return the entry, or `BAD`; positions: of the value, for each of `factors`."""
        data = self.data
        for factor, position in zip(self.factors, positions, strict=True):
            data = _set(data, split(factor.path)[2:], factor.values[position])
        return build_entry(self.section, self.name, data, self.registry, problems)

    def check(self, problems: Problems) -> Any:
        """Return the entry at the first values, or `BAD`, after every value has been tried."""
        if not self.factors:
            return self.make((), problems)
        base = problems.with_moved({})
        build_entry(self.section, self.name, self.data, self.registry, base)
        written = [split(factor.path) for factor in self.factors]
        problems.take(
            problem
            for problem in base.found
            if problem.path in problems.values and any(problem.path[: len(path)] == path for path in written)
        )
        start = (0,) * len(self.factors)
        first = self._problems(start, problems)
        entry = self.make(start, first)
        problems.take(first.found)
        known = {(problem.path, problem.text) for problem in first.found}
        found = len(problems)
        for number, factor in enumerate(self.factors):
            for position in range(1, len(factor.values)):
                self._try((*start[:number], position, *start[number + 1 :]), number, known, problems)
        if len(problems) == found and entry is not BAD:
            self._combinations(known, problems)
        return entry

    def _combinations(self, known: set[tuple[Path, str]], problems: Problems) -> None:
        """Try what values do together; one problem is enough, it would come again and again."""
        before = len(problems)
        combinations = itertools.product(*(range(len(factor.values)) for factor in self.factors))
        for positions in itertools.islice(combinations, _MOST_CHECKED):
            changed = [number for number, position in enumerate(positions) if position]
            if len(changed) > 1:
                self._try(positions, changed[-1], known, problems)
            if len(problems) > before:
                return

    def _problems(self, positions: tuple[int, ...], problems: Problems) -> Problems:
        moved: dict[Path, Path] = {
            split(factor.path): ("matrix", factor.path, position)
            for factor, position in zip(self.factors, positions, strict=True)
        }
        return problems.with_moved(moved)

    def _try(self, positions: tuple[int, ...], number: int, known: set[tuple[Path, str]], problems: Problems) -> None:
        """Try one combination; what is new against the first values is the doing of one factor's value."""
        own = self._problems(positions, problems)
        self.make(positions, own)
        at: Path = ("matrix", self.factors[number].path, positions[number])
        for problem in own.found:
            path, text = problem.path, problem.text
            if path[: len(at)] == at:
                if ((*at[:2], 0, *path[3:]), text) not in known:
                    problems.found.append(problem)
            elif (_at_first(path), text) not in known:
                problems.found.append(Problem(problems.place(at), at, f"with this value {path_text(path)}: {text}"))

    def get(self, positions: tuple[int, ...], problems: Problems) -> Any:
        """Return the entry, made once for each combination."""
        if positions not in self._made:
            self._made[positions] = self.make(positions, problems)
        return self._made[positions]


def _at_first(path: Path) -> Path:
    return (*path[:2], 0, *path[3:]) if path[:1] == ("matrix",) and len(path) > 2 else path


def expand(recipe: Recipe, registry: Kinds) -> tuple[Variant, ...]:
    """Return every point of a recipe in every repetition, in the order of execution.

    Service factors are outermost, then come repetitions, then the load factors in an order that `recipe.seed` shuffles
    anew for each setting of the services and each repetition; points that differ in more than load and parameters need
    client jobs of their own, and those that share one stay together. Without a matrix there is one point.

    Args:
        recipe: as loaded; its `data` is what factors are set in.
        registry: the one it was loaded with.

    Raises:
        RecipeError: values that are right one by one do not go together.
    """
    of_services = [factor for factor in recipe.matrix if split(factor.path)[0] == "services"]
    of_clients = [factor for factor in recipe.matrix if split(factor.path)[0] == "clients"]
    problems = Problems()
    services = _section("services", recipe.services, of_services, recipe, registry, problems)
    clients = _section("clients", recipe.clients, of_clients, recipe, registry, problems)
    service_points, load_points = _combinations(of_services), _combinations(of_clients)
    entries = [services(positions) for positions in service_points], [clients(positions) for positions in load_points]
    if problems.found:
        raise RecipeError("\n".join(dict.fromkeys(f"{recipe.name}: {path_text(p.path)}: {p.text}" for p in problems.found)))
    values = [_values(of_services, at) for at in service_points], [_values(of_clients, at) for at in load_points]
    jobs = [number for number, factor in enumerate(of_clients) if split(factor.path)[2] not in _WITHIN_A_JOB]
    variants: list[Variant] = []
    for setting in range(len(service_points)):
        for repetition in range(1, recipe.repetitions.count + 1):
            order = _shuffled(load_points, jobs, f"{recipe.seed}/{setting}/{repetition}")
            key = f"s{setting}-r{repetition}" if recipe.repetitions.reset == "service" else f"s{setting}"
            for load in order:
                both = {**values[0][setting], **values[1][load]}
                variants.append(
                    Variant(
                        parameters={factor.path: both[factor.path] for factor in recipe.matrix},
                        services=entries[0][setting],
                        clients=entries[1][load],
                        repetition=repetition,
                        service_key=key,
                        index=setting * len(load_points) + load,
                    )
                )
    return tuple(variants)


def _shuffled(points: Sequence[tuple[int, ...]], together: Sequence[int], seed: str) -> list[int]:
    """Return the positions of points in a random order; those with the same values of some factors stay together."""
    order = list(range(len(points)))
    random.Random(seed).shuffle(order)
    groups: dict[tuple[int, ...], list[int]] = {}
    for position in order:
        groups.setdefault(tuple(points[position][number] for number in together), []).append(position)
    return [position for group in groups.values() for position in group]


def _combinations(factors: Sequence[Factor]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(factor.values)) for factor in factors)))


def _values(factors: Sequence[Factor], positions: tuple[int, ...]) -> dict[str, Any]:
    return {factor.path: factor.values[position] for factor, position in zip(factors, positions, strict=True)}


def _section(
    section: Section,
    entries: Sequence[ServiceEntry] | Sequence[ClientEntry],
    factors: Sequence[Factor],
    recipe: Recipe,
    registry: Kinds,
    problems: Problems,
) -> Callable[[tuple[int, ...]], tuple[Any, ...]]:
    """Return what makes a section's entries at positions of its factors; an entry that no factor touches stays what it is."""
    makers: list[tuple[Any, EntryMaker, tuple[int, ...]]] = []
    for entry in entries:
        numbers = tuple(number for number, factor in enumerate(factors) if split(factor.path)[1] == entry.name)
        data = recipe.data[section][entry.name] if numbers else {}
        makers.append((entry, EntryMaker(section, entry.name, data, factors, registry), numbers))

    def at(positions: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple(
            maker.get(tuple(positions[number] for number in numbers), problems) if numbers else entry
            for entry, maker, numbers in makers
        )

    return at
