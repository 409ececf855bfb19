# Puts files into a run folder, each as a whole, the plan last. Standard input: a tar archive of them, paths relative to the run
# folder, and their check sums.
# $1 run folder; $2 `new` for a run that must not be there yet; $3 who begins it, and may do so again.
set -u
umask 077
# What polls left that were killed before they could clean up: looked for once a run, as the folder may be a large one.
find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'afb.??????' -user "$(id -u)" -mmin +120 -exec rm -rf {} + 2>/dev/null
mkdir -p "$1" && cd "$1" && mkdir -p jobs stop barriers endpoints || exit 1
draft=$(mktemp -d ./.stage.XXXXXX) || exit 1
trap 'rm -rf "$draft"' EXIT
trap 'exit 1' HUP INT PIPE TERM
tar -x -f - -C "$draft" && (cd "$draft" && sha256sum -c .sums) >/dev/null || {
    echo "the files did not arrive as they were sent" >&2
    exit 1
}
if [ "$2" = new ]; then
    if [ -e plan.json ] && [ "$(cat .begun 2>/dev/null)" != "$3" ]; then
        echo "the run exists already" >&2
        exit 9
    fi
    printf '%s\n' "$3" > .begun || exit 1
fi
(cd "$draft" && find . -type f ! -name .sums ! -name plan.json) | while IFS= read -r file; do
    mkdir -p "$(dirname "$file")" && mv -f "$draft/$file" "$file" || exit 1
done || exit 1
[ ! -e "$draft/plan.json" ] || mv -f "$draft/plan.json" plan.json
