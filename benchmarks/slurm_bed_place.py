"""A cluster of its own for a benchmark, a home that can log in to it, and controllers that are started and hurt there.

Whatever ends the benchmark, `Place` leaves no process, folder, namespace or mount: controllers end with their place, and run in
sessions of their own so that Ctrl-C comes to the benchmark alone.
"""

import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "slurm"))  # where the bed lies: docs/test-bed.md

from bed import Cluster, missing, new_folder, processes

SERVICE = """\
schema: aifactory-bench/1
name: bed
services:
  cache: {kind: redis, resources: {time: 5m, memory: 200MiB}}
"""
RECIPE = f"""\
{SERVICE}clients:
  load:
    kind: redis-load
    target: cache
    resources: {{time: 5m, memory: 200MiB}}
    parameters: {{keys: 500}}
    load: {{process: poisson, rate: 400/s, warmup: 200ms, duration: 1s}}
"""
PROFILE = """\
file_lag: 2s
unsure: 3s
submit_rate: 100/s
"""
"""Beside the bed's own profile: submissions of unknown outcome are made again after seconds, not a minute: the harder case."""
PARALLEL = 5
"""Trials at a time: two jobs each, on 16 CPUs, and controllers that must not wait for each other."""
_OWN = ("XDG_", "SLURM_", "SBATCH_", "AIFACTORY_", "AFB_")
"""Variables of whoever starts the benchmark that are none of its controllers' business."""


class StoppedError(Exception):
    """The benchmark is being ended."""


