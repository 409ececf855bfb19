# Asks sbatch what it would say of a job with these options, and submits none.
set -u
# shellcheck disable=SC2016  # for the shell that is started
part sbatch sh -c 'printf "#!/bin/sh\ntrue\n" | sbatch --test-only "$@"' afb "$@"
exit 0
