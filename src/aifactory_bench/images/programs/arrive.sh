# Makes an image of a file that was sent, if it is what was sent. $1 folder of the cache, $2 SHA-256, $3 name without suffix, $4 first
# fields of the record. Doing it again changes nothing.
cd "$1" || exit 1
file=.work/push/$2
if [ ! -e "$file" ]; then
    [ -s "./$3.sif" ] && [ -s "./$3.json" ] || { echo "the file is gone" >&2; exit 1; }
    exit 0
fi
sync "$file" 2>/dev/null || sync
sum=$(sha256sum "$file")
if [ "${sum%% *}" != "$2" ]; then
    rm -f "$file"
    echo "the file did not arrive as it was sent" >&2
    exit 1
fi
printf '{%s, "digest": "sha256:%s", "size_bytes": %s, "modified_s": %s, "made": "%s", "made_ns": %s, "tool": "", "label_digest": null}\n' \
    "$4" "$2" "$(stat -c %s "$file")" "$(stat -c %Y "$file")" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(date +%s%N)" > "$file.json" || exit 1
{ sync "$file.json" 2>/dev/null || sync; } && mv -f "$file" "./$3.sif" && rm -f "./$3.changed" && mv -f "$file.json" "./$3.json"
