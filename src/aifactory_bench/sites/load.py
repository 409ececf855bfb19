"""Finding a site profile by name."""

from pathlib import Path

from ..errors import UsageError
from .local import local_site
from .model import Site


def load_site(name: str, *, runs: Path | str = "runs") -> Site:
    """Return the site profile of a name.

    Args:
        name: `local` is the one that there is.
        runs: folder for run folders; relative to the current folder.

    Raises:
        UsageError: there is no such site.
    """
    if name != "local":
        raise UsageError(f"there is no site {name!r}; there is: local", "local runs the jobs on this machine")
    return local_site(Path(runs))
