"""`redis-benchmark`, the load tool that comes with Redis, as a client."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from attrs import field, frozen, validators

from aifactory_bench import BaseJob, Client, Command, Load, Placeholder, RecipeError, SizeBytes, Target, hookimpl

from .one_server import refuse_several

Test = Literal[
    "get", "set", "mset", "incr", "lpush", "rpush", "sadd", "hset", "zadd", "ping_inline", "ping_mbulk"
]  # the others need data that a test before them leaves behind, or make it in a test of their own
_BATCHES_PER_CONNECTION = 200
_SHORTEST_REPORT = 2000
# Beyond warm-up and window: each of the two ends with a whole report, and the tool connects anew before each.
_LEAST_ALLOWANCE_S, _MOST_ALLOWANCE_S, _ALLOWANCE_SHARE = 3.0, 30.0, 0.05


@frozen
class RedisBenchmarkParameters:
    """What a recipe says about the load of redis-benchmark."""

    test: Test = "get"
    """One test a point: the tool runs several one after another, not as a mix."""
    keys: int = field(default=100_000, validator=[validators.ge(1), validators.le(1_000_000_000)])
    """Size of the key space (`-r`); uniformly drawn, and all present before the window where they are read."""
    value_size_bytes: SizeBytes = field(
        default=SizeBytes(64), validator=[validators.ge(SizeBytes(1)), validators.le(SizeBytes(1 << 30))]
    )
    """Of each value that is written."""
    pipeline: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Requests that are sent together on one connection."""
    requests: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    """Of one report (`-n`); the window is made of whole reports. None: 200 batches a connection, at least 2000 requests."""


class RedisBenchmarkClient(Client):
    """redis-benchmark in its endless loop, ended after warm-up and window; its reports are added up."""

    kind = "redis-benchmark"
    Parameters = RedisBenchmarkParameters
    mode = "tool"
    node_module = "aifactory_bench_services.redis_benchmark_node"
    targets: ClassVar = {"main": ("redis",)}
    default_image = "docker://redis:7.4"
    slos: ClassVar = ()
    takes_timeout = False
    credential_in_arguments = "redis-benchmark takes a password no other way"

    def check_load(self, load: Load) -> None:
        """Refuse a load that the tool cannot offer.

        Raises:
            RecipeError: open loop, several threads, or several replicas.
        """
        if self.replicas != 1:
            raise RecipeError(
                f"clients.{self.name}.replicas: the rates of several redis-benchmark do not add up, found {self.replicas}: the "
                f"time in which one connects anew, between two reports, is in no rate, and the others then have the server "
                f"for themselves",
                "write `replicas: 1`, or use the kinds memtier, which has threads, or redis-load, which has workers",
            )
        if load.process != "closed":
            raise RecipeError(
                f"clients.{self.name}.load.process: redis-benchmark offers a closed loop only, found {load.process!r}",
                "write `process: closed` with `concurrency`, or use the kind redis-load for an open loop",
            )
        if load.workers != 1:
            raise RecipeError(
                f"clients.{self.name}.load.workers: redis-benchmark measures with one worker only, found {load.workers}: "
                f"with --threads it rounds the time of a run up to the next quarter of a second",
                "use the kinds memtier, which has threads, or redis-load, which has workers",
            )

    def check_point(self, load: Load, parameters: RedisBenchmarkParameters, targets: Mapping[str, Target]) -> None:  # noqa: ARG002
        """Refuse several servers, one cluster or not."""
        refuse_several(self, targets)

    def get_benchmark_commands(self, load: Load, parameters: RedisBenchmarkParameters) -> Sequence[Command]:
        """Return the one command of a point."""
        self.check_load(load)
        allowance_s = min(_MOST_ALLOWANCE_S, max(_LEAST_ALLOWANCE_S, _ALLOWANCE_SHARE * load.duration_s))
        batches = _BATCHES_PER_CONNECTION * (load.concurrency or 1)
        requests = parameters.requests or max(_SHORTEST_REPORT, batches * parameters.pipeline)
        target = self.target_endpoint
        return [
            Command(
                [
                    # In the foreground, the tool stays in the process group that is stopped as a whole.
                    *("timeout", "--foreground", "--kill-after=5", f"{load.warmup_s + load.duration_s + allowance_s:g}"),
                    *("redis-benchmark", "-h", target.host, "-p", target.port),
                    # With a name, a server without passwords takes the empty one.
                    *("--user", "default", "-a", target.secret),
                    *("-c", Placeholder("share.concurrency"), "-P", parameters.pipeline, "-n", requests),
                    *("-r", parameters.keys, "-d", parameters.value_size_bytes, "-t", parameters.test, "-l"),
                ]
            )
        ]


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [RedisBenchmarkClient]
