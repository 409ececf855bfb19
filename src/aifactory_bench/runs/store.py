"""The controller's folder of runs: making, finding and reading them."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ..errors import RunError, SiteError, UsageError
from ..node.files import PRIVATE_FOLDER, make_private_folder, read_json, write_atomic
from ..node.paths import RunPaths
from ..plan import Plan, plan_from_json
from ..submitters.disk import clear_errors

RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def default_runs_folder() -> Path:
    """Return `$AIFACTORY_BENCH_RUNS`, or `runs`: relative to the working folder."""
    return Path(os.environ.get("AIFACTORY_BENCH_RUNS") or "runs")


def new_run_id(recipe_name: str) -> str:
    """Return a fresh run id: recipe's name, UTC time, four random hex digits."""
    name = re.sub(r"[^a-z0-9-]+", "-", recipe_name.lower()).strip("-")[:40] or "run"
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def check_run_id(run_id: object) -> str:
    """Return the id if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise UsageError(f"run id {run_id!r}: small letters, digits and dashes are allowed, 64 at most, no dash first")
    return run_id


class RunStore:
    """A folder of run folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = _checked(folder)

    def create(self, run_id: str) -> RunPaths:
        """Make the folder of a new run; one without a plan is of a run that never began, and is used.

        Raises:
            UsageError: the id is taken, or none.
            SiteError: the folder cannot be made.
        """
        paths = RunPaths(self.folder / check_run_id(run_id))
        with clear_errors(paths.folder):
            make_private_folder(paths.folder)
            paths.folder.chmod(PRIVATE_FOLDER)
        self.refuse_begun(paths)
        return paths

    def refuse_begun(self, paths: RunPaths) -> None:
        """Refuse the folder of a run that has begun.

        Raises:
            UsageError: it has.
        """
        run_id = paths.folder.name
        if paths.plan.exists():
            raise UsageError(f"run {run_id} exists already in {self.folder}", f"take it up with: attach {run_id}")
        if (paths.folder / "jobs").exists():
            raise UsageError(f"{paths.folder} holds the jobs of a run that has lost its plan", "choose another run id")

    def discard(self, paths: RunPaths) -> None:
        """Remove what staging has made of a run that did not begin, and its folder when nothing else is in it."""
        with contextlib.suppress(OSError):
            if paths.plan.exists():
                return
            for path in (paths.recipe, paths.lock, *paths.folder.glob("node-*.pyz")):
                path.unlink(missing_ok=True)
            endpoints = paths.folder / "endpoints"
            for secret in endpoints.glob("*/secret"):
                secret.unlink()
                secret.parent.rmdir()
            for folder in (paths.stop, paths.barriers, endpoints):
                with contextlib.suppress(FileNotFoundError):
                    folder.rmdir()
            paths.folder.rmdir()

    def open(self, run_id: str) -> RunPaths:
        """Return the folder of a run.

        Raises:
            RunError: there is no such run, or it may not be read.
        """
        paths = RunPaths(self.folder / check_run_id(run_id))
        try:
            there = paths.plan.is_file()
        except OSError as error:
            raise RunError(f"{error.filename}: {error.strerror}", "the run belongs to somebody else") from None
        if not there:
            known = ", ".join(self.run_ids()[-5:]) or "none"
            raise RunError(
                f"no run {run_id} in {self.folder}; the newest there: {known}", "name another folder with --runs-dir"
            )
        return paths

    def adopt(self, run_id: str, files: "Mapping[str, bytes]") -> RunPaths:
        """Make the folder of a run that was begun elsewhere; files: what it was made of, name -> content.

        Raises:
            RunError: its plan is damaged.
            SiteError: the folder cannot be made.
        """
        paths = RunPaths(self.folder / check_run_id(run_id))
        with clear_errors(paths.folder):
            make_private_folder(paths.folder)
            for name, content in files.items():
                write_atomic(paths.folder / name, content)
        read_plan(paths)
        return paths

    def run_ids(self) -> "list[str]":
        """Return the ids of all runs, oldest first; folders that cannot be read are left out."""
        try:
            names = [name for name in os.listdir(self.folder) if RUN_ID.fullmatch(name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        runs = []
        for name in names:
            paths = RunPaths(self.folder / name)
            with contextlib.suppress(OSError):
                if paths.plan.is_file():
                    runs.append((paths.recipe.stat().st_mtime, name))
        return [name for _time, name in sorted(runs)]


def _checked(folder: Path) -> Path:
    """Return the folder as the node side has it: absolute, without `..`.

    Raises:
        UsageError: its path cannot stand in a batch script.
        SiteError: it is no folder, or the working folder is gone.
    """
    try:
        path = Path(os.path.abspath(folder))
    except FileNotFoundError:
        raise SiteError("the working folder is gone", "change into one that is there") from None
    if not str(path).isprintable():
        raise UsageError(
            f"the folder of runs {str(path)!r} has a character in its path that cannot stand in a batch script",
            "choose another folder with --runs-dir: no control characters, and UTF-8",
        )
    with contextlib.suppress(PermissionError):  # said when something is to be written there
        first = next(place for place in (path, *path.parents) if place.exists())
        if not first.is_dir():
            raise SiteError(f"{first} is a file, and not a folder", "choose another folder with --runs-dir")
    return path


def read_plan(paths: RunPaths) -> Plan:
    """Read a run's plan.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return plan_from_json(paths.plan.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        hint = "without it the run cannot be taken up; what was measured lies under jobs/ beside it: run the recipe again"
        raise RunError(f"{paths.plan}: {why}", hint) from None


def read_summary(paths: RunPaths) -> "Optional[Mapping[str, Any]]":
    """Return the document of a finished run, or None.

    Raises:
        RunError: it is damaged.
    """
    try:
        document = read_json(paths.summary)
    except ValueError as error:
        raise RunError(str(error), "take the run up again with 'attach': it is written anew") from None
    return document if isinstance(document, dict) else None


def read_log(path: Path, limit_bytes: int = 1 << 20) -> str:
    """Return the end of a log, without control characters other than newline and tab."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - limit_bytes))
            text = stream.read(limit_bytes).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")
