"""A site: where jobs run and by which rules."""

from collections.abc import Mapping, Sequence
from typing import Literal, Optional

from attrs import evolve, field, frozen
from attrs.validators import ge, gt, le, optional

from .billing import Billing
from .rules import Fact, NodeShape, Rules


@frozen
class Login:
    """How one gets to a site's login node."""

    host: str = field()
    """Its name, or a `Host` of `~/.ssh/config`."""
    port: Optional[int] = field(default=None, validator=optional([ge(1), le(65535)]))
    """None: as the SSH configuration says, else 22."""
    user: Optional[str] = None
    """None: as the SSH configuration says, else the user here."""
    jump: Optional[str] = None
    """`[user@]host[:port]` to go through. None: as the SSH configuration says."""
    transport: Literal["ssh", "openssh", "local"] = "ssh"
    """`ssh`: our own connection; `openssh`: the program `ssh`; `local`: the controller runs on the login node itself."""

    @host.validator
    def _check_host(self, _attribute: object, value: str) -> None:
        if not value or value.startswith("-") or not value.isprintable() or " " in value:
            raise ValueError(f"must be the name of a host, or of an entry in ~/.ssh/config; found {value!r}")


@frozen
class CachedImage:
    """An image of the site's cache, as it was recorded when it came there."""

    path: str
    """Of its file, on the site."""
    digest: str
    """`sha256:...` of the file."""
    size_bytes: int
    modified_s: int
    """Time of the file's last change, seconds since 1970."""


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
    login: Optional[Login] = None
    """None where jobs run on this machine."""
    submit_rate_per_s: float = field(default=2.0, validator=gt(0))
    """Submissions the scheduler is asked for on the long run; 20, or a second's, may come at once."""
    file_lag_s: float = field(default=60.0, validator=ge(0))
    """How long what a node wrote may take until the login node sees it."""
    unsure_s: float = field(default=60.0, validator=ge(0))
    """How long a submission with an unknown outcome is looked for before it is made again."""
    file: Optional[str] = None
    """Of its profile, absolute."""
    rules: Rules = field(factory=Rules)
    """What jobs must be like there."""
    nodes: Mapping[str, NodeShape] = field(factory=dict)
    """Partition -> what one of its nodes has."""
    billing: Optional[Billing] = None
    """None: not known."""
    images_cache: Optional[str] = None
    """Folder on the site for SIF files. None: beside the run folders."""
    cached: Mapping[str, CachedImage] = field(factory=dict)
    """Image reference -> what the cache has; looked up before a plan is made, and in no profile."""
    paths: Mapping[str, str] = field(factory=dict)
    """Further folders on the site by name, such as `scratch` and `project`."""
    interfaces: "tuple[str, ...]" = ()
    """Network interfaces of the fast network on the nodes."""
    notes: Mapping[str, str] = field(factory=dict)
    """Subject -> what else is good to know."""
    facts: Mapping[str, Fact] = field(factory=dict)
    """Path of a part of the profile, such as `rules.whole_nodes` or `login` -> where it was read."""
    unknown: "tuple[str, ...]" = ()
    """Paths of parts that nobody has found out yet."""

    def fact(self, path: str) -> Fact:
        """Return where a part of the profile comes from: its own fact, that of what holds it, or the profile's file."""
        parts = path.split(".")
        for length in range(len(parts), 0, -1):
            if (found := self.facts.get(".".join(parts[:length]))) is not None:
                return found
        return Fact(self.file or "built in", verified=True)


def without_nodes(site: Site, nodes: Sequence[str]) -> Site:
    """Return the site without some of its nodes; nodes: lists of them as Slurm writes them."""
    if not nodes or site.submitter == "local":
        return site
    excluded = ",".join(filter(None, (site.scheduler.get("exclude", ""), *nodes)))
    return evolve(site, scheduler={**site.scheduler, "exclude": excluded})
