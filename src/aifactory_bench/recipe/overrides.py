"""`--set path=value`: one value of a recipe, set from outside."""

from .document import Document, parse
from .fields import keys_of
from .model import RecipeFile
from .problems import Path, Place, Problem, Problems, path_text, suggestion


def override(document: Document, text: str, problems: Problems) -> None:
    """Set one value in a document, in place.

    Args:
        document: its top must be a mapping, short forms resolved.
        text: `path=value`; the value is YAML, and takes the place of whatever was there.
        problems: gets what is wrong; a key that the model does not know is found when it is read.
    """
    name, sign, value = text.partition("=")
    name = name.strip()
    place = Place(1, f"--set {name if name.isprintable() else repr(name)}")
    path: Path = ("matrix", name.partition(".")[2]) if name.startswith("matrix.") else tuple(name.split("."))

    def refuse(said: str) -> None:
        problems.found.append(Problem(place, (), said))

    if not sign or not all(path):
        refuse("write --set path=value, such as --set clients.load.load.rate=20000/s")
        return
    if path[0] not in keys_of(RecipeFile):
        refuse(
            f"unknown key {path[0]!r}{suggestion(str(path[0]), keys_of(RecipeFile))}; known: {', '.join(keys_of(RecipeFile))}"
        )
        return
    if path[0] in ("services", "clients") and len(path) > 1:
        names = document.get(path[:1])
        if not isinstance(names, dict) or path[1] not in names:
            known = list(names) if isinstance(names, dict) else []
            near = suggestion(str(path[1]), known) or f"; known: {', '.join(known) or 'none'}"
            refuse(f"there is no {path_text(path[:2])}{near}")
            return
    for length in range(1, len(path)):
        holder = document.get(path[:length])
        if holder is not None and not isinstance(holder, dict):
            refuse(f"{path_text(path[:length])} is no mapping, so nothing can be set in it")
            return
        if holder is None:
            document.remove(path[:length])
    if (factor := _varied(document, name)) is not None:
        refuse(f"the matrix varies {factor}; set its values: --set 'matrix.{factor}=[...]'")
        return
    own = Problems()
    parsed = parse(value, place, own)
    problems.take(Problem(place, (*path, *problem.path), problem.text) for problem in own.found)
    if parsed is not None:
        document.graft(path, parsed, place)


def _varied(document: Document, name: str) -> str | None:
    """Return the factor of the matrix that sets this path, a part of it, or what it is a part of."""
    matrix = document.get(("matrix",))
    for factor in matrix if isinstance(matrix, dict) else ():
        if f"{factor}.".startswith(f"{name}.") or f"{name}.".startswith(f"{factor}."):
            return str(factor)
    return None
