"""Site profiles as files: YAML, read as strictly as a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Optional, Union

import attrs
from attrs import field, frozen
from attrs.validators import ge, gt, le, optional

from ..recipe.converter import BAD, structure_class
from ..recipe.fields import keys_of, mapping_types
from ..recipe.problems import Problems, suggestion
from ..slurm.options import check_options
from ..units import DurationS, RatePerS
from .billing import Billing
from .extend import read_extended
from .model import Login, Site
from .rules import Fact, NodeShape, Rules
from .settings import NAME

_MOST_JOBS = 100_000
_FASTEST = RatePerS(1000.0)


def _check_name(_instance: Any, _attribute: Any, value: str) -> None:
    if not NAME.fullmatch(value) or value == "local":
        raise ValueError(
            f"must be at most 31 small letters, digits and hyphens, a letter first, and not local; found {value[:80]!r}"
        )


def _check_folder(_instance: Any, _attribute: Any, value: Optional[str]) -> None:
    if value is not None and (text := _folder_text(value)):
        raise ValueError(text)


def _check_folders(_instance: Any, _attribute: Any, value: Mapping[str, str]) -> None:
    for name, path in value.items():
        if text := _folder_text(path):
            raise ValueError(f"{name}: {text}")


def _folder_text(value: str) -> str:
    """Return what is wrong with a folder on the site; empty: nothing."""
    if not value.startswith("/") or ".." in value.split("/") or value.endswith("/"):
        return f"must be an absolute path on the site, without '..' and without a slash at its end; found {value!r}"
    return ""


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
    extends: Optional[str] = None
    """Another profile, by its name or its file: what this one does not say is taken from there."""
    runs: Optional[str] = field(default=None, validator=_check_folder)
    """Folder for run folders; login node and compute nodes see it at the same path. Needed, here or in what is extended."""
    slurm: Mapping[str, Union[str, int, bool]] = field(factory=dict)
    """Options of every job by their long names, such as `account`, `partition`, `qos`; `true` for those without a value."""
    rules: Rules = field(factory=Rules)
    """What a job must be like there."""
    nodes: Mapping[str, NodeShape] = field(factory=dict)
    """Partition -> what one of its nodes has."""
    billing: Optional[Billing] = None
    """What an hour of a job costs. None: not known."""
    runtime: Literal["host", "apptainer", "singularity"] = "apptainer"
    """What runs a service's image; `host`: services are installed on the nodes."""
    images: Mapping[str, str] = field(factory=dict, validator=_check_image_paths)
    """Image reference -> path of its SIF file on the site."""
    images_cache: Optional[str] = field(default=None, validator=_check_folder)
    """Folder on the site for SIF files. None: beside the run folders."""
    paths: Mapping[str, str] = field(factory=dict, validator=_check_folders)
    """Further folders on the site by name, such as `scratch` and `project`; for people."""
    modules: "tuple[str, ...]" = field(default=(), validator=_check_words)
    """Environment modules that every job loads."""
    setup: "tuple[str, ...]" = ()
    """Lines of bash that every job runs first."""
    python: str = "python3"
    """Runs our part of a job on a compute node; Python 3.9 or later."""
    bind: str = "0.0.0.0"
    """Address that services listen on."""
    interfaces: "tuple[str, ...]" = field(default=(), validator=_check_words)
    """Network interfaces of the fast network: services are reached at the address of the first one that their node has."""
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
    notes: Mapping[str, str] = field(factory=dict)
    """Subject -> what else is good to know; for people."""
    facts: Mapping[str, Fact] = field(factory=dict)
    """Path of a part of this file, such as `rules.whole_nodes` or `login` -> where it was read."""
    unknown: "tuple[str, ...]" = ()
    """Paths of parts that nobody has found out yet; their defaults hold."""


def load_profile(path: Path, *, shipped: bool = False) -> Site:
    """Return the site of a profile's file.

    Args:
        path: of the file.
        shipped: whether it may lack `runs`, which is then empty.

    Raises:
        RecipeError: it cannot be read, or something in it is wrong; all of it is listed.
    """
    problems = Problems()
    document = read_extended(path, problems)
    file = structure_class(SiteFile, document.data, (), problems)
    written = document.get(("slurm",))
    scheduler = _options(written if isinstance(written, Mapping) else {}, problems)
    _check_told(document.data, problems)
    if not shipped and document.data.get("runs") is None:
        problems.add(("runs",), f"missing; it must be {_RUNS}")
    problems.raise_all()
    assert file is not BAD
    same = {attribute.name: getattr(file, attribute.name) for attribute in attrs.fields(SiteFile) if attribute.name in _SAME}
    return Site(submitter="slurm", scheduler=scheduler, file=str(path.absolute()), **{**same, "runs": file.runs or ""})


_RUNS = "the folder for run folders on the site, an absolute path that login node and compute nodes share"
_SAME = {attribute.name for attribute in attrs.fields(Site)}
"""Fields that a site has as its file has them."""


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


def _check_told(data: Mapping[str, Any], problems: Problems) -> None:
    """Refuse facts and unknowns about parts that no profile has."""
    facts, unknown = data.get("facts"), data.get("unknown")
    for name in facts if isinstance(facts, Mapping) else ():
        if text := _path_text(str(name)):
            problems.add(("facts", name), text, at="key")
    for position, name in enumerate(unknown if isinstance(unknown, list) else ()):
        if isinstance(name, str) and (text := _path_text(name)):
            problems.add(("unknown", position), text)


def _path_text(path: str) -> str:
    """Return what is wrong with the path of a part of a profile; empty: nothing."""
    kind: Any = SiteFile
    for part in path.split("."):
        if isinstance(kind, type) and attrs.has(kind):
            keys = keys_of(kind)
            if part not in keys:
                near = suggestion(part, keys) or f"; known: {', '.join(keys)}"
                where = "must be the path of a part of a profile, such as rules.whole_nodes"
                return f"{where}; found {path[:80]!r}: no {part!r}{near}"
            kind = keys[part].type
        elif (pair := mapping_types(kind)) is not None:
            kind = pair[1]
        else:
            break  # the rest belongs to a name with a dot in it
    return ""
