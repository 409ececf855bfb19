"""A site as text and as plain values: each part with where it was read."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
from attrs import frozen

from ..recipe.fields import Key, keys_of, mapping_types
from ..units import QUANTITIES, SizeBytes
from .load import missing_parts
from .model import Site
from .profile import SiteFile
from .rules import Fact
from .settings import profile_paths, shipped_path

Origin = Literal["built in", "shipped", "user file"]
_GB = 10**9
_OF_THE_FILE = ("schema", "name", "extends", "notes", "facts", "unknown")


@frozen
class Part:
    """One value of a profile."""

    path: str
    """As it is written in a profile: `rules.whole_nodes`."""
    value: Any
    """Plain."""
    text: str
    """As it is written."""
    fact: Fact


@frozen
class Known:
    """A site that can be named."""

    name: str
    origin: Origin
    path: str
    """Of its profile; empty: it has none."""


def known_sites() -> list[Known]:
    """Return the sites that can be named: this machine, then the user's, then those that are shipped."""
    found = [Known("local", "built in", "")]
    for name, path in profile_paths().items():
        found.append(Known(name, "shipped" if path == shipped_path(name) else "user file", str(path)))
    return found


def origin_of(site: Site) -> Origin:
    """Return where a site's profile comes from."""
    if site.file is None:
        return "built in"
    return "shipped" if site.file == str(shipped_path(site.name)) else "user file"


def parts_of(site: Site) -> list[Part]:
    """Return all values of a site's profile that are not what they would be anyway, or that a fact backs."""
    found: list[Part] = []
    for key, field in keys_of(SiteFile).items():
        if key not in _OF_THE_FILE:
            value = site.scheduler if key == "slurm" else getattr(site, field.name)
            found += _parts(site, key, field.type, value, field)
    return found


def site_to_json(site: Site) -> dict[str, Any]:
    """Return a site as plain values."""
    return {
        "name": site.name,
        "submitter": site.submitter,
        "from": origin_of(site),
        "file": site.file,
        "missing": missing_parts(site) if site.submitter == "slurm" and not site.runs else [],
        "parts": {part.path: {"value": part.value, "text": part.text, **attrs.asdict(part.fact)} for part in parts_of(site)},
        "notes": dict(site.notes),
        "unknown": list(site.unknown),
    }


def _parts(site: Site, path: str, type_: Any, value: Any, field: Key | None) -> Iterator[Part]:
    if (
        value is None
        or (path == "runs" and not value)
        or (field is not None and path not in site.facts and value == _default(field))
    ):
        return
    if attrs.has(type(value)):
        for key, inner in keys_of(type(value)).items():
            yield from _parts(site, f"{path}.{key}", inner.type, getattr(value, inner.name), inner)
    elif isinstance(value, Mapping):
        pair = mapping_types(type_)
        for key, one in value.items():
            yield from _parts(site, f"{path}.{key}", pair[1] if pair else None, one, None)
    else:
        text = "true" if path.startswith("slurm.") and value == "" else _text(type_, value)
        yield Part(path, list(value) if isinstance(value, tuple) else value, text, site.fact(path))


def _default(field: Key) -> Any:
    default: Any = field.attribute.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]


def _text(type_: Any, value: Any) -> str:
    try:
        quantity = QUANTITIES.get(type_)
    except TypeError:  # a type that has no hash is none of these
        quantity = None
    if type_ is SizeBytes and value % _GB == 0 and value % (1 << 30):
        return f"{value // _GB}GB"
    if quantity is not None:
        return str(quantity.format(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
