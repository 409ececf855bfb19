"""Commands inside a container: the argument vectors of `apptainer` and `singularity`, or of no container at all."""

from collections.abc import Mapping, Sequence

from ..errors import SiteError
from ..node import placeholders
from ..sites.model import Site

_PREFIXES = {"apptainer": "APPTAINERENV_", "singularity": "SINGULARITYENV_"}


def container_argv(
    site: Site,
    image: str | None,
    argv: Sequence[str],
    *,
    run_folder: str,
    gpus: int = 0,
    job: str = "",
    binds: Sequence[str] = (),
) -> list[str]:
    """Return an encoded command as it runs on the site: as it is on `host`, inside the image otherwise.

    An image is a reference that the site has a file for, in its profile or in its cache, or the absolute path of a file there.
    The container sees the run folder and `binds`, at the same paths, and neither the home folder nor the environment of the
    node.

    Raises:
        SiteError: there is no image, the site does not have it, or a folder cannot be bound.
    """
    if site.runtime == "host":
        return list(argv)
    if any(character in run_folder for character in ",:"):
        raise SiteError(
            f"{site.runtime} cannot bind the run folder {run_folder!r}: ',' and ':' separate binds",
            "keep runs in a folder without these characters",
        )
    head = [site.runtime, "exec", "--cleanenv", "--no-home", "--bind", run_folder]
    for path in binds:
        if not path.startswith("/") or any(character in path for character in ",:"):
            raise SiteError(
                f"{job}: {site.runtime} cannot bind {path!r}",
                "a path that a container is to see is absolute, without ',' and ':'",
            )
        head += ["--bind", path]
    if gpus:
        head.append("--rocm" if site.rules.gpu_vendor == "amd" else "--nv")
    return [placeholders.literal(part) for part in (*head, _image_path(site, image, job))] + list(argv)


def container_environment(site: Site, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables under the names by which the runtime hands them on.

    They travel in the runtime's own environment (`APPTAINERENV_<name>`), so that no value stands in an argument vector and
    none is split at a comma, as `--env` does.
    """
    prefix = _PREFIXES.get(site.runtime, "")
    return {f"{prefix}{name}": value for name, value in environment.items()}


def _image_path(site: Site, image: str | None, job: str) -> str:
    if image is None:
        raise SiteError(
            f"{job}: site {site.name} runs jobs in {site.runtime}, and neither the recipe nor the kind names an image",
            "name one with the key `image`",
        )
    if image.startswith("/"):
        return image
    if image in site.images:
        return site.images[image]
    if image in site.cached:
        return site.cached[image].path
    known = ", ".join(sorted({*site.images, *site.cached})) or "none"
    raise SiteError(
        f"{job}: site {site.name} has no image {image!r}; it has: {known}",
        f"fetch it with `aifactory-bench images pull {image} --site {site.name}`, or add its path to `images` of the site",
    )
