"""Finding a site by name, or by the file of its profile."""

from pathlib import Path

from ..errors import UsageError
from .local import local_site
from .model import Site
from .settings import NAME, config_folder


def load_site(name: str, *, runs: Path | str = "runs") -> Site:
    """Return a site.

    Args:
        name: `local` is this machine; another name is looked for in the user's settings, `sites/<name>.yaml`; a path that
            ends in `.yaml` is the file of a profile.
        runs: folder for run folders of the site `local`; relative to the current folder.

    Raises:
        UsageError: there is no such site.
        RecipeError: its profile has problems; all of them are listed.
    """
    if name == "local":
        return local_site(Path(runs))
    from .profile import load_profile  # noqa: PLC0415 - reading YAML is much to import, and a plugin's classes need none of it

    if name.endswith((".yaml", ".yml")):
        return load_profile(Path(name))
    folder = config_folder() / "sites"
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        raise UsageError(
            f"there is no site {name!r}; there is: {', '.join(['local', *site_names()])}",
            f"local runs the jobs on this machine; a profile of another site is a file in {folder}",
        )
    return load_profile(path)


def site_names() -> "list[str]":
    """Return the names of the sites in the user's settings, in order."""
    try:
        return sorted(path.stem for path in (config_folder() / "sites").iterdir() if path.suffix == ".yaml")
    except OSError:
        return []
