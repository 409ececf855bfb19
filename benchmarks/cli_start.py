"""CPU time of commands that only answer: `--help` may take at most 150 ms.

    python benchmarks/cli_start.py [RUNS]

Each command runs in a process of its own, the first run is not counted; user and system time, median and range of 7 runs.
"""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

LIMIT_MS = 150.0
SCRIPT = str(Path(sys.executable).with_name("aifactory-bench"))
COMMANDS = (["--help"], ["run", "--help"], ["--version"], ["jobs"], ["validate", "recipes/quickstart.yaml"])


def cpu_ms(arguments: list[str]) -> float:
    """Return the CPU time of one command, its interpreter included, milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([SCRIPT, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> int:
    """Print a line a command; 1 when `--help` is over its limit."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    worst = 0.0
    for arguments in COMMANDS:
        cpu_ms(arguments)
        times = [cpu_ms(arguments) for _ in range(runs)]
        median = statistics.median(times)
        spread = f"range {min(times):.0f} to {max(times):.0f} ms"
        print(f"{' '.join(arguments):<34} median {median:6.0f} ms CPU   {spread}   {runs} runs")
        if arguments[-1] == "--help":
            worst = max(worst, median)
    print(f"limit of --help: {LIMIT_MS:.0f} ms: {'kept' if worst <= LIMIT_MS else 'BROKEN'}")
    return 0 if worst <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
