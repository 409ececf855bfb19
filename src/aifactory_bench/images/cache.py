"""Asking the cache of a site, over its connection: our programs, again where the connection is lost."""

import asyncio
import time
from collections.abc import Callable

from ..errors import AccessError, NotExecutedError, OutcomeUnknownError, SiteError, TransportError
from ..sites.model import Site
from ..transports.base import Completed, Transport
from .programs import program
from .record import Image, newest, read_images
from .reference import cache_folder, file_name, key_of

AWAY_S = 900.0
"""How long a site may be away before what is waited for is given up; what it does goes on there."""
_PAUSE_S = 2.0
_LOOK_LIMIT_S = 60.0


class Cache:
    """The cache of one site.

    Args:
        site: Whose cache it is.
        transport: To its login node.
        say: Is told what a person may want to know meanwhile.
    """

    def __init__(self, site: Site, transport: Transport, say: Callable[[str], None] = lambda _text: None) -> None:
        self.site = site
        self.folder = cache_folder(site)
        self.say = say
        self._transport = transport

    @property
    def label(self) -> str:
        """Whom it speaks to, for messages."""
        return self._transport.label

    async def ask(
        self, name: str, *arguments: str, stdin: bytes = b"", limit_s: float = _LOOK_LIMIT_S, patient: bool = False
    ) -> Completed:
        """Run one of our programs, all of which may be run again; patient: also when the site is away for some minutes.

        Raises:
            TransportError: the site could not be spoken to.
            SiteError: the program failed, with what it said.
        """
        began, told = time.monotonic(), False
        while True:
            try:
                done = await self._transport.run(program(name), self.folder, *arguments, stdin=stdin, timeout_s=limit_s)
            except AccessError:
                raise
            except (NotExecutedError, OutcomeUnknownError) as error:
                if not patient or time.monotonic() - began > AWAY_S:
                    raise
                if not told:
                    self.say(f"{error.text}: trying again; what the site does goes on meanwhile")
                told = True
                await asyncio.sleep(_PAUSE_S)
            else:
                if done.exit_code == 0:
                    return done
                raise self._refused(name, done)

    def _refused(self, name: str, done: Completed) -> SiteError:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-500:] or f"`{name}` ended with {done.exit_code}"
        text = f"{self.site.name}: the cache of images {self.folder} cannot be used: {said}"
        low = said.lower()
        if "no space left" in low or "quota" in low:
            return SiteError(text, "free some space there, or set `images_cache` in the profile to another folder")
        if "permission denied" in low or "read-only" in low:
            return SiteError(text, "set `images_cache` in the profile to a folder that you may write")
        return SiteError(
            text, "see that the folder is there and that sh, setsid, find, stat, sync and sha256sum are on the site"
        )

    async def images(self, *keys: str) -> "list[Image]":
        """Return the images of some references, or all, oldest first, whatever is wrong with them."""
        done = await self.ask("look", *(file_name(key) for key in keys))
        found = read_images(done.stdout, self.folder, self.label)
        return [image for image in found if not keys or image.reference in keys]

    async def image(self, key: str) -> "Image | None":
        """Return the image that a reference stands for now."""
        return newest(await self.images(key)).get(key)

    async def find(self, references: "tuple[str, ...]") -> "dict[str, Image]":
        """Return what references, as a recipe writes them, stand for; one question for all of them.

        Raises:
            SiteError: the cache lacks one, or it was changed.
            TransportError: the site could not be spoken to.
        """
        keys = {reference: key_of(reference) for reference in references}
        if not keys:
            return {}
        there = newest(await self.images(*dict.fromkeys(keys.values())))
        missing = [reference for reference, key in keys.items() if key not in there]
        if missing:
            raise SiteError(
                f"site {self.site.name} has no image {', '.join(missing)}: neither under `images` of its profile, "
                f"nor in its cache {self.folder}",
                f"aifactory-bench images pull {' '.join(missing)} --site {self.site.name}",
            )
        for reference, key in keys.items():
            if there[key].trouble:
                raise changed(there[key], reference, self.site.name)
        return {reference: there[key] for reference, key in keys.items()}


def changed(image: Image, reference: str, site: str) -> SiteError:
    """Return the error of an image that is not what it was when it came into the cache."""
    return SiteError(
        f"site {site}: the image {reference} is refused: {image.trouble} since it was recorded as {image.digest}: {image.path}",
        f"aifactory-bench images pull {reference} --again --site {site}",
    )


def unreachable(error: TransportError, what: str, site: str) -> TransportError:
    """Return the error of a site that is away, with what is still going on there."""
    error.hint = error.hint or f"{what} goes on at {site}: the same command takes it up again"
    return error
