"""A recipe as frozen values: what the user asked for, checked, with units resolved.

Durations are seconds, rates per second, sizes bytes. A field whose type is a unit type carries the unit in its name, and its
key in a recipe does not: `time_s: DurationS` is `time: 30m`. The same rule holds in every `Parameters` class.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, Optional, Union

from attrs import field, frozen
from attrs.validators import ge, gt, le, optional

from ..slurm.options import check_options
from ..units import DurationS, SizeBytes
from .load_model import Load
from .problems import Path, Place
from .references import check_reference

SCHEMA = "aifactory-bench/1"
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^\s?#@]*)?"
)
_SCHEMES_WITH_PORT = ("http", "https")
"""They have a port of their own, so that a url may leave it out."""
_LEASE: Optional[DurationS] = DurationS(600.0)
_LAST_PORT = 65535
# Upper bounds are far above what any machine has, and low enough that a slip of the pen is told at once: what they bound is
# counted up to, kept in memory, or waited for.
_MOST_REPLICAS = 4096
_MOST_NODES = 16384
_MOST_CPUS = 4096
_MOST_GPUS = 1024
_MOST_RETRIES = 100
_MOST_MEMORY = SizeBytes(1 << 50)
_LONGEST = DurationS(7 * 86400.0)
_LONGEST_WALLTIME = DurationS(365 * 86400.0)
NAME_PATTERN = "^[a-z][a-z0-9-]{0,30}$"
"""Of recipes, services and clients."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Name of an environment variable."""


def _check_slurm(_instance: Any, _attribute: Any, value: Mapping[str, Union[str, int, bool]]) -> None:
    check_options({name: given for name, given in value.items() if given is not False}, "recipe")


@frozen
class Resources:
    """What one job takes. `cpus`, `memory_bytes` and `gpus` are per node."""

    nodes: int = field(default=1, validator=[ge(1), le(_MOST_NODES)])
    """Machines; the replicas are spread over them, so at most as many as these."""
    cpus: Optional[int] = field(default=None, validator=optional([ge(1), le(_MOST_CPUS)]))
    """Cores. None: whatever the site gives."""
    memory_bytes: Optional[SizeBytes] = field(default=None, validator=optional([gt(SizeBytes(0)), le(_MOST_MEMORY)]))
    """Main memory. None: whatever the site gives."""
    gpus: int = field(default=0, validator=[ge(0), le(_MOST_GPUS)])
    """Accelerators."""
    time_s: Optional[DurationS] = field(default=None, validator=optional([gt(DurationS(0)), le(_LONGEST_WALLTIME)]))
    """Walltime. None: a service 1800 s, a client its load budget plus a margin."""
    slurm: Mapping[str, Union[str, int, bool]] = field(factory=dict, validator=_check_slurm)
    """Further options of Slurm by their long names, such as `constraint`; they come before the site's own."""


@frozen
class Ready:
    """How long a service may take until it answers."""

    timeout_s: Optional[DurationS] = field(default=None, validator=optional([gt(DurationS(0)), le(_LONGEST)]))
    """Past it the service counts as broken. None: the kind's own, `2m` for most."""


def _check_secret(_instance: Any, _attribute: Any, value: Optional[str]) -> None:
    if value is not None:
        check_reference(value)


@frozen
class External:
    """A service that already runs: probed and measured, never started or stopped."""

    url: str = field()
    """`redis://host:port`, `http://host:port`, `https://host`, ..."""
    secret: Optional[str] = field(default=None, validator=_check_secret)
    """Where its token or password is: `env:NAME` or `file:/path`, read when the run is begun, by who begins it. None: it takes
    none."""

    @url.validator
    def _check_url(self, _attribute: Any, value: str) -> None:
        found = _URL.fullmatch(value)
        usual = found is not None and found["port"] is None and found["scheme"] in _SCHEMES_WITH_PORT
        if not found or not (usual or 0 < int(found["port"] or 0) <= _LAST_PORT):
            raise ValueError(f"must be scheme://host:port without user or password, such as redis://db:6379; found {value!r}")
        if (found["path"] or "/") != "/" and found["scheme"] not in _SCHEMES_WITH_PORT:
            raise ValueError(
                f"a service of {found['scheme']}:// is named by host and port alone; found the path {found['path']!r}, which "
                "would not be used"
            )


