"""Where `store_phases` runs: this machine with the submitter `local`, or the Slurm test bed; the same calls for both.

Controllers are the command line itself, started as a user does. Whatever ends the benchmark, they are told to stop their jobs
and waited for; then whatever is left of them and of their runs is killed.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slurm_bed_place import Controller, Place

from aifactory_bench.node.procfs import descendants
from aifactory_bench.submitters.process import belonging

ROOT = Path(__file__).parents[1]
CHROMA = ROOT / ".venv-chroma"
LIMIT_S = 300.0
"""Of one run, and of a server's start."""
_STOP_S = 30.0
_POLL_S = 0.02
_OPTIONS = ("--ntasks=1", "--mem=500M", "--time=10")
"""Of the tool by hand as a batch job: what the client's job asks for."""
HAND = """\
import json, os, subprocess, sys, time
order = json.load(open(sys.argv[1]))
began = time.monotonic()
with open("out", "wb") as out, open("err", "wb") as err:
    child = subprocess.Popen(
        order["argv"], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **order["environment"]}
    )
    _, status, used = os.wait4(child.pid, 0)
ended = {"wall_s": time.monotonic() - began, "ended_wall_s": time.time(), "cpu_s": used.ru_utime + used.ru_stime}
with open("ended.new", "w") as file:
    json.dump(ended, file)
os.rename("ended.new", "ended")
"""
"""What runs the tool by hand: it counts the tool's CPU time as our node side does, by `wait4`."""


class Ran(NamedTuple):
    """One run that came to its verdict."""

    name: str
    began_wall_s: float
    ended_wall_s: float
    wall_s: float
    folder: Path
    """The controller's run folder."""
    on_site: Path
    """The site's, as it is seen from here."""
    summary: Mapping[str, Any]

    def rank(self, job: str) -> Path:
        """Return the folder of a job's only rank, on the site."""
        return self.on_site / f"jobs/afb-{self.name}-{job}-0/0"


class ByHand(NamedTuple):
    """One run of a tool without us."""

    out: str
    err: str
    cpu_s: float
    wall_s: float
    """From the start of the tool, on Slurm from the call of sbatch, to the tool's end."""


class Served(NamedTuple):
    """A server that answers."""

    url: str
    secret: str


