"""Secrets of services that run already: read where a run is begun, kept in a private file of its folder."""

from ..errors import RecipeError
from ..node.paths import external_secret
from ..recipe.model import Recipe
from ..recipe.references import read_secret


def private_files(recipe: Recipe) -> "dict[str, str]":
    """Return path in the run folder -> content, of the secrets that a recipe refers to.

    Raises:
        RecipeError: one cannot be read; all of them are listed.
    """
    files: dict[str, str] = {}
    problems: list[str] = []
    for entry in recipe.services:
        reference = entry.external.secret if entry.external is not None else None
        if reference is None:
            continue
        try:
            files[external_secret(entry.name)] = read_secret(reference)
        except ValueError as error:
            problems.append(f"services.{entry.name}.external.secret: {error}")
    if problems:
        raise RecipeError("\n".join(problems), "set the variable, or put the file there, and begin the run again")
    return files
