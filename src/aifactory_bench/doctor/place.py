"""What jobs need, as far as the login node can tell: a Python, a container runtime, folders with space, images."""

from collections.abc import Mapping

from ..images.reference import cache_folder
from ..script.bundle import build_node_program
from ..site_setup.cluster import FLOOR, Cluster, new_enough
from ..site_setup.parts import Part, program, read_parts
from ..sites.model import Site
from ..transports.base import Transport
from .findings import Report

_LIMIT_S = 180.0
_LITTLE_RUNS_BYTES = 1 << 30
_LITTLE_CACHE_BYTES = 2 << 30
"""An image of a large service takes several GB, a small one some hundred MB."""
_FEW_FILES = 10_000
FLOOR_TEXT = ".".join(map(str, FLOOR))
_GONE = Part(1, "it gave no answer")


async def look_at_place(site: Site, cluster: Cluster, transport: Transport, report: Report, *, job: bool = False) -> None:
    """Look at all of it from the login node; job: whether a node is looked at too, whose programs are those that count."""
    images = sorted(site.images.items())
    done = await transport.run(
        program(__package__ or "", "place"),
        site.runs,
        site.python,
        "" if site.runtime == "host" else cache_folder(site),
        *(path for _, path in images),
        stdin=build_node_program(()).data,
        timeout_s=_LIMIT_S,
    )
    parts = read_parts(done.stdout)
    if "runs:at" not in parts:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:]
        report.fail(
            "temporary files",
            f"nothing can be written to the temporary folder of the login node: {said or 'no word'}",
            "make room in /tmp there, or let TMPDIR name another folder",
        )
        return
    if job:
        report.skip("python", "looked at on a node")
        report.skip("runtime", "looked at on a node")
    else:
        _look_at_python(site, cluster, parts, report)
        _look_at_runtime(site, cluster, report)
    _look_at_runs(site, parts, report)
    _look_at_home(cluster, parts, report)
    _look_at_images(site, [reference for reference, _ in images], parts, report)
    _look_at_cache(site, parts, report)


def _look_at_python(site: Site, cluster: Cluster, parts: Mapping[str, Part], report: Report) -> None:
    """Jobs run on nodes, which may have another one: the login node's is a hint only."""
    said, ran = parts.get("python", _GONE), parts.get("program", _GONE)
    others = [f"{name} ({version})" for name, version in cluster.pythons.items() if new_enough(version) and name != site.python]
    has = f"; it has {', '.join(others)}" if others else ""
    fix = f"name one of {FLOOR_TEXT} or later in `python`, or load one with `modules`; `doctor --job` looks on a node"
    if said.code != 0:
        report.warn("python", f"the login node has no {site.python}: {said.line}{has}", fix)
    elif not new_enough(said.line):
        report.warn("python", f"{site.python} on the login node is {said.line}, and {FLOOR_TEXT} is needed{has}", fix)
    elif ran.code != 0:
        report.warn("python", f"{site.python} {said.line} does not run our program: {ran.line}", fix)
    else:
        report.ok("python", f"{site.python} on the login node is {said.line}, and runs our program")


def _look_at_runtime(site: Site, cluster: Cluster, report: Report) -> None:
    if site.runtime == "host":
        report.ok("runtime", "host: services are programs of the nodes")
    elif site.runtime in cluster.runtimes:
        report.ok("runtime", cluster.runtimes[site.runtime])
    elif site.modules:
        report.skip("runtime", f"{site.runtime} comes by a module ({', '.join(site.modules)}): `doctor --job` looks on a node")
    else:
        other = next(iter(cluster.runtimes), "")
        has = f", but {other}" if other else ""
        offered = f": {', '.join(cluster.modules)}" if cluster.modules else ""
        report.warn(
            "runtime",
            f"the login node has no {site.runtime}{has}, and the profile loads no module",
            (f"set `runtime: {other}`" if other else f"add the module that brings it to `modules`{offered}")
            + ", or `runtime: host` for services that are installed; `doctor --job` looks on a node",
        )


