# Looks at what jobs need on the site, from its login node: a Python, folders, images. What it writes for that it removes.
# $1 runs folder; $2 the profile's Python; $3 folder of images, may be empty; then images. Standard input: the node program.
set -u
umask 077
runs=$1 python=$2 cache=$3
shift 3
scratch=$(mktemp -d "${TMPDIR:-/tmp}/afb-doctor.XXXXXX") || exit 1
draft=""
trap 'rm -rf "$scratch"; [ -z "$draft" ] || rm -f "$draft"' EXIT
trap 'exit 1' HUP INT PIPE TERM
cat > "$scratch/node.pyz"
part python "$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
part program "$python" "$scratch/node.pyz" --help

# Writes 64 KiB where a folder is, or would be made.
try_folder() {
    at=$2
    while [ ! -e "$at" ] && [ "$at" != / ]; do
        at=$(dirname "$at")
    done
    printf '\036%s:at 0\n%s\n' "$1" "$at"
    draft=$at/.afb-doctor.$$
    part "$1" dd if=/dev/zero "of=$draft" bs=65536 count=1 conv=fsync
    rm -f "$draft"
    draft=""
    part "$1:space" df -P -k "$at"
    part "$1:files" df -P -i "$at"
    part "$1:type" stat -f -c %T "$at"
}
try_folder runs "$runs"
try_folder home "$HOME"
[ -z "$cache" ] || try_folder cache "$cache"
! command -v quota >/dev/null 2>&1 || part quota quota -q
number=0
for image in "$@"; do
    number=$((number + 1))
    part "image:$number" test -r "$image" -a -s "$image"
done
exit 0
