"""What the cache of a site holds: an image, and the record that lies beside its file."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from attrs import field, frozen

from ..errors import SiteError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEAD = re.compile(rb"I (\d+|-) (\d+) ([01]) (\d+) ([^\n]+)\n")


@frozen
class Image:
    """An image in the cache of a site."""

    reference: str
    """Without `docker://`."""
    digest: str
    """Of the SIF file: `sha256:...`."""
    size_bytes: int
    path: str
    """Of the SIF file, on the site."""
    made: str
    """When it came into the cache, UTC: `2025-03-01T12:00:00Z`."""
    made_ns: int
    """The same, nanoseconds since 1970."""
    how: str
    """`pull`, `build` or `push`."""
    tool: str
    """What `apptainer --version` said; empty for an image that was sent."""
    modified_s: int
    """Time of the file's last change, seconds since 1970."""
    source_digest: Optional[str] = None
    """Of the image that it was made of, where the reference or a label of the image names one."""
    definition: Optional[str] = None
    """SHA-256 of the definition file, of one that was built."""
    trouble: str = field(default="", kw_only=True)
    """Why it is not used; empty: nothing is wrong."""

    @property
    def base(self) -> str:
        """The file's name without its suffix."""
        return self.path.rpartition("/")[2].removesuffix(".sif")


def fields_of(reference: str, how: str, source_digest: Optional[str], definition: Optional[str] = None) -> str:
    """Return the part of a record that is known before the image is there: the inside of a JSON object."""
    known = {"reference": reference, "how": how, "source_digest": source_digest, "definition": definition}
    return json.dumps(known)[1:-1]


def read_images(answer: bytes, folder: str, label: str) -> "list[Image]":
    """Return the images that the program `look` printed, oldest first; what is no record of an image is left out.

    Raises:
        SiteError: the answer makes no sense.
    """
    return sorted(_images(answer, folder, label), key=lambda image: image.made_ns)


def _images(answer: bytes, folder: str, label: str) -> Iterator[Image]:
    at = 0
    while at < len(answer):
        head = _HEAD.match(answer, at)
        if head is None:
            raise SiteError(f"{label}: what its cache of images holds cannot be read: {answer[at : at + 80]!r}")
        text = answer[head.end() : head.end() + int(head[4])]
        at = head.end() + int(head[4])
        image = _image(text, f"{folder}/{head[5].decode('utf-8', 'surrogateescape')}.sif", head)
        if image is not None:
            yield image


def _image(text: bytes, path: str, head: "re.Match[bytes]") -> Optional[Image]:
    try:
        data: dict[str, Any] = json.loads(text)
        image = Image(
            reference=str(data["reference"]),
            digest=str(data["digest"]),
            size_bytes=int(data["size_bytes"]),
            path=path,
            made=str(data["made"]),
            made_ns=int(data["made_ns"]),
            how=str(data["how"]),
            tool=str(data.get("tool") or ""),
            modified_s=int(data["modified_s"]),
            source_digest=data.get("source_digest") or data.get("label_digest"),
            definition=data.get("definition"),
            trouble=_trouble(int(data["size_bytes"]), head),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return image if _DIGEST.fullmatch(image.digest) else None


def _trouble(size_bytes: int, head: "re.Match[bytes]") -> str:
    if head[1] == b"-":
        return "its file is gone"
    if int(head[1]) != size_bytes:
        return f"its file has {int(head[1])} bytes in place of {size_bytes}"
    return "its file was changed" if head[3] == b"1" else ""


def newest(images: Sequence[Image]) -> "dict[str, Image]":
    """Return reference -> image: the newest that nothing is wrong with, else the newest; images: oldest first."""
    found: dict[str, Image] = {}
    for image in images:
        if not image.trouble or image.reference not in found or found[image.reference].trouble:
            found[image.reference] = image
    return found
