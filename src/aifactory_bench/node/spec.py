"""What a job's node side is told: a JSON document that the batch script carries.

It is final at plan time and holds no address, no secret and nothing of the controller's machine. All durations are
seconds, all rates per second, all strings of commands are encoded (see `placeholders`).
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

VERSION = 1


@dataclass(frozen=True)
class FileSpec:
    """A file that supervise writes into the work folder, mode 0600, before it starts the child."""

    name: str
    lines: List[str]
    """Encoded; joined with newlines."""


@dataclass(frozen=True)
class ServiceSpec:
    """What a service adds to a job."""

    clients: Dict[str, int]
    """Token -> ranks of every client job that uses the service; it ends when all have ended. Empty: lives until stopped."""
    ready_timeout_s: float
    bind: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` where clients come over the network."""
    scheme: str = "tcp"
    """Of the published url: `<scheme>://host:port`."""
    port: Optional[int] = None
    """A fixed port, or None for a free one."""
    parameters: Dict[str, Any] = field(default_factory=dict)
    """Handed to the product's `probe`."""
    prepare: List[List[str]] = field(default_factory=list)
    """Commands run one after another before the service, e.g. initdb; each must exit with 0."""
    model_pull: List[List[str]] = field(default_factory=list)
    """Commands run one after another once the server is alive and before it is asked whether it is ready."""
    stop_signal: str = "TERM"
    stop_timeout_s: float = 10.0
    """From the signal to KILL."""
    scratch: List[str] = field(default_factory=list)
    """Files and folders in the job's work folder that go once it has ended, unless the server failed."""
    once: bool = False
    """It answers nothing and ends well when its command does: what it brings into place is for jobs behind it."""


@dataclass(frozen=True)
class TargetSpec:
    """A service as a client sees it."""

    service: str
    token: str
    """Of the service's job; empty for an external service."""
    replicas: int
    parameters: Dict[str, Any] = field(default_factory=dict)
    url: Optional[str] = None
    """Of an external service: never started, never stopped."""
    node_module: Optional[str] = None
    """Of the service, where it is a job of the run; its `counters` are read where the client's module has none."""
    has_secret: bool = False
    """Of an external service: whether `RunPaths.external_secret` holds its token or password."""


@dataclass(frozen=True)
class PointSpec:
    """One measurement to make: a point of the matrix in one repetition."""

    id: str
    """Unique in the run, names the measurement's file: `p0003-r1`."""
    repetition: int
    reset: str
    """What was asked between repetitions: `none`, `data` or `service`."""
    parameters: Dict[str, Any]
    """Of the client at this point."""
    load: Dict[str, Any]
    """Totals of the client: the fields of a recipe's `Load` by their names, units in them, defaults filled in. `rates` is a
    list of `for_s`, `rate_per_s`, `to_per_s`; `slo` name -> seconds, also where a search has it; `search` see `search`."""
    participants: Dict[str, int]
    """Client token -> ranks: who meets at the barrier before this point, the client itself included."""
    commands: List[List[str]] = field(default_factory=list)
    """For a tool: what to run in the window, in order; for the load core empty."""
    budget_s: float = 60.0
    """Longest time the point may take from the barrier on; past it the point is given up."""


@dataclass(frozen=True)
class ClientSpec:
    """What a client adds to a job."""

    targets: Dict[str, TargetSpec]
    """Role -> service."""
    points: List[PointSpec]
    """Run one after another; one whose measurement file exists is skipped."""
    wait_timeout_s: float
    """How long to wait for the endpoints of the targets."""
    mode: str = "load"
    """`load`: the product's node module gives a driver for the load core; `tool`: it reduces a tool's output."""


@dataclass(frozen=True)
class ImageSpec:
    """The image that a job runs in, as it was when the plan was made."""

    reference: str
    path: str
    digest: str
    """`sha256:...` of the file."""
    size_bytes: int
    modified_s: int


@dataclass(frozen=True)
class Spec:
    """One job."""

    run_id: str
    job: str
    """Name in the recipe."""
    token: str
    role: str
    """`service` or `client`."""
    kind: str
    attempt: int
    ranks: int
    """Replicas of the job."""
    time_s: float
    """Walltime, from the start of supervise."""
    lease_s: Optional[float]
    """None: no lease."""
    node_module: Optional[str]
    """The product's module for the node, importable from the zipapp."""
    after: Dict[str, int] = field(default_factory=dict)
    """Token -> ranks of jobs that must have ended before this one begins."""
    monitors: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Name -> options; `node` and `service` have `interval_s`."""
    environment: Dict[str, str] = field(default_factory=dict)
    """Of the child, encoded values."""
    files: List[FileSpec] = field(default_factory=list)
    fabric: Dict[str, Any] = field(default_factory=dict)
    """How nodes are reached over the fast network: `suffix` of their names, `interfaces` by preference. Empty: as usual."""
    service: Optional[ServiceSpec] = None
    client: Optional[ClientSpec] = None
    image: Optional[ImageSpec] = None
    """Of the site's cache; None: it is not from there, or there is none."""
    v: int = VERSION


def spec_to_json(spec: Spec) -> str:
    """Return the document: ASCII, two blanks of indent, keys in the order of the classes; no line can end a here-document."""
    return json.dumps(asdict(spec), indent=2, allow_nan=False)


def spec_from_json(text: str) -> Spec:
    """Build the value from the document.

    Raises:
        ValueError: not a document of this version.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("v") != VERSION:
        raise ValueError(f"not a job specification of version {VERSION}")
    try:
        data["files"] = [FileSpec(**item) for item in data["files"]]
        if data["service"] is not None:
            data["service"] = ServiceSpec(**data["service"])
        if data["client"] is not None:
            client = data["client"]
            client["targets"] = {role: TargetSpec(**item) for role, item in client["targets"].items()}
            client["points"] = [PointSpec(**item) for item in client["points"]]
            data["client"] = ClientSpec(**client)
        if data.get("image") is not None:
            data["image"] = ImageSpec(**data["image"])
        return Spec(**data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a job specification: {error}") from None


def read_spec(path: Union[str, Path]) -> Spec:
    """Read a job's specification.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not one.
    """
    return spec_from_json(Path(path).read_text(encoding="utf-8"))
