# Submits the job that looks at a node. Standard input: its script, then the node program.
# $1 runs folder; $2 name of the job; $3 a word that the node is to read; $4 bytes of the script; then options of sbatch.
set -u
umask 077
runs=$1 name=$2 word=$3 size=$4
shift 4
dir=$runs/.$name
made=""
at=$runs
while [ ! -e "$at" ] && [ "$at" != / ]; do
    made=$at
    at=$(dirname "$at")
done
printf '\036made 0\n%s\n' "$made"
mkdir -p "$dir" && head -c "$size" > "$dir/script" && cat > "$dir/node.pyz" && printf '%s\n' "$word" > "$dir/letter" || exit 1
part sbatch sbatch --parsable "--job-name=$name" --output=/dev/null --error=/dev/null --chdir=/ --no-requeue "$@" "$dir/script"
exit 0
