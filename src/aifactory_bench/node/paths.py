"""Where things lie in a run folder: the one place that both sides ask."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RankPaths:
    """The folder of one replica (rank) of one job: `jobs/<token>/<rank>/`."""

    folder: Path

    @property
    def events(self) -> Path:
        """One JSON object a line, see `events`."""
        return self.folder / "events.jsonl"

    @property
    def exit(self) -> Path:
        """Written once, last: how the rank ended."""
        return self.folder / "exit.json"

    @property
    def log(self) -> Path:
        """Standard output and error of the service or the tool."""
        return self.folder / "log"

    @property
    def work(self) -> Path:
        """Private scratch folder of the child: data, configuration files."""
        return self.folder / "work"

    @property
    def samples(self) -> Path:
        """One `<monitor>.csv` a monitor."""
        return self.folder / "samples"

    @property
    def measurements(self) -> Path:
        """One `<point>.json` a finished point."""
        return self.folder / "measurements"

    def measurement(self, point: str) -> Path:
        """The measurement of one point by this rank."""
        return self.measurements / f"{point}.json"

    def raw(self, point: str) -> Path:
        """Output of a tool, kept as it was, of one point."""
        return self.folder / "raw" / point

    @property
    def fingerprint(self) -> Path:
        """Hardware and software of the node."""
        return self.folder / "fingerprint.json"


@dataclass(frozen=True)
class JobPaths:
    """The folder of one job: `jobs/<token>/`."""

    folder: Path

    @property
    def script(self) -> Path:
        """The batch script, exactly as submitted."""
        return self.folder / "script.sh"

    @property
    def spec(self) -> Path:
        """What the node side is to do; written by the script itself."""
        return self.folder / "spec.json"

    @property
    def job_id(self) -> Path:
        """The scheduler's id of the job, one line."""
        return self.folder / "job_id"

    @property
    def claim(self) -> Path:
        """A folder made by the first execution; who finds it there already does not run."""
        return self.folder / "claim"

    @property
    def log(self) -> Path:
        """Output of the batch script itself."""
        return self.folder / "log"

    def rank(self, rank: int) -> RankPaths:
        """The folder of one replica."""
        return RankPaths(self.folder / str(rank))


@dataclass(frozen=True)
class RunPaths:
    """A run folder, on the site or fetched."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The recipe as the user wrote it."""
        return self.folder / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """The plan, enough to take the run up from anywhere."""
        return self.folder / "plan.json"

    @property
    def lock(self) -> Path:
        """Which controller may write."""
        return self.folder / "controller.lock"

    @property
    def lease(self) -> Path:
        """Changes as long as somebody cares for the run."""
        return self.folder / "lease"

    @property
    def journal(self) -> Path:
        """What the controller meant to do and did; controller only."""
        return self.folder / "journal.jsonl"

    @property
    def summary(self) -> Path:
        """The result, see `summary.json` in docs/results.md; controller only."""
        return self.folder / "summary.json"

    @property
    def stop(self) -> Path:
        """A file `<job name>` or `all` in here ends jobs."""
        return self.folder / "stop"

    @property
    def barriers(self) -> Path:
        """Meeting points of client ranks."""
        return self.folder / "barriers"

    def stop_file(self, job: str) -> Path:
        """The file whose presence ends the job; `all` ends every job."""
        return self.stop / job

    def job(self, token: str) -> JobPaths:
        """The folder of one job."""
        return JobPaths(self.folder / "jobs" / token)

    def node_program(self, digest: str) -> Path:
        """The node side's zipapp; digest: 16 hex digits of its SHA-256."""
        return self.folder / f"node-{digest}.pyz"

    def endpoint(self, token: str, replica: int) -> Path:
        """Where a service's replica is to be reached; keyed by token, so an earlier incarnation is never read."""
        return self.folder / "endpoints" / token / f"{replica}.json"

    def secret(self, token: str) -> Path:
        """The service's throw-away password, mode 0600."""
        return self.folder / "endpoints" / token / "secret"

    def external_secret(self, service: str) -> Path:
        """The token or password of a service that runs already, mode 0600; put there when the run is begun."""
        return self.folder / external_secret(service)


def external_secret(service: str) -> str:
    """Return where the secret of an external service is kept, relative to the run folder; no job's token begins so."""
    return f"endpoints/external-{service}/secret"
