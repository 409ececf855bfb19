"""Redis and what speaks its protocol: the server, and a client on the load core."""

from collections.abc import Sequence
from typing import ClassVar, Literal

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
    File,
    Joined,
    Service,
    SizeBytes,
    hookimpl,
)

_CONFIG = "redis.conf"
_SNAPSHOTS = ("save 3600 1", "save 300 100", "save 60 10000")
"""Redis's own defaults, one a line as releases before 7.0 want them."""


@frozen
class RedisParameters:
    """What a recipe says about a Redis server."""

    persistence: Literal["none", "rdb", "aof", "both"] = "none"
    """`none`: memory only; `rdb`: snapshots as Redis makes them by default; `aof`: append-only file, fsync every second."""
    max_memory_bytes: SizeBytes | None = field(default=None, validator=validators.optional(validators.ge(SizeBytes(1 << 20))))
    """Above it writes are refused; None: no limit."""


class RedisService(Service):
    """A Redis server with a throw-away password."""

    kind = "redis"
    Parameters = RedisParameters
    node_module = "aifactory_bench_services.redis_node"
    default_image = "docker://redis:7.4"
    scheme = "redis"
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
            *(_SNAPSHOTS if self.persistence in ("rdb", "both") else ('save ""',)),
            "appendonly " + ("yes" if self.persistence in ("aof", "both") else "no"),
            "appendfsync everysec",
            "maxmemory-policy noeviction",
        ]
        if self.parameters.max_memory_bytes is not None:
            lines.append(f"maxmemory {self.parameters.max_memory_bytes}")
        return lines

    def get_files(self) -> Sequence[File]:
        """Return `redis.conf`."""
        return [File(_CONFIG, tuple(self.get_redis_config()))]

    def get_container_command(self) -> Command:
        """Return `redis-server` on its configuration file."""
        return Command(["redis-server", Joined((FOLDER, f"/{_CONFIG}"))])


@frozen
class Operations:
    """Weights of the operations in the mix; at least one is above 0."""

    get: int = field(default=0, validator=validators.ge(0))
    set: int = field(default=0, validator=validators.ge(0))

    def __attrs_post_init__(self) -> None:
        if self.get + self.set == 0:
            raise ValueError("one of get, set must be above 0")


@frozen
class RedisLoadParameters:
    """What a recipe says about the load."""

    operations: Operations = field(factory=lambda: Operations(get=10, set=1))
    keys: int = field(default=100_000, validator=[validators.ge(1), validators.le(1_000_000_000)])
    """Size of the key space; uniformly drawn, and all present before the window where they are read."""
    value_size_bytes: SizeBytes = field(
        default=SizeBytes(64), validator=[validators.ge(SizeBytes(1)), validators.le(SizeBytes(512 << 20))]
    )
    pipeline: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Requests that are sent together on one connection."""


class RedisLoadClient(Client):
    """GET and SET in a mix, on the load core."""

    kind = "redis-load"
    Parameters = RedisLoadParameters
    node_module = "aifactory_bench_services.redis_node"
    targets: ClassVar = {"main": ("redis",)}


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the server and its load client."""
    return [RedisService, RedisLoadClient]