def _check_image(_instance: Any, _attribute: Any, value: Optional[str]) -> None:
    if value is not None and (not value or value.startswith("-") or " " in value):
        raise ValueError(f"must be an image reference such as docker://redis:7.4, or a path of a SIF file; found {value!r}")


def _check_environment(_instance: Any, _attribute: Any, value: Mapping[str, str]) -> None:
    for name in value:
        if not VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a variable: letters, digits and underscores, no digit first")
        if name.startswith("AFB_"):
            raise ValueError(f"{name} is ours: names that begin with AFB_ are set by the run itself")


@frozen
class ServiceEntry:
    """One entry under `services`."""

    name: str = field(metadata={"recipe": False})
    kind: Optional[str] = None
    """What to deploy. None with `external`."""
    external: Optional[External] = None
    """In place of `kind`: a service that already runs."""
    image: Optional[str] = field(default=None, validator=_check_image)
    """Container image. None: the kind's own; not used where the site's runtime is `host`."""
    resources: Resources = field(factory=Resources)
    """What each job takes."""
    replicas: int = field(default=1, validator=[ge(1), le(_MOST_REPLICAS)])
    """Copies of the service, each with an endpoint of its own."""
    environment: Mapping[str, str] = field(factory=dict, validator=_check_environment)
    """Variables of the service's environment."""
    parameters: Any = field(factory=dict)
    """What the kind takes, an instance of its `Parameters`; an empty mapping with `external`."""
    ready: Ready = field(factory=Ready)
    """How long it may take to answer."""
    staging: Optional[Resources] = None
    """What the job takes that copies the model into place beforehand, where the parameters ask for one. None: an hour."""


@frozen
class ClientEntry:
    """One entry under `clients`."""

    name: str = field(metadata={"recipe": False})
    kind: str
    """What makes the load."""
    targets: Mapping[str, str] = field(factory=dict)
    """Role -> service name; `target: x` is `targets: {main: x}`."""
    image: Optional[str] = field(default=None, validator=_check_image)
    """Container image. None: the first target's."""
    resources: Resources = field(factory=Resources)
    """What each job takes."""
    replicas: int = field(default=1, validator=[ge(1), le(_MOST_REPLICAS)])
    """Processes that share the load, one a rank."""
    environment: Mapping[str, str] = field(factory=dict, validator=_check_environment)
    """Variables of the client's environment."""
    parameters: Any = field(factory=dict)
    """What the kind takes, an instance of its `Parameters`."""
    load: Load = field(factory=Load)
    """How requests come, how many and how long."""
    after: Optional[str] = None
    """Name of a client whose points end before this one's begin; None: all start together."""
    submit: Literal["at_once", "when_ready"] = "at_once"
    """`at_once`: the job waits for its services inside; `when_ready`: it is submitted when they answer."""


@frozen
class NodeMonitor:
    """The node sampler: CPU, memory and network of the node and of the job's processes."""

    interval_s: DurationS = field(default=DurationS(1.0), validator=[ge(DurationS(0.1)), le(_LONGEST)])
    """From sample to sample."""


@frozen
class ServiceMonitor:
    """The service's own figures, such as those of its `/metrics`, for kinds whose node module can read them."""

    interval_s: DurationS = field(default=DurationS(5.0), validator=[ge(DurationS(0.1)), le(_LONGEST)])
    """From reading to reading."""


@frozen
class Monitors:
    """What is watched beside the load."""

    node: Optional[NodeMonitor] = field(factory=NodeMonitor, metadata={"off": True})
    """None, written `off`: not watched."""
    service: Optional[ServiceMonitor] = field(factory=ServiceMonitor, metadata={"off": True})
    """None, written `off`: not watched."""


@frozen
class Repetitions:
    """How often every point is measured, and what must be fresh each time."""

    count: int = field(default=1, validator=ge(1))
    """Measurements of each point."""
    reset: Literal["none", "data", "service"] = "none"
    """Between repetitions: `data` is put in place again, `service` is started again."""


