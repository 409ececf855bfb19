"""The controller's copy of the files of one run that lies on a site."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from ..node.files import PRIVATE_FILE, make_private_folder, read_json, write_json
from .answer import NOTHING, FilePart, RunPart
from .process import boot_id

_STATE = ".mirror.json"
_LOCK = ".mirror.lock"
_NAME = re.compile(r"[0-9a-f]{12}")


@frozen
class Mirror:
    """What a folder holds of a run.

    Which answer it stands at is written down in the folder: several processes of this machine may look at one run at the same
    time, and each brings the copy on from where another left it.
    """

    folder: Path

    def seen(self) -> "tuple[str, str]":
        """Return the name of the copy, and the answer that it stands at.

        Raises:
            OSError: it cannot be written.
        """
        with self._alone():
            return self._state()

    def keep(self, part: RunPart, base: "tuple[str, str]") -> bool:
        """Write what an answer brought; base: what `seen` was when it was asked for.

        Returns:
            Whether the copy stands at that answer now; not when another process was faster, or the copy was touched.

        Raises:
            OSError: it cannot be written.
        """
        with self._alone():
            if self._state() != base:
                return False
            if not all(self._write(file) for file in part.files):  # the copy was touched: all anew
                self._remember(base[0], NOTHING)
                return False
            for path in part.removed:
                (self.folder / path).unlink(missing_ok=True)
            if part.answer != base[1]:
                self._remember(base[0], part.answer)
            return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        make_private_folder(self.folder)
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _state(self) -> "tuple[str, str]":
        try:
            state = read_json(self.folder / _STATE, limit_bytes=4096)
        except ValueError:
            state = None
        # After a crash of this machine some of what was appended may be missing.
        if isinstance(state, dict) and state.get("boot") == boot_id() and _NAME.fullmatch(str(state.get("name"))):
            return str(state["name"]), str(state.get("answer"))
        name = os.urandom(6).hex()
        self._remember(name, NOTHING)
        return name, NOTHING

    def _remember(self, name: str, answer: str) -> None:
        write_json(self.folder / _STATE, {"name": name, "answer": answer, "boot": boot_id()})

    def _write(self, file: FilePart) -> bool:
        path = self.folder / file.path
        make_private_folder(path.parent)
        if not file.offset:
            # Not synced, as there may be thousands: what a crash of this machine takes along is brought again, see `_state`.
            draft = path.with_name(f".{path.name}.draft")
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE), "wb") as stream:
                stream.write(file.data)
            draft.replace(path)
            return True
        try:
            with open(path, "r+b") as stream:
                if stream.seek(0, 2) < file.offset:
                    return False
                stream.seek(file.offset)
                stream.write(file.data)
                stream.truncate()
        except FileNotFoundError:
            return False
        return True
