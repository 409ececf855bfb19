"""The node program: `python3 node-<digest>.pyz supervise|measure|ranks ...`."""

import os
import signal
import sys
from typing import TYPE_CHECKING, List, Optional

if TYPE_CHECKING:
    from argparse import Namespace

USAGE = """\
usage: node supervise SPEC [--run-dir DIR] [-- COMMAND...]   run one rank of a job
       node measure SPEC [--run-dir DIR] [--wait]             the points of a client
       node ranks N -- COMMAND...                             run COMMAND as N ranks on this machine
       node place SOURCE TARGET [SOURCE TARGET ...]           copy files and folders, once and whole
       node truth-server [OPTIONS]                            an LLM server that is made up, see its --help"""
EXIT_USAGE = 2
HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP})
"""Signals that wait from the start of the program until `Wakeup` takes them: a stop must not kill what has not yet said
that it was here."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one of the node's commands and return the exit status of the process; 2 for a command line that makes no sense."""
    given = sys.argv[1:] if arguments is None else arguments
    command, rest = (given[0], given[1:]) if given else ("", [])
    if command in {"supervise", "ranks"}:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    # Each command imports what it needs and no more: the time until the service starts counts.
    if command == "supervise":
        from . import supervise

        return supervise.main(rest)
    if command == "measure":
        from . import measure

        return measure.main(rest)
    if command == "ranks":
        from . import ranks

        return ranks.main(rest)
    if command == "place":
        from . import place

        return place.main(rest)
    if command == "truth-server":
        from . import truth_server

        return truth_server.main(rest)
    if command in {"-h", "--help"}:
        print(USAGE)
        return 0
    print(f"{'unknown command ' + repr(command) if command else 'no command'}\n{USAGE}", file=sys.stderr)
    return EXIT_USAGE


def job_arguments(name: str, arguments: List[str]) -> "Namespace":
    """Return `spec` and `run_dir`, for measure also `wait`; ends the process with status 2 when they make no sense."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"node {name}", allow_abbrev=False)
    parser.add_argument("spec", metavar="SPEC")
    parser.add_argument("--run-dir", metavar="DIR", default=os.environ.get("AFB_RUN_DIR"))
    if name == "measure":
        parser.add_argument("--wait", action="store_true", help="begin when standard input brings the rest of the environment")
    parsed = parser.parse_args(arguments)
    if not parsed.run_dir:
        parser.error("no run folder: give --run-dir DIR or set AFB_RUN_DIR")
    return parsed


if __name__ == "__main__":
    sys.exit(main())
