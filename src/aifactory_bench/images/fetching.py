"""One image on its way into the cache: begun on the site, followed from here, taken up again, stopped."""

import asyncio
import secrets
import shlex
from collections.abc import Sequence

from attrs import frozen

from ..errors import SiteError, TransportError
from .cache import Cache, unreachable
from .failures import failure
from .programs import program
from .record import Image

_LOOK_S = 5
"""How long the site waits for the end before it answers that there is none yet."""
_TRIES = 3
"""How often an image is begun whose process died without a word."""
_BEGIN_LIMIT_S = 90.0
_LOST = "lost"
_STOP_LIMIT_S = 60.0


@frozen
class Wanted:
    """An image to be made."""

    key: str
    name: str
    """What its files begin with."""
    verb: str
    """`pull` or `build`."""
    source: str
    """What the tool is given."""
    fields: str
    """First fields of its record."""
    definition: bytes = b""
    again: bool = False
    through: Sequence[str] = ()
    """Words of the command of the site that runs the tool elsewhere, such as `srun -p cpu`."""


async def fetch(cache: Cache, wanted: Wanted) -> Image:
    """Return the image when the cache has it; whoever wants the same meanwhile waits for the same process.

    Cancelled, it stops what it has begun, and leaves nothing; what somebody else has begun goes on.

    Raises:
        SiteError: it cannot be had.
        TransportError: the site could not be spoken to for long; what it does goes on.
    """
    for _ in range(_TRIES):
        attempt = secrets.token_hex(8)
        mine, holder = await _begin(cache, wanted, attempt)
        if holder == _LOST:
            continue
        if holder:
            try:
                end = await _follow(cache, wanted, holder)
            except asyncio.CancelledError:
                if mine:
                    await _stop(cache, wanted, holder)
                raise
            except TransportError as error:
                raise unreachable(error, f"the {wanted.verb} of {wanted.key}", cache.site.name) from None
            if end is None:
                cache.say(f"{wanted.key}: the process that did it was ended on the site: beginning anew")
                continue
            _judge(cache, wanted, end)
        image = await cache.image(wanted.key)
        if image is not None and not image.trouble:
            return image
    raise SiteError(
        f"{cache.site.name}: {wanted.verb} of {wanted.key}: its process was ended on the site {_TRIES} times",
        "login nodes limit memory and time; go through a compute node: --through 'srun -p PARTITION -t 60'",
    )


async def _begin(cache: Cache, wanted: Wanted, attempt: str) -> "tuple[bool, str]":
    """Return whether the process is ours, and who does it: nobody where it is there, `lost` where it was ended at once."""
    site = cache.site
    lines = [*site.setup, *(f"module load {shlex.quote(name)}" for name in site.modules)]
    asking = asyncio.create_task(
        cache.ask(
            "begin",
            wanted.name,
            attempt,
            program("work"),
            program("fetch"),
            wanted.verb,
            wanted.source,
            wanted.fields,
            "again" if wanted.again else "once",
            "\n".join(lines),
            site.runtime,
            *wanted.through,
            stdin=wanted.definition,
            limit_s=_BEGIN_LIMIT_S,
            patient=True,
        )
    )
    try:
        # Shielded: who is interrupted here has to know what was begun, to stop it.
        done = await asyncio.shield(asking)
    except asyncio.CancelledError:
        done = await asking
        mine, holder = _answer(done.stdout)
        if mine:
            await _stop(cache, wanted, holder)
        raise
    return _answer(done.stdout)


def _answer(stdout: bytes) -> "tuple[bool, str]":
    word, _, holder = stdout.decode("utf-8", "replace").strip().partition(" ")
    return word == "mine", _LOST if word == _LOST else holder


async def _follow(cache: Cache, wanted: Wanted, holder: str) -> "list[str] | None":
    """Return the lines of the end; None where the process died without one."""
    told = ""
    while True:
        done = await cache.ask("watch", wanted.name, holder, str(_LOOK_S), limit_s=_LOOK_S + 30.0, patient=True)
        first, *lines = done.stdout.decode("utf-8", "replace").splitlines() or [""]
        if first == "ended":
            return lines
        if first == "lost":
            return None
        size = int(first.removeprefix("busy ") or 0) >> 10
        text = f"{wanted.key}: {size} MiB so far{f'; {lines[0].strip()}' if lines and lines[0].strip() else ''}"
        if text != told:
            cache.say(text)
        told = text


def _judge(cache: Cache, wanted: Wanted, end: "list[str]") -> None:
    """Raise the error of an end that is none of an image."""
    word, _, rest = end[0].partition(" ") if end else ("", "", "")
    if word == "done":
        return
    what = f"{wanted.verb} of {wanted.key}"
    if word == "stopped":
        raise SiteError(f"{cache.site.name}: {what}: whoever began it has stopped it", "begin it again")
    code = int(rest) if rest.isdigit() else 1
    text = "\n".join(end[1:])
    raise failure(text, code, what=what, tool=cache.site.runtime, site=cache.site.name, folder=cache.folder)


async def _stop(cache: Cache, wanted: Wanted, holder: str) -> None:
    cache.say(f"{wanted.key}: stopping; nothing of it is kept")
    try:
        await cache.ask("stop", wanted.name, holder, limit_s=_STOP_LIMIT_S)
    except SiteError as error:
        cache.say(f"{wanted.key}: it could not be stopped, and may go on: {error.text}")
