"""What a node is like, by the answer of a job that looked at it."""

import asyncio
import ipaddress
import math
from collections.abc import Mapping

from ..errors import TransportError
from ..site_setup.cluster import new_enough
from ..site_setup.parts import Part
from ..sites.model import Site
from ..transports.base import Transport
from .findings import Report
from .job import TIME_S, NodeJob
from .place import FLOOR_TEXT

_GONE = Part(1, "it gave no answer")
_CLOCK_S = 2


async def look_at_node(site: Site, transport: Transport, report: Report, wait_s: float) -> None:
    """Look at a node by a short job, which is cancelled and leaves nothing, also when this is cancelled.

    Args:
        site: Its profile.
        transport: To its login node.
        report: Takes what is found.
        wait_s: How long the job may wait in the queue.

    Raises:
        TransportError: the site could not be asked any more.
    """
    job = NodeJob.of(site, transport, report)
    try:
        parts = await job.watch(wait_s) if await job.submit() else None
        if parts is None:
            report.skip("node", f"needs: {', '.join(report.failed('job', 'shared folder')) or 'job'}")
            return
        _look_at_answer(job, parts)
        await _look_at_reach(job, parts)
    finally:
        await _end(job)


async def _end(job: NodeJob) -> None:
    ending = asyncio.ensure_future(job.end())
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await ending  # somebody is in a hurry: what was begun on the site is ended all the same
        raise
    except TransportError as error:
        job.report.warn(
            "job folder",
            f"the connection was lost before the job was cancelled: {error.text}",
            f"it ends by itself in {math.ceil(TIME_S / 60)} min; then remove {job.folder}",
        )


def _look_at_answer(job: NodeJob, parts: Mapping[str, Part]) -> None:
    site, report, node = job.site, job.report, job.node
    if parts.get("node:letter", _GONE).text == job.word:
        report.ok("shared folder", f"{site.runs}: login node and {node} see what the other one writes")
    else:
        report.fail(
            "shared folder",
            f"{node} does not see in {site.runs} what the login node wrote there: {parts.get('node:letter', _GONE).line}",
            "set `runs` to a folder that login node and compute nodes see at the same path",
        )
    _look_at_modules(job, parts)
    _look_at_python(job, parts)
    _look_at_runtime(job, parts)
    _look_at_images(job, parts)
    _look_at_internet(job, parts)


def _look_at_modules(job: NodeJob, parts: Mapping[str, Part]) -> None:
    modules = job.site.modules
    bad = [(name, parts.get(f"node:module:{number}", _GONE)) for number, name in enumerate(modules, 1)]
    bad = [(name, said) for name, said in bad if said.code != 0]
    if bad:
        name, said = bad[0]
        none = "command not found" in said.text
        job.report.fail(
            "node modules",
            f"{job.node} cannot load the module {name!r}: {said.line}",
            "jobs have no `module` command: add `source /etc/profile` to `setup` in the profile"
            if none
            else f"see `module spider {name.partition('/')[0]}` on the site, and correct `modules` in the profile",
        )
    else:
        job.report.ok("node modules", ", ".join(modules) or "the profile loads none")


def _look_at_python(job: NodeJob, parts: Mapping[str, Part]) -> None:
    said, ran, python = parts.get("node:python", _GONE), parts.get("node:program", _GONE), job.site.python
    fix = f"name a Python {FLOOR_TEXT} or later that nodes have in `python`, or load one with `modules`"
    if said.code != 0:
        job.report.fail("node python", f"{job.node} has no {python}: {said.line}", fix)
    elif not new_enough(said.line):
        job.report.fail("node python", f"{python} on {job.node} is {said.line}, and {FLOOR_TEXT} is needed", fix)
    elif ran.code != 0:
        job.report.fail("node python", f"{python} {said.line} on {job.node} does not run our program: {ran.line}", fix)
    else:
        job.report.ok("node python", f"{python} on {job.node} is {said.line}, and runs our program")


