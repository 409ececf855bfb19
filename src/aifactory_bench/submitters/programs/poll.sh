# Tells how the queue stands, and brings what changed in run folders; shows life for their controllers.
# $1 the format for squeue, or nothing when the queue is not asked; $2 bytes of files, and $3 files, in one answer for one run.
# Standard input: a group of lines a run:
#   run FOLDER; expiry SECONDS; me HOLDER (nothing: only look); dead HOLDER; seen NAME ANSWER; lease TEXT; open TOKEN (any number); end
# Prints `Q CODE BYTES` and the queue's text, then a run: `R STATE TEXT`, `F OFFSET BYTES PATH` with bytes a file, `D PATH` for one
# that is gone, `A ANSWER MORE`.
set -u
umask 077
LC_ALL=C
export LC_ALL
format=$1 most=$2 most_files=$3
tab=$(printf '\t')
unique=$(uname -n).$$
# Whatever else jobs leave behind is neither asked for nor understood.
segment='/[A-Za-z0-9_][A-Za-z0-9._-]{0,199}'
line="^[0-9]+${tab}[0-9.]+:[0-9]+${tab}(jobs|endpoints|stop)($segment){1,5}\$"
work=$(mktemp -d "${TMPDIR:-/tmp}/afb.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT PIPE TERM
: > "$work/queue"
if [ -n "$format" ]; then
    timeout -k 5 60 squeue -h -r -t all -u "$(id -un)" -o "$format" > "$work/queue" 2>"$work/said"
    code=$?
    # Nothing, with a complaint, is no answer: a user that is not known for a moment has no jobs either.
    [ $code -ne 0 ] || [ -s "$work/queue" ] || ! grep -qi error "$work/said" || code=1
    if [ $code -ne 0 ]; then
        head -c 2000 "$work/said" > "$work/told"
        : > "$work/queue"
    else
        # Jobs of others' programs are nobody's business here.
        grep -F 'afb-' "$work/queue" > "$work/told"
    fi
    printf 'Q %s %s\n' "$code" "$(wc -c < "$work/told" | tr -d ' ')"
    cat "$work/told"
fi

put() {
    printf '%s\n' "$2" > ".put.$unique" && mv -f ".put.$unique" "$1"
}

claim_run() {
    state=ok
    now=$(date +%s)
    holder="" at=""
    [ ! -f .controller ] || read -r holder at < .controller
    case $at in '' | *[!0-9]*) at=0 ;; esac
    age=$((now - at))
    # One from the future was written by a clock that was wrong.
    if [ -n "$holder" ] && [ "$holder" != "$me" ] && [ "$holder" != "$dead" ] && [ $age -le "$expiry" ] && [ $age -ge "-$expiry" ]; then
        state="held $holder"
        return 0
    fi
    [ -n "$me" ] || return 0
    put .controller "$me $now" && { [ -z "$lease" ] || put lease "$lease"; } || state=full
}

list_files() {
    # What the controller asks for, and what has just begun.
    {
        awk -F '|' -v prefix="afb-$(basename "$run")-" '
            ($2 == "RUNNING" || $2 == "COMPLETING") && index($4, prefix) == 1 { print $4 }
        ' "$work/queue"
        cat "$work/open"
    } | sort -u | grep -E '^[A-Za-z0-9._-]+$' | while read -r token; do
        [ ! -d "jobs/$token" ] || printf 'jobs/%s\n' "$token"
    done > "$work/places"
    [ ! -d endpoints ] || echo endpoints >> "$work/places"
    [ ! -d stop ] || echo stop >> "$work/places"
    xargs sh -c '[ $# -eq 0 ] || find "$@" \( -name work -o -name raw -o -name ".*" -o -name secret -o -name spec.json \) -prune -o \
        -type f \( -name "*.json" -o -name "*.jsonl" -o -name "*.csv" -o -name log -o -name job_id -o -path "stop/*" \) \
        -printf "%s\t%T@:%i\t%p\n"' sh < "$work/places" > "$work/found" 2>/dev/null
    # When something could not be looked into, nothing is taken for gone.
    all=$?
    # Logs come last, and the last word of a rank behind everything else that it wrote.
    grep -E "$line" "$work/found" | awk -F '\t' '
        { key = $3; sub(/\/exit\.json$/, "/~", key); print ($3 ~ /\/log$/) "\t" key "\t" $0 }
    ' | sort -t "$tab" -k 1,2 | cut -f 3- > "$work/files"
}

