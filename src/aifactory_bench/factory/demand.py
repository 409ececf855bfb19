"""The most that jobs of a plan hold at the same time."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from ..plan import PlannedJob


@frozen
class Demand:
    """The most of each; not all of these need come together."""

    jobs: int
    nodes: int
    gpus: int


def largest_demand(jobs: Sequence[PlannedJob], sizes: "Mapping[str, tuple[int, int]]") -> Demand:
    """Return the most jobs, nodes and GPUs that may be held at once, whatever the queue does.

    Jobs run together unless one waits for the end of the other. Where a job waits for several that do not wait for each
    other, it is counted beside all but one of them: the answer may be too large, and is never too small.

    Args:
        jobs: in the order of submission: each stands behind those it waits for.
        sizes: token -> nodes and GPUs.
    """
    position = {job.token: number for number, job in enumerate(jobs)}
    before: list[int] = []
    """Of each job: a bit for every job that ends before it begins."""
    for job in jobs:
        mask = 0
        for token in job.after:
            if token in position and position[token] < len(before):
                mask |= before[position[token]] | 1 << position[token]
        before.append(mask)
    return Demand(
        jobs=_most(before, [1] * len(jobs)),
        nodes=_most(before, [sizes[job.token][0] for job in jobs]),
        gpus=_most(before, [sizes[job.token][1] for job in jobs]),
    )


def _most(before: "list[int]", weights: "list[int]") -> int:
    """Return the greatest sum of weights over jobs of which none waits for another."""
    most = start = 0
    for cut in _cuts(before):
        most, start = max(most, _most_in(before, weights, start, cut)), cut
    return most


def _cuts(before: "list[int]") -> "list[int]":
    """Return positions, the end among them, behind which every job waits for all jobs that stand before."""
    cuts = [len(before)] if before else []
    common = -1
    for position in range(len(before) - 1, 0, -1):
        common &= before[position]
        if common & ((1 << position) - 1) == (1 << position) - 1:
            cuts.append(position)
    return sorted(cuts)


def _most_in(before: "list[int]", weights: "list[int]", start: int, end: int) -> int:
    """Return the same for jobs between two cuts, each hung below the latest job that it waits for."""
    beneath = [0] * (end - start)
    top = 0
    for position in range(end - 1, start - 1, -1):
        weight = max(weights[position], beneath[position - start])
        parent = (before[position] >> start).bit_length() - 1
        if parent < 0:
            top += weight
        else:
            beneath[parent] += weight
    return top
