"""Sending an image's file to a site that has no network of its own: in pieces, checked, and taken up where it ended."""

import asyncio
import hashlib
from pathlib import Path
from typing import IO

from ..errors import SiteError, UsageError
from .cache import Cache
from .record import Image, fields_of
from .reference import file_name, pinned_digest

PIECE_BYTES = 16 << 20
_PIECE_LIMIT_S = 900.0
_ARRIVE_LIMIT_S = 3600.0
_SIF = b"SIF_MAGIC"
_SIF_AT = 32
_SQUASHFS = b"hsqs"


async def send(cache: Cache, file: Path, key: str) -> Image:
    """Return the image when the site has it, and has read it once more.

    Raises:
        UsageError: the file is no image.
        OSError: it cannot be read.
        SiteError: there is no room, or it arrived as something else.
        TransportError: the site could not be spoken to.
    """
    with file.open("rb") as stream:
        _check(stream, file)
        digest = await asyncio.to_thread(_digest, stream)
        size = stream.seek(0, 2)
        cache.say(f"{key}: {size >> 20} MiB, sha256:{digest[:16]}")
        base = f"{file_name(key)}@{digest[:16]}"
        known = [image for image in await cache.images(key) if image.base == base and not image.trouble]
        if known:
            return known[0]
        answer = (await cache.ask("room", digest, patient=True)).stdout.split()
        there, free = int(answer[0]), int(answer[1])
        if size - there > free:
            raise SiteError(
                f"{cache.site.name}: no room for {file}: it needs {size - there} bytes, and {cache.folder} has {free}",
                "free space there, or set `images_cache` in the profile to another folder",
            )
        for number in range(there // PIECE_BYTES, -(-size // PIECE_BYTES)):
            await _piece(cache, stream, digest, number)
            cache.say(f"{key}: {min(size, (number + 1) * PIECE_BYTES) >> 20} of {size >> 20} MiB")
    fields = fields_of(key, "push", pinned_digest(key))
    await cache.ask("arrive", digest, base, fields, limit_s=_ARRIVE_LIMIT_S, patient=True)
    image = await cache.image(key)
    if image is None or image.trouble:
        raise SiteError(f"{cache.site.name}: {key} was sent, and is not in the cache {cache.folder}", "send it again")
    return image


async def _piece(cache: Cache, stream: IO[bytes], digest: str, number: int) -> None:
    stream.seek(number * PIECE_BYTES)
    data = stream.read(PIECE_BYTES)
    arguments = (digest, str(number), str(PIECE_BYTES), hashlib.sha256(data).hexdigest())
    await cache.ask("piece", *arguments, stdin=data, limit_s=_PIECE_LIMIT_S, patient=True)


def _check(stream: IO[bytes], file: Path) -> None:
    head = stream.read(_SIF_AT + len(_SIF))
    if not head.endswith(_SIF) and not head.startswith(_SQUASHFS):
        raise UsageError(
            f"{file} is no image: neither a SIF file nor a squashfs",
            "make one with: apptainer pull FILE.sif docker://REFERENCE",
        )


def _digest(stream: IO[bytes]) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while data := stream.read(PIECE_BYTES):
        digest.update(data)
    return digest.hexdigest()
