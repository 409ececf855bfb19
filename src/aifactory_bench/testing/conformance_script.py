"""Checks of the batch script: it renders, bash can read it, no recipe text becomes shell, no password is an argument."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from ..errors import AifactoryBenchError, PluginError
from ..node import placeholders
from ..recipe.fields import Key, anything, item_type, keys_of, mapping_types, members, without_none
from ..script.commands import encode
from ..script.value import Script
from ..sites.local import local_site
from .conformance_class import attrs_in
from .conformance_subject import RUNS, Subject

_HOSTILE = "$(touch owned) ' $(touch owned) \" `touch owned`; touch owned & touch owned | > owned"
"""Only the right quoting keeps it together."""
_MARK = "touch owned"
_TEXTS = (_HOSTILE, f"/{_HOSTILE}", f"x{_HOSTILE}", f"x/{_HOSTILE}")
"""The same where a path, a name or a reference is wanted."""
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "csh", "tcsh", "fish", "su"})
"""Programs that run what follows their `-c`."""
_HARMLESS: Mapping[Any, Any] = {str: "text", int: 1, float: 1.0, bool: True}
_LIMIT_S = 20.0


def renders(subject: Subject) -> Iterator[str]:
    """The script is made for this machine and for a Slurm site, the same each time, and bash can read it."""
    for site in subject.sites():
        try:
            text, again = (subject.script(subject.example, site).text() for _ in range(2))
        except AifactoryBenchError as error:
            yield f"on the site {site.name}: {error}"
            continue
        if text != again:
            yield f"on the site {site.name}: a step does not give the same each time it is called"
        if problem := bash_problem(text):
            yield f"on the site {site.name}: bash cannot read the script: {problem}"


def bash_problem(script: str) -> str:
    """Return what `bash -n` has against a script; empty: nothing."""
    done = subprocess.run(
        ["bash", "-n"], input=script.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=_LIMIT_S, check=False
    )
    said = done.stderr.decode("utf-8", "replace").strip()
    return said or (f"exit code {done.returncode}" if done.returncode else "")


def quoted(subject: Subject) -> Iterator[str]:
    """No text that a recipe may set gets into a shell without quotes."""
    site = local_site(Path(RUNS))
    for where, parameters, text in hostile_parameters(subject.example.parameters):
        try:
            script = subject.script(subject.with_parameters(parameters), site)
            whole = script.text()
        except PluginError as error:
            yield f"with {where}: {text!r} {error}"
            continue
        except AifactoryBenchError:
            continue  # refused with a word to the user
        if problem := bash_problem(whole):
            yield f"with {where}: {text!r} bash cannot read the script: {problem}"
        yield from (f"{where} gets into a shell without quotes: {words!r}" for words in unquoted(script))


def hostile_parameters(parameters: Any, prefix: str = "parameters") -> Iterator[tuple[str, Any, str]]:
    """Yield (place, parameters, text): the parameters, one text in them replaced by one that needs quotes.

    What the class refuses is left out.
    """
    for key in keys_of(type(parameters)).values():
        where = f"{prefix}.{key.key}"
        for text in _TEXTS:
            for value in _hostile_values(key.type, text):
                changed = _changed(parameters, key, value)
                if changed is not None:
                    yield where, changed, text
        for inner in attrs_in(key.type):
            yield from _inside(parameters, key, inner, where)


def _inside(parameters: Any, key: Key, cls: type[Any], where: str) -> Iterator[tuple[str, Any, str]]:
    now = getattr(parameters, key.attribute.name)
    held = next((item for item in _items(now) if isinstance(item, cls)), None)
    if held is None:
        try:
            held = cls()
        except (TypeError, ValueError):
            return
    for place, nested, text in hostile_parameters(held, where):
        for value in (nested, (nested,), {"name": nested}):
            changed = _changed(parameters, key, value) if _fits(key.type, value) else None
            if changed is not None:
                yield place, changed, text


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _fits(type_: Any, value: Any) -> bool:
    type_ = without_none(type_)[0]
    if isinstance(value, tuple):
        return item_type(type_) is not None
    if isinstance(value, dict):
        return mapping_types(type_) is not None
    return item_type(type_) is None and mapping_types(type_) is None


def _hostile_values(type_: Any, text: str) -> Iterator[Any]:
    type_ = without_none(type_)[0]
    if type_ is str or anything(type_):
        yield text
    elif (item := item_type(type_)) is not None:
        yield from ((value,) for value in _hostile_values(item, text))
    elif (pair := mapping_types(type_)) is not None:
        yield from ({"name": value} for value in _hostile_values(pair[1], text))
        if pair[0] is str:
            yield from ({text: value} for value in _harmless_values(pair[1]))
    else:
        for member in members(type_):
            yield from _hostile_values(member, text)


def _harmless_values(type_: Any) -> Iterator[Any]:
    type_ = without_none(type_)[0]
    if type_ in _HARMLESS:
        yield _HARMLESS[type_]
    for member in members(type_):
        yield from _harmless_values(member)


def _changed(parameters: Any, key: Key, value: Any) -> Any:
    """Return the parameters with one value replaced; None where the class refuses it."""
    try:
        return attrs.evolve(parameters, **{key.name: value})
    except Exception:  # noqa: BLE001 - a validator of a stranger's, which refuses as it likes
        return None


def unquoted(script: Script) -> list[str]:
    """Return what the script gives to shells that holds the hostile text outside of single quotes."""
    return [shown for shown in shell_texts(script) if _MARK in _read_by_a_shell(shown)]


def _read_by_a_shell(text: str) -> str:
    """Return what of a shell's text is not in single quotes, where nothing has a meaning."""
    quote, found, number = "", [], 0
    while number < len(text):
        character = text[number]
        if quote == "'":
            quote = "" if character == "'" else quote
        elif character == "\\":
            number += 1
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            found.append(character)
        number += 1
    return "".join(found)


