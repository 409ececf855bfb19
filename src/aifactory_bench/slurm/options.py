"""The options of sbatch that a site or a recipe may set, each with what its value may be; all others are refused.

Whatever else a job needs of Slurm comes from typed fields: `resources` of a recipe, and what every job of ours has.
"""

import difflib
from collections.abc import Mapping
from typing import Literal, Optional

from attrs import frozen

from . import values
from .values import Check

Who = Literal["site", "recipe"]

_LONGEST = 80
_LONGEST_VALUE = 4096

_NAME = "[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}"
_ONE = values.matching(_NAME, "one name of letters, digits and _ . @ + -")
_SEVERAL = values.matching(f"{_NAME}(?:,{_NAME})*", "names of letters, digits and _ . @ + -, with commas")
_FEATURES = values.matching(r"[A-Za-z0-9_.:=*&|!,()\[\]-]{1,500}", "features such as gpu&a100 or [rack1|rack2], without blanks")
_RESOURCES = values.matching(
    r"(?!(?:.*,)?(?:gres[:/])?gpu(?:[:,]|$))[A-Za-z0-9_:/.,*@=-]{1,500}",
    "resources such as nvme:1 (GPUs come from `resources.gpus` of the recipe)",
)

_MAIL = (
    "NONE ALL BEGIN END FAIL REQUEUE INVALID_DEPEND STAGE_OUT ARRAY_TASKS TIME_LIMIT TIME_LIMIT_90 TIME_LIMIT_80 TIME_LIMIT_50"
)
_GRES_FLAGS = "disable-binding enforce-binding one-task-per-sharing multiple-tasks-per-sharing allow-task-sharing"


@frozen
class Option:
    """One option that may be set."""

    check: Optional[Check] = None
    """Of its value; None: it takes none."""
    bare: bool = False
    """The value may be left out."""
    who: tuple[Who, ...] = ("site", "recipe")


_SITE: tuple[Who, ...] = ("site",)

OPTIONS: Mapping[str, Option] = {
    "account": Option(_ONE),
    "acctg-freq": Option(values.matching(r"[a-z0-9=,]{1,100}", "sampling intervals such as task=10,network=30"), who=_SITE),
    "comment": Option(values.text(500)),
    "constraint": Option(_FEATURES),
    "contiguous": Option(),
    "core-spec": Option(values.integer(0, 1024)),
    "cpu-freq": Option(values.matching(r"[A-Za-z0-9:-]{1,60}", "a frequency in kHz or a word such as high or performance")),
    "delay-boot": Option(values.duration, who=_SITE),
    "distribution": Option(values.matching(r"[A-Za-z0-9:=,*]{1,60}", "a distribution such as block:cyclic")),
    "exclude": Option(values.hosts),
    "exclusive": Option(values.words("user", "mcs", "topo"), bare=True),
    "gpu-freq": Option(values.matching(r"[A-Za-z0-9=,]{1,60}", "a frequency in MHz or a word such as high or memory=medium")),
    "gres": Option(_RESOURCES),
    "gres-flags": Option(values.words(*_GRES_FLAGS.split())),
    "hint": Option(values.words("compute_bound", "memory_bound", "multithread", "nomultithread")),
    "licenses": Option(values.matching(r"[A-Za-z0-9_.@:,|=-]{1,500}", "licenses such as ansys@server:2")),
    "mail-type": Option(values.words(*_MAIL.split())),
    "mail-user": Option(values.matching(r"[A-Za-z0-9_.+@-]{1,254}", "a mail address or a user")),
    "mcs-label": Option(_ONE, who=_SITE),
    "network": Option(values.matching(r"[A-Za-z0-9_=,:.-]{1,200}", "a word of the site's, such as job_vni")),
    "nice": Option(values.integer(-2147483645, 2147483645), bare=True),
    "nodelist": Option(values.hosts),
    "partition": Option(_SEVERAL),
    "prefer": Option(_FEATURES),
    "priority": Option(values.integer(0, 4294967293), who=_SITE),
    "qos": Option(_ONE),
    "reservation": Option(_SEVERAL),
    "segment": Option(values.integer(1, 65533)),
    "spread-job": Option(),
    "switches": Option(values.switches),
    "thread-spec": Option(values.integer(0, 4096)),
    "threads-per-core": Option(values.integer(1, 64)),
    "tmp": Option(values.size),
    "wait-all-nodes": Option(values.integer(0, 1), who=_SITE),
    "wckey": Option(_ONE),
}
"""Long name -> how it may be set."""

_RESOURCE = "comes from `resources` of the recipe"
_RECOGNISED = "is how a job is recognised and never submitted twice"
_LOG = "is set so that a job's log lies in its folder and is never overwritten"
_RUNS = "would run something that is not in the script"
_ENVIRONMENT = "would let the environment of whoever submits into the measurement"
_ORDER = "is how jobs of a run wait for each other"
_ONE_JOB = "would make something else of it than one batch job that starts when it can"
_CLUSTER = "would send jobs where they are not looked for: a site is one cluster, with a login node of its own"
_REQUEUE = "is off: a job that starts again by itself would spoil its measurement"