class Here:
    """This machine, used as a context."""

    chroma = str(CHROMA / "bin/chroma")
    label = "local"

    def __enter__(self) -> "Here":
        self.folder = Path(tempfile.mkdtemp(prefix="store-phases-"))
        self._controllers: list[Controller] = []
        return self

    def __exit__(self, *_error: object) -> None:
        with _undisturbed():
            _end(self._controllers)
            # One that was being started when the end came stands in no list.
            _kill(descendants([os.getpid()]) - {os.getpid()})
            _kill(pid for run in self.folder.glob("runs/*") for pid in belonging(f"AFB_RUN_DIR={run}", run))
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, run: str, recipe: Path) -> Controller:
        """Start `aifactory-bench run`."""
        argv = ["run", str(recipe), "--run-id", run, "--runs-dir", str(self.folder / "runs"), "--json", "--quiet"]
        self._controllers.append(controller := Controller(run, argv, dict(os.environ), self.folder / f"{run}.out"))
        return controller

    def on_site(self, run: str) -> Path:
        """Return a run's folder on the site."""
        return self.folder / "runs" / run

    def runs_folder(self, run: str) -> Path:
        """Return the controller's run folder."""
        return self.folder / "runs" / run

    def recipe(self, text: str, name: str) -> Path:
        """Write a recipe."""
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def shell(self, text: str) -> None:
        """Run a line where servers can be reached."""
        subprocess.run(["sh", "-c", text], check=True, stdout=subprocess.DEVNULL)

    def site_path(self, path: Path) -> str:
        """Return how the site calls a file of a run folder there."""
        return str(path)

    def hand(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> ByHand:
        """Run a tool by hand, in a session of its own, as a job's is: else it would share one part of the CPUs with others."""
        folder = self.folder / name
        folder.mkdir()
        argv = [part.replace("@folder", str(folder)) for part in argv]
        _write_order(folder, argv, environment)
        program = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-I", "hand.py", "order"]
        process = subprocess.Popen(program, cwd=folder, start_new_session=True)
        try:
            process.wait(LIMIT_S)
        finally:
            if process.poll() is None:
                with _undisturbed():
                    os.killpg(process.pid, signal.SIGKILL)  # the tool is in the same group
                    process.wait()
        return _taken(folder, None)

    # the same on both

    def run(self, name: str, text: str) -> Ran:
        """Run a recipe to its verdict.

        Raises:
            RuntimeError: it has none, or one without a measurement.
        """
        recipe = self.recipe(text, name)
        began_wall_s, began = time.time(), time.monotonic()
        controller = self.start(name, recipe)
        controller.process.wait(LIMIT_S)
        wall_s, ended_wall_s = time.monotonic() - began, time.time()
        if controller.process.returncode not in {0, 3}:
            raise RuntimeError(f"{name} ended with {controller.process.returncode}: {controller.complained}")
        summary = json.loads((self.runs_folder(name) / "summary.json").read_text())
        measured = [one for point in summary["points"] for one in point["measurements"]]
        if not measured or measured[0]["achieved_per_s"] is None:
            why = summary["error"] or [one["reasons"] for one in measured]
            raise RuntimeError(f"{name} has no measurement: {why} {controller.complained}")
        return Ran(name, began_wall_s, ended_wall_s, wall_s, self.runs_folder(name), self.on_site(name), summary)

    @contextlib.contextmanager
    def serve(self, name: str, text: str) -> Iterator[Served]:
        """Let a recipe's only service run, as our own job does, until it is no longer wanted.

        Raises:
            RuntimeError: it does not answer.
        """
        controller = self.start(name, self.recipe(text, name))
        endpoint = self.on_site(name) / f"endpoints/afb-{name}-store-0/0.json"
        deadline = time.monotonic() + LIMIT_S
        while not endpoint.exists():
            if controller.ended() or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not answer: {controller.complained}")
            time.sleep(_POLL_S)
        try:
            yield Served(json.loads(endpoint.read_text())["url"], endpoint.with_name("secret").read_text().strip())
        finally:
            with _undisturbed():
                _end([controller])


class OnSlurm(Here):
    """The test bed of four nodes (docs/test-bed.md), started for this and taken down after it."""

    label = "Slurm test bed"

    def __enter__(self) -> "OnSlurm":
        self._place = Place().__enter__()
        self.folder = self._place.folder
        self._controllers = []
        return self

    def __exit__(self, *_error: object) -> None:
        with _undisturbed():
            try:
                _end(self._controllers)
            finally:
                self._place.__exit__()

    @property
    def chroma(self) -> str:  # type: ignore[override]
        """Bring Chroma to where the nodes see it, as they do not see this checkout; return the program's path there."""
        shared = self._place.cluster.here(self._place.cluster.shared)
        program = shared / "chroma"
        if not program.exists():
            (packages,) = CHROMA.glob("lib/python3*/site-packages")
            shutil.copytree(packages, shared / "chroma-packages", copy_function=_linked)
            place = f"{self._place.cluster.shared}/chroma-packages"
            start = "import sys; from chromadb.cli.cli import app; sys.exit(app())"
            program.write_text(f"#!/bin/sh\nPYTHONPATH={place} exec python3 -c '{start}' \"$@\"\n")
            program.chmod(0o755)
        return f"{self._place.cluster.shared}/chroma"

    def start(self, run: str, recipe: Path) -> Controller:
        """Start `aifactory-bench run` on this machine, for the cluster."""
        self._controllers.append(controller := self._place.start("run", run, recipe, "--quiet"))
        return controller

    def on_site(self, run: str) -> Path:
        """Return a run's folder on the site."""
        return self._place.on_site(run)

    def shell(self, text: str) -> None:
        """Run a line on a node, as the user whose jobs run there."""
        self._place.cluster.run(["sh", "-c", text], host="node4", check=True)

    def site_path(self, path: Path) -> str:
        """Return how the site calls a file of a run folder there."""
        runs = self._place.cluster.runs
        return f"{runs}/{path.relative_to(self._place.cluster.here(runs))}"

    def hand(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> ByHand:
        """Run a tool by hand: a batch job of one line."""
        cluster = self._place.cluster
        place = f"{cluster.shared}/{name}"
        cluster.run(["mkdir", "-m", "700", place], check=True)
        folder: Path = cluster.here(place)
        _write_order(folder, [part.replace("@folder", place) for part in argv], environment)
        began_wall_s = time.time()
        script = f"#!/bin/sh\ncd {place} && exec python3 -I hand.py order\n"
        job = cluster.submit(script, *_OPTIONS, f"--output={place}/log")
        if not self._place.until((folder / "ended").exists, LIMIT_S):
            raise RuntimeError(f"{name}: {cluster.jobs(ended=True)}")
        # Its end is to be over before another begins to measure.
        cluster.wait_for(job, "COMPLETED", "FAILED")
        return _taken(folder, began_wall_s)


def _end(controllers: "list[Controller]") -> None:
    """Tell controllers to stop their jobs, and wait for them."""
    for controller in controllers:
        if not controller.ended():
            controller.process.terminate()
    deadline = time.monotonic() + _STOP_S
    for controller in controllers:
        try:
            controller.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            controller.kill()


def _kill(pids: Iterable[int]) -> None:
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Do not be interrupted while cleaning up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _write_order(folder: Path, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Write what is to be run; a password in the environment is in a file that only its user can read."""
    owner = folder.stat()
    for name, text in (("hand.py", HAND), ("order", json.dumps({"argv": list(argv), "environment": dict(environment)}))):
        path = folder / name
        path.touch(0o600)
        path.write_text(text)
        if owner.st_uid != os.geteuid():
            os.chown(path, owner.st_uid, owner.st_gid)


def _taken(folder: Path, began_wall_s: "float | None") -> ByHand:
    ended = json.loads((folder / "ended").read_text())
    out, err = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
    shutil.rmtree(folder)  # pgbench's log may be large
    wall_s = ended["wall_s"] if began_wall_s is None else ended["ended_wall_s"] - began_wall_s
    return ByHand(out, err, ended["cpu_s"], wall_s)


def _linked(source: str, target: str) -> None:
    """Give a file another name, or copy it where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
