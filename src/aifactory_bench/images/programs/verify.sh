# Reads images as a whole. $1 folder of the cache; then an image's name without suffix and its digest, any number of them.
# Prints `BASE DIGEST`; one that is not what it was is marked, and used no more. One that is, and was only touched, gets its new time.
cd "$1" || exit 1
shift
while [ $# -gt 1 ]; do
    modified=$(stat -c %Y "./$1.sif" 2>/dev/null)
    sum=$(sha256sum "./$1.sif" 2>/dev/null)
    sum=${sum%% *}
    if [ "$sum" = "$2" ]; then
        rm -f "./$1.changed"
        sed "s/\"modified_s\": [0-9]*/\"modified_s\": $modified/" "./$1.json" > "./.$1.$$" && mv -f "./.$1.$$" "./$1.json"
    else
        : > "./$1.changed"
    fi
    printf '%s %s\n' "$1" "${sum:--}"
    shift 2
done
