# Prints what a cache holds. $1 its folder; then names of references, none for all of them.
# An image: `I SIZE SECONDS CHANGED BYTES BASE`, then its record; SIZE is - where the file is not there.
[ -d "$1" ] || exit 0
cd "$1" || exit 1
shift

show() {
    [ -f "$1" ] || return 0
    base=${1%.json}
    base=${base#./}
    state=$(stat -c '%s %Y' "./$base.sif" 2>/dev/null) || state='- 0'
    changed=0
    [ ! -e "./$base.changed" ] || changed=1
    printf 'I %s %s %s %s\n' "$state" "$changed" "$(wc -c < "$1" | tr -d ' ')" "$base"
    cat "$1"
}

if [ $# -eq 0 ]; then
    for record in ./*@*.json; do
        show "$record"
    done
fi
for name in "$@"; do
    for record in ./"$name"@*.json; do
        show "$record"
    done
done
exit 0
