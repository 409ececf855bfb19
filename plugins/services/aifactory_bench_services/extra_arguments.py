"""Options without a parameter of their own, which become arguments and never shell, and where a model is or comes from."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Union

from aifactory_bench import RecipeError

Scalar = Union[bool, int, float, str]
_NAME = re.compile(r"[a-z][a-z0-9-]*")


def check_names(taken: Mapping[str, str]) -> Callable[[Any, Any, Mapping[str, Scalar]], None]:
    """Return a validator for a field of extra arguments.

    Args:
        taken: names that are not to be set here -> what sets them.
    """

    def check(_instance: Any, _attribute: Any, value: Mapping[str, Scalar]) -> None:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name of an option: small letters, digits and hyphens, a letter first, no hyphen in front"
                )
            if name in taken:
                raise ValueError(f"{name!r} is not set here: {taken[name]}")

    return check


def extra_arguments(given: Mapping[str, Scalar], *, joined: bool) -> list[str]:
    """Return the arguments: `--name value`, for true `--name`, for false `--no-name`.

    Args:
        given: name -> scalar.
        joined: write `--name=value` in one argument, so that no value is taken for an option.
    """
    arguments: list[str] = []
    for name, value in given.items():
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif joined:
            arguments.append(f"--{name}={value}")
        else:
            arguments += [f"--{name}", str(value)]
    return arguments


def check_model(paths_only: bool = False) -> Callable[[Any, Any, str], None]:
    """Return a validator for a model: an absolute path, or, unless only paths will do, a reference such as `org/name`."""

    def check(_instance: Any, _attribute: Any, value: str) -> None:
        wanted = "an absolute path" if paths_only else "an absolute path, or a reference such as org/name"
        wrong = not value or not value.isprintable() or value.startswith(("-", "~", "."))
        if wrong or (paths_only and not value.startswith("/")):
            raise ValueError(f"must be {wanted}; found {value!r}")

    return check


def staged_model(service: str, model: str, source: str | None) -> Mapping[str, str]:
    """Return target -> source of a model that is copied before its server starts; empty where there is no source.

    Raises:
        RecipeError: the model is a reference, so that there is no place for a copy.
    """
    if source is None:
        return {}
    if not model.startswith("/"):
        raise RecipeError(
            f"services.{service}.parameters.stage_from: model is the reference {model!r}, and a copy needs a place",
            "write model: the absolute path where the copy is to be",
        )
    return {model: source}


def paths_of(values: Collection[str | None]) -> list[str]:
    """Return those that are paths, each once, in order."""
    return list(dict.fromkeys(value for value in values if value is not None and value.startswith("/")))
