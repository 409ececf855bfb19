"""What `slurm_scale.py` measures with: a site that counts, a controller on it, and what both cost."""

import collections
import time
from pathlib import Path

from slurm_scale_bed import ALIAS, ask

from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import Plan
from aifactory_bench.runs.engine import Engine
from aifactory_bench.runs.lock import ControllerLock
from aifactory_bench.runs.store import read_plan
from aifactory_bench.sites.model import Login, Site
from aifactory_bench.submitters.slurm import SlurmSubmitter
from aifactory_bench.submitters.slurm_site import SlurmSite
from aifactory_bench.transports.ssh import SshTransport

NO_LIMIT_PER_S = 1e9


class Transport(SshTransport):
    """Remembers its connections."""

    line = None

    async def _open(self):
        self.line = await super()._open()
        return self.line


class CountedSite(SlurmSite):
    """Counts the programs that it runs on the site: each is one channel."""

    def __init__(self, site, transport, clock):
        super().__init__(site, transport, clock)
        self.ran = collections.Counter()
        self.before = lambda _name: None
        self.after = lambda _name: None

    async def run(self, name, *arguments, **options):
        self.ran[name] += 1
        self.before(name)
        try:
            done = await super().run(name, *arguments, **options)
        except BaseException:
            self.after("")
            raise
        self.after(name)
        return done


def make_site(settings, clock=time.monotonic):
    """Return a site without a limit to its rate of submissions."""
    login = Login(ALIAS)
    site = Site("scale", "slurm", settings["runs"], max_jobs=100_000, login=login, submit_rate_per_s=NO_LIMIT_PER_S)
    return CountedSite(site, Transport(login, clock=clock), clock)


class Controller:
    """What drives one run; the plan lies in its folder."""

    def __init__(self, folder, site, clock=time.monotonic, listener=None):
        self.paths = RunPaths(Path(folder))
        self.plan: Plan = read_plan(self.paths)
        self.submitter = SlurmSubmitter(self.paths, site, self.plan.run_id, self.plan)
        self.lock = ControllerLock.acquire(self.paths.lock)
        self.engine = Engine(self.plan, self.paths, self.submitter, listener or (lambda _event: None), self.lock, clock=clock)

    async def drive(self):
        try:
            return await self.engine.execute()
        finally:
            await self.submitter.close()
            self.lock.release()


class SiteCosts:
    """What the login node has been asked for since this was made; None where that cannot be counted."""

    def __init__(self, bed):
        self._bed = bed
        self._before = self._now()

    def _now(self):
        return {name: ask(self._bed, name) for name in ("sessions", "cpu_s")}

    def since(self):
        before, now = self._before, self._now()
        return {f"site_{name}": None if value is None else value - before[name] for name, value in now.items()}


def memory_mb():
    """Return what this process has in memory, now and at most, in units of 10^6 bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(lines[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))
