"""What an hour of a job costs at a site."""

import math
from collections.abc import Mapping
from typing import Literal, Optional

from attrs import field, frozen
from attrs.validators import ge, gt, optional

_GIB = 1 << 30

Unit = Literal["node_hour", "gpu_hour", "core_hour"]


@frozen
class Charge:
    """What an hour costs in a partition, in units: the greatest of these counts."""

    node: Optional[float] = field(default=None, validator=optional(ge(0.0)))
    """Each node."""
    gpu: Optional[float] = field(default=None, validator=optional(ge(0.0)))
    """Each GPU."""
    core: Optional[float] = field(default=None, validator=optional(ge(0.0)))
    """Each core."""
    core_slice: int = field(default=1, validator=ge(1))
    """Cores are counted in slices of so many, each taken as a whole."""
    memory_gib: Optional[float] = field(default=None, validator=optional(ge(0.0)))
    """Each GiB of main memory."""
    memory_slice_gib: Optional[float] = field(default=None, validator=optional(gt(0.0)))
    """Memory is counted in slices of so many GiB, each taken as a whole. None: exactly."""
    unit: Optional[Unit] = None
    """In which it is counted, where that is another one than the site's."""


@frozen
class Billing:
    """How a site counts what jobs take."""

    unit: Unit
    """In which it is counted."""
    partitions: Mapping[str, Charge] = field(factory=dict)
    """Partition -> what an hour costs there; `*`: all others."""

    def charge(self, partition: Optional[str]) -> Optional[Charge]:
        """Return what an hour costs in a partition; of several (`a,b`) the first one's. None: not known."""
        first = partition.split(",")[0] if partition else "*"
        return self.partitions.get(first, self.partitions.get("*"))


@frozen
class Taken:
    """What a job holds while it runs, over all of its nodes. None: not known."""

    nodes: int
    gpus: Optional[int]
    cores: Optional[int]
    memory_bytes: Optional[int]


def units_per_hour(charge: Charge, taken: Taken) -> Optional[float]:
    """Return what an hour of a job costs; None where something that is charged for is not known, or nothing is charged for."""
    memory_gib = None if taken.memory_bytes is None else _sliced(taken.memory_bytes / _GIB, charge.memory_slice_gib)
    pairs = (
        (charge.node, taken.nodes),
        (charge.gpu, taken.gpus),
        (charge.core, None if taken.cores is None else _sliced(taken.cores, charge.core_slice)),
        (charge.memory_gib, memory_gib),
    )
    costs = [None if amount is None else price * amount for price, amount in pairs if price is not None]
    known = [cost for cost in costs if cost is not None]
    return max(known) if known and len(known) == len(costs) else None


def _sliced(amount: float, slice_: Optional[float]) -> float:
    """Return an amount in whole slices."""
    return amount if slice_ is None else math.ceil(amount / slice_) * slice_
