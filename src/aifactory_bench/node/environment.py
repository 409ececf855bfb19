"""Numbers out of our environment; that of children: ours without what is the scheduler's and what looks like a secret."""

import os
import re
from typing import Dict, Mapping

# Programs built with MPI would take these for an invitation to join a parallel job, and SLURM_* may hold credentials.
_SCHEDULER = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC|PMI|PMIX|PRTE|OMPI|HYDRA)_.*|SLURM[A-Z]*_.*|AFB_.*")
_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|APIKEY|API_KEY|ACCESS_KEY|PRIVATE_KEY|AUTH)($|_)",
    re.IGNORECASE,
)
_SESSION = re.compile(
    r"(SSH_.*|BASH_ENV|ENV|BASH_FUNC_.*|PYTHONSTARTUP|PYTHONINSPECT|DBUS_.*|XDG_SESSION.*|DISPLAY|OLDPWD|PWD|SHLVL|_)"
)


def number(*names: str) -> int:
    """Return the value of the first of some variables that is set; 0 when none is.

    Raises:
        ValueError: it is no number from 0 on.
    """
    for name in names:
        text = os.environ.get(name)
        if text:
            if not text.isdecimal():
                raise ValueError(f"the environment variable {name} must be a number, found {text!r}")
            return int(text)
    return 0


def scrubbed(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return a copy without the scheduler's variables, the login session's and those whose name says that they are secret."""
    return {
        name: value
        for name, value in environment.items()
        if not (_SCHEDULER.fullmatch(name) or _SESSION.fullmatch(name) or _SECRET.search(name))
    }


def absolute_python_path(environment: Dict[str, str]) -> None:
    """Make `PYTHONPATH` hold whatever the folder a child starts in."""
    path = environment.get("PYTHONPATH")
    if path:
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep) if part)
