"""A real Slurm cluster with sshd, made of this machine: see docs/test-bed.md.

`Cluster(folder)` is the whole: `up` and `down` (`assembly`), what a test asks of it, and faults (`cluster`). Below:
`programs` (what must be installed), `layout` (folders, as seen from outside and from inside), `texts` (configuration files),
`setup` (files, keys), `hosts` (a set of namespaces, or this machine itself), `network` (the links between hosts), `daemons`,
`accounting`, `image` (a container image), `processes` (what runs, and to whom it belongs), `life` (the end, also of clusters
that were left behind).
"""

from .cluster import Cluster
from .errors import BedError
from .life import down, new_folder, sweep
from .programs import missing

__all__ = ["BedError", "Cluster", "down", "missing", "new_folder", "sweep"]
