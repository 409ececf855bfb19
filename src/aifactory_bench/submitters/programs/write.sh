# Writes a small file of a run folder, as a whole. Standard input: what it is to hold.
# $1 run folder, $2 path in it
set -u
umask 077
cd "$1" || exit 1
folder=$(dirname "$2")
mkdir -p "$folder" && draft=$(mktemp "$folder/.write.XXXXXX") || exit 1
trap 'rm -f "$draft"' EXIT
trap 'exit 1' HUP INT PIPE TERM
cat > "$draft" && mv -f "$draft" "$2"