def _look_at_runtime(job: NodeJob, parts: Mapping[str, Part]) -> None:
    runtime = job.site.runtime
    if runtime == "host":
        job.report.ok("node runtime", "host: services are programs of the nodes")
        return
    if job.report.failed("node modules"):
        job.report.skip("node runtime", "needs: node modules")
        return
    said = parts.get("node:runtime", _GONE)
    if said.code == 0:
        job.report.ok("node runtime", said.line)
    else:
        job.report.fail(
            "node runtime",
            f"{job.node} has no {runtime}: {said.line}",
            "load the module that brings it with `modules`, or set `runtime: host` for services that are installed",
        )


def _look_at_images(job: NodeJob, parts: Mapping[str, Part]) -> None:
    if job.site.runtime == "host" or job.report.failed("images"):
        return
    images = [reference for reference, _ in sorted(job.site.images.items())]
    unseen = [one for number, one in enumerate(images, 1) if parts.get(f"node:image:{number}", _GONE).code != 0]
    if unseen:
        job.report.fail(
            "node images",
            f"{job.node} does not see {job.site.images[unseen[0]]}, which the login node does",
            "move images to a folder that nodes see, and correct `images` in the profile",
        )
    elif images:
        job.report.ok("node images", f"{job.node} sees all {len(images)}")


def _look_at_internet(job: NodeJob, parts: Mapping[str, Part]) -> None:
    """Neither yes nor no is bad; a profile that says the opposite is."""
    there, told = parts.get("node:internet", _GONE).code == 0, job.site.rules.compute_internet
    what = f"{job.node} {'reaches' if there else 'does not reach'} the internet"
    if told is not None and told != there:
        job.report.warn(
            "internet", f"{what}, and the profile says the opposite", f"set `rules: {{compute_internet: {str(there).lower()}}}`"
        )
    else:
        job.report.ok("internet", what + ("" if there else ": images have to be on the site before a run"))


async def _look_at_reach(job: NodeJob, parts: Mapping[str, Part]) -> None:
    if job.report.failed("node python"):
        job.report.skip("node reached", "needs: node python")
        return
    port = parts.get("port", _GONE).line
    hosts = tuple(dict.fromkeys((*parts["begun"].lines, *parts.get("node:address", _GONE).text.split())))
    hosts = tuple(host for host in hosts if _is_host(host))[:4]
    if not port.isdigit() or not hosts:
        job.report.skip("node reached", f"{job.node} opened no port")
        return
    if job.site.bind in {"127.0.0.1", "localhost"}:
        job.report.skip("node reached", "services listen on 127.0.0.1 only, as the profile wants it")
        return
    tries = await job.reach(port, hosts)
    reached = {host: tries.get(f"reach:{host}", _GONE).lines for host in hosts}
    good = {host: lines for host, lines in reached.items() if lines and lines[0].startswith(job.word)}
    if not good:
        job.report.warn(
            "node reached",
            f"the login node does not reach {job.node} at {', '.join(hosts)}: runs need that not, `tunnel` does",
            "set `bind` to an address that the login node reaches, or reach services from a job",
        )
        return
    host, lines = next(iter(good.items()))
    job.report.ok("node reached", f"the login node reaches {job.node} as {host}")
    off_s = int(lines[0].split()[-1]) - int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 0
    if abs(off_s) > _CLOCK_S:
        job.report.warn(
            "node clock",
            f"the clock of {job.node} is {abs(off_s)} s {'ahead of' if off_s > 0 else 'behind'} the login node's",
            "tell the site: times of services and of clients on several nodes do not fit together",
        )
    else:
        job.report.ok("node clock", f"{job.node} and the login node agree within {_CLOCK_S} s")


def _is_host(text: str) -> bool:
    """Whether it is a name, or an address that means the node to others too."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return bool(text) and all(letter.isalnum() or letter in ".-_" for letter in text) and not text.startswith("-")
    return address.version == 4 and not address.is_link_local
