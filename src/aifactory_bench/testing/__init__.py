"""The test kit that is shipped: a simulated Slurm of real executables, and an SSH server, both with faults to switch on."""
