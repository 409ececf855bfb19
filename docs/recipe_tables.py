"""Writes the tables of keys in recipes.md and sites.md from the classes: `python docs/recipe_tables.py`."""

import re
from pathlib import Path
from typing import Any

import attrs

from aifactory_bench.recipe import load_model, model
from aifactory_bench.recipe.fields import Key, anything, bounds, choices, described, keys_of, mapping_types, texts_of
from aifactory_bench.results.validity import CHECKS
from aifactory_bench.sites import billing, rules
from aifactory_bench.sites.model import Login
from aifactory_bench.sites.profile import SiteFile
from aifactory_bench.units import QUANTITIES, DurationS, Share, format_duration

PAGES = [Path(__file__).with_name(name) for name in ("recipes.md", "sites.md")]
_CLASSES = {**vars(model), **vars(load_model), **vars(billing), **vars(rules), "SiteFile": SiteFile, "Login": Login}
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def table(name: str) -> str:
    """Return the table of a class of the model, or of the limits."""
    if name == "Limits":
        return _limits()
    cls = _CLASSES[name]
    lines = ["| key | value | default | |", "| --- | --- | --- | --- |"]
    lines += [_row(field, texts_of(cls).get(field.attribute.name, "")) for field in keys_of(cls).values()]
    return "\n".join(lines) + "\n"


def _row(field: Key, text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return f"| `{field.key}` | {_value(field)} | {_default(field)} | {text} |"


def _value(field: Key) -> str:
    if field.type in QUANTITIES:
        text = QUANTITIES[field.type].what.removeprefix("a ")
    elif values := choices(field.type):
        text = ", ".join(f"`{value}`" for value in values)
    elif anything(field.type) or mapping_types(field.type) is not None:
        text = "mapping"
    else:
        text = described(field.type).removeprefix("a ")
    signs = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}
    form = QUANTITIES[field.type].format if field.type in QUANTITIES else str
    text = ", ".join([text, *(f"{signs[sign]} {form(bound)}" for sign, bound in bounds(field.attribute.validator))])
    return f"{text}, or `off`" if field.off else text


def _default(field: Key) -> str:
    if field.required:
        return "**needed**"
    default: Any = field.attribute.default
    if isinstance(default, attrs.Factory) or default in (None, ()):  # type: ignore[arg-type]
        return ""
    return f"`{QUANTITIES[field.type].format(default) if field.type in QUANTITIES else default}`"


def _limits() -> str:
    lines = ["| key | value | default | check |", "| --- | --- | --- | --- |"]
    for check in CHECKS:
        for key, default in check.limits.items():
            type_ = DurationS if key.endswith("_s") else Share
            form = format_duration(default) if type_ is DurationS else QUANTITIES[Share].format(default)
            what = QUANTITIES[type_].what.removeprefix("a ")
            lines.append(f"| `{key}` | {what} | `{form}` | [{check.code}]({check.anchor}) |")
    return "\n".join(lines) + "\n"


def filled(page: str) -> str:
    """Return the page with every table as the model has it."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{table(found[2])}\n{found[3]}", page)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
