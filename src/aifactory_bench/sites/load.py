"""Finding a site by name, or by the file of its profile."""

from pathlib import Path

from ..errors import UsageError
from .local import local_site
from .model import Site
from .settings import NAME, config_folder, profile_path, profile_paths, shipped_path, user_names


def load_site(name: str, *, runs: Path | str = "runs") -> Site:
    """Return a site.

    Args:
        name: `local` is this machine; another name is looked for in the user's settings, `sites/<name>.yaml`, then among the
            profiles that are shipped; a path that ends in `.yaml` is the file of a profile.
        runs: folder for run folders of the site `local`; relative to the current folder.

    Raises:
        UsageError: there is no such site, or it is shipped and lacks the user's part.
        RecipeError: its profile has problems; all of them are listed.
    """
    site = load_unfinished(name, runs=runs)
    if site.submitter == "slurm" and not site.runs:
        raise UsageError(
            f"the profile of {site.name} that is shipped lacks your own part: {', '.join(missing_parts(site))}",
            f"write {profile_path(site.name)} with these lines, and what you know better:\n{own_part(site)}",
        )
    return site


def load_unfinished(name: str, *, runs: Path | str = "runs") -> Site:
    """Return a site as `load_site` does, and a shipped one without a user's part too: its `runs` is empty.

    Raises:
        UsageError: there is no such site.
        RecipeError: its profile has problems; all of them are listed.
    """
    if name == "local":
        return local_site(Path(runs))
    from .profile import load_profile  # noqa: PLC0415 - reading YAML is much to import, and a plugin's classes need none of it

    if name.endswith((".yaml", ".yml")):
        return load_profile(Path(name))
    path = profile_paths().get(name)
    if path is None or not NAME.fullmatch(name) or not path.is_file():
        raise UsageError(
            f"there is no site {name!r}; there is: {', '.join(['local', *profile_paths()])}",
            f"local runs the jobs on this machine; a profile of another site is a file in {config_folder() / 'sites'}",
        )
    return load_profile(path, shipped=path == shipped_path(name))


def missing_parts(site: Site) -> "list[str]":
    """Return the paths of what a user has to add to a profile before jobs can run there."""
    missing = [] if site.runs else ["runs"]
    if site.login is not None and site.login.user is None:
        missing.append("login.user")
    needed = {
        "account": site.rules.account_required,
        "qos": site.rules.qos_required,
        "partition": site.rules.partition_required,
    }
    return missing + [f"slurm.{name}" for name, required in needed.items() if required and name not in site.scheduler]


def own_part(site: Site) -> str:
    """Return the text of a profile that adds a user's part to a shipped one; what is in capitals is for the user to write."""
    missing = missing_parts(site)
    slurm = [part.removeprefix("slurm.") for part in missing if part.startswith("slurm.")]
    lines = [f"schema: aifactory-bench/site/1\nname: {site.name}\nextends: {site.name}"]
    if "login.user" in missing:
        lines.append("login: {user: USER}")
    if "runs" in missing:
        lines.append("runs: /PATH/ON/THE/SITE/runs")
    if slurm:
        lines.append(f"slurm: {{{', '.join(f'{name}: {name.upper()}' for name in slurm)}}}")
    return "\n".join(lines)


def site_names() -> "list[str]":
    """Return the names of the sites in the user's settings, in order."""
    return user_names()
