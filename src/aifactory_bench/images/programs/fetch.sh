# Brings an image into the working folder, where the site lets such work be done. $0 the tool, $1 the folder, then its arguments.
cd "$1" || exit 1
shift
command -v "$0" >/dev/null 2>&1 || { echo "aifactory-bench: there is no program $0" >&2; exit 127; }
"$0" --version > version 2>/dev/null </dev/null
"$0" "$@" </dev/null || exit
[ -s image.sif ] || { echo "aifactory-bench: $0 left no image" >&2; exit 1; }
"$0" inspect --json image.sif > inspect 2>/dev/null </dev/null
sync image.sif 2>/dev/null || sync
sha256sum image.sif > sum.draft && mv -f sum.draft sum
