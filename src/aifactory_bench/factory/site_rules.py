"""What jobs must be like at a site: a recipe that breaks a rule is refused with the rule, and where that was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attrs import define, field

from ..errors import RecipeError
from ..jobs.base import BaseJob
from ..jobs.staging import Staging
from ..script.ruled import shapes_of
from ..sites.model import Site
from ..sites.rules import NodeShape, longest_s
from ..units import format_duration, format_size

Options = Mapping[str, str | None]
_REQUIRED = ("account", "qos", "partition")


@define
class RuleBook:
    """The rules of a site, and what was found to break them."""

    site: Site
    _broken: dict[str, str] = field(factory=dict, init=False)
    """What is broken, told once -> the whole text."""

    def check(self, job: BaseJob, options: Options, time_s: float) -> None:
        """Keep what is wrong with a job.

        Args:
            job: as it is planned.
            options: what the scheduler is asked for.
            time_s: its walltime.
        """
        if self.site.submitter != "slurm":
            return
        where = place_of(job)
        resources = where if isinstance(job, Staging) else f"{where}.resources"
        for name in _REQUIRED:
            if getattr(self.site.rules, f"{name}_required") and options.get(name) is None:
                self._required(name, resources)
        self._resources(job, options, resources)
        self._time(options, time_s, resources)
        if self.site.rules.compute_internet is False and (wanted := job.get_downloads()):
            text = f"{where}.parameters: the job would download {', '.join(wanted)}, and compute nodes of {self.site.name}"
            self._add(text, f"{text} do not reach the internet: have it in place before", "rules.compute_internet")

    def raise_all(self) -> None:
        """Refuse the recipe if a rule is broken.

        Raises:
            RecipeError: with all that is broken.
        """
        if self._broken:
            raise RecipeError(
                "\n".join(self._broken.values()),
                f"these are rules of the site {self.site.name}; where one is wrong, your own profile may say better "
                f"(`site show {self.site.name}`)",
            )

    def _add(self, key: str, text: str, fact: str) -> None:
        self._broken.setdefault(key, f"{text} ({fact}: {self.site.fact(fact)})")

    def _required(self, name: str, resources: str) -> None:
        text = f"{resources}.slurm.{name}: {self.site.name} takes no job without {_article(name)}"
        self._add(name, f"{text}; set it in the profile under slurm, or here", f"rules.{name}_required")

    def _resources(self, job: BaseJob, options: Options, resources: str) -> None:
        asked, rules = job.resources, self.site.rules
        partition = options.get("partition")
        shapes = shapes_of(self.site.nodes, partition)
        if rules.cpus_per_gpu is not None and asked.gpus and asked.cpus not in (None, asked.gpus * rules.cpus_per_gpu):
            text = (
                f"{resources}.cpus: {asked.cpus} cores for {asked.gpus} GPUs; {self.site.name} wants {rules.cpus_per_gpu} a GPU"
            )
            self._add(
                text, f"{text}, here {asked.gpus * rules.cpus_per_gpu}: write that, or leave it out", "rules.cpus_per_gpu"
            )
        for key, wanted, most, form in (
            ("cpus", asked.cpus, _most(shapes, lambda shape: shape.cpus), str),
            ("memory", asked.memory_bytes, _most(shapes, lambda shape: shape.memory_bytes), format_size),
            ("gpus", asked.gpus, _most(shapes, lambda shape: shape.gpus), str),
            ("nodes", int(options.get("nodes") or 1), _most(shapes, lambda shape: shape.max_nodes), str),
        ):
            if wanted is not None and most is not None and wanted > most:
                what = "a job has" if key == "nodes" else "a node has"
                text = (
                    f"{resources}.{key}: {form(wanted)}; in the partition {partition} of {self.site.name} {what} {form(most)}"
                )
                fact = "max_nodes" if key == "nodes" else key
                self._add(text, text, f"nodes.{_first(partition)}.{fact}")

    def _time(self, options: Options, time_s: float, resources: str) -> None:
        limit = longest_s(self.site.rules, options.get("partition"), options.get("qos"))
        if limit is not None and time_s > limit[1]:
            text = f"{resources}.time: the job's walltime is {format_duration(round(time_s))}"
            most = f"{self.site.name} gives jobs in {limit[0]} at most {format_duration(limit[1])}"
            self._add(text, f"{text}; {most}", f"rules.max_time.{limit[0]}")


def place_of(job: BaseJob) -> str:
    """Return where a job stands in a recipe."""
    if isinstance(job, Staging):
        return f"services.{job.name.removesuffix('-staging')}.staging"
    return f"{job.role}s.{job.name}"


def _most(shapes: tuple[NodeShape, ...], part: Callable[[NodeShape], int | None]) -> int | None:
    """Return the most of something that a node has; None where one of them is not known."""
    found = list(_parts(shapes, part))
    known = [one for one in found if one is not None]
    return max(known) if known and len(known) == len(found) else None


def _parts(shapes: tuple[NodeShape, ...], part: Callable[[NodeShape], int | None]) -> Iterator[int | None]:
    for shape in shapes:
        yield part(shape)


def _first(partition: str | None) -> str:
    return partition.split(",")[0] if partition else ""


def _article(name: str) -> str:
    return f"an {name}" if name == "account" else f"a {name}"
