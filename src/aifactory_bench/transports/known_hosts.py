"""Host keys: those the user knows already, and those that were pinned for us."""

from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import asyncssh

from ..errors import AccessError
from ..node.files import make_private_folder, read_text, write_atomic
from ..sites.settings import config_folder

DEFAULT_PORT = 22
SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


def own_file() -> Path:
    """Return the file that `site trust` writes."""
    return config_folder() / "known_hosts"


def load(files: Iterable["str | Path"]) -> asyncssh.SSHKnownHosts:
    """Return the host keys of all files together; one that is not there holds none.

    Raises:
        AccessError: A file cannot be read, or is no list of host keys.
    """
    texts = []
    for file in files:
        path = Path(file).expanduser()
        try:
            text = read_text(path) or ""
            asyncssh.import_known_hosts(text)  # one by one, to say which
        except (OSError, ValueError) as error:
            raise AccessError(f"{path}: host keys cannot be read: {error}", "correct or remove the file") from None
        texts.append(text)
    return asyncssh.import_known_hosts("\n".join(texts))


def pattern(host: str, port: Optional[int]) -> str:
    """Return a host as a list of host keys names it."""
    return host if port in {None, DEFAULT_PORT} else f"[{host}]:{port}"


def pin(file: Path, name: str, key: asyncssh.SSHKey) -> None:
    """Write a host key into our file, in place of what was pinned for the host before.

    Raises:
        OSError: it cannot be written.
    """
    make_private_folder(file.parent)
    kept = [line for line in (read_text(file) or "").splitlines() if line.split(maxsplit=1)[:1] != [name]]
    public = key.export_public_key().decode().split()
    write_atomic(file, "\n".join([*kept, f"{name} {public[0]} {public[1]}"]) + "\n")
