# Ends the job and removes what was written for it.
# $1 its folder; $2 its name; $3 first folder that was made on the way there, may be empty.
set -u
! command -v scancel >/dev/null 2>&1 || timeout -k 2 30 scancel -u "$(id -un)" -n "$2"
for pause in 0 1 2 4; do
    sleep "$pause"
    rm -rf "$1" 2>/dev/null
    [ -e "$1" ] || break
done
[ -z "$3" ] || find "$3" -depth -type d -exec rmdir {} \; 2>/dev/null
[ ! -e "$1" ]