# Against what was there at the last answer that arrived. Files that only grow (G) are sent from where they ended, others
# whole (W); what did not change is kept (K), what is gone is deleted (D).
compare() {
    awk -F '\t' -v most="$most" -v most_files="$most_files" -v all="$all" '
        FILENAME == ARGV[1] { was[$3] = $1 "\t" $2; size[$3] = $1; inode[$3] = $2; sub(/.*:/, "", inode[$3]); next }
        FILENAME == ARGV[2] { listed[$0] = 1; next }
        { there[$3] = 1 }
        was[$3] == $1 "\t" $2 { print "K\t" $0; next }
        {
            grows = $3 ~ /(\.jsonl|\.csv|\/log)$/
            from = 0
            node = $2
            sub(/.*:/, "", node)
            if (grows && ($3 in size) && inode[$3] == node && $1 + 0 >= size[$3] + 0) from = size[$3] + 0
            till = $1 + 0
            # Of a log that is far too long the begin is enough: its end is in the exit record.
            if ($3 ~ /\/log$/ && till > 4 * most) till = 4 * most
            if (grows && from > 0 && from >= till) { print "K\t" was[$3] "\t" $3; next }
            if (!grows && till > 4 * most) { print "K\t" $0; next }
            if (grows && till - from > most) till = from + most
            # Strictly in order: a last word is never before what belongs to it.
            if (full || count >= most_files || (sent > 0 && sent + till - from > most)) {
                full = 1
                if ($3 in was) print "K\t" was[$3] "\t" $3
                next
            }
            if (till < $1 + 0 && till < 4 * most) part = 1
            sent += till - from
            count++
            printf "%s\t%.0f\t%s\t%s\t%.0f\n", (grows ? "G" : "W"), till, (till < $1 + 0 ? "part:" node : $2), $3, from
        }
        END {
            if (full || part) print "M"
            for (path in was) {
                if (path in there) continue
                split(path, piece, "/")
                place = piece[1] == "jobs" ? "jobs/" piece[2] : piece[1]
                if (!(place in listed)) continue
                print (all == 0 ? "D\t" : "K\t") was[path] "\t" path
            }
        }
    ' "$1" "$work/places" "$work/files"
}

# Prints what is to be sent of a file.
copy() {
    if [ "$kind" = W ]; then
        cat "$path"
    elif [ "$from" -eq 0 ]; then
        head -c "$size" "$path"
    else
        tail -c "+$((from + 1))" "$path" | head -c "$((size - from))"
    fi
}

# All files, if none has changed since it was listed: the whole has the size that it is to have.
send_all() {
    expected=0
    while IFS="$tab" read -r kind size tag path from; do
        header="F $from $((size - from)) $path"
        expected=$((expected + ${#header} + 1 + size - from))
        printf '%s\n' "$header"
        copy || return 1
        printf '%s\t%s\t%s\n' "$size" "$tag" "$path" >> "$work/listing"
    done < "$work/sent" > "$work/out"
    [ "$(wc -c < "$work/out")" -eq "$expected" ] && cat "$work/out"
}

# One by one; what has changed is for the next answer, and the last word of that rank with it.
send_each() {
    changed=" "
    while IFS="$tab" read -r kind size tag path from; do
        copy > "$work/out"
        read=$?
        got=$(($(wc -c < "$work/out")))
        rank=${path#*/*/*/}
        rank=${path%"/$rank"}
        case "$changed$path" in *" $rank "*/exit.json) read=1 ;; esac
        if [ $read -ne 0 ] || { [ "$kind" = G ] && [ $got -ne "$((size - from))" ]; }; then
            changed="$changed$rank "
            printf '0\tchanged:0\t%s\n' "$path" >> "$work/listing"
            continue
        fi
        printf '%s\t%s\t%s\n' "$size" "$tag" "$path" >> "$work/listing"
        printf 'F %s %s %s\n' "$from" "$got" "$path"
        cat "$work/out"
    done < "$work/sent"
}

send() {
    before=".mirror/$name/$seen"
    [ -f "$before" ] || { before="$work/none"; : > "$before"; seen=0; }
    compare "$before" > "$work/changes"
    grep '^[GW]' "$work/changes" > "$work/sent"
    grep '^K' "$work/changes" | cut -f 2-4 > "$work/kept"
    : > "$work/listing"
    send_all || { : > "$work/listing"; send_each; }
    grep '^D' "$work/changes" | while IFS="$tab" read -r _ _ _ path; do
        printf 'D %s\n' "$path"
    done
    more=0
    ! grep -q '^M' "$work/changes" || more=1
    # Without room for the list, the next answer is against the old one again.
    next=$seen
    mkdir -p ".mirror/$name" && file=$(mktemp ".mirror/$name/XXXXXXXXXX") && {
        if cat "$work/kept" "$work/listing" > "$file"; then next=${file##*/}; else rm -f "$file"; fi
    }
    ls -t ".mirror/$name" | tail -n +9 | while read -r old; do
        [ "$old" = "$seen" ] || rm -f ".mirror/$name/$old"
    done
    printf 'A %s %s\n' "$next" "$more"
}

while read -r word rest; do
    case $word in
    run) run=$rest me="" dead="" expiry=0 name="" seen=0 lease=""; : > "$work/open" ;;
    expiry) expiry=$rest ;;
    me) me=$rest ;;
    dead) dead=$rest ;;
    seen) name=${rest%% *} seen=${rest##* } ;;
    lease) lease=$rest ;;
    open) printf '%s\n' "$rest" >> "$work/open" ;;
    end)
        if cd "$run" 2>/dev/null; then
            claim_run 2>/dev/null
            printf 'R %s\n' "$state"
            list_files
            send 2>/dev/null
        else
            # Without the folder above it, it is a file system that is away.
            [ -d "${run%/*}" ] && echo "R gone" || echo "R away"
            echo "A 0 0"
        fi
        ;;
    esac
done