def shell_texts(script: Script) -> Iterator[str]:
    """Yield every text that a shell would read: what follows `-c`, and files that are scripts."""
    for argv in argvs(script):
        for number, argument in enumerate(argv):
            options = argv[number + 1 :]
            at = next((at for at, option in enumerate(options) if _is_c(option)), None)
            if PurePosixPath(argument).name in _SHELLS and at is not None and at + 1 < len(options):
                yield options[at + 1]
    for file in script.spec.files:
        if file.name.endswith((".sh", ".bash")) or (file.lines and file.lines[0].startswith("#!")):
            yield "\n".join(line.replace("@@", "@") for line in file.lines)


def _is_c(option: str) -> bool:
    return option.startswith("-") and not option.startswith("--") and option.endswith("c")


def argvs(script: Script) -> Iterator[list[str]]:
    """Yield every command of a job, encoded."""
    yield from ([encode(argument) for argument in command.argv] for command in script.commands)
    if script.argv:
        yield list(script.argv)
    if script.spec.service is not None:
        yield from (*script.spec.service.prepare, *script.spec.service.model_pull)
    if script.spec.client is not None:
        yield from (argv for point in script.spec.client.points for argv in point.commands)


def secrets(subject: Subject) -> Iterator[str]:
    """No password stands in an argument, where every user of the node can read it, unless the class says why."""
    reason = subject.cls.credential_in_arguments
    script = subject.script(subject.example, local_site(Path(RUNS)))
    found = [argv for argv in argvs(script) if any(_is_secret(name) for part in argv for name in placeholders.names(part))]
    if found and not reason:
        yield (
            f"a password is an argument of {found[0][0]!r}: put it into a file or a variable; where the program takes it no "
            'other way, say so in the class: credential_in_arguments = "why"'
        )
    if reason and not found:
        yield f"credential_in_arguments says {reason!r}, and no password is an argument: leave it out"


def _is_secret(name: str) -> bool:
    return name == "secret" or (name.startswith("endpoint.") and name.endswith(".secret"))
