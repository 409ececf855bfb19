"""Short forms, and the keys that users of earlier tools type, brought to the one form that everything else reads."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..units import format_duration, parse_duration
from .document import Document
from .problems import Path, Problem, Problems, path_text, shown

KEYS: Mapping[str, Mapping[str, str]] = {
    "services": {"container_image": "image"},
    "clients": {"container_image": "image", "target_service": "target", "num_clients": "replicas"},
}
"""Section -> key of earlier tools -> ours."""
_CLOCK = re.compile(r"[0-9]+:[0-9]{2}:[0-9]{2}")
_GRES = re.compile(r"gpu(?::(?P<count>[0-9]{1,4}))?")


def normalise(document: Document, problems: Problems, notes: dict[str, None]) -> None:
    """Bring a document to its one form, in place; doing it again changes nothing.

    Args:
        document: its top must be a mapping.
        problems: gets what is wrong with a short form.
        notes: gets one line for every key of earlier tools, in order.
    """
    _Normaliser(document, problems, notes).run()


class _Normaliser:
    def __init__(self, document: Document, problems: Problems, notes: dict[str, None]) -> None:
        self.document = document
        self.problems = problems
        self.notes = notes

    def run(self) -> None:
        for section, renamed in KEYS.items():
            for path, entry in self._mappings((section,)):
                for key, ours in renamed.items():
                    if key in entry and self._rename((*path, key), (*path, ours)):
                        self._note((*path, key), f"is called {ours} here")
                self._gres(path)
                self._time((*path, "resources", "time"))
                if section == "clients" and "target" in entry:
                    self._target(path)
        for path in [("matrix", str(key)) for key in self._keys(("matrix",))]:
            self._factor(path)
        repetitions = self.document.get(("repetitions",))
        if isinstance(repetitions, int) and not isinstance(repetitions, bool):
            place = self.document.values[("repetitions",)]
            self.document.put(("repetitions",), {"count": repetitions}, place)
            self.document.values[("repetitions", "count")] = place

    def _keys(self, path: Path) -> list[str]:
        value = self.document.get(path)
        return list(value) if isinstance(value, dict) else []

    def _mappings(self, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        for key in self._keys(path):
            inner = self.document.get((*path, key))
            if isinstance(inner, dict):
                yield (*path, key), inner

    def _note(self, path: Path, text: str) -> None:
        self.notes[f"{path_text(path)} {text}"] = None

    def _rename(self, path: Path, to: Path) -> bool:
        """Move a value to its own key; a key that is there already wins only when it came later."""
        holder = self.document.get(to[:-1])
        if isinstance(holder, dict) and to[-1] in holder and not self.document.values[path].later:
            place = self.document.keys.get(path, self.document.values[path])
            self.problems.found.append(
                Problem(place, path, f"is the same as {path_text(to)}, which is there too: leave one out")
            )
            self.document.remove(path)
            return False
        self.document.move(path, to)
        return True

    def _gres(self, entry: Path) -> None:
        to = (*entry, "resources", "gpus")
        for path in ((*entry, "gres"), (*entry, "resources", "gres")):
            value = self.document.get(path)
            if value is None:
                continue
            found = _GRES.fullmatch(value) if isinstance(value, str) else None
            if found is None:
                place = self.document.values[path]
                text = (
                    f"must be gpu:COUNT, or better resources.gpus: COUNT; found {shown(value)} (the type is the site's matter)"
                )
                self.problems.found.append(Problem(place, path, text))
                self.document.remove(path)
            elif self._rename(path, to):
                count = int(found["count"] or 1)
                self.document.put(to, count, self.document.values[to])
                self._note(path, f"is read as resources.gpus: {count}")

    def _time(self, path: Path) -> None:
        value = self.document.get(path)
        if (ours := _minutes(value)) is not None:
            self.document.put(path, ours, self.document.values[path])
            self._note(path, f"{value} is read as {ours} (minutes)")
        elif isinstance(value, str) and _CLOCK.fullmatch(value):
            try:
                self._note(path, f"{value} is read as {format_duration(parse_duration(value))} (hours, minutes, seconds)")
            except ValueError:
                return  # The reader of durations says what is wrong with it.

    def _target(self, entry: Path) -> None:
        path, targets = (*entry, "target"), (*entry, "targets")
        main = (*targets, "main")
        if self.document.values[path].later and not isinstance(self.document.get(targets), dict):
            self.document.remove(targets)
        if self.document.get(targets) is None:
            self.document.put(targets, {}, self.document.values[path])
        if isinstance(self.document.get(targets), dict):
            self._rename(path, main)
        else:
            self.document.remove(path)

    def _factor(self, path: tuple[str, str]) -> None:
        section, _, rest = path[1].partition(".")
        name, _, inner = rest.partition(".")
        ours = KEYS.get(section, {}).get(inner)
        if ours is not None and ours != "target":
            to = ("matrix", f"{section}.{name}.{ours}")
            if self._rename(path, to):
                self._note(path, f"is called {ours} here")
            path = to
        values = self.document.get(path)
        if inner == "resources.time" and isinstance(values, list):
            for position, value in enumerate(values):
                if (text := _minutes(value)) is not None:
                    values[position] = text
                    self._note((*path, position), f"{value} is read as {text} (minutes)")


def _minutes(value: Any) -> str | None:
    return f"{value}m" if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