def _look_at_runs(site: Site, parts: Mapping[str, Part], report: Report) -> None:
    if not _may_write("runs folder", "runs", site.runs, parts, report):
        report.skip("space", "needs: runs folder")
        return
    at, kind = parts["runs:at"].line, parts.get("runs:type", _GONE)
    made = "" if at == site.runs else f", will be made in {at}"
    report.ok("runs folder", f"{site.runs}{made}{f', on {kind.line}' if kind.code == 0 else ''}")
    free, files, over = _left(parts.get("runs:space")), _left(parts.get("runs:files"), 1), parts.get("quota", _GONE)
    if over.code == 0 and over.text:
        report.warn("space", f"a quota is used up: {over.line}", "remove files, or ask the site for more")
    elif free is not None and free < _LITTLE_RUNS_BYTES:
        report.warn("space", f"{site.runs}: {_size(free)} are left", "remove old run folders, or set `runs` elsewhere")
    elif files is not None and files < _FEW_FILES:
        report.warn("space", f"{site.runs}: {files} more files are possible", "remove old run folders, or set `runs` elsewhere")
    else:
        report.ok("space", "not told" if free is None else f"{_size(free)} left")


def _look_at_home(cluster: Cluster, parts: Mapping[str, Part], report: Report) -> None:
    said = parts.get("home", _GONE)
    if said.code == 0:
        report.ok("home", f"{cluster.home} can be written")
    else:
        report.warn(
            "home",
            f"{cluster.home} cannot be written: {_why(said)}",
            "remove files there (see `quota -s`): modules, container runtimes and Slurm write into it and fail in odd ways",
        )


def _look_at_images(site: Site, references: "list[str]", parts: Mapping[str, Part], report: Report) -> None:
    if site.runtime == "host":
        report.skip("images", "runtime: host needs none")
        return
    missing = [one for number, one in enumerate(references, 1) if parts.get(f"image:{number}", _GONE).code != 0]
    if missing:
        report.fail(
            "images",
            f"{missing[0]}: there is no image at {site.images[missing[0]]}"
            + (f" (and {len(missing) - 1} more)" if missing[1:] else ""),
            f"bring it there: aifactory-bench images pull {missing[0]} --site {site.name}; or correct its path under `images`",
        )
    else:
        report.ok("images", f"{len(references)} of the profile, all there" if references else "the profile names none")


def _look_at_cache(site: Site, parts: Mapping[str, Part], report: Report) -> None:
    if site.runtime == "host":
        report.skip("images cache", "runtime: host needs none")
        return
    folder = cache_folder(site)
    if not _may_write("images cache", "cache", folder, parts, report):
        return
    free = _left(parts.get("cache:space"))
    if free is not None and free < _LITTLE_CACHE_BYTES:
        report.fail(
            "images cache",
            f"{folder}: {_size(free)} are left, and an image may need {_size(_LITTLE_CACHE_BYTES)}",
            "remove images that are not needed any more, or set `images_cache` to a file system with more space",
        )
    else:
        report.ok("images cache", folder + ("" if free is None else f", {_size(free)} left"))


def _may_write(check: str, name: str, folder: str, parts: Mapping[str, Part], report: Report) -> bool:
    said = parts.get(name, _GONE)
    if said.code == 0:
        return True
    key = "runs" if name == "runs" else "images_cache"
    why = _why(said)
    full = any(sign in why.lower() for sign in ("no space", "quota"))
    report.fail(
        check,
        f"{folder} cannot be written: {why}",
        "remove files there, or ask the site for more" if full else f"set `{key}` in the profile to a folder that is yours",
    )
    return False


def _why(said: Part) -> str:
    """Return dd's own words, without its counts."""
    return said.lines[0].removeprefix("dd: ") if said.lines else f"exit code {said.code}"


def _left(said: "Part | None", unit: int = 1024) -> "int | None":
    """Return what df says is left: bytes, or files."""
    columns = said.lines[-1].split() if said is not None and said.code == 0 and said.lines else []
    left = columns[3] if len(columns) > 3 else ""
    return int(left) * unit if left.isdigit() and not (unit == 1 and columns[1] == "0") else None


def _size(count: int) -> str:
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {unit}"
    return f"{count >> 10} KiB"
