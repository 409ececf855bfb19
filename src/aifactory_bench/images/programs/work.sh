# Fetches or builds one image, whatever becomes of who asked for it. One process at a time does so for a reference.
# $1 folder of the cache, $2 name of the reference, $3 the attempt, $4 text of the program `fetch`, $5 `pull` or `build`, $6 what
# the tool is given as the source, $7 the first fields of the record, as JSON; $8 `again`: also when the image is there; $9 lines of
# bash that the site wants run first, ${10} the tool; then words of the command of the site that runs it, if there is one.
trap '' HUP PIPE
cd "$1" || exit 1
folder=$1 name=$2 attempt=$3 fetch=$4 verb=$5 source=$6 fields=$7 again=$8 prepare=$9
shift 9
tool=$1
beat=""
shift
work=.work/$name
lock=$work/lock
me=$host:$$:$(start_of $$):$boot

answer() {
    printf '%s\n' "$1" > "$work/attempts/$attempt/.said" && mv -f "$work/attempts/$attempt/.said" "$work/attempts/$attempt/said"
}

# Prints the processes that a holder has started: they have its name in their environment.
family() {
    grep -lsF "AFB_IMAGE=$1" /proc/[0-9]*/environ | sed 's/[^0-9]//g'
}

# Ends them: srun takes its time to end what it has started elsewhere.
end_family() {
    tries=0
    while [ $tries -lt 50 ] && pids=$(family "$1") && [ -n "$pids" ]; do
        signal=TERM
        [ $tries -lt 30 ] || signal=KILL
        # shellcheck disable=SC2086  # a list of numbers
        kill -s $signal $pids 2>/dev/null
        tries=$((tries + 1))
        short_sleep
    done
}

# Puts our name into the lock, if its holder is dead. Many may try; one at a time gets to it, and looks once more.
take() {
    ln -s "$me" "$lock" 2>/dev/null && return 0
    held=$(readlink "$lock")
    [ -n "$held" ] && dead "$held" "$lock" || return 1
    ln -s "$me" "$work/taking" 2>/dev/null
    taker=$(readlink "$work/taking")
    if [ "$taker" != "$me" ]; then
        [ -z "$taker" ] || ! dead "$taker" "$work/taking" || rm -f "$work/taking"
        return 1
    fi
    if [ "$(readlink "$lock")" = "$held" ]; then
        end_family "$held"
        ln -s "$me" "$work/.lock.$attempt" && mv -f "$work/.lock.$attempt" "$lock"
    fi
    rm -f "$work/taking"
    [ "$(readlink "$lock")" = "$me" ]
}

there() {
    for record in ./"$name"@*.json; do
        base=${record%.json}
        [ ! -s "$base.sif" ] || [ ! -e "$record" ] || [ -e "$base.changed" ] || return 0
    done
    return 1
}

# The end is written before the lock goes. $1 its first line, $2 a file with more.
end() {
    trap '' TERM
    [ -z "$beat" ] || kill "$beat" 2>/dev/null
    rm -rf "$draft/tmp" "$draft/image.sif"
    { printf '%s\n' "$1"; [ ! -e "$2" ] || tail -c 6000 "$2"; } > "$work/ended/.$attempt"
    mv -f "$work/ended/.$attempt" "$work/ended/$me"
    rm -rf "$draft"
    [ "$(readlink "$lock")" != "$me" ] || rm -f "$lock"
    exit 0
}

waited=0
until take; do
    held=$(readlink "$lock")
    if [ -n "$held" ] && ! dead "$held" "$lock"; then
        answer "joined $held"
        exit 0
    fi
    waited=$((waited + 1))
    [ $waited -lt 100 ] || exit 1
    short_sleep
done
: > "$lock.alive"
if [ "$again" != again ] && there; then
    rm -f "$lock"
    answer have
    exit 0
fi
# Whoever else was here is dead, and left nothing of use.
rm -rf "$work"/draft.*
find . -maxdepth 1 -name "$name@*.sif" -mmin +60 | while IFS= read -r file; do
    [ -e "${file%.sif}.json" ] || rm -f "$file"
done
draft=$work/draft.$attempt
answer "mine $me"
mkdir -p "$draft/tmp" || end "failed 1" /dev/null
trap 'end_family "$me"; end stopped /dev/null' TERM
# Temporary folders of login nodes are small, and homes have quotas.
: "${APPTAINER_TMPDIR:=$folder/$draft/tmp}" "${SINGULARITY_TMPDIR:=$folder/$draft/tmp}"
export APPTAINER_TMPDIR SINGULARITY_TMPDIR
set -- "$@" sh -c "$fetch" "$tool" "$folder/$draft"
case $verb in
pull) set -- "$@" pull --disable-cache image.sif "$source" ;;
build)
    cp "$work/attempts/$attempt/definition" "$draft/recipe.def" || end "failed 1" /dev/null
    set -- "$@" build --disable-cache
    [ "$tool" != singularity ] || set -- "$@" --fakeroot
    set -- "$@" image.sif recipe.def
    ;;
esac
if [ -n "$prepare" ]; then
    set -- bash -l -c "$prepare
exec \"\$@\"" afb-image "$@"
fi
env "AFB_IMAGE=$me" "$@" > "$draft/log" 2>&1 </dev/null &
child=$!
# A sign of life each second; it is also who notices that somebody wants this to stop.
(
    nap=""
    trap 'kill "$nap"; exit' TERM
    while [ "$(readlink "$lock")" = "$me" ] && [ -n "$(start_of $$)" ]; do
        : > "$lock.alive"
        [ "$(cat "$work/stop" 2>/dev/null)" != "$me" ] || kill -s TERM $$
        sleep 1 &
        nap=$!
        wait $nap
    done
) >/dev/null 2>&1 </dev/null &
beat=$!
wait $child
code=$?
[ $code -eq 0 ] && [ -s "$draft/sum" ] || end "failed $code" "$draft/log"

digest=$(cut -d ' ' -f 1 "$draft/sum")
base=$name@$(printf '%.16s' "$digest")
size=$(stat -c %s "$draft/image.sif")
modified=$(stat -c %Y "$draft/image.sif")
version=$(head -n 1 "$draft/version" | tr -cd 'A-Za-z0-9 ._+()-' | head -c 80)
# A label such as `org.example.image.digest`; not that of the image which this one was made of.
from=$(tr ',' '\n' < "$draft/inspect" | grep -v base | sed -n 's/.*[.]digest": *"\(sha256:[0-9a-f]\{64\}\)".*/"\1"/p' | head -n 1)
{
    mv -f "$draft/image.sif" "./$base.sif" && rm -f "./$base.changed" &&
        printf '{%s, "digest": "sha256:%s", "size_bytes": %s, "modified_s": %s, "made": "%s", "made_ns": %s, "tool": "%s", "label_digest": %s}\n' \
            "$fields" "$digest" "$size" "$modified" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(date +%s%N)" "$version" "${from:-null}" > "$draft/record" &&
        { sync "$draft/record" 2>/dev/null || sync; } && mv -f "$draft/record" "./$base.json"
} 2>> "$draft/log" || end "failed 1" "$draft/log"
end "done $base" /dev/null
