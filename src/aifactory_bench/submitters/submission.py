"""What goes to the program that submits, and what its lines say."""

from collections.abc import Iterable, Sequence
from typing import Union

from attrs import frozen

from ..errors import SubmitError
from ..plan import PlannedJob
from ..slurm.submission import classify_sbatch, sbatch_argv
from .archive import pack
from .tracking import TrackedJob

SBATCH_S = 170.0
"""That one sbatch may take: it repeats by itself for two minutes."""
BEGIN_S = 60.0
"""After which the program begins none any more."""
_LOOK_S = 60.0
"""For the look-ups before."""
CALL_S = BEGIN_S + _LOOK_S + SBATCH_S + 30.0
"""That the program may take."""
MOST_AT_ONCE = 50
"""Jobs in one call."""
_FIELDS = 5


@frozen
class Line:
    """What became of one job."""

    verdict: str = "later"
    number: str = "0"
    attempt: str = ""
    """The name of a submission that was refused."""
    text: str = "no answer"


def read_lines(stdout: bytes) -> "dict[str, Line]":
    """Return what the program said of jobs, by token; what is no line of it, and one without its end, is left out."""
    lines = {}
    for line in stdout.decode("utf-8", "replace").split("\n")[:-1]:
        token, *fields = line.split("\t", _FIELDS - 1)
        if len(fields) == _FIELDS - 1 and fields[1].isdecimal():
            text = "\n".join(part for part in fields[3].split("\x1d") if part.strip())
            lines[token] = Line(fields[0], fields[1], fields[2], text)
    return lines


def options_of(job: PlannedJob, before: Iterable[TrackedJob]) -> "list[str]":
    """Return the options of sbatch for a job; before: those that end before it begins."""
    options = dict(job.options)
    # Only jobs that are there: on one that Slurm has forgotten a dependency counts as fulfilled, and so it is.
    ids = [known.job_id for known in before if known.job_id and not known.over and not known.absent]
    if ids:
        options["dependency"] = "afterany:" + ":".join(ids)
        options["kill-on-invalid-dep"] = "yes"
    return sbatch_argv(options)[1:]


def archive_of(jobs: "Sequence[tuple[PlannedJob, list[str]]]") -> bytes:
    """Return what the program reads: scripts, and options one a line."""
    files: dict[str, str | bytes] = {}
    for job, options in jobs:
        files[f"{job.token}/script.sh"] = job.script
        files[f"{job.token}/options"] = "".join(f"{option}\n" for option in options)
    return pack(files)


def word_of(known: TrackedJob) -> str:
    """Return the program's argument for a job."""
    return f"{known.job.token}!{known.refused_try}" if known.refused_try else known.job.token


def judge_line(known: TrackedJob, line: Line, site: str) -> "Union[str, SubmitError, None]":
    """Return the job's id, why it cannot be submitted, or None where it has to wait.

    Args:
        known: The job; what is certain of its submission, and why it waits, is noted there.
        line: What the program said of it.
        site: The site's name.
    """
    name = known.job.name
    known.waits = ""
    match line.verdict:
        case "new" | "cached" | "adopted":
            known.unsure, known.refused_try = False, ""
            return line.number
        case "refused":
            refusal = classify_sbatch(int(line.number), line.text)
            known.unsure = refusal.kind == "ambiguous"
            known.refused_try = "" if known.unsure else line.attempt
            if refusal.kind == "permanent":
                return SubmitError(f"job {name} was refused by {site}: {refusal.text}", refusal.advice)
            known.waits = f"{name} is not submitted yet: {refusal.text}; {refusal.advice}"
        case "unsure":
            known.unsure, known.refused_try = True, ""
            known.waits = f"{name}: its submission may have got through and is not in the queue; it is looked for again"
        case "busy":
            known.waits = f"{name}: another controller submits it at this moment"
        case _:
            said = " ".join(line.text.split())
            known.waits = f"{name} is not submitted yet: {said}" if said else ""
    return None
