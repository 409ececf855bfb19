"""Exactly once, nothing left, the same numbers, quickly: measured on a real Slurm of four nodes behind a real sshd.

The cluster is the tests' (docs/test-bed.md); it is started for the benchmark and taken down after it, also on Ctrl-C. As root.

    python benchmarks/slurm_bed.py frozen       slurmctld stopped around submission: each job once?
    python benchmarks/slurm_bed.py dropped      the SSH session killed during submission: each job once?
    python benchmarks/slurm_bed.py interrupt    Ctrl-C at any time: what is left after 15 s?
    python benchmarks/slurm_bed.py killed       kill -9 of the controller: what is left after the lease; does the run finish?
    python benchmarks/slurm_bed.py absent       a run that nobody watched: the same result, whole?
    python benchmarks/slurm_bed.py start        from sbatch to the first measured request, against scripts written by hand
    python benchmarks/slurm_bed.py all

Exit code 1: a job was lost or was there twice, something was left, or numbers differ.
"""

import argparse
import signal
import sys
import time

from slurm_bed_ends import interrupt, killed
from slurm_bed_faults import dropped, frozen
from slurm_bed_numbers import absent
from slurm_bed_place import Place
from slurm_bed_start import start

TRIALS = {frozen: 20, dropped: 20, interrupt: 50, killed: 20, absent: 5, start: 10}
BY_NAME = {function.__name__: function for function in TRIALS}


def main() -> int:
    """Run the measurements that were asked for, each on a cluster of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*BY_NAME, "all"])
    parser.add_argument("--trials", type=int, help="default: " + ", ".join(f"{f.__name__} {n}" for f, n in TRIALS.items()))
    parser.add_argument("--seed", type=int, default=1, help="of all random moments")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    good = True
    for measure, trials in TRIALS.items():
        if options.name in {measure.__name__, "all"}:
            began = time.monotonic()
            with Place() as place:
                good = measure(place, options.trials or trials, options.seed) and good
            print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    return int(not good)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
