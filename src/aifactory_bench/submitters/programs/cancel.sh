# Ends jobs, a hundred at a time; those that are not in the queue are no error.
# $1 `term`, or `kill` for those that do not heed it; then ids of jobs, and names of those whose id is not known.
how=$1
shift
user=$(id -un)

end() {
    [ "$how" = term ] || scancel -u "$user" --full --ctld --signal=KILL "$@"
    scancel -u "$user" "$@"
}

ids=""
count=0
for job in "$@"; do
    case $job in
    *[!0-9]*) end -n "$job" ;; # a list of names is taken for one name
    *)
        ids="$ids $job"
        count=$((count + 1))
        ;;
    esac
    if [ $count -eq 100 ]; then
        # shellcheck disable=SC2086  # a list of numbers
        end $ids
        ids=""
        count=0
    fi
done
# shellcheck disable=SC2086  # a list of numbers
[ $count -eq 0 ] || end $ids
exit 0
