"""Messages through Redis: publish and subscribe, and streams with a group of consumers; clients on the load core."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import field, frozen, validators

from aifactory_bench import BaseJob, Client, Load, SizeBytes, Target, hookimpl

from .one_server import refuse_several

_STAMP_BYTES = 20
_SIZE: Any = [validators.ge(SizeBytes(_STAMP_BYTES + 1)), validators.le(SizeBytes(512 << 20))]
_MOST_RECEIVERS = 1000


@frozen
class RedisPubsubParameters:
    """What a recipe says about messages to subscribers."""

    channels: int = field(default=1, validator=[validators.ge(1), validators.le(_MOST_RECEIVERS)])
    """Of each worker; messages go to them in turn."""
    subscribers: int = field(default=1, validator=[validators.ge(1), validators.le(_MOST_RECEIVERS)])
    """Of each channel: so many times every message is delivered."""
    message_size_bytes: SizeBytes = field(default=SizeBytes(64), validator=_SIZE)
    """The first 20 bytes are the time of sending."""
    pipeline: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Messages that are sent together on one connection."""


@frozen
class RedisStreamParameters:
    """What a recipe says about entries of streams and their consumers."""

    channels: int = field(default=1, validator=[validators.ge(1), validators.le(_MOST_RECEIVERS)])
    """Streams of each worker; entries are added to them in turn."""
    consumers: int = field(default=1, validator=[validators.ge(1), validators.le(_MOST_RECEIVERS)])
    """Of each stream, in one group: each entry is read by one of them."""
    read_count: int = field(default=100, validator=[validators.ge(1), validators.le(10_000)])
    """Entries that a consumer takes at most at a time; it acknowledges them together."""
    max_length: int = field(default=1_000_000, validator=[validators.ge(1), validators.le(1_000_000_000)])
    """About so many entries a stream keeps (`MAXLEN ~`); older ones are dropped, read or not."""
    message_size_bytes: SizeBytes = field(default=SizeBytes(64), validator=_SIZE)
    """Of the one field of an entry; the first 20 bytes are the time of sending."""
    pipeline: int = field(default=1, validator=[validators.ge(1), validators.le(10_000)])
    """Entries that are added together on one connection."""


class RedisPubsubClient(Client):
    """PUBLISH on the load core, and subscribers that measure how long delivery takes."""

    kind = "redis-pubsub"
    Parameters = RedisPubsubParameters
    node_module = "aifactory_bench_services.redis_messages_node"
    targets: ClassVar = {"main": ("redis",)}

    def check_point(self, load: Load, parameters: Any, targets: Mapping[str, Target]) -> None:  # noqa: ARG002
        """Refuse several servers, one cluster or not."""
        refuse_several(self, targets)


class RedisStreamClient(Client):
    """XADD on the load core, and consumers that measure how long it takes until an entry is read."""

    kind = "redis-stream"
    Parameters = RedisStreamParameters
    node_module = "aifactory_bench_services.redis_messages_node"
    targets: ClassVar = {"main": ("redis",)}

    def check_point(self, load: Load, parameters: Any, targets: Mapping[str, Target]) -> None:  # noqa: ARG002
        """Refuse several servers, one cluster or not."""
        refuse_several(self, targets)


@hookimpl
def register_jobs() -> Sequence[type[BaseJob]]:
    """Return both clients."""
    return [RedisPubsubClient, RedisStreamClient]
