"""The conformance suite: what every kind of service and client must do, ours and strangers', as checks that anybody can run.

In a plugin's tests:

    @pytest.mark.parametrize(*checks("memcached"))
    def test_conformance(check):
        check()

and on the command line: `python -m aifactory_bench.testing.conformance memcached`.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Union
from unittest import SkipTest

from attrs import field, frozen

from ..errors import AifactoryBenchError
from . import conformance_class, conformance_node, conformance_run, conformance_samples, conformance_script
from .conformance_subject import ConformanceError, Plugin, Subject, subject_of

__all__ = ["Check", "ConformanceError", "checks", "main"]

_Find = Callable[[Subject], Iterator[str]]
EVERY_KIND: Mapping[str, _Find] = {
    "documented": conformance_class.documented,
    "parameters": conformance_class.parameters,
    "declarations": conformance_class.declarations,
    "recipes": conformance_class.recipes,
    "renders": conformance_script.renders,
    "quoted": conformance_script.quoted,
    "secrets": conformance_script.secrets,
    "packed": conformance_node.packed,
    "functions": conformance_node.functions,
}
SERVICES: Mapping[str, _Find] = {
    "not-ready": conformance_node.not_ready,
    "no-made-up-numbers": conformance_node.no_made_up_numbers,
}
TOOLS: Mapping[str, _Find] = {"samples": conformance_samples.reduced}
"""Where samples are given."""
RUN_SERVICE: Mapping[str, _Find] = {"starts-and-stops": conformance_run.starts_and_stops}
"""Where a recipe to run is given."""
RUN_CLIENT: Mapping[str, _Find] = {"measures": conformance_run.measures}
_NEEDS = {"starts-and-stops": "not-ready"}
"""Check -> the one that must have passed: a probe that hangs would be waited for all the time that a server may take."""


@frozen
class Check:
    """One thing that a kind must do; calling it raises where the kind does not."""

    subject: Subject = field(repr=lambda subject: str(subject.kind))
    name: str
    find: _Find = field(repr=False)

    @property
    def __name__(self) -> str:
        """What pytest calls the test."""
        return f"{self.subject.kind}-{self.name}"

    @property
    def about(self) -> str:
        """One sentence: what is checked."""
        return (self.find.__doc__ or "").strip().splitlines()[0]

    def __call__(self) -> None:
        """Check.

        Raises:
            ConformanceError: the kind does not do it; everything that was found is listed.
            SkipTest: the program that this check needs is not installed.
        """
        try:
            found = list(dict.fromkeys(self.find(self.subject)))
        except (AifactoryBenchError, ConformanceError) as error:
            found = [str(error)]
        if found:
            raise ConformanceError(
                "\n".join([f"{self.subject.kind}: {self.name}: {self.about}", *(f"- {one}" for one in found)])
            )


def checks(
    kind: str,
    *,
    plugins: Sequence[Plugin] = (),
    recipes: Sequence[Union[Path, str]] = (),
    samples: Union[Path, str, None] = None,
    run: Union[Path, str, None] = None,
    probe_limit_s: float = 2.5,
) -> "tuple[str, list[Check]]":
    """Return the arguments of `pytest.mark.parametrize`: a name, and every check for a kind.

    Args:
        kind: as a recipe names it.
        plugins: files and classes that are not installed.
        recipes: files, and folders of which those are taken that hold the kind. The example that is tried is that of `run`, or
            else the first here; without any it has the default parameters.
        samples: of a tool, the JSON file that lists recorded output, see `conformance_samples`.
        run: a recipe that is really run on this machine: a service is started and stopped, a client measures. The test is
            skipped where the program is not installed.
        probe_limit_s: how long the node module's questions to a server that is not there may take.

    Raises:
        UsageError: there is no such kind, or a file is not there.
        PluginError: a plugin is broken.
    """
    subject = subject_of(kind, plugins=plugins, recipes=recipes, samples=samples, run=run, probe_limit_s=probe_limit_s)
    chosen = dict(EVERY_KIND)
    if subject.is_service:
        chosen.update(SERVICES)
    if subject.is_tool and subject.samples is not None:
        chosen.update(TOOLS)
    if subject.run is not None:
        chosen.update(RUN_SERVICE if subject.is_service else RUN_CLIENT)
    return "check", [Check(subject, name, find) for name, find in chosen.items()]


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Print every check of a kind with what was found; return 0 where all passed, 1 where not, 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="python -m aifactory_bench.testing.conformance", description="Check a kind of service or client."
    )
    parser.add_argument("kind", help="as a recipe names it")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plugin that is not installed; may be repeated"
    )
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="PATH", help="a recipe with the kind, or a folder of recipes"
    )
    parser.add_argument("--samples", metavar="FILE", help="recorded output of a tool")
    parser.add_argument("--run", metavar="RECIPE", help="run this recipe for real, too")
    given = parser.parse_args(arguments)
    try:
        _, chosen = checks(given.kind, plugins=given.plugin, recipes=given.recipe, samples=given.samples, run=given.run)
    except AifactoryBenchError as error:
        print(f"conformance: {error}", file=sys.stderr)  # noqa: T201 - a program speaks
        return 2
    told: dict[str, str] = {}
    for check in chosen:
        told[check.name] = _told(check, told)
    passed, skipped = (list(told.values()).count(word) for word in ("passed", "skipped"))
    if note := _image_note(chosen[0].subject):
        print(f"note     {note}")  # noqa: T201
    rest = f", {skipped} skipped" if skipped else ""
    print(f"{given.kind}: {passed} of {len(chosen)} checks passed{rest}")  # noqa: T201
    return 1 if "FAILED" in told.values() else 0


def _image_note(subject: Subject) -> str:
    if not subject.is_service or subject.cls.default_image is not None:
        return ""
    return "it has no default_image: on a site with a container runtime each recipe has to name an `image`"


def _told(check: Check, before: Mapping[str, str]) -> str:
    """Print one check and how it went; return this in a word. `before`: how those before it went."""
    try:
        if before.get(needed := _NEEDS.get(check.name, "")) == "FAILED":
            raise SkipTest(f"{needed} has failed")
        check()
    except SkipTest as skipped:
        print(f"skipped  {check.name}: {skipped}")  # noqa: T201
        return "skipped"
    except ConformanceError as error:
        print(f"FAILED   {check.name}: {check.about}")  # noqa: T201
        print("\n".join(f"           {line}" for line in str(error).splitlines()[1:]))  # noqa: T201
        return "FAILED"
    print(f"passed   {check.name}: {check.about}")  # noqa: T201
    return "passed"


if __name__ == "__main__":
    sys.exit(main())
