"""Jobs for the submitters: small bash scripts that stand where the node side stands, and a Slurm site under test control."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from aifactory_bench.errors import NotExecutedError, OutcomeUnknownError
from aifactory_bench.node.paths import RunPaths
from aifactory_bench.plan import Plan, PlannedJob
from aifactory_bench.sites.model import Login, Site
from aifactory_bench.submitters.local import LocalSubmitter
from aifactory_bench.submitters.programs import program
from aifactory_bench.submitters.slurm import SlurmSubmitter
from aifactory_bench.submitters.slurm_site import SlurmSite
from aifactory_bench.testing.fake_slurm import FakeSlurm, Instant
from aifactory_bench.transports.base import Completed, Transport


@pytest.fixture
def paths(tmp_path):
    """An empty run folder."""
    return RunPaths(tmp_path / "run")


@pytest.fixture
def submitter(paths):
    """A submitter of that run."""
    return LocalSubmitter(paths)


@pytest.fixture
def make_job():
    """Build a job from the lines of its script."""

    def make(*lines, token="afb-r-job-0", ranks=1):
        script = "\n".join(("#!/bin/bash", "set -eu", f"export AFB_TOKEN={token}", *lines)) + "\n"
        return PlannedJob(name="job", role="service", kind="stub", token=token, script=script, ranks=ranks, time_s=60.0)

    return make


class ShellTransport(Transport):
    """Runs programs in a shell of this machine, without framing; who is cancelled kills the shell, and nothing else."""

    label = "lab"

    def __init__(self, shell="sh"):
        self.shell = shell

    async def run(self, program, *arguments, stdin=b"", timeout_s=60.0):
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            self.shell, "-c", program, "afb", *arguments, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        try:
            stdout, stderr = await child.communicate(stdin)
        except asyncio.CancelledError:
            child.kill()
            child._transport.close()
            wait_for_session(child.pid)
            raise
        return Completed(child.returncode, stdout, stderr)

    async def close(self):
        """Do nothing."""


def sessions():
    """Return the session of each process that lives."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdecimal():
                state, _, _, session = Path("/proc", name, "stat").read_text().rpartition(") ")[2].split()[:4]
                found += [session] if state not in "ZX" else []
    return found


