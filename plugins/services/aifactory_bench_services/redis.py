"""Redis and what speaks its protocol: the server, and a client on the load core."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import (
    BIND,
    FOLDER,
    PORT,
    SECRET,
    Argument,
    BaseJob,
    Client,
    Command,
    DurationS,
    File,
    Joined,
    Load,
    Placeholder,
    RecipeError,
    Service,
    Share,
    SizeBytes,
    hookimpl,
)

Policy = Literal[
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
]
_CONFIG = "redis.conf"
_SNAPSHOTS = ((3600, 1), (300, 100), (60, 10000))
"""Redis's own: after so many seconds, if so many keys were written."""
_LEAST_SERVERS = 3
"""Of a cluster: fewer cannot agree on one that has failed."""


@frozen
class Snapshot:
    """When a snapshot is written."""

    after_s: DurationS = field(validator=validators.ge(DurationS(1)))
    """So long after the last one, in whole seconds, ..."""
    writes: int = field(validator=validators.ge(1))
    """... if so many keys were written since."""

    def __attrs_post_init__(self) -> None:
        if not float(self.after_s).is_integer():
            raise ValueError(f"after must be whole seconds; found {self.after_s:g}s")


@frozen
class RedisParameters:
    """What a recipe says about a Redis server."""

    persistence: Literal["none", "rdb", "aof", "both"] = "none"
    """`none`: memory only; `rdb`: snapshots; `aof`: append-only file."""
    snapshots: tuple[Snapshot, ...] = ()
    """With `rdb` and `both`: when one is written. Empty: as Redis does by default, after 1 h with 1 key written, 5 min with
    100, 1 min with 10000."""
    append_fsync: Literal["always", "everysec", "no"] | None = None
    """With `aof` and `both`: when the file is forced to disk; `always`: before every reply. None: `everysec`."""
    max_memory_bytes: SizeBytes | None = field(default=None, validator=validators.optional(validators.ge(SizeBytes(1 << 20))))
    """What happens above it `max_memory_policy` says; None: no limit."""
    max_memory_policy: Policy | None = None
    """With `max_memory`: `noeviction` refuses writes, the others throw keys away. None: `noeviction`."""
    cluster: bool = False
    """The replicas are one Redis Cluster, the slots dealt out evenly, without copies; at least 3."""

    def __attrs_post_init__(self) -> None:
        if self.snapshots and self.persistence not in ("rdb", "both"):
            raise ValueError(f"snapshots have no meaning with persistence: {self.persistence}; write rdb or both")
        if self.append_fsync is not None and self.persistence not in ("aof", "both"):
            raise ValueError(f"append_fsync has no meaning with persistence: {self.persistence}; write aof or both")
        if self.max_memory_policy is not None and self.max_memory_bytes is None:
            raise ValueError("max_memory_policy has no meaning without max_memory")


class RedisService(Service):
    """A Redis server with a throw-away password."""

    kind = "redis"
    Parameters = RedisParameters
    node_module = "aifactory_bench_services.redis_node"
    default_image = "docker://redis:7.4"
    scheme = "redis"
    scratch: ClassVar[tuple[str, ...]] = ("dump.rdb", "appendonlydir", "appendonly.aof")
    parameters: RedisParameters

    @property
    def persistence(self) -> str:
        """What is kept on disk: `none`, `rdb`, `aof` or `both`."""
        return self.parameters.persistence

    def get_redis_config(self) -> Sequence[Argument]:
        """Return the lines of `redis.conf`; the password stands here, so that it is in no argument vector."""
        lines: list[Argument] = [
            Joined(("bind ", BIND)),
            Joined(("port ", PORT)),
            Joined(("requirepass ", SECRET)),
            "protected-mode yes",
            "daemonize no",
            "supervised no",
            # It is started in its own folder; a path here would have to be quoted by Redis's rules.
            "dir ./",
            'logfile ""',
            *self._get_save_lines(),
            "appendonly " + ("yes" if self.persistence in ("aof", "both") else "no"),
            f"appendfsync {self.parameters.append_fsync or 'everysec'}",
            f"maxmemory-policy {self.parameters.max_memory_policy or 'noeviction'}",
        ]
        if self.parameters.max_memory_bytes is not None:
            lines.append(f"maxmemory {self.parameters.max_memory_bytes}")
        if self.parameters.cluster:
            lines += ["cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 5000"]
            lines.append(Joined(("cluster-port ", Placeholder("port.peers"))))
        return lines

    def _get_save_lines(self) -> Sequence[str]:
        """Return one line a rule, as releases before 7.0 want them."""
        if self.persistence not in ("rdb", "both"):
            return ['save ""']
        rules = [(int(rule.after_s), rule.writes) for rule in self.parameters.snapshots] or _SNAPSHOTS
        return [f"save {after_s} {writes}" for after_s, writes in rules]

    def get_files(self) -> Sequence[File]:
        """Return `redis.conf`."""
        return [File(_CONFIG, tuple(self.get_redis_config()))]

    def get_container_command(self) -> Command:
        """Return `redis-server` on its configuration file.

        Raises:
            RecipeError: a cluster of too few servers.
        """
        if self.parameters.cluster and self.replicas < _LEAST_SERVERS:
            raise RecipeError(
                f"services.{self.name}.replicas: a cluster needs at least {_LEAST_SERVERS} servers, found {self.replicas}",
                f"write replicas: {_LEAST_SERVERS}, or leave `cluster` out",
            )
        return Command(["redis-server", Joined((FOLDER, f"/{_CONFIG}"))])