def _check_name(_instance: Any, _attribute: Any, value: str) -> None:
    if text := name_text(value):
        raise ValueError(text)


def name_text(name: str) -> str:
    """Return what is wrong with the name of a recipe, a service or a client; empty: nothing."""
    if re.fullmatch(NAME_PATTERN, name) and not name.endswith("\n"):
        return ""
    return f"must be a name of at most 31 small letters, digits and hyphens, a letter first; found {name[:80]!r}"


@frozen
class RecipeFile:
    """The top level of a recipe as it is written."""

    schema: Literal["aifactory-bench/1"]
    """Format of the file."""
    name: str = field(validator=_check_name)
    """Of the recipe; names its runs."""
    services: Mapping[str, Any]
    """Name -> what is deployed and measured."""
    clients: Mapping[str, Any] = field(factory=dict)
    """Name -> what makes load."""
    monitors: Monitors = field(factory=Monitors)
    """What is watched beside the load."""
    limits: Mapping[str, Any] = field(factory=dict)
    """Limits of the verdict's checks that differ from their defaults."""
    matrix: Mapping[str, Any] = field(factory=dict)
    """Path -> the values it takes, each a point."""
    repetitions: Repetitions = field(factory=Repetitions)
    """How often every point is measured."""
    lease_s: Optional[DurationS] = field(
        default=_LEASE, validator=optional([gt(DurationS(0)), le(_LONGEST)]), metadata={"off": True}
    )
    """Jobs end by themselves when nobody has cared for the run this long. `off`: never."""
    seed: int = field(default=1, validator=ge(0))
    """Of the order of load points."""
    max_pending_s: Optional[DurationS] = field(
        default=None, validator=optional([gt(DurationS(0)), le(_LONGEST_WALLTIME)]), metadata={"off": True}
    )
    """A job that waits longer in a queue, as the controller sees it, is cancelled. `off`: it may wait for ever."""
    retries: int = field(default=0, validator=[ge(0), le(_MOST_RETRIES)])
    """How often measurements are planned again whose jobs the site lost before their window began."""


@frozen
class Factor:
    """One path of the matrix with the values it takes."""

    path: str
    """`services.cache.parameters.persistence`, `clients.load.load.rate`."""
    values: "tuple[Any, ...]"
    """As written in the recipe."""


@frozen
class Recipe:
    """A whole recipe, the matrix not yet expanded."""

    name: str
    services: "tuple[ServiceEntry, ...]"
    """With a matrix: every factor at its first value."""
    clients: "tuple[ClientEntry, ...]" = ()
    """With a matrix: every factor at its first value."""
    monitors: Monitors = field(factory=Monitors)
    limits: Mapping[str, float] = field(factory=dict)
    """Name -> limit as a share or a number, see `results.validity`; only those that the recipe sets."""
    matrix: "tuple[Factor, ...]" = ()
    repetitions: Repetitions = field(factory=Repetitions)
    lease_s: Optional[DurationS] = field(default=DurationS(600.0))
    """None: off."""
    seed: int = 1
    """Of the order of load points."""
    max_pending_s: Optional[DurationS] = None
    """None: off."""
    retries: int = 0
    source: str = field(default="", repr=False)
    """Text of the recipe as read, overrides applied to the values only."""
    notes: "tuple[str, ...]" = ()
    """Aliases that were used, for the user to see."""
    data: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)
    """The recipe as plain values, aliases and overrides applied: what `matrix.expand` sets factors in."""
    places: Mapping[Path, Place] = field(factory=dict, repr=False, eq=False)
    """Path -> where it was written."""


@frozen
class Variant:
    """One point of the matrix: the recipe with every factor set, in the order of execution."""

    parameters: Mapping[str, Any]
    """Path -> value as written."""
    services: "tuple[ServiceEntry, ...]"
    clients: "tuple[ClientEntry, ...]"
    repetition: int
    """From 1."""
    service_key: str
    """Variants with the same key share their services' jobs: `s0`, `s1` by service factors, `s0-r1` with `reset: service`."""
    index: int
    """Of the point, without the repetition: 0, 1, ..."""
