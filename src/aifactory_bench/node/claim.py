"""The fence: of several executions of one job, one runs.

The first execution makes the folder `claim` with its name inside, in one rename. Every rank of it then makes a folder of its
own in there, for each restart by the scheduler another one. Whoever finds either taken does nothing.
"""

import json
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Optional

from .files import make_private_folder, read_json, write_json
from .procfs import process_stat

_OWNER = "owner.json"


def take(claim: Path, job_id: str, rank: int, restart: int) -> Optional[str]:
    """Claim one rank of a job for this process; return None, or who has it already.

    Raises:
        OSError: the folder cannot be written.
        ValueError: what stands in the claim is damaged.
    """
    make_private_folder(claim.parent)
    me = _identity(job_id)
    owner = me if _make(claim, me) else _read_owner(claim)
    if owner.get("job_id") != job_id:
        return _describe(owner)
    mine = claim / f"{rank}-{restart}"
    try:
        mine.mkdir(0o700)
    except FileExistsError:
        return _describe(read_json(mine / _OWNER) or owner)
    write_json(mine / _OWNER, me)
    return None


def _make(claim: Path, me: Dict[str, Any]) -> bool:
    if claim.is_dir() and os.listdir(claim):
        return False
    draft = Path(tempfile.mkdtemp(prefix=".claim.", dir=claim.parent))
    try:
        (draft / _OWNER).write_text(json.dumps(me) + "\n", encoding="utf-8")
        # A rename replaces a folder only if that is empty: exactly one execution gets through.
        draft.rename(claim)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if not claim.is_dir():
            raise
        return False
    return True


def _read_owner(claim: Path) -> Dict[str, Any]:
    owner = read_json(claim / _OWNER, limit_bytes=1 << 16)
    if not isinstance(owner, dict):
        raise ValueError(f"{claim}: there is no {_OWNER} in it that says who has claimed the job")
    return owner


def _identity(job_id: str) -> Dict[str, Any]:
    stat = process_stat(os.getpid())
    return {
        "job_id": job_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start_ticks": stat.start_ticks if stat else None,
        "wall_ns": time.time_ns(),
    }


def _describe(owner: Any) -> str:
    owner = owner if isinstance(owner, dict) else {}
    return f"job {owner.get('job_id')} (process {owner.get('pid')} on {owner.get('host')})"
