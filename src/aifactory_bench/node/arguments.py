"""The values of placeholders in a tool's commands."""

import zlib
from typing import Dict, Optional

from .contract import Context
from .paths import RankPaths
from .spec import Spec
from .values import client_values, rank_values


def tool_values(spec: Spec, context: Context, paths: RankPaths) -> Dict[str, str]:
    """Return placeholder -> value for the commands of one point; see `placeholders` for the names."""
    values = {
        **rank_values(spec, context.rank, paths),
        **client_values(context.endpoints, context.secrets),
        "raw": str(context.folder),
        "seed": str(context.seed),
        # A server that keeps prompts in a cache must not know those of the point before.
        "seed.point": str(zlib.crc32(f"{context.seed}/{context.point}".encode()) >> 1),
    }
    rate_per_s = context.load.get("rate_per_s")
    if rate_per_s is not None:
        values["share.rate"] = format(rate_per_s / context.ranks, ".10g")
    for name in ("concurrency", "connections", "requests"):
        total = _first_whole(context.load.get(name), context.parameters.get(name))
        if total is not None:
            values[f"share.{name}"] = str(context.share(total))
    return values


def _first_whole(*candidates: object) -> Optional[int]:
    for candidate in candidates:
        if isinstance(candidate, int) and not isinstance(candidate, bool):
            return candidate
    return None