def wait_for_session(leader):
    """Wait until nothing is left of a session: what a killed shell had started goes on to its end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not any(session == str(leader) for session in sessions()):
            return
        time.sleep(0.01)
    raise AssertionError("it does not end")


class FaultyTransport(Transport):
    """Runs programs here, and loses some on the way: `faults` holds one word a coming call, empty for a good one.

    `before`: it never ran. `after`: it ran, and the answer is lost. `cut`: half of its input arrived. `garbled`: half of its
    output. `killed`: the shell dies by SIGKILL after a while.
    """

    label = "lab"

    def __init__(self, seed=0, inner=None):
        self.inner = inner or ShellTransport()
        self.faults = []
        self.calls = []
        self.chance = random.Random(seed)

    async def run(self, program, *arguments, stdin=b"", timeout_s=60.0):
        self.calls.append(program.split("\n", 1)[0].removeprefix("# ").split(" ", 1)[0])
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise NotExecutedError("lab: lost before")
        if fault == "cut":
            stdin = stdin[: self.chance.randrange(len(stdin) + 1)]
        if fault == "killed":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.inner.run(program, *arguments, stdin=stdin), self.chance.uniform(0.0, 0.3))
            raise OutcomeUnknownError("lab: killed")
        done = await self.inner.run(program, *arguments, stdin=stdin, timeout_s=timeout_s)
        if fault in {"after", "cut"}:
            raise OutcomeUnknownError("lab: lost after")
        if fault == "garbled":
            return Completed(done.exit_code, done.stdout[: self.chance.randrange(len(done.stdout) + 1)], b"")
        return done

    async def close(self):
        """Do nothing."""


class Lab:
    """A Slurm site on this machine whose clock the test moves: that of the queue, of login nodes, and of controllers."""

    run_id = "r1"

    def __init__(self, folder, slurm, monkeypatch):
        self.folder = folder
        self.slurm = slurm
        self.now = slurm.now
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.site = Site(
            name="lab",
            submitter="slurm",
            runs=str(folder / "site"),
            login=Login(host="lab", transport="local"),
            submit_rate_per_s=1e6,
        )
        self.run = RunPaths(folder / "site" / self.run_id)
        self._controllers = 0
        self.program("date", f'[ "$*" = +%s ] && exec cat {folder}/now\nexec /bin/date "$@"')
        self.advance(0)
        monkeypatch.setenv("PATH", f"{self.bin}:{slurm.bin}:{os.environ['PATH']}")

    def program(self, name, text):
        """Put a shell script first on the login node's PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def advance(self, seconds):
        """Move every clock on."""
        self.slurm.advance(seconds)
        self.now += seconds
        (self.folder / "now.new").write_text(f"{self.now:.0f}\n")
        os.replace(self.folder / "now.new", self.folder / "now")

    def token(self, number=0):
        return f"afb-{self.run_id}-job-{number}"

    def job(self, number=0, **more):
        token = self.token(number)
        given = {
            "name": f"job-{number}",
            "role": "client",
            "kind": "stub",
            "token": token,
            "script": f"#!/bin/sh\n# {token}\n",
            "ranks": 1,
            "time_s": 60.0,
        }
        options = {"job-name": token, "no-requeue": None, "time": "30-00:00:00"}
        return PlannedJob(**{**given, "options": options, **more})

    def plan(self, jobs, **more):
        folder = str(self.run.folder)
        given = {
            "run_id": self.run_id,
            "recipe_name": "r",
            "site": "lab",
            "run_folder": folder,
            "jobs": tuple(jobs),
            "points": (),
        }
        return Plan(
            **{**given, "limits": {}, "lease_s": None, "max_jobs": 64, "node_modules": (), "node_digest": "0" * 16, **more}
        )

    def controller(self, plan=None, *, transport=None, folder=None, site=None, driving=True):
        """Return the submitter of a controller on a machine of its own."""
        self._controllers += 1
        where = folder or self.folder / f"controller-{self._controllers}" / self.run_id
        known = SlurmSite(site or self.site, transport or FaultyTransport(self._controllers), clock=lambda: self.now)
        known.holder = f"host{self._controllers}:{os.getpid()}:1:boot"
        made = SlurmSubmitter(RunPaths(Path(where)), known, self.run_id, plan)
        made.driving = driving
        return made

    def stage(self, plan, controller=None):
        """Put a run there, as its first controller does."""
        asyncio.run((controller or self.controller()).stage(plan, "recipe\n", b"program"))

    def begin(self, token, job_id, rank=0):
        """Let the node side begin: it claims the job's folder, and writes its first event."""
        job = self.run.job(token)
        (job.claim).mkdir(parents=True, exist_ok=True)
        owner = job.claim / "owner.json"
        if not owner.exists():
            owner.write_text(json.dumps({"job_id": str(job_id), "host": "node1", "pid": 1}) + "\n")
        (job.rank(rank).folder).mkdir(exist_ok=True)
        with open(job.rank(rank).events, "a") as stream:
            stream.write('{"type": "phase"}\n')

    def end(self, token, outcome="completed", rank=0, restart=0, text=""):
        """Let the node side write its last word."""
        record = {"v": 1, "outcome": outcome, "text": text, "restart": restart}
        self.run.job(token).rank(rank).exit.write_text(json.dumps(record) + "\n")

    def duplicates(self):
        """Return the names that more than one submission had an effect for."""
        names = [job.name for job in self.slurm.jobs()]
        return {name for name in names if names.count(name) > 1}


@pytest.fixture
def lab_of(tmp_path, monkeypatch):
    """Make a lab; arguments are those of the simulated Slurm."""
    with contextlib.ExitStack() as stack:

        def make(**settings):
            settings.setdefault("jobs", Instant(run_s=1e6))
            slurm = stack.enter_context(FakeSlurm(tmp_path / "slurm", **{"nodes": 8, "cpus": 64, **settings}))
            return Lab(tmp_path, slurm, monkeypatch)

        yield make


@pytest.fixture
def lab(lab_of):
    """A lab where jobs run until the test ends them."""
    return lab_of()


SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def run_program(name, *arguments, shell="sh", stdin=b"", **more):
    """Run one of the site's programs to its end, as the transports do but for the framing."""
    return subprocess.run(
        [shell, "-c", program(name), "afb", *arguments], input=stdin, capture_output=True, check=False, **more
    )


@pytest.fixture(scope="session")
def run_on_site():
    """Run one of the site's programs: name, arguments, `shell`, `stdin`."""
    return run_program


@pytest.fixture(params=SHELLS)
def shell(request):
    """A shell that may be a site's /bin/sh."""
    return request.param


@pytest.fixture(scope="session")
def session_over():
    """Wait until nothing is left of a session."""
    return wait_for_session


@pytest.fixture(scope="session")
def faulty():
    """Make a transport with faults: seed, and what carries the rest."""
    return FaultyTransport
