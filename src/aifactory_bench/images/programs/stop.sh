# Stops the fetching of an image, and waits until nothing of it is left. $1 folder of the cache, $2 name of the reference, $3 the holder.
cd "$1" && cd ".work/$2" || exit 1
printf '%s\n' "$3" > ".stop.$$" && mv -f ".stop.$$" stop || exit 1
waited=0
while [ "$(readlink lock)" = "$3" ] && ! dead "$3" lock && [ $waited -lt 200 ]; do
    waited=$((waited + 1))
    short_sleep
done
rm -f stop
[ "$(readlink lock)" != "$3" ] || { echo "it does not stop" >&2; exit 1; }
