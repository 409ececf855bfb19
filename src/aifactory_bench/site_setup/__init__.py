"""Getting to know a cluster: looking at it from its login node, and writing its profile."""

from .cluster import Cluster, Partition
from .look import look_at
from .profile_text import Answers, profile_text, proposed

__all__ = ["Answers", "Cluster", "Partition", "look_at", "profile_text", "proposed"]
