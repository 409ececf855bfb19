"""A service as the class of a client sees it while a recipe is planned."""

from collections.abc import Mapping
from typing import Any

from attrs import frozen


@frozen
class Target:
    """What a client is aimed at."""

    name: str
    kind: str | None
    """None: it runs already (`external`)."""
    replicas: int
    parameters: Mapping[str, Any]
    """As the node gets them: sizes in bytes, times in seconds; with their defaults where the service is a job."""
