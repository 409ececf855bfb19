"""`python3 tests/slurm/bed up|down [--accounting] [--folder FOLDER]`: a cluster for people; `make cluster-up` calls it."""

import argparse
import os
import sys
from pathlib import Path

if __package__ in {None, ""}:  # run as a folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bed import BedError, Cluster, down, missing


def main() -> None:
    parser = argparse.ArgumentParser(prog="bed", description="A real Slurm cluster on this machine.")
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB")
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    if options.command == "down":
        down(options.folder)
        return
    if packages := missing(accounting=options.accounting):
        raise BedError(f"not installed: {' '.join(packages)}; as root, .ci/servers installs them")
    if options.folder.exists():
        raise BedError(f"{options.folder} exists: a cluster is up, or was; `make cluster-down` removes it")
    cluster = Cluster(options.folder, accounting=options.accounting, die_with_us=False)
    try:
        cluster.up()
    except BaseException:
        cluster.down()
        raise
    sys.stdout.write(welcome(cluster))


def default_folder() -> Path:
    """Return the folder of a user's own cluster."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp", f"aifactory-bench-cluster-{os.geteuid()}")


def welcome(cluster: Cluster) -> str:
    """Return what a person needs to use the cluster."""
    return f"""\
The cluster is up, in {cluster.folder}

log in                     ssh -F {cluster.ssh_config} testbed
log in through the gate    ssh -F {cluster.ssh_config} testbed-inside
copy there                 scp -F {cluster.ssh_config} FILE testbed:

known to ssh as            Include {cluster.ssh_config}     (as the first line of ~/.ssh/config)
key, known hosts           {cluster.key}, {cluster.known_hosts}
site profile               {cluster.profile("host")}
  with containers          {cluster.profile("apptainer")}
logs                       {cluster.folder}/{"hosts/*/log" if cluster.namespaces else "log"}

take it down               make cluster-down
"""


if __name__ == "__main__":
    try:
        main()
    except BedError as error:
        sys.exit(f"bed: {error}")
