"""sbatch: the command, the id it answers, and what its refusals mean."""

import re
from collections.abc import Mapping
from typing import Literal, Optional

from attrs import frozen

from .printed import clean, lines_of
from .reasons import judge

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_PARSABLE = re.compile(r"([1-9][0-9]{0,9})(?:;([A-Za-z0-9_.-]{1,64}))?")
_SPOKEN = re.compile(r"Submitted batch job ([1-9][0-9]{0,9})(?: on cluster ([A-Za-z0-9_.-]{1,64}))?")
_LONGEST_LINE = 300
_LONGEST_TEXT = 600


@frozen
class SubmittedId:
    """A job that Slurm has taken."""

    job_id: str
    cluster: str
    """Empty: the login node's own."""


Kind = Literal["permanent", "transient", "ambiguous", "quota"]


@frozen
class Refusal:
    """Why sbatch gave no id."""

    kind: Kind
    """What may be done next.

    permanent: it was not submitted, and the same job never will be. transient: it was not submitted; it may be tried again.
    quota: it was not submitted; it may be tried again when one of our jobs has ended. ambiguous: it may have been submitted:
    look for its name, and do not submit it again before the look-ups have found nothing.
    """
    text: str
    """sbatch's own words, without what it puts before each line."""
    advice: str


def sbatch_argv(options: Mapping[str, Optional[str]]) -> list[str]:
    """Return the command that submits the script on its standard input and prints the job's id.

    Options on the command line are stronger than those in the script and in the environment.

    Args:
        options: Long name -> value; None: the option takes none.

    Raises:
        ValueError: A name that is none, or a value with a control character; options are checked long before this.
    """
    for name, value in options.items():
        if not _NAME.fullmatch(name) or not (value or "").isprintable():
            raise ValueError(f"no option of sbatch: {name!r} = {value!r}")
    return ["sbatch", "--parsable", *(f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items())]


def parse_sbatch(stdout: str) -> SubmittedId:
    """Return the id that sbatch printed; sites wrap sbatch and let it chat, so that the last line that can be one counts.

    Raises:
        ValueError: There is none.
    """
    for line in reversed(lines_of(stdout)):
        if found := _PARSABLE.fullmatch(line.strip()) or _SPOKEN.fullmatch(line.strip()):
            return SubmittedId(found[1], found[2] or "")
    raise ValueError(f"sbatch printed no job id: {clean(stdout, 200)!r}" if stdout.strip() else "sbatch printed no job id")


_LOOK = "the job may have been taken all the same: it is looked for by its name before anything else is done"
_AMBIGUOUS = re.compile(
    r"socket timed out|zero bytes were transmitted|timed out (?:reading|writing)|connection timed out|connection reset"
    r"|broken pipe|\((?:send|receive|shutdown) failure\)|message (?:send|receive) failure|communication shutdown failure"
    r"|unexpected message received|header lengths are longer|insane message length|delayed socket error"
    r"|transport endpoint|operation now in progress|unexpected missing socket",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"violates accounting/qos policy|maxsubmitjobs?|submitjobs?\w*limit", re.IGNORECASE)
_LIMIT = re.compile(r"\b(?:QOS|Assoc|Max)[A-Za-z]+\b")
_TRANSIENT: tuple[tuple[str, str], ...] = (
    (r"\(connect failure\)|communication connection failure|standby mode", "the controller of the cluster does not answer"),
    (r"configuration source", "sbatch finds neither its configuration nor the controller of the cluster"),
    (r"munge|protocol authentication error|authentication credential", "the authentication service (munge) has a problem"),
    (r"rate limit exceeded", "the cluster asks for a slower pace"),
    (r"temporarily unable|resource temporarily unavailable|queue full|maxjobcount limit", "the cluster takes no more jobs now"),
    (r"submissions disabled|operation is presently disabled", "the administrators have stopped submissions for the moment"),
    (r"i/o error writing script", "the controller of the cluster cannot write to its disk"),
    (r"connect to database|nodes are busy|licenses currently unavailable|prologslurmctld is still", "the cluster is busy"),
)
_PERMANENT: tuple[tuple[str, str], ...] = (
    (
        r"invalid partition|no partition specified|user's group not permitted",
        "set `partition` to one that `sinfo` lists for you",
    ),
    (r"partition not available|partition in down state", "choose another `partition`, or wait until this one is open"),
    (
        r"invalid account|invalid or unknown association",
        "set `account` to one that `sacctmgr show associations user=$USER` lists",
    ),
    (r"invalid qos|qos specification", "set `qos` to one that your account may use"),
    (r"feature specification", "change `constraint` or `prefer` to features that `sinfo -o %f` lists"),
    (r"gres\b|generic resource|tres\b", "ask for GPUs that the partition has: `sinfo -o '%P %G'`"),
    (
        r"node configuration is not available|processors requested|node count spec|cpu count spec|task count spec",
        "ask for less",
    ),
    (r"--mem specification|memory (?:required|specification)", "ask for less memory, or for nodes that have more"),
    (r"time limit is invalid|--time spec|time-min", "ask for less time, or choose a partition that gives more"),
    (r"reservation", "change or leave out `reservation`"),
    (r"node name|nodes not in this partition|required node", "change `nodelist` or `exclude`"),
    (r"license", "change `licenses`"),
    (r"wckey|mcs_label", "change it in the site's profile"),
    (
        r"unrecognized option|invalid directive|invalid --|invalid argument",
        "this release of Slurm does not take the option: leave it out",
    ),
    (r"pathname .* too long", "the script or the comment is longer than the cluster takes"),
    (r"unable to open file|no such file|permission denied", "check the paths of the site's profile"),
)


def classify_sbatch(exit_code: int, stderr: str) -> Refusal:
    """Return what it means that sbatch ended so and printed no id.

    In doubt it is ambiguous: that costs a few look-ups, and a wrong guess the other way submits a job twice.
    """
    lines = [line.strip() for line in lines_of(stderr)]
    # Set apart, because a site's own texts come in between.
    said = [re.sub(r"^sbatch: (?:error: |fatal: )?", "", line) for line in lines if line.startswith("sbatch: ")]
    text = clean("; ".join(clean(line, _LONGEST_LINE) for line in said or lines), _LONGEST_TEXT)
    text = text or f"sbatch ended with exit code {exit_code} and said nothing"
    if exit_code in (126, 127) and not said:
        return Refusal("permanent", text, "sbatch is not on the login node's PATH: check the site's profile")
    # Killed, or cut off: how far it came is not known. A zero without an id is a yes that got lost.
    if exit_code == 0 or 124 <= exit_code <= 165 or not said or _AMBIGUOUS.search(stderr):
        return Refusal("ambiguous", text, _LOOK)
    final = next((line for line in reversed(said) if "submission failed" in line.lower()), text)
    return _refusal(text, final)


def _refusal(text: str, final: str) -> Refusal:
    """Return the meaning of a clear no, from the last words where there are such: sbatch tells before what it tried."""
    for limit in _LIMIT.findall(text):
        if not (judgement := judge(limit)).waits:
            return Refusal("permanent", text, judgement.advice)
    if _QUOTA.search(final):
        return Refusal("quota", text, "a limit on jobs is reached: it is tried again when one of this run's jobs has ended")
    for pattern, advice in _TRANSIENT:
        if re.search(pattern, final, re.IGNORECASE):
            return Refusal("transient", text, f"{advice}: it is tried again")
    for pattern, advice in _PERMANENT:
        if re.search(pattern, final, re.IGNORECASE):
            return Refusal("permanent", text, advice)
    return Refusal("permanent", text, "sbatch's own words say why")
