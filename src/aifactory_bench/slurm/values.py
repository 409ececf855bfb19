"""What the values of sbatch's options may look like: each check returns what is allowed, and says nothing when all is well."""

import re
from collections.abc import Callable

from .control import expand_hosts

Check = Callable[[str], str]
"""Returns what is allowed where the value is not, and nothing where it is. Values have no control characters."""

_DURATION = re.compile(r"[0-9]{1,7}(?::[0-9]{1,2}){0,2}|[0-9]{1,4}-[0-9]{1,2}(?::[0-9]{1,2}){0,2}")
_SWITCHES = re.compile(r"([1-9][0-9]{0,4})(?:@(.+))?")
_SIZE = re.compile(r"[1-9][0-9]{0,11}[KMGT]?")


def matching(pattern: str, allowed: str) -> Check:
    """Return a check by a pattern that the whole value matches."""
    compiled = re.compile(pattern)
    return lambda value: "" if compiled.fullmatch(value) else allowed


def words(*known: str) -> Check:
    """Return a check for one or several of a few words, with commas between them and in any case."""
    allowed = f"one or more of {', '.join(known)}, with commas"
    lower = {word.lower() for word in known}
    return lambda value: "" if all(word in lower for word in value.lower().split(",")) else allowed


def integer(least: int, most: int) -> Check:
    """Return a check for a whole number."""
    allowed = f"a whole number from {least} to {most}"

    def check(value: str) -> str:
        return "" if re.fullmatch(r"-?[0-9]{1,12}", value) and least <= int(value) <= most else allowed

    return check


def text(longest: int) -> Check:
    """Return a check for free text."""
    return lambda value: "" if len(value.encode()) <= longest else f"a text of at most {longest} bytes"


def duration(value: str) -> str:
    """Check a time as Slurm writes it."""
    return "" if _DURATION.fullmatch(value) else "minutes, or a time such as 30:00 (half an hour), 2:00:00 or 1-12:00:00"


def size(value: str) -> str:
    """Check an amount of megabytes."""
    return "" if _SIZE.fullmatch(value) else "a size in megabytes, or with K, M, G or T, such as 200G"


def switches(value: str) -> str:
    """Check a number of switches and how long to wait for them."""
    found = _SWITCHES.fullmatch(value)
    return (
        "" if found and (found[2] is None or not duration(found[2])) else "a number such as 1, or with a time, such as 1@30:00"
    )


def hosts(value: str) -> str:
    """Check a list of nodes."""
    try:
        found = expand_hosts(value)
    except ValueError as error:
        return f"names of nodes such as n1,gpu[01-04] ({error})"
    return "" if found else "names of nodes such as n1,gpu[01-04]"
