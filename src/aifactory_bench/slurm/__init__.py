"""Slurm as text: what its commands are given and what they print. Nothing here runs anything."""
