"""`python -m aifactory_bench` is the console script `aifactory-bench`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
