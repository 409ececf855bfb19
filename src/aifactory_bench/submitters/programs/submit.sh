# Submits jobs, each exactly once, whatever died before. Standard input: a tar archive of <token>/script.sh and <token>/options,
# one option a line, and their check sums.
# $1 run folder; $2 seconds and $3 look-ups after which a submission of unknown outcome is taken for lost; $4 seconds that one
# sbatch may take; $5 seconds after which none is begun any more; then a token a job, with `!TRY` behind it when that try was
# certainly refused.
# Prints a line a job: token, what became of it, a number, the try, a text; separated by tabs.
#   new|cached|adopted ID   it is in the queue, or was
#   refused CODE            sbatch failed; whether it submitted is for the caller to judge from the text
#   unsure LOOKS            an earlier submission may have got through; not found so far
#   busy                    somebody else submits it at this moment
#   later CODE              the queue could not be asked, or something could not be written
set -u
umask 077
# Who asked may be gone: what is begun is brought to its end.
trap '' PIPE HUP
cd "$1" || exit 1
unsure_s=$2 looks=$3 sbatch_s=$4 begin_s=$5
shift 5
begun=$(date +%s)
host=$(uname -n)
user=$(id -un)
find . -maxdepth 1 \( -name '.submit.*' -o -name '.stage.*' \) -mmin +60 -exec rm -rf {} + 2>/dev/null
draft=$(mktemp -d ./.submit.XXXXXX) || exit 1
trap 'rm -rf "$draft"' EXIT
tar -x -f - -C "$draft" && (cd "$draft" && sha256sum -c .sums) >/dev/null || exit 1

say() {
    # Its lines are told apart by the character GS. The last ones say what became of it.
    text=""
    [ ! -s "$draft/said" ] || text=$(tail -c 3000 "$draft/said" | tr '\n\t' '\035 ')
    printf '%s\t%s\t%s\t%s\t%s\n' "$token" "$1" "${2:-0}" "${me:-}" "$text"
    : > "$draft/said"
}

cannot_write() {
    echo "cannot write $dir" > "$draft/said"
    say later 1
}

# A file is there as a whole or not at all.
put() {
    printf '%s\n' "$2" > "$dir/.put.$host.$$" && mv -f "$dir/.put.$host.$$" "$1"
}

# The id is there for good before the lock goes.
keep() {
    put "$dir/job_id" "$1" && rm -f "$dir/unsure"
}

# Of jobs, `ID|STATE|NODES` a line, the one that counts: the oldest. A refusal can leave one that failed and never had a node.
oldest() {
    awk -F '|' '$1 ~ /^[0-9]+$/ && !($2 == "FAILED" && ($3 == "" || $3 == "None assigned")) { print $1 }' | sort -n | head -n 1
}

# Sets `found` to the id of a job of this name; fails when the queue could not be asked.
look() {
    # A job that has begun has claimed its folder, even if the queue has forgotten it.
    found=$(sed -n 's/.*"job_id": *"\([0-9][0-9]*\)".*/\1/p' "$dir/claim/owner.json" 2>/dev/null | head -n 1)
    [ -z "$found" ] || return 0
    found=$(timeout -k 5 30 squeue -h -r -t all -u "$user" -n "$token" -o '%A|%T|%N' 2>"$draft/said") || return 1
    # Nothing, with a complaint, is no answer: a user that is not known for a moment has no jobs either.
    [ -n "$found" ] || ! grep -qi error "$draft/said" || return 1
    : > "$draft/said"
    found=$(printf '%s\n' "$found" | oldest)
    if [ -z "$found" ] && [ -e "$dir/unsure" ]; then
        # Without states it leaves out what ended before it could start.
        found=$(timeout -k 5 15 sacct -n -X -P -u "$user" --name="$token" -S now-2days -E now+1hours \
            -s BF,CA,CD,DL,F,NF,OOM,PD,PR,R,S,TO -o JobIDRaw,State,NodeList 2>/dev/null | oldest)
    fi
    return 0
}

# Whether the time of a lock's holder, `END:HOST:PID`, is over.
dead() {
    end=${1%%:*}
    case $end in '' | *[!0-9]*) return 0 ;; esac
    now=$(date +%s)
    [ "$now" -ge "$end" ] || [ "$end" -gt $((now + 86400)) ]
}

