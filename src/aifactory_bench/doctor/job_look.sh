# Looks how the job stands and what it has written. $1 its folder; $2 its id.
set -u
part queue squeue -h -j "$2" -t all -o '%T|%r|%N'
part detail env SLURM_TIME_FORMAT=%s scontrol --oneliner show job "$2"
# A list of the folder's files makes a network file system look again.
ls -a "$1" >/dev/null 2>&1
[ ! -e "$1/begun" ] || part begun cat "$1/begun"
[ ! -e "$1/port" ] || part port cat "$1/port"
[ ! -e "$1/answer" ] || cat "$1/answer"
exit 0
