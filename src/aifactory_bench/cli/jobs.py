"""`jobs`: the kinds that recipes can name."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .messages import folded
from .options import orchestrator, place_options

if TYPE_CHECKING:
    from ..plugins import Registry
    from ..recipe.fields import Key


@click.command()
@click.argument("kind", required=False)
@place_options
def command(kind: str | None, site: str, runs_dir: Path | None, plugins: tuple[Path, ...]) -> int:
    """List the kinds that recipes can name.

    Each with its parameters and the distribution it comes from.
    """
    registry = orchestrator(site, runs_dir, plugins).registry
    known = {**registry.services, **registry.clients}
    if kind is not None and kind not in known:
        raise UsageError(f"no such kind: {kind!r}", f"known: {', '.join(sorted(known))}")
    chosen = [kind] if kind is not None else [*registry.services, *registry.clients]
    click.echo(folded("\n\n".join("\n".join(_lines(name, known[name], registry)) for name in chosen)))
    return 0


def _lines(kind: str, cls: type[Any], registry: "Registry") -> Iterator[str]:
    import inspect

    from ..recipe.fields import described, keys_of, texts_of

    role = "service" if kind in registry.services else "client"
    yield f"{kind}  ({role}, from {registry.sources[kind]})"
    if text := inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]:
        yield f"    {' '.join(text.split())}"
    if role == "client":
        targets = (f"{role}: {' or '.join(kinds) or 'any service'}" for role, kinds in cls.targets.items())
        yield f"    targets {', '.join(targets)}"
    texts = texts_of(cls.Parameters)
    for key in keys_of(cls.Parameters).values():
        default = "required" if key.required else f"default {_default(key)}"
        yield f"    {key.key}: {described(key.type)}; {default}"
        if text := texts.get(key.attribute.name, ""):
            yield f"        {' '.join(text.split())}"


def _default(key: "Key") -> str:
    import attrs

    value: Any = key.attribute.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        value = value.factory() if not value.takes_self else "made from the others"
    return _written(value, key.type)


def _written(value: Any, wanted: Any) -> str:
    """Return a value as a recipe would write it."""
    import attrs

    from ..recipe.fields import choices, keys_of
    from ..units import QUANTITIES

    if value is None:
        return "none"
    if wanted in QUANTITIES:
        return str(QUANTITIES[wanted].format(value))
    if attrs.has(type(value)):
        inner = (
            f"{key.key}: {_written(getattr(value, key.attribute.name), key.type)}" for key in keys_of(type(value)).values()
        )
        return "{" + ", ".join(inner) + "}"
    return str(value).lower() if isinstance(value, bool) and not choices(wanted) else str(value)
