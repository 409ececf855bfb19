"""`memtier_benchmark` as a client of Redis."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import field, frozen, validators

from aifactory_bench import (
    RAW,
    BaseJob,
    Client,
    Command,
    Joined,
    Load,
    RecipeError,
    SizeBytes,
    Target,
    hookimpl,
)

from .one_server import refuse_several
from .redis import Operations

OUTPUT = "memtier.json"


@frozen
class MemtierParameters:
    """What a recipe says about the load of memtier_benchmark."""

    operations: Operations = field(factory=lambda: Operations(get=10, set=1))
    """The mix: that many SET, then that many GET, on each connection (`--ratio`)."""
    keys: int = field(default=100_000, validator=[validators.ge(1), validators.le(1_000_000_000)])
    """Size of the key space; uniformly drawn, and all present before the window where they are read."""
    value_size_bytes: SizeBytes = field(
        default=SizeBytes(64), validator=[validators.ge(SizeBytes(1)), validators.le(SizeBytes(512 << 20))]
    )
    """Of each value."""
    pipeline: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Requests that are on their way at a time on one connection."""


class MemtierClient(Client):
    """memtier_benchmark for a fixed time; `workers` are its threads."""

    kind = "memtier"
    Parameters = MemtierParameters
    mode = "tool"
    node_module = "aifactory_bench_services.memtier_node"
    targets: ClassVar = {"main": ("redis",)}
    default_image = "docker://redislabs/memtier_benchmark:latest"
    slos: ClassVar = ()
    takes_timeout = False
    credential_in_arguments = "memtier_benchmark takes a password no other way"

    def check_load(self, load: Load) -> None:
        """Refuse a load that the tool cannot offer.

        Raises:
            RecipeError: open loop, parts of seconds, or connections that do not divide into threads.
        """
        where = f"clients.{self.name}.load"
        if load.process != "closed":
            raise RecipeError(
                f"{where}.process: memtier offers a closed loop only, found {load.process!r}: its --rate-limiting lets "
                f"requests that are due drop out when the server stalls",
                "write `process: closed` with `concurrency`, or use the kind redis-load for an open loop",
            )
        for name, seconds in (("warmup", load.warmup_s), ("duration", load.duration_s)):
            if not float(seconds).is_integer():
                raise RecipeError(
                    f"{where}.{name}: memtier takes whole seconds, found {seconds:g}s", f"write {max(1, round(seconds))}s"
                )
        threads = self.replicas * load.workers
        concurrency = load.concurrency or 0
        if concurrency < threads or concurrency % threads:
            raise RecipeError(
                f"{where}.concurrency: memtier has the same number of connections in each thread, and {concurrency} do not "
                f"divide into {self.replicas} replicas with {load.workers} workers each",
                f"write {max(1, round(concurrency / threads)) * threads}",
            )

    def check_point(self, load: Load, parameters: MemtierParameters, targets: Mapping[str, Target]) -> None:  # noqa: ARG002
        """Refuse several servers, one cluster or not."""
        refuse_several(self, targets)

    def get_benchmark_commands(self, load: Load, parameters: MemtierParameters) -> Sequence[Command]:
        """Return the command of the warm-up, where there is one, and that of the window."""
        self.check_load(load)
        target = self.target_endpoint
        connections = (load.concurrency or 1) // (self.replicas * load.workers)
        common = (
            *("memtier_benchmark", "-h", target.host, "-p", target.port),
            # With a name, a server without passwords takes the empty one.
            *("-a", Joined(("default:", target.secret))),
            *("-t", load.workers, "-c", connections, f"--pipeline={parameters.pipeline}"),
            f"--ratio={parameters.operations.set}:{parameters.operations.get}",
            *("-d", parameters.value_size_bytes, "--key-prefix=memtier-", "--key-pattern=R:R"),
            *("--key-minimum=1", f"--key-maximum={parameters.keys}"),
            # Without these every connection, and every replica, asks for the same keys in the same order.
            *("--distinct-client-seed", "--randomize"),
            *("--hide-histogram", "--print-percentiles=50,90,95,99,99.9"),
        )
        window = Command([*common, f"--test-time={int(load.duration_s)}", Joined(("--json-out-file=", RAW, f"/{OUTPUT}"))])
        if not load.warmup_s:
            return [window]
        return [Command([*common, f"--test-time={int(load.warmup_s)}"]), window]


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return the client."""
    return [MemtierClient]