@frozen
class Operations:
    """Weights of the operations in the mix; at least one is above 0."""

    get: int = field(default=0, validator=validators.ge(0))
    """Reads of one key."""
    set: int = field(default=0, validator=validators.ge(0))
    """Writes of one key."""

    def __attrs_post_init__(self) -> None:
        if self.get + self.set == 0:
            raise ValueError("one of get, set must be above 0")


_IN_BOUNDS = [validators.ge(SizeBytes(1)), validators.le(SizeBytes(512 << 20))]


@frozen
class WeightedSize:
    """One size of values."""

    size_bytes: SizeBytes = field(validator=_IN_BOUNDS)
    """Of a value."""
    weight: int = field(default=1, validator=validators.ge(1))
    """How often it is drawn, beside the weights of the others."""


@frozen
class SizeRange:
    """Sizes drawn uniformly, both ends included."""

    least_bytes: SizeBytes = field(validator=_IN_BOUNDS)
    """The smallest."""
    most_bytes: SizeBytes = field(validator=_IN_BOUNDS)
    """The largest."""

    def __attrs_post_init__(self) -> None:
        if self.most_bytes < self.least_bytes:
            raise ValueError(f"most must be at least least ({self.least_bytes} bytes); found {self.most_bytes} bytes")


@frozen
class RedisLoadParameters:
    """What a recipe says about the load."""

    operations: Operations = field(factory=lambda: Operations(get=10, set=1))
    """How often each comes, as weights."""
    keys: int = field(default=100_000, validator=[validators.ge(1), validators.le(1_000_000_000)])
    """Size of the key space; all present before the window where they are read."""
    distribution: Literal["uniform", "zipf", "hot-set", "sequential"] = "uniform"
    """How keys are drawn."""
    zipf_exponent: float | None = field(default=None, validator=validators.optional([validators.gt(0.0), validators.le(5.0)]))
    """With `zipf`: key number n is asked for in proportion to (n + 1) ** -exponent. None: 0.99."""
    hot_keys: Share | None = field(
        default=None, validator=validators.optional([validators.gt(Share(0)), validators.lt(Share(1))])
    )
    """With `hot-set`: share of the keys that are hot. None: 20 %."""
    hot_requests: Share | None = field(
        default=None, validator=validators.optional([validators.gt(Share(0)), validators.lt(Share(1))])
    )
    """With `hot-set`: share of the requests that go to hot keys. None: 80 %."""
    value_size_bytes: SizeBytes = field(default=SizeBytes(64), validator=_IN_BOUNDS)
    """Of every value, unless `value_sizes` or `value_range` says otherwise."""
    value_sizes: tuple[WeightedSize, ...] = ()
    """Sizes of which one is drawn for each value that is written."""
    value_range: SizeRange | None = None
    """Bounds between which a size is drawn for each value that is written."""
    expire_s: DurationS | None = field(default=None, validator=validators.optional(validators.ge(DurationS(0.001))))
    """How long a value lives once it is written; None: for ever."""
    write_ranges: Literal["shared", "disjoint"] = "shared"
    """`disjoint`: each replica of the client writes keys of its own only; all read all."""
    pipeline: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Requests that are sent together on one connection."""

    def __attrs_post_init__(self) -> None:
        for name, kind in (("zipf_exponent", "zipf"), ("hot_keys", "hot-set"), ("hot_requests", "hot-set")):
            if getattr(self, name) is not None and self.distribution != kind:
                raise ValueError(f"{name} has no meaning with distribution: {self.distribution}; write {kind}")
        if self.value_sizes and self.value_range is not None:
            raise ValueError("give value_sizes or value_range, not both")


class RedisLoadClient(Client):
    """GET and SET in a mix, on the load core."""

    kind = "redis-load"
    Parameters = RedisLoadParameters
    node_module = "aifactory_bench_services.redis_node"
    targets: ClassVar = {"main": ("redis",)}

    def get_benchmark_commands(self, load: Load, parameters: RedisLoadParameters) -> Sequence[Command]:  # noqa: ARG002
        """Return nothing: the load core makes the requests.

        Raises:
            RecipeError: there are fewer keys than replicas that are to write keys of their own.
        """
        if parameters.write_ranges == "disjoint" and parameters.keys < self.replicas:
            raise RecipeError(
                f"clients.{self.name}.parameters.keys: {parameters.keys} keys leave some of {self.replicas} replicas none to "
                "write with write_ranges: disjoint",
                f"write keys: {self.replicas} or more",
            )
        return ()

    def get_shared_data(self, parameters: RedisLoadParameters) -> tuple[str, Mapping[str, Any]]:
        """Return keys and values, which all clients of one server share: who reads another's would not know what it read."""
        values = {name: getattr(parameters, name) for name in ("value_size_bytes", "value_sizes", "value_range", "expire_s")}
        return "the keys key:N", {"keys": parameters.keys, **{name: value for name, value in values.items() if value}}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server and its load client."""
    return [RedisService, RedisLoadClient]
