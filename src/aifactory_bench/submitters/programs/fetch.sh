# Prints a tar archive of what a run was made of.
# $1 run folder
cd "$1" 2>/dev/null || { echo "no such run" >&2; exit 9; }
[ -f plan.json ] || { echo "no such run" >&2; exit 9; }
tar -c -f - recipe.yaml plan.json