class Controller:
    """One `aifactory-bench` that runs, and what it printed."""

    def __init__(self, run: str, argv: Sequence[str], environment: dict[str, str], out: Path) -> None:
        self.run = run
        self._out = out
        self.started = time.monotonic()
        self.started_wall = time.time()
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "aifactory_bench", *argv],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        """Standard output."""
        return self._out.read_text()

    @property
    def said(self) -> str:
        """Standard error."""
        return self._out.with_suffix(".err").read_text()

    @property
    def complained(self) -> str:
        """The end of standard error, in one line."""
        return " | ".join(self.said.split("\n"))[-700:]

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Place:
    """A bed, used as a context; `map` runs trials side by side, all of which end when the benchmark does."""

    def __enter__(self) -> "Place":
        if os.geteuid() != 0:
            sys.exit("hosts of their own need root")
        if packages := missing():
            sys.exit(f"not installed: {' '.join(packages)}; as root, .ci/servers installs them")
        self._over = threading.Event()
        self._controllers: list[Controller] = []
        self._starting = threading.Lock()
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-bed-"))
        bed, self._lock = new_folder()
        self.cluster = Cluster(bed)
        try:
            self.cluster.up()
            self.cluster.give_ssh(self.folder / "home")
            self.site = self.folder / "site.yaml"
            self.site.write_text(self.cluster.profile("host").read_text() + PROFILE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            self._stop()
            self.cluster.down()
            os.close(self._lock)
            shutil.rmtree(self.folder)
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _stop(self) -> None:
        with self._starting:
            self._over.set()
        for controller in self._controllers:
            controller.kill()

    # trials

    def map(self, trial: Callable[[int], object], count: int, parallel: int = PARALLEL) -> list:
        """Run trials 0, 1, ...; return what they return."""
        with ThreadPoolExecutor(parallel) as pool:
            futures = [pool.submit(trial, number) for number in range(count)]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                self._stop()
                raise

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            StoppedError: the benchmark ends.
        """
        if self._over.wait(max(0.0, seconds)):
            raise StoppedError

    def until(self, condition: Callable[[], object], limit_s: float = 60.0, pause_s: float = 0.05) -> bool:
        """Wait until something is true; return whether it was before the limit."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.pause(pause_s)
        return True

    def start(self, command: str, run: str, *more: object, runs: str = "runs") -> Controller:
        """Start `aifactory-bench run` or `attach`."""
        place = ["--site", str(self.site), "--runs-dir", str(self.folder / runs), "--json"]
        argv = [command, *map(str, more), *(["--run-id", run] if command == "run" else [run]), *place]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        environment.update(HOME=str(self.folder / "home"), NO_COLOR="1")
        with self._starting:
            if self._over.is_set():
                raise StoppedError
            out = self.folder / f"{run}-{command}-{len(self._controllers)}.out"
            self._controllers.append(controller := Controller(run, argv, environment, out))
        return controller

    def recipe(self, text: str = RECIPE, name: str = "bed") -> Path:
        """Write a recipe."""
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def on_site(self, run: str) -> Path:
        """Return a run's folder on the site."""
        return self.cluster.here(f"{self.cluster.runs}/{run}")

    def submitted(self, run: str, jobs: Iterable[str] = ("cache", "load")) -> bool:
        """Whether all jobs of a run have an id on the site."""
        return all((self.on_site(run) / f"jobs/afb-{run}-{job}-0/job_id").exists() for job in jobs)

    def submission_begun(self, run: str) -> bool:
        """Wait until a run has begun to submit a job; return whether it has."""
        folder = self.on_site(run)
        return self.until(lambda: any(folder.glob(f"jobs/afb-{run}-*")), pause_s=0.002)

    def stage_of(self, run: str, jobs: Sequence[str] = ("cache", "load")) -> str:
        """Return how far a run has come, as the site sees it."""
        folder = self.on_site(run)
        if not (folder / "plan.json").exists():
            return "before it was staged"
        begun = [(folder / f"jobs/afb-{run}-{job}-0").exists() for job in jobs]
        if not any(begun):
            return "staged"
        if not self.submitted(run, jobs):
            return "while submitting"
        ended = all((folder / f"jobs/afb-{run}-{job}-0/0/exit.json").exists() for job in jobs)
        return "after the jobs' end" if ended else "submitted"

    def span_s(self) -> float:
        """Return how long a run takes from its first sign on the site until all is submitted; the first one warms up.

        Raises:
            RuntimeError: it does not end well though nobody disturbs it.
        """
        found = []
        for number in range(2):
            run = f"warm-{number}"
            controller = self.start("run", run, self.recipe())
            self.until(lambda run=run: self.on_site(run).exists(), 20.0, 0.002)
            begun = time.monotonic()
            self.until(lambda run=run: self.submitted(run), 20.0, 0.002)
            found.append(time.monotonic() - begun)
            if not self.until(controller.ended) or controller.process.returncode not in {0, 3}:
                raise RuntimeError(f"an undisturbed run ends with {controller.process.returncode}: {controller.complained}")
        return found[-1]

    # faults

    def session(self, controller: Controller) -> set[int]:
        """Return the processes of sshd that serve a controller's connection."""
        ports = {
            here for here, there, _ in _connections(controller.process.pid, _sockets(controller.process.pid)) if there == 22
        }
        login = self.cluster.hosts["login"].pid
        inodes = {inode for here, there, inode in _connections(login) if here == 22 and there in ports}
        space = processes.space_of(login)
        return {
            process.pid
            for process in processes.processes()
            if process.name.startswith("sshd") and processes.space_of(process.pid) == space and inodes & _sockets(process.pid)
        }


def _sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path).removeprefix("socket:[").rstrip("]"))
    return found


def _connections(pid: int, only: set[str] | None = None) -> Iterator[tuple[int, int, str]]:
    """Yield port here, port there and inode of each TCP connection that a process's network has."""
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        if only is None or fields[9] in only:
            yield here, there, fields[9]


def chance(seed: int, *what: object) -> random.Random:
    """Return the random numbers of one trial, the same however trials run side by side."""
    return random.Random(":".join(map(str, (seed, *what))))


def loads(before: float) -> str:
    """Return the machine's load average before and now."""
    return f"load average {before:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"


def spread(values: Sequence[float], unit: str = "s") -> str:
    """Return median, minimum and maximum."""
    if not values:
        return "none"
    return f"median {statistics.median(values):.2f} {unit}, min {min(values):.2f}, max {max(values):.2f}"
