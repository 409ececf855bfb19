"""The programs of POSIX shell that look after a cache of images: constants, to which everything else is an argument."""

from functools import cache
from importlib.resources import files


@cache
def program(name: str) -> str:
    """Return the text of `<name>.sh`, behind what all of them know of holders of a lock."""
    folder = files(__package__)
    return "".join(folder.joinpath(f"{part}.sh").read_text(encoding="ascii") for part in ("holder", name))
