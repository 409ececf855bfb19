# Looks at a cluster from its login node, and changes nothing.
set -u
user=$(id -un)
# shellcheck disable=SC2016  # for the shell that is started
part who sh -c 'uname -n; id -un; echo "$HOME"; echo "${SHELL:-}"; date +%s'
# shellcheck disable=SC2016  # for the shell that is started
part commands sh -c 'for name in sbatch squeue scancel scontrol sinfo sacct sacctmgr apptainer singularity; do
    command -v "$name"
done; true'
if command -v scontrol >/dev/null 2>&1; then
    part version sbatch --version
    part config scontrol show config
    part partitions scontrol --oneliner show partition
    part nodes sinfo -h -o '%R|%T|%D|%c|%m|%G'
fi
if command -v sacctmgr >/dev/null 2>&1; then
    part associations sacctmgr -n -P show associations "user=$user" format=Account,Partition,QOS
    part default sacctmgr -n -P show user "$user" format=DefaultAccount
    part qos sacctmgr -n -P show qos format=Name,MaxWall
fi
for name in apptainer singularity; do
    ! command -v "$name" >/dev/null 2>&1 || part "runtime:$name" "$name" --version
done
for name in python3 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14; do
    ! command -v "$name" >/dev/null 2>&1 ||
        part "python:$name" "$name" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
done
if command -v bash >/dev/null 2>&1; then
    # What a person finds after logging in: modules, and variables that name folders.
    part modules bash -lc 'type module >/dev/null 2>&1 && module -t avail 2>&1 | grep -i -E "^(apptainer|singularity)"; true'
    # shellcheck disable=SC2016
    part folders bash -lc 'for name in SCRATCH WORK PROJECT; do
        folder=$(printenv "$name") && [ -d "$folder" ] && [ -w "$folder" ] && echo "$name=$folder"
    done; true'
fi
exit 0
