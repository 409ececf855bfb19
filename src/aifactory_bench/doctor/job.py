"""A short job on a node: submitted, watched, asked, and cancelled, whatever comes between."""

import asyncio
import contextlib
import secrets
import shlex
import time
from collections.abc import Mapping
from typing import Optional

from attrs import define

from ..script.bundle import build_node_program
from ..site_setup.parts import Part, program, read_parts
from ..sites.model import Site
from ..slurm.control import parse_job
from ..slurm.reasons import judge
from ..slurm.states import interpret
from ..slurm.submission import classify_sbatch, parse_sbatch
from ..transports.base import Transport
from .findings import Report
from .scheduler import sbatch_options

TIME_S = 300
"""Walltime: what bounds the job if nobody is left to cancel it."""
_CALL_S = 60.0
_PAUSES_S = (0.5, 1.0, 1.0, 2.0)
"""Between looks; the last one for good."""
_LISTENS_S = 10.0
"""After its answer, to wait for the port that it opens."""
_LONGEST_LAG_S = 60.0
_NO_FOLDER = "7:0"
"""How the script ends that cannot get to its folder, as Slurm writes it."""


@define
class NodeJob:
    """The job and what has been seen of it."""

    site: Site
    transport: Transport
    report: Report
    name: str
    word: str
    """What the node is to read, and to say again."""
    job_id: str = ""
    made: str = ""
    """First folder that was made for it beside its own."""
    node: str = ""

    @classmethod
    def of(cls, site: Site, transport: Transport, report: Report) -> "NodeJob":
        """Return a job with a name of its own, not submitted."""
        return cls(site, transport, report, f"afb-doctor-{secrets.token_hex(5)}", secrets.token_hex(8))

    @property
    def folder(self) -> str:
        """Where it writes, on the site."""
        return f"{self.site.runs}/.{self.name}"

    async def submit(self) -> bool:
        """Submit it; tell where that is refused."""
        script = self._script().encode()
        done = await self._run(
            "job_begin",
            self.site.runs,
            self.name,
            self.word,
            str(len(script)),
            *sbatch_options(self.site, TIME_S),
            stdin=script + build_node_program(()).data,
        )
        parts = read_parts(done)
        self.made = parts["made"].text if "made" in parts else ""
        said = parts.get("sbatch")
        if said is None:
            self.report.fail("job", f"{self.folder} could not be made", "see that `runs` may be written, and has space")
            return False
        if said.code == 0:
            with contextlib.suppress(ValueError):
                self.job_id = parse_sbatch(said.text).job_id
                return True
        refusal = classify_sbatch(said.code, said.text)
        self.report.fail("job", f"sbatch refuses: {refusal.text}", refusal.advice)
        return False

    async def watch(self, wait_s: float) -> "Mapping[str, Part] | None":
        """Wait until the node has answered and listens; tell what went wrong and return None where it never does."""
        began = time.monotonic()
        started: Optional[float] = None
        ended: Optional[float] = None
        answered: Optional[float] = None
        looks = 0
        while True:
            await asyncio.sleep(_PAUSES_S[min(looks, len(_PAUSES_S) - 1)])
            looks += 1
            parts = read_parts(await self._run("job_look", self.folder, self.job_id))
            now = time.monotonic()
            state, reason = self._state(parts)
            if "begun" in parts:
                started = started if started is not None else now - began
                self.node = parts["begun"].lines[0] if parts["begun"].lines else self.node
            meaning = interpret(state) if state else None
            if ended is None and (meaning is None or meaning.final):
                ended = now
            if "node:address" in parts:
                answered = answered if answered is not None else now
                if "port" in parts or ended is not None or now - answered > _LISTENS_S:
                    self.report.ok("job", f"job {self.job_id} ran on {self.node}, {started or 0:.0f} s after it was submitted")
                    return parts
            elif "begun" not in parts and parse_job(parts.get("detail", Part(1, "")).text).get("ExitCode") == _NO_FOLDER:
                self._not_shared(f"{self.node or 'its node'} has no {self.folder}, which the login node has made")
                return None
            elif self._given_up(state, reason, now - began, None if ended is None else now - ended, started, wait_s):
                return None

    def _given_up(
        self,
        state: str,
        reason: str,
        waited_s: float,
        ended_s: Optional[float],
        started: Optional[float],
        wait_s: float,
    ) -> bool:
        """Tell why there is no answer, once that is certain."""
        judgement = judge(reason) if state == "PENDING" else None
        if judgement is not None and not judgement.waits:
            self.report.fail("job", f"job {self.job_id} never starts: {reason}", judgement.advice)
        elif ended_s is not None and ended_s > min(max(1.0, self.site.file_lag_s), _LONGEST_LAG_S):
            if started is not None:
                self.report.fail(
                    "job",
                    f"job {self.job_id} on {self.node} ended as {state or 'gone'} before it had looked at the node",
                    "see whether lines of `setup` in the profile leave the shell",
                )
            else:
                node = self.node or "its node"
                self._not_shared(
                    f"job {self.job_id} ended as {state or 'gone'} on {node}, and the login node sees nothing of what it wrote"
                    f" into {self.site.runs}"
                )
        elif state == "PENDING" and waited_s > wait_s:
            advice = judgement.advice if judgement is not None and judgement.advice else "give it more time with --wait"
            self.report.warn(
                "job", f"job {self.job_id} still waits after {waited_s:.0f} s: {reason or 'no reason given'}", advice
            )
        elif state != "PENDING" and waited_s > wait_s + TIME_S:
            self.report.fail(
                "job", f"job {self.job_id} on {self.node} has no answer after {waited_s:.0f} s", "try another node"
            )
        else:
            return False
        return True

    def _not_shared(self, text: str) -> None:
        fix = "set `runs` to a folder that login node and compute nodes see at the same path, often one below $SCRATCH"
        self.report.fail("shared folder", f"{text}: the folder is not shared", fix)

    def _state(self, parts: Mapping[str, Part]) -> "tuple[str, str]":
        """Return state and reason; nothing where the queue does not know the job any more."""
        said = parts.get("queue", Part(1, ""))
        if said.code != 0 and "invalid job id" not in said.text.lower():
            return "UNKNOWN", ""  # it was not asked, which says nothing of the job
        row = (said.lines[-1] if said.code == 0 and said.lines else "").split("|")
        if len(row) != 3:
            return "", ""
        self.node = self.node or (row[2] if row[2] not in {"", "(null)"} else "")
        return row[0], row[1]

    async def reach(self, port: str, hosts: "tuple[str, ...]") -> Mapping[str, Part]:
        """Connect to it from the login node."""
        return read_parts(await self._run("job_reach", port, *hosts))

    async def end(self) -> None:
        """Cancel it and remove its folder; nothing keeps this from being done but a lost connection."""
        done = await self.transport.run(
            program(__package__ or "", "job_end"), self.folder, self.name, self.made, timeout_s=_CALL_S
        )
        if done.exit_code:
            self.report.warn(
                "job folder", f"{self.folder} could not be removed", f"remove it: rm -r {shlex.quote(self.folder)}"
            )

    async def _run(self, name: str, *arguments: str, stdin: bytes = b"") -> bytes:
        return (await self.transport.run(program(__package__ or "", name), *arguments, stdin=stdin, timeout_s=_CALL_S)).stdout

    def _script(self) -> str:
        """Return the batch script; the site's own lines come first, as in every job."""
        site = self.site
        settings = {
            "DIR": self.folder,
            "WORD": self.word,
            "PYTHON": site.python,
            "RUNTIME": site.runtime,
            "BIND": site.bind,
        }
        lists = {"MODULES": site.modules, "IMAGES": tuple(path for _, path in sorted(site.images.items()))}
        return "\n".join(
            [
                "#!/bin/bash",
                *site.setup,
                *(f"{name}={shlex.quote(value)}" for name, value in settings.items()),
                *(f"{name}=({shlex.join(values)})" for name, values in lists.items()),
                program(__package__ or "", "node"),
            ]
        )
