# Tells how an image comes on; waits some seconds for its end. $1 folder of the cache, $2 name of the reference, $3 the holder, $4 seconds.
# Prints `ended` and its end, `busy KIBIBYTES` and the last line of the tool, or `lost` when it died without an end.
cd "$1" && cd ".work/$2" || exit 1
until=$(($(date +%s) + $4))
while :; do
    if [ -e "ended/$3" ]; then
        while [ "$(readlink lock)" = "$3" ] && ! dead "$3" lock; do
            short_sleep
        done
        echo ended
        cat "ended/$3"
        exit 0
    fi
    if [ "$(readlink lock)" != "$3" ] || dead "$3" lock; then
        [ ! -e "ended/$3" ] || continue
        echo lost
        exit 0
    fi
    [ "$(date +%s)" -lt "$until" ] || break
    short_sleep
done
echo "busy $(du -sk draft.* 2>/dev/null | awk '{ total += $1 } END { print total + 0 }')"
tail -n 1 draft.*/log 2>/dev/null | tail -c 300
exit 0