MANAGED: Mapping[str, str] = {
    "array": _ONE_JOB,
    "batch": _RESOURCE,
    "bbf": _RUNS,
    "bcast": _RUNS,
    "begin": _ONE_JOB,
    "chdir": "is set: a job's folder is its own",
    "cluster-constraint": _CLUSTER,
    "clusters": _CLUSTER,
    "container": _RUNS,
    "container-id": _RUNS,
    "cpus-per-gpu": _RESOURCE,
    "cpus-per-task": _RESOURCE,
    "deadline": _ONE_JOB,
    "dependency": _ORDER,
    "error": _LOG,
    "export": _ENVIRONMENT,
    "export-file": _ENVIRONMENT,
    "get-user-env": _ENVIRONMENT,
    "gid": "is the user's own",
    "gpus": _RESOURCE,
    "gpus-per-node": _RESOURCE,
    "gpus-per-socket": _RESOURCE,
    "gpus-per-task": _RESOURCE,
    "hold": _ONE_JOB,
    "input": _LOG,
    "job-name": _RECOGNISED,
    "kill-on-invalid-dep": _ORDER,
    "mem": _RESOURCE,
    "mem-per-cpu": _RESOURCE,
    "mem-per-gpu": _RESOURCE,
    "mincpus": _RESOURCE,
    "no-kill": "would let a job go on after it has lost a node, with wrong numbers",
    "no-requeue": "is set already",
    "nodefile": "is a file on the login node: write `nodelist`",
    "nodes": _RESOURCE,
    "ntasks": _RESOURCE,
    "ntasks-per-core": _RESOURCE,
    "ntasks-per-gpu": _RESOURCE,
    "ntasks-per-node": _RESOURCE,
    "ntasks-per-socket": _RESOURCE,
    "open-mode": _LOG,
    "output": _LOG,
    "oversubscribe": "would share CPUs with other jobs, and spoil the measurement",
    "overcommit": "would share CPUs between ranks, and spoil the measurement",
    "parsable": _RECOGNISED,
    "propagate": _ENVIRONMENT,
    "quiet": _RECOGNISED,
    "requeue": _REQUEUE,
    "signal": "is the warning before the end of a job's time",
    "test-only": _ONE_JOB,
    "time": _RESOURCE,
    "time-min": _RESOURCE,
    "uid": "is the user's own",
    "verbose": _RECOGNISED,
    "wait": "would hold the submission until the job has ended",
    "wrap": _RUNS,
}
"""Long name -> why it is ours."""


def check_options(options: Mapping[str, object], who: Who) -> dict[str, Optional[str]]:
    """Return options as `sbatch_argv` takes them: text, or None where an option stands without a value.

    Args:
        options: Long name -> text or whole number; an empty text, true or nothing: an option without a value.
        who: Whose options they are.

    Raises:
        ValueError: All that is wrong, a line each, with what was found and what is allowed.
    """
    found: dict[str, Optional[str]] = {}
    problems: list[str] = []
    for name, value in options.items():
        if name not in OPTIONS or who not in OPTIONS[name].who:
            problems.append(f"{_shown(name)}: {_stranger(name, who)}")
            continue
        given = "" if value is True or value is None else value
        text = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else None
        if problem := _problem(OPTIONS[name], text):
            problems.append(f"{name}: {problem}; found {_shown(value)}")
        else:
            found[name] = text or None
    if problems:
        raise ValueError("\n".join(problems))
    return found


def _problem(option: Option, text: Optional[str]) -> str:
    """Return what is wrong with the value of an option; empty: nothing."""
    if text is None:
        return "must be a text or a whole number"
    if not text.isprintable() or len(text) > _LONGEST_VALUE:
        return f"must be a single line of at most {_LONGEST_VALUE} characters, without control characters"
    if option.check is None:
        return "takes no value: leave it empty" if text else ""
    if not text:
        return "" if option.bare else f"must be {option.check('')}" if option.check("") else "needs a value"
    allowed = option.check(text)
    return f"must be {allowed}{', or empty' if option.bare else ''}" if allowed else ""


def _stranger(name: object, who: Who) -> str:
    """Return why a name cannot be set."""
    bare = str(name).strip().lstrip("-").lower().replace("_", "-")
    if bare in MANAGED:
        return f"cannot be set: it {MANAGED[bare]}"
    known = sorted(option for option, entry in OPTIONS.items() if who in entry.who)
    if bare in OPTIONS and bare not in known:
        return "is for the site's profile only"
    near = [bare] if bare in known else difflib.get_close_matches(bare[:_LONGEST], known, n=1, cutoff=0.6)
    return f"is no option that a {who} may set; " + (f"did you mean {near[0]}?" if near else f"these are: {', '.join(known)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
