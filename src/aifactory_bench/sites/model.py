"""A site: where jobs run and by which rules."""

from collections.abc import Mapping
from typing import Literal, Optional

from attrs import field, frozen


@frozen
class Site:
    """One site profile."""

    name: str
    submitter: Literal["local", "slurm"]
    runs: str
    """Folder of run folders on the site, absolute."""
    runtime: Literal["host", "apptainer", "singularity"] = "host"
    python: str = "python3"
    """Program that runs the node side on a compute node; Python 3.9 or later."""
    bind: str = "0.0.0.0"
    """Address services listen on; `127.0.0.1` where clients run on the same machine."""
    modules: "tuple[str, ...]" = ()
    setup: "tuple[str, ...]" = ()
    """Shell lines of the site's administrator, run before anything else; never from a recipe."""
    images: Mapping[str, str] = field(factory=dict)
    """Image reference -> path of the SIF file on the site."""
    scheduler: Mapping[str, str] = field(factory=dict)
    """Slurm options by long name, e.g. account, partition, qos."""
    max_jobs: int = 64
    """Unfinished jobs of one run at a time."""
    time_default_s: Optional[float] = None
