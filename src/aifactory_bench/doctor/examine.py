"""All checks of a site in their order; what depends on one that failed is left out, and that is told."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Optional, Union

from ..errors import AifactoryBenchError, TransportError
from ..site_setup.cluster import Cluster
from ..site_setup.look import look
from ..sites.load import load_unfinished, missing_parts
from ..sites.model import Login, Site
from ..transports import known_hosts as host_keys
from ..transports.dial import Answer, Hop
from ..transports.local import LocalTransport
from ..transports.open import open_transport
from .findings import Diagnosis, Finding, Report
from .node import look_at_node
from .place import look_at_place
from .scheduler import look_at_place as look_at_options
from .scheduler import look_at_settings, look_at_slurm, look_at_submission
from .session import look_at_clock, look_at_connection, look_at_sessions, look_at_shell
from .way import SecondConnection, look_at_login, look_at_way

WAIT_S = 300.0
"""How long the job may wait in the queue."""
_BEFORE_JOB = ("slurm commands", "controller", "partition", "account", "qos", "time limit", "submission")
_GROUPS = ("login", "slurm", "submission", "place", "node")


async def examine(
    site: Union[str, Site],
    *,
    job: bool = False,
    wait_s: float = WAIT_S,
    answer: Optional[Answer] = None,
    known_hosts: Optional[Path] = None,
    listener: Optional[Callable[[Finding], None]] = None,
) -> Diagnosis:
    """Examine a site; the arguments are those of `doctor`."""
    report = Report(listener)
    one = _profile(site, report)
    name = site if isinstance(site, str) else site.name
    if one is None:
        _skip(report, _GROUPS, "profile")
        return Diagnosis(name, tuple(report.findings))
    if one.submitter == "local" or one.login is None:
        await _examine_local(one, report)
    else:
        await _Examination(one, one.login, known_hosts or host_keys.own_file(), answer, report).run(job=job, wait_s=wait_s)
    return Diagnosis(one.name, tuple(report.findings))


def doctor(
    site: Union[str, Site],
    *,
    job: bool = False,
    wait_s: float = WAIT_S,
    answer: Optional[Answer] = None,
    known_hosts: Optional[Path] = None,
    listener: Optional[Callable[[Finding], None]] = None,
) -> Diagnosis:
    """Examine a site, and change nothing there but temporary files, which go.

    What is wrong is a finding, never an exception.

    Args:
        site: Its name, the file of its profile, or the profile.
        job: Whether a node is looked at too, by a short job.
        wait_s: How long that may wait in the queue.
        answer: Asks a person for a password or a second factor; None where there is nobody to ask.
        known_hosts: Our list of host keys beside the user's; default that of `site trust`.
        listener: Gets each finding as it is made.
    """
    return asyncio.run(examine(site, job=job, wait_s=wait_s, answer=answer, known_hosts=known_hosts, listener=listener))


def _profile(site: Union[str, Site], report: Report) -> Optional[Site]:
    try:
        one = load_unfinished(site) if isinstance(site, str) else site
    except AifactoryBenchError as error:
        report.fail("profile", error.text, error.hint or "correct the profile; docs/sites.md lists every key")
        return None
    if one.submitter == "slurm" and not one.runs:
        missing = ", ".join(missing_parts(one))
        report.fail(
            "profile", f"the shipped profile lacks your own part: {missing}", f"aifactory-bench init {one.name} asks for it"
        )
        return None
    report.ok("profile", one.file or one.name)
    if one.unknown:
        report.warn(
            "facts",
            f"the profile does not know: {', '.join(one.unknown)}",
            "find it out, and write it into the profile; what is not known is neither checked nor counted",
        )
    return one


def _skip(report: Report, checks: "tuple[str, ...]", needs: str) -> None:
    for check in checks:
        report.skip(check, f"needs: {needs}")


async def _examine_local(site: Site, report: Report) -> None:
    """Look at this machine, where jobs are processes: there is no login, and no Slurm."""
    _skip(report, ("login", "slurm", "submission", "node"), "a cluster; jobs are processes of this machine")
    transport = LocalTransport()
    cluster = await look(transport)
    await look_at_place(site, cluster, transport, report)


class _Examination:
    """One site with a login node."""

    def __init__(self, site: Site, login: Login, own_file: Path, answer: Optional[Answer], report: Report) -> None:
        self._site = site
        self._login = login
        self._own_file = own_file
        self._answer = answer
        self._report = report
        self._transport = open_transport(login, answer=answer, known_hosts=own_file, site=site.name)

    async def run(self, *, job: bool, wait_s: float) -> None:
        report = self._report
        try:
            if not await self._get_in():
                _skip(report, _GROUPS[1:], ", ".join(report.failed()) or "login")
                return
            await self._look_around(job=job, wait_s=wait_s)
        except TransportError as error:
            report.fail("connection", error.text, error.hint or "it was lost in the middle: try again")
        finally:
            await self._transport.close()

    async def _get_in(self) -> bool:
        hops: tuple[Hop, ...] = ()
        if self._login.transport != "local":
            hops = await look_at_way(self._site, self._login, self._own_file, self._report)
            if not hops:
                self._report.skip("login", f"needs: {', '.join(self._report.failed())}")
                return False
        if not await look_at_login(self._transport, hops, self._report):
            return False
        if self._login.transport == "ssh":
            async with SecondConnection(self._site, self._login, self._own_file) as connection:
                await look_at_connection(connection, hops[-1].options.port, self._report)
        else:
            for check in ("shell output", "forwarding"):
                self._report.skip(check, "looked at with `transport: ssh` only")
        return True

    async def _look_around(self, *, job: bool, wait_s: float) -> None:
        report, site, transport = self._report, self._site, self._transport
        await look_at_sessions(transport, report)
        await look_at_clock(transport, report)
        cluster = await look(transport)
        look_at_shell(cluster, report)
        await self._look_at_scheduler(cluster)
        job = job and not report.failed(*_BEFORE_JOB)
        await look_at_place(site, cluster, transport, report, job=job)
        if needed := report.failed(*_BEFORE_JOB, "runs folder"):
            report.skip("node", f"needs: {', '.join(needed)}")
        elif not job:
            report.skip("node", "not asked for; --job looks at a node by a short job")
        else:
            await look_at_node(site, transport, report, wait_s)

    async def _look_at_scheduler(self, cluster: Cluster) -> None:
        report = self._report
        if not look_at_slurm(cluster, report):
            _skip(report, ("slurm", "submission"), ", ".join(report.failed("slurm commands", "controller")))
            return
        look_at_settings(self._site, cluster, report)
        look_at_options(self._site, cluster, report)
        await look_at_submission(self._site, self._transport, report)
