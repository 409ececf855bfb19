"""The programs of POSIX shell that the site runs for us, as texts: constants, to which everything else is an argument."""

from functools import cache
from importlib.resources import files


@cache
def program(name: str) -> str:
    """Return the text of `<name>.sh`."""
    return files(__package__).joinpath(f"{name}.sh").read_text(encoding="ascii")
