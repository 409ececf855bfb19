"""Site profiles as files: YAML, read as strictly as a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Optional, Union

from attrs import field, frozen
from attrs.validators import ge, gt, le, optional

from ..recipe.converter import structure_class
from ..recipe.problems import Problems
from ..recipe.source import read_document, read_source
from ..slurm.options import check_options
from ..units import DurationS, RatePerS
from .model import Login, Site
from .settings import NAME

SCHEMA = "aifactory-bench/site/1"
_MOST_JOBS = 100_000
_FASTEST = RatePerS(1000.0)


def _check_name(_instance: Any, _attribute: Any, value: str) -> None:
    if not NAME.fullmatch(value) or value == "local":
        raise ValueError(
            f"must be at most 31 small letters, digits and hyphens, a letter first, and not local; found {value[:80]!r}"
        )


def _check_folder(_instance: Any, _attribute: Any, value: str) -> None:
    if not value.startswith("/") or ".." in value.split("/") or value.endswith("/"):
        raise ValueError(f"must be an absolute path on the site, without '..' and without a slash at its end; found {value!r}")


def _check_image_paths(_instance: Any, _attribute: Any, value: Mapping[str, str]) -> None:
    for image, path in value.items():
        if not path.startswith("/"):
            raise ValueError(f"{image}: must be the absolute path of a file on the site; found {path!r}")


def _check_words(_instance: Any, attribute: Any, value: "tuple[str, ...]") -> None:
    for word in value:
        if not word or word.startswith("-"):
            raise ValueError(f"'{attribute.name}' must be names, none empty or with a dash first; found {word!r}")


@frozen
class SiteFile:
    """A site profile as it is written."""

    schema: Literal["aifactory-bench/site/1"]
    """Format of the file."""
    name: str = field(validator=_check_name)
    """Of the site; `--site NAME` finds it."""
    login: Login
    """How one gets there."""
    runs: str = field(validator=_check_folder)
    """Folder for run folders; login node and compute nodes see it at the same path."""
    slurm: Mapping[str, Union[str, int, bool]] = field(factory=dict)
    """Options of every job by their long names, such as `account`, `partition`, `qos`; `true` for those without a value."""
    runtime: Literal["host", "apptainer", "singularity"] = "apptainer"
    """What runs a service's image; `host`: services are installed on the nodes."""
    images: Mapping[str, str] = field(factory=dict, validator=_check_image_paths)
    """Image reference -> path of its SIF file on the site."""
    modules: "tuple[str, ...]" = field(default=(), validator=_check_words)
    """Environment modules that every job loads."""
    setup: "tuple[str, ...]" = ()
    """Lines of bash that every job runs first."""
    python: str = "python3"
    """Runs our part of a job on a compute node; Python 3.9 or later."""
    bind: str = "0.0.0.0"
    """Address that services listen on."""
    max_jobs: int = field(default=64, validator=[ge(1), le(_MOST_JOBS)])
    """Unfinished jobs of one run at a time."""
    submit_rate_per_s: RatePerS = field(default=RatePerS(2.0), validator=[gt(RatePerS(0)), le(_FASTEST)])
    """Submissions on the long run; 20, or a second's, may come at once."""
    time_default_s: Optional[DurationS] = field(default=None, validator=optional(gt(DurationS(0))))
    """Walltime of services whose recipe says none."""
    file_lag_s: DurationS = field(default=DurationS(60.0), validator=ge(DurationS(0)))
    """How long what a node wrote may take until the login node sees it."""
    unsure_s: DurationS = field(default=DurationS(60.0), validator=ge(DurationS(0)))
    """How long a submission whose outcome is unknown is looked for before it is made again."""


def load_profile(path: Path) -> Site:
    """Return the site of a profile's file.

    Raises:
        RecipeError: it cannot be read, or something in it is wrong; all of it is listed.
    """
    problems = Problems()
    document = read_document(read_source(path, "site profile"), str(path), "site profile", SCHEMA, problems)
    file = structure_class(SiteFile, document.data, (), problems)
    written = document.get(("slurm",))
    scheduler = _options(written if isinstance(written, Mapping) else {}, problems)
    problems.raise_all()
    return Site(
        name=file.name,
        submitter="slurm",
        runs=file.runs,
        runtime=file.runtime,
        python=file.python,
        bind=file.bind,
        modules=file.modules,
        setup=file.setup,
        images=file.images,
        scheduler=scheduler,
        max_jobs=file.max_jobs,
        time_default_s=file.time_default_s,
        login=file.login,
        submit_rate_per_s=file.submit_rate_per_s,
        file_lag_s=file.file_lag_s,
        unsure_s=file.unsure_s,
        file=str(path.absolute()),
    )


def _options(written: "Mapping[str, Any]", problems: Problems) -> "dict[str, str]":
    """Return Slurm options, checked; one without a value is empty, one that is false is left out."""
    options: dict[str, str] = {}
    for name, value in written.items():
        if value is False or not isinstance(value, str | int):
            continue  # not wanted; or the profile's class says what is wrong with it
        try:
            check_options({name: None if value is True else str(value)}, "site")
        except ValueError as error:
            problems.add(("slurm", name), str(error))
        options[name] = "" if value is True else str(value)
    return options
