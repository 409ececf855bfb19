# Runs one command of Slurm; its words are the arguments.
exec "$@"
