"""PostgreSQL refuses to run as root: what measures it begins anew as another user, in a user namespace."""

import os
import subprocess
import sys


def as_user() -> None:
    """Begin anew as another user by name with the same files, where we are root."""
    if os.getuid() != 0:
        return
    prefix = ["unshare", "--user", "--map-user=1", "--map-group=1", "--"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        sys.exit("we are root, which PostgreSQL refuses, and user namespaces are not allowed here; run this as a user")
    sys.stdout.flush()
    os.execvp(prefix[0], [*prefix, sys.executable, *sys.argv])
