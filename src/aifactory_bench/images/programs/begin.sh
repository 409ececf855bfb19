# Begins to fetch or to build an image and does not wait for it: a process that outlives the connection does it.
# $1 folder of the cache, $2 name of the reference as files are called, $3 the attempt, $4 text of the program `work`, $5 of `fetch`;
# then what `work` is given. Standard input: the definition, of an image that is built. Doing it again changes nothing.
# Prints `mine HOLDER`, `joined HOLDER`, `have`, or `lost` when it was ended before it could say so.
mkdir -p "$1" && cd "$1" && mkdir -p ".work/$2/ended" ".work/$2/attempts" || exit 1
folder=$1 name=$2 attempt=$3 work=$4 fetch=$5
shift 5
here=.work/$name/attempts/$attempt
find ".work/$name/attempts" ".work/$name/ended" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} + 2>/dev/null
mkdir -p "$here" && cat > "$here/.definition.$$" && mv -f "$here/.definition.$$" "$here/definition" || exit 1
worker=""
if mkdir "$here/begun" 2>/dev/null; then
    setsid sh -c "$work" afb-image "$folder" "$name" "$attempt" "$fetch" "$@" </dev/null >/dev/null 2>&1 &
    worker=$!
fi
waited=0
until [ -s "$here/said" ]; do
    waited=$((waited + 1))
    if [ $waited -ge 300 ] || { [ -n "$worker" ] && [ -z "$(start_of "$worker")" ] && [ ! -s "$here/said" ]; }; then
        echo lost
        exit 0
    fi
    short_sleep
done
cat "$here/said"