# Puts our name into the lock of a dead holder. Many may try; one at a time gets to the lock, and looks once more.
take_over() {
    dead "$1" || return 1
    ln -s "$me" "$dir/taking" 2>/dev/null
    taker=$(readlink "$dir/taking")
    if [ "$taker" != "$me" ]; then
        [ -z "$taker" ] || ! dead "$taker" || rm -f "$dir/taking"
        return 1
    fi
    # What the holder did is unknown.
    [ "$(readlink "$lock")" = "$1" ] && { [ -e "$dir/unsure" ] || put "$dir/unsure" "try $1"; } &&
        ln -s "$me" "$dir/.lock.$host.$$" && mv -f "$dir/.lock.$host.$$" "$lock"
    rm -f "$dir/taking"
    [ "$(readlink "$lock")" = "$me" ]
}

# Whether what may be in the queue has been looked for long enough.
looked_enough() {
    echo "look $(date +%s)" >> "$dir/unsure"
    count=$(grep -c '^look' "$dir/unsure")
    first=$(sed -n 's/^look //p' "$dir/unsure" | head -n 1)
    [ "$count" -ge "$looks" ] && [ $(($(date +%s) - first)) -ge "$unsure_s" ]
}

locked() {
    if [ -s "$dir/job_id" ]; then
        say cached "$(head -n 1 "$dir/job_id")"
        return
    fi
    if [ -n "$certain" ] && [ "$(head -n 1 "$dir/unsure" 2>/dev/null)" = "try $certain" ]; then
        rm -f "$dir/unsure"
    fi
    if [ -z "$fresh" ] || [ -e "$dir/unsure" ]; then
        look || { say later 1; return; }
        if [ -n "$found" ]; then
            keep "$found"
            say adopted "$found"
            return
        fi
        if [ -e "$dir/unsure" ] && ! looked_enough; then
            say unsure "$count"
            return
        fi
    fi
    cp "$draft/$token/script.sh" "$dir/script.sh" || { cannot_write; return; }
    set --
    while IFS= read -r option; do
        set -- "$@" "$option"
    done < "$draft/$token/options"
    # From here until an answer nobody knows.
    put "$dir/unsure" "try $me" || { cannot_write; return; }
    # The last look at the lock: whoever took so long that others take it for dead does nothing.
    if [ "$(readlink "$lock")" != "$me" ] || dead $((ends - sbatch_s - 10)); then
        say busy
        return
    fi
    out=$(timeout -k 5 "$sbatch_s" sbatch "$@" "$dir/script.sh" 2>"$draft/said" </dev/null)
    code=$?
    id=$(printf '%s\n' "$out" | sed -n 's/^\([0-9][0-9]*\)\(;.*\)\{0,1\}$/\1/p' | tail -n 1)
    if [ "$code" -eq 0 ] && [ -n "$id" ]; then
        : > "$draft/said"
        keep "$id"
        say new "$id"
    else
        # Without `unsure` nothing would be looked for; it goes when the caller is certain, or the job is found.
        [ -s "$draft/said" ] || printf '%s\n' "$out" > "$draft/said"
        say refused "$code"
    fi
}

one() {
    dir=jobs/$token lock=jobs/$token/submitting
    me="" fresh=""
    mkdir "$dir" 2>"$draft/said" && fresh=1
    [ -d "$dir" ] || { say later 1; return; }
    : > "$draft/said"
    if [ -s "$dir/job_id" ]; then
        say cached "$(head -n 1 "$dir/job_id")"
        return
    fi
    now=$(date +%s)
    [ $((now - begun)) -lt "$begin_s" ] || { say later 0; return; }
    # A link that points nowhere: made with its content in one step, and by one only.
    ends=$((now + sbatch_s + 60))
    me=$ends:$host:$$
    ln -s "$me" "$lock" 2>/dev/null
    held=$(readlink "$lock")
    if [ "$held" != "$me" ]; then
        take_over "$held" || { say busy; return; }
    fi
    locked
    [ "$(readlink "$lock")" != "$me" ] || rm -f "$lock"
}

for argument in "$@"; do
    token=${argument%%!*}
    certain=${argument#"$token"}
    certain=${certain#!}
    one
done
