"""The images of a site, for programs: `AsyncImages`, and `Images`, which blocks."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from attrs import evolve, frozen

from ..calls import is_path, refuse
from ..errors import SiteError, UsageError
from ..sites.load import load_site
from ..sites.model import Site
from ..transports.base import Transport
from ..transports.local import LocalTransport
from ..transports.open import open_transport
from .cache import Cache
from .fetching import Wanted, fetch
from .record import Image, fields_of, newest
from .reference import file_name, key_of, pinned_digest, source_of
from .sending import send

T = TypeVar("T")
All = list[Image]
"""What `list` returns; within a class that has a verb of this name the type cannot be named."""
_VERIFY_LIMIT_S = 3600.0
_DEFINITION_BYTES = 1 << 20
_FILES = re.compile(rb"^\s*%files\s*$", re.MULTILINE)


@frozen
class Verified:
    """An image that was read as a whole."""

    image: Image
    found: str
    """The digest that its file has; empty: it cannot be read."""

    @property
    def good(self) -> bool:
        """Whether it is what was recorded."""
        return self.found == self.image.digest


AllVerified = list[Verified]


class AsyncImages:
    """The cache of images of a site; a context, at whose end the connection is closed.

    Args:
        site: A site, or its name.
        answer: Asks a person for a password or a second factor; None: nobody is asked.
        say: Is told what goes on.
        transport: To the site; None: as its profile says.

    Raises:
        UsageError: there is no such site, or it has no containers.
    """

    def __init__(
        self,
        site: Union[str, Site],
        *,
        answer: Optional[Callable[[str, bool], str]] = None,
        say: Callable[[str], None] = lambda _text: None,
        transport: Optional[Transport] = None,
    ) -> None:
        self.site = load_site(site) if isinstance(site, str) else site
        if self.site.runtime == "host":
            raise UsageError(
                f"site {self.site.name} runs services on its nodes as they are, without images",
                "name a site with --site whose profile has `runtime: apptainer`, or `singularity`",
            )
        login = self.site.login
        if transport is None:
            transport = LocalTransport() if login is None else open_transport(login, answer=answer, site=self.site.name)
        self._transport = transport
        self._cache = Cache(self.site, transport, say)

    @property
    def folder(self) -> str:
        """Where the images lie, on the site."""
        return self._cache.folder

    async def pull(self, reference: str, *, again: bool = False, through: Sequence[str] = ()) -> Image:
        """Return the image of a reference when the cache has it; the site fetches it, once for all who want it.

        Args:
            reference: Such as `docker://redis:7.4`; without `://` it is one of docker's.
            again: Also when the cache has one: the tag may stand for another image by now.
            through: Words of a command of the site that runs the tool elsewhere, such as `("srun", "-p", "cpu")`.

        Raises:
            UsageError: it is no reference.
            SiteError: it cannot be had; the text says why and the hint what helps.
            TransportError: the site could not be spoken to.
        """
        key = key_of(reference)
        known = await self._cache.image(key)
        if known is not None and not known.trouble and not again:
            return known
        fields = fields_of(key, "pull", pinned_digest(key))
        return await fetch(
            self._cache, Wanted(key, file_name(key), "pull", source_of(key), fields, again=again, through=through)
        )

    async def build(
        self, definition: Union[str, Path], *, name: Optional[str] = None, again: bool = False, through: Sequence[str] = ()
    ) -> Image:
        """Return the image of a definition file when the cache has it; one that was built from another text is built anew.

        Args:
            definition: Path of the file, here.
            name: What recipes call the image; default: the file's name without its suffix.
            again: Also when the cache has it.
            through: As for `pull`.

        Raises:
            UsageError: it is no definition, or it wants files of this machine.
            SiteError: it cannot be built; the text says why and the hint what helps.
            TransportError: the site could not be spoken to.
        """
        if not is_path(definition):
            raise refuse("definition", "the path of a definition file", definition)
        path = Path(definition)
        text = _definition(path)
        key, digest = key_of(name or path.stem), hashlib.sha256(text).hexdigest()
        known = await self._cache.image(key)
        same = known is not None and not known.trouble and known.definition == digest
        if known is not None and same and not again:
            return known
        fields = fields_of(key, "build", None, digest)
        return await fetch(
            self._cache,
            Wanted(key, file_name(key), "build", "", fields, text, again=known is not None or again, through=through),
        )

    async def push(self, file: Union[str, Path], reference: Optional[str] = None) -> Image:
        """Send the file of an image to the site's cache, and return the image when the site has read it once more.

        Args:
            file: A SIF file, here.
            reference: What recipes call the image; default: the file's name without its suffix.

        Raises:
            UsageError: it is no image, or no reference.
            OSError: it cannot be read.
            SiteError: there is no room, or it arrived as something else.
            TransportError: the site could not be spoken to.
        """
        if not is_path(file):
            raise refuse("file", "the path of a SIF file", file)
        return await send(self._cache, Path(file), key_of(reference or Path(file).stem))

    async def list(self) -> All:
        """Return what the cache holds, oldest first; `trouble` says what is wrong with one."""
        return await self._cache.images()

    async def verify(self, *references: str) -> AllVerified:
        """Read images as a whole and compare; one that was changed is used no more. Without references: all of them.

        Raises:
            SiteError: the cache lacks one.
        """
        keys = [key_of(reference) for reference in references]
        found = await self._cache.images(*keys)
        known = newest(found)
        for key in keys:
            if key not in known:
                raise SiteError(
                    f"site {self.site.name} has no image {key} in its cache {self.folder}",
                    "see `images list` for what it has",
                )
        images = found if not keys else [known[key] for key in dict.fromkeys(keys)]
        return [await self._verify(image) for image in images]

    async def _verify(self, image: Image) -> Verified:
        wanted = image.digest.removeprefix("sha256:")
        done = await self._cache.ask("verify", image.base, wanted, limit_s=_VERIFY_LIMIT_S)
        digest = done.stdout.decode("utf-8", "replace").strip().rpartition(" ")[2]
        found = f"sha256:{digest}" if digest not in {"", "-"} else ""
        trouble = "" if found == image.digest else "its file was changed" if found else "its file is gone"
        return Verified(evolve(image, trouble=trouble), found)

    async def find(self, *references: str) -> "dict[str, Image]":
        """Return what references stand for.

        Raises:
            SiteError: the cache lacks one, or it was changed.
        """
        return await self._cache.find(references)

    async def close(self) -> None:
        """End the connection."""
        await self._transport.close()

    async def __aenter__(self) -> "AsyncImages":
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


def _definition(path: Path) -> bytes:
    text = path.read_bytes()
    if len(text) > _DEFINITION_BYTES or not re.search(rb"^\s*bootstrap\s*:", text, re.MULTILINE | re.IGNORECASE):
        raise UsageError(f"{path} is no definition file: it has no line `Bootstrap:`", "see the manual of apptainer build")
    if _FILES.search(text):
        raise UsageError(
            f"{path}: its section %files wants files of this machine, and only the definition goes to the site",
            "fetch them in %post, or build here and send the image: aifactory-bench images push FILE",
        )
    return text


class Images:
    """The same verbs, blocking, each over a connection of its own; see `AsyncImages`."""

    def __init__(
        self,
        site: Union[str, Site],
        *,
        answer: Optional[Callable[[str, bool], str]] = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._make: Callable[[], AsyncImages] = lambda: AsyncImages(site, answer=answer, say=say)
        self.site = self._make().site

    def pull(self, reference: str, *, again: bool = False, through: Sequence[str] = ()) -> Image:
        """Return the image of a reference when the cache has it."""
        return self._call(lambda images: images.pull(reference, again=again, through=through))

    def build(
        self, definition: Union[str, Path], *, name: Optional[str] = None, again: bool = False, through: Sequence[str] = ()
    ) -> Image:
        """Return the image of a definition file when the cache has it."""
        return self._call(lambda images: images.build(definition, name=name, again=again, through=through))

    def push(self, file: Union[str, Path], reference: Optional[str] = None) -> Image:
        """Send the file of an image to the site's cache."""
        return self._call(lambda images: images.push(file, reference))

    def list(self) -> All:
        """Return what the cache holds, oldest first."""
        return self._call(lambda images: images.list())

    def verify(self, *references: str) -> AllVerified:
        """Read images as a whole and compare."""
        return self._call(lambda images: images.verify(*references))

    def find(self, *references: str) -> "dict[str, Image]":
        """Return what references stand for."""
        return self._call(lambda images: images.find(*references))

    def _call(self, verb: "Callable[[AsyncImages], Coroutine[Any, Any, T]]") -> T:
        async def run() -> T:
            async with self._make() as images:
                return await verb(images)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(run())
        return _in_thread(run)  # in a notebook a loop is running already


def _in_thread(run: "Callable[[], Coroutine[Any, Any, T]]") -> T:
    """Run a coroutine on a loop in a thread of its own; an interrupt of the wait cancels it, and waits for its end."""
    begun: "list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]]" = []

    async def kept() -> T:
        task = asyncio.ensure_future(run())
        begun.append((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1) as thread:
        ending = thread.submit(lambda: asyncio.run(kept()))
        try:
            return ending.result()
        except KeyboardInterrupt:
            for loop, task in begun:
                loop.call_soon_threadsafe(task.cancel)
            wait([ending])
            raise
