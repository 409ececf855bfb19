"""scancel and scontrol, and the lists of nodes that Slurm folds."""

import re
from collections.abc import Sequence
from itertools import product
from typing import Literal, Optional

from .printed import JOB_ID, clean, lines_of

_SETTING = re.compile(r"([A-Za-z][A-Za-z0-9_.\[\]]{0,99})\s*=\s?(.*)")
_ATTRIBUTE = re.compile(r"(?:^|\s)([A-Z][A-Za-z0-9_:/]{0,63})=")
_LONGEST_VALUE = 4096
_LONGEST_RECORD = 1 << 20

MOST_HOSTS = 100_000
"""Names that one list may stand for."""
_LONGEST_LIST = 1 << 20
_LITERAL = re.compile(r"[A-Za-z0-9._-]*")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def scancel_argv(job_ids: Sequence[str], *, signal: Optional[Literal["TERM", "KILL"]] = None) -> list[str]:
    """Return the command that ends jobs: TERM to every process, KILL after the site's KillWait; or with a signal, only that.

    Its exit code says nothing: it is 0 for jobs that do not exist.

    Args:
        job_ids: As squeue and sbatch print them.
        signal: Sent to all processes of running jobs, the batch script's included, through the controller of the cluster:
            a login node may not reach the others.

    Raises:
        ValueError: No ids, or something that is none.
    """
    wrong = [job_id for job_id in job_ids if not JOB_ID.fullmatch(job_id)]
    if wrong or not job_ids:
        raise ValueError(f"no id of a job: {wrong[0]!r}" if wrong else "scancel needs at least one job id")
    options = [f"--signal={signal}", "--full", "--ctld"] if signal else []
    return ["scancel", *options, *job_ids]


def scontrol_config_argv() -> list[str]:
    """Return the command that prints the cluster's configuration: MessageTimeout, MinJobAge, KillWait, ..."""
    return ["scontrol", "show", "config"]


def parse_config(text: str) -> dict[str, str]:
    """Return the settings as they are printed: `MinJobAge` is `300 sec`, and what is not set is `(null)`."""
    found = (_SETTING.fullmatch(clean(line, _LONGEST_VALUE)) for line in lines_of(text))
    return {setting[1]: setting[2].strip() for setting in found if setting}


def scontrol_job_argv(job_id: str) -> list[str]:
    """Return the command that prints all that the controller knows of one job, with times in seconds since 1970.

    One call a job: for a diagnosis, never for polling.

    Raises:
        ValueError: It is no id of a job.
    """
    if not JOB_ID.fullmatch(job_id):
        raise ValueError(f"no id of a job: {job_id!r}")
    return ["env", "SLURM_TIME_FORMAT=%s", "scontrol", "--oneliner", "show", "job", job_id]


def parse_job(text: str) -> dict[str, str]:
    """Return the attributes of the first job: `JobState`, `Reason`, `ExitCode`, `Restarts`, `NodeList`, `StdOut`, ...

    Of an attribute that stands there twice the first counts: comments and command lines come late, and may look like one.
    """
    attributes: dict[str, str] = {}
    found = list(_ATTRIBUTE.finditer(text[:_LONGEST_RECORD]))
    for position, attribute in enumerate(found):
        if attribute[1] == "JobId" and attributes:
            break
        end = found[position + 1].start() if position + 1 < len(found) else len(text)
        attributes.setdefault(attribute[1], clean(text[attribute.end() : end], _LONGEST_VALUE))
    return attributes


def expand_hosts(text: str) -> list[str]:
    """Return the names that a list of nodes stands for: `x[1,3-4]y[01-02],login` is x1y01, x1y02, x3y01, ... and login.

    Of several brackets the last one turns fastest, as with `scontrol show hostnames` for up to two of them.

    Raises:
        ValueError: It is no list of nodes, or one of more than `MOST_HOSTS`.
    """
    if len(text) > _LONGEST_LIST:
        raise ValueError(f"a list of nodes of {len(text)} characters is too long")
    hosts: list[str] = []
    for item in _split(text.strip()):
        pieces = _pieces(item)
        count = 1
        for piece in pieces:
            count *= sum(last - first + 1 for first, last, _width in piece) if isinstance(piece, list) else 1
        if len(hosts) + count > MOST_HOSTS:
            raise ValueError(f"a list of more than {MOST_HOSTS} nodes: {clean(text, 80)!r}")
        hosts.extend(map("".join, product(*(_spelled(piece) for piece in pieces))))
    return hosts


_Numbers = list[tuple[int, int, int]]
"""First, last and the digits they are written with."""


def _split(text: str) -> list[str]:
    """Return the parts between commas that stand outside of brackets, without empty ones."""
    return [item for item in re.findall(r"(?:\[[^\[\]]*\]|[^,\[\]]|[\[\]])+", text) if item]


def _pieces(item: str) -> list[str | _Numbers]:
    """Return the literal texts and the brackets of one item, in turns."""
    pieces: list[str | _Numbers] = []
    for piece in re.split(r"(\[[^\[\]]*\])", item):
        if piece.startswith("[") and piece.endswith("]"):
            pieces.append([_numbers(part, item) for part in piece[1:-1].split(",")])
        elif _LITERAL.fullmatch(piece):
            pieces.append(piece)
        else:
            raise ValueError(f"no list of nodes: {clean(item, 80)!r}")
    return pieces


def _numbers(part: str, item: str) -> tuple[int, int, int]:
    found = _RANGE.fullmatch(part)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise ValueError(f"no list of nodes: {clean(item, 80)!r}")
    return int(found[1]), int(found[2] or found[1]), len(found[1])


def _spelled(piece: str | _Numbers) -> list[str]:
    if isinstance(piece, str):
        return [piece]
    return [f"{number:0{width}d}" for first, last, width in piece for number in range(first, last + 1)]
