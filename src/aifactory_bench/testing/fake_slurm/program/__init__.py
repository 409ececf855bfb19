"""What runs behind the executables `sbatch`, `squeue` and so on.

Standard library only, and only the parts of it that load in a millisecond: tests make thousands of calls. Nothing here imports
`aifactory_bench`, so that a call does not pay for it.
"""
