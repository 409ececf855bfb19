"""What goes wrong while an image is fetched or built, as one error with what helps; by what the tools print."""

import re

from ..errors import SiteError

_NO_PROGRAM = "aifactory-bench: there is no program"
_NOT_FOUND = 127
_ROOM = ("no space left on device", "disk quota exceeded", "quota exceeded", "not enough space")
_LIMIT = ("toomanyrequests", "pull rate limit", "429 too many requests")
_TAG = ("manifest unknown", "name unknown", "manifest_unknown", "name_unknown", "image does not exist", "404 (not found)")
_LOGIN = (
    *("unauthorized", "authentication required", "access to the resource is denied", "requesting bearer token"),
    *("401 unauthorized", "403 (forbidden)", "403 forbidden", "invalid username/password"),
)
_NETWORK = (
    *("dial tcp", "no such host", "i/o timeout", "network is unreachable", "connection refused", "no route to host"),
    *("tls handshake timeout", "temporary failure in name resolution", "proxyconnect", "connection reset by peer"),
    *("client.timeout exceeded", "unexpected eof"),
)
_BUILD = ("fakeroot", "must be the root user", "must be root", "user namespace", "subuid", "newuidmap", "proot")
_NAME = ("invalid reference format", "unable to parse image name", "parsing reference")


def failure(text: str, exit_code: int, *, what: str, tool: str, site: str, folder: str) -> SiteError:
    """Return the error for what a tool printed before it failed.

    Args:
        text: The end of its output.
        exit_code: As a shell counts it.
        what: Which was wanted, for the message: `pull of redis:7`.
        tool: `apptainer`.
        site: Name of the site.
        folder: The cache.
    """
    said = last_words(text) or f"it ended with {exit_code} and said nothing"
    low = text.lower()
    if _NO_PROGRAM in text:
        cause = f"there is no program {tool} where images are fetched"
        hint = (
            f"name its module under `modules` of the profile, or the command that gets to a node with it: --through; {_OTHER}"
        )
    elif exit_code == _NOT_FOUND:
        cause, hint = f"the command that is to run {tool} is not there: {said}", "see that what --through names is right"
    elif any(sign in low for sign in _ROOM):
        cause = f"no room for the image: {said}"
        hint = (
            f"free space in {folder} and in the folder that is named above, or set `images_cache` in the profile to another one"
        )
    elif any(sign in low for sign in _LIMIT):
        cause = f"the registry allows no more pulls for now: {said}"
        hint = f"log in on the site ({tool} registry login --username NAME docker://HOST), or wait some hours"
    elif any(sign in low for sign in _TAG):
        cause = f"the registry has no such image: {said}"
        hint = "see that name and tag are right"
    elif any(sign in low for sign in _NETWORK):
        cause = f"the registry cannot be reached from the site: {said}"
        hint = f"set the site's proxy under `setup` of its profile, or go through a node that reaches it: --through; {_OTHER}"
    elif any(sign in low for sign in _LOGIN):
        cause = f"the registry gives it to nobody without a login, or there is no such image: {said}"
        hint = f"see that the name is right; then log in on the site: {tool} registry login --username NAME docker://HOST"
    elif any(sign in low for sign in _NAME):
        cause, hint = f"this is no name of an image: {said}", "write one such as docker://redis:7.4"
    elif what.startswith("build") and any(sign in low for sign in _BUILD):
        cause, hint = f"the site lets nobody build images: {said}", _OTHER
    elif exit_code in {128 + 9, 128 + 15}:
        cause = f"{tool} was killed: {said}"
        hint = "login nodes limit memory and time; go through a compute node: --through 'srun -p PARTITION -t 60'"
    else:
        cause, hint = said, f"see that `{tool} pull` works on the site by hand"
    return SiteError(f"{site}: {what}: {cause}", hint)


_OTHER = "or make the file elsewhere and send it: aifactory-bench images push FILE"


def last_words(text: str) -> str:
    """Return what a tool said last of its failure: one line, without control characters."""
    lines = ["".join(letter if letter.isprintable() else " " for letter in line).strip() for line in text.splitlines()]
    told = [line for line in lines if line]
    fatal = [line for line in told if line.startswith(("FATAL", "ERROR"))]
    words = " ".join((fatal or told or [""])[-1].split())
    return re.sub(r"(://)[^/@\s]+@", r"\1", words)[:600]
