"""References to images, and what files of the cache are called."""

import hashlib
import re

from ..errors import UsageError
from ..sites.model import Site

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_CREDENTIALS = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*:[^/]*@")
_PINNED = re.compile(r"@(sha256:[0-9a-f]{64})$")
_LONGEST = 512
_LONGEST_NAME = 150
_LETTERS = {"/": "_", ":": "+"}


def key_of(reference: str) -> str:
    """Return a reference as the cache knows it: `docker://redis:7` and `redis:7` are one.

    Raises:
        UsageError: it is none, or holds a password.
    """
    if not reference or not reference.isprintable() or " " in reference or reference[0] in "-/" or len(reference) > _LONGEST:
        raise UsageError(f"{reference[:80]!r} is no reference to an image", "write one such as docker://redis:7.4")
    if _CREDENTIALS.match(reference):
        raise UsageError(
            "a reference to an image holds a password, which would be seen in lists of processes and in logs",
            "leave it out, and log in on the site: apptainer registry login --username NAME docker://HOST",
        )
    return reference.removeprefix("docker://")


def source_of(key: str) -> str:
    """Return what the tool is given."""
    return key if _SCHEME.match(key) else f"docker://{key}"


def file_name(key: str) -> str:
    """Return what the files of a reference begin with: never the same for two references."""
    safe = [
        letter if letter.isascii() and (letter.isalnum() or letter in ".-") else _LETTERS.get(letter) or _escaped(letter)
        for letter in key
    ]
    name = "".join(safe)
    if name.startswith("."):
        name = f"=2e{name[1:]}"
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}=={hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _escaped(letter: str) -> str:
    return "".join(f"={byte:02x}" for byte in letter.encode("utf-8", "surrogatepass"))


def pinned_digest(key: str) -> "str | None":
    """Return the digest that a reference names itself, `sha256:...`."""
    found = _PINNED.search(key)
    return found[1] if found else None


def cache_folder(site: Site) -> str:
    """Return the folder of the site's cache: as its profile says, else beside the folder of runs."""
    return site.images_cache or f"{site.runs.rpartition('/')[0]}/images"
