"""What the operating system refuses, as an error of the site that names the place and what helps."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from ..errors import RunError, SiteError

_HINTS = {
    errno.ENOSPC: "free some space, or choose another folder with --runs-dir",
    errno.EDQUOT: "your quota is used up: free some space, or choose another folder with --runs-dir",
    errno.EACCES: "choose a folder that you may write with --runs-dir",
    errno.EROFS: "the file system is read-only: choose another folder with --runs-dir",
}


def site_error(error: OSError, place: Path) -> SiteError:
    """Return the error for users; place: named where the operating system names no file."""
    return SiteError(f"{error.filename or place}: {error.strerror or error}", _HINTS.get(error.errno or 0, ""))


@contextlib.contextmanager
def clear_errors(place: Path) -> Iterator[None]:
    """Make what the operating system refuses in the block a `SiteError`."""
    try:
        yield
    except OSError as error:
        raise site_error(error, place) from None


def gone(place: Path) -> RunError:
    """Return the error of a run whose folder was moved or removed while it was driven."""
    return RunError(
        f"the run folder is gone: {place} was moved or removed while the run was under way",
        "its jobs were stopped; leave the folders of runs that are not finished where they are",
    )
