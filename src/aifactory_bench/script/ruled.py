"""What a site's rules make of the options of a job."""

import math
from collections.abc import Mapping, Sequence

from ..recipe.model import Resources
from ..sites.rules import NodeShape, Rules

Options = dict[str, str | None]


def shapes_of(nodes: Mapping[str, NodeShape], partition: str | None) -> tuple[NodeShape, ...]:
    """Return what is known of the nodes of a partition, or of several (`a,b`); nothing where one is not described."""
    names = partition.split(",") if partition else []
    known = [nodes[name] for name in names if name in nodes]
    return tuple(known) if len(known) == len(names) else ()


def has_whole_nodes(rules: Rules, shapes: Sequence[NodeShape], options: Mapping[str, str | None]) -> bool:
    """Return whether a job has its nodes for itself: by the rules, by its partition, or because it asks for them."""
    asked = "exclusive" in options and options["exclusive"] is None
    by_partition = [shape.exclusive for shape in shapes if shape.exclusive is not None]
    return asked or (any(by_partition) if by_partition else rules.whole_nodes)


def gpu_options(rules: Rules, gpus: int, nodes: int) -> Options:
    """Return how a job asks for GPUs; gpus: of each node."""
    count = gpus * nodes if rules.gpu_request == "gpus" else gpus
    typed = f"{count}" if rules.gpu_type is None else f"{rules.gpu_type}:{count}"
    if rules.gpu_request == "gres":
        return {"gres": f"gpu:{typed}"}
    return {rules.gpu_request.replace("_", "-"): typed}


def cpus_of(rules: Rules, shapes: Sequence[NodeShape], resources: Resources, *, whole: bool) -> int | None:
    """Return the cores of each node that a job asks for; None: it leaves that to the site."""
    if resources.cpus is not None:
        return resources.cpus
    if resources.gpus and rules.cpus_per_gpu is not None:
        return resources.gpus * rules.cpus_per_gpu
    known = [shape.cpus for shape in shapes if shape.cpus is not None]
    return min(known) if whole and known and len(known) == len(shapes) else None


def with_rules(
    options: Options, resources: Resources, rules: Rules, nodes: Mapping[str, NodeShape], *, count: int, tasks_per_node: int
) -> Options:
    """Return the options of a job as the site's rules want them.

    Args:
        options: those of the site and of the recipe among them.
        resources: of the recipe.
        rules: of the site.
        nodes: partition -> what its nodes have.
        count: of the job's nodes.
        tasks_per_node: ranks of each node.
    """
    shapes = shapes_of(nodes, options.get("partition"))
    whole = has_whole_nodes(rules, shapes, options)
    cpus = cpus_of(rules, shapes, resources, whole=whole)
    ruled: Options = {}
    if cpus is not None:
        ruled["cpus-per-task"] = str(max(1, cpus // tasks_per_node))
    if resources.memory_bytes is not None:
        ruled["mem"] = f"{math.ceil(resources.memory_bytes / (1 << 20))}M"
    if resources.gpus:
        ruled.update(gpu_options(rules, resources.gpus, count))
    if whole and "exclusive" not in options:
        ruled["exclusive"] = None
    return ruled


def srun_words(rules: Rules, options: Mapping[str, str | None], ranks: int) -> list[str]:
    """Return the call of `srun` that starts a job's ranks; nothing where the batch script starts its only one itself."""
    if ranks == 1 and not rules.srun_containers:
        return []
    # sbatch's --export=NONE reaches srun through SLURM_EXPORT_ENV; the ranks need what the script has set.
    words = ["srun", f"--ntasks={ranks}", "--export=ALL", "--kill-on-bad-exit=0"]
    if ranks == 1 and "exclusive" in options and "cpus-per-task" not in options:
        words.append("--cpu-bind=none")  # it has all cores of the node, and Slurm would bind it to one
    return words
