"""What one rank's supervise knows and shares between its parts."""

import importlib
import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Dict, List, Optional, Set

from .child import Child
from .ending import Ending
from .environment import absolute_python_path, scrubbed
from .events import EventLog
from .guard import MARK, Guard
from .monitors import Monitors
from .paths import JobPaths, RankPaths, RunPaths
from .spec import Spec
from .watch import Watch


@dataclass
class Execution:
    """One execution of one rank of one job."""

    spec: Spec
    spec_path: str
    run: RunPaths
    rank: int
    restart: int
    """How often the scheduler has restarted the job."""
    job_id: str
    mark: str
    """Differs with every execution; all children carry it."""
    events: EventLog
    watch: Watch
    guard: Guard
    monitors: Monitors
    child: Optional[Child] = None
    hidden: List[str] = field(default_factory=list)
    """Passwords that no text may show."""

    @property
    def job(self) -> JobPaths:
        """The job's folder."""
        return self.run.job(self.spec.token)

    @property
    def paths(self) -> RankPaths:
        """This rank's folder."""
        return self.job.rank(self.rank)

    def spare(self) -> Set[int]:
        """Return the children that a sweep leaves alone."""
        return {self.guard.pid}

    def tell_monitor_failures(self) -> None:
        """Record what monitors have failed since the last call."""
        for monitor, text in self.monitors.take_failures():
            self.events.append("monitor_failed", monitor=monitor, text=text)

    def tell_child_exited(self) -> None:
        """Record how the child ended."""
        if self.child is not None:
            self.events.append("child_exited", code=self.child.exit_code, signal=self.child.signal)

    def environment(self, more: Dict[str, str]) -> Dict[str, str]:
        """Return the environment of children: scrubbed, with the job's own variables and ours."""
        environment = scrubbed(os.environ)
        absolute_python_path(environment)
        environment.update(more)
        environment.update(
            {
                "AFB_RUN_DIR": str(self.run.folder),
                "AFB_JOB_DIR": str(self.job.folder),
                "AFB_RANK": str(self.rank),
                "AFB_TOKEN": self.spec.token,
                "AFB_JOB_ID": self.job_id,
                "AFB_RESTART": str(self.restart),
                MARK: self.mark,
            }
        )
        return environment

    def node_module(self) -> Optional[ModuleType]:
        """Return the product's module for the node, or None when it has none.

        Raises:
            Ending: it cannot be imported.
        """
        name = self.spec.node_module
        if not name:
            return None
        try:
            return importlib.import_module(name)
        except Exception as error:  # anything may happen in a stranger's module
            text = f"the node module {name!r} of kind {self.spec.kind!r} cannot be imported: {type(error).__name__}: {error}"
            raise Ending("failed", text) from None
