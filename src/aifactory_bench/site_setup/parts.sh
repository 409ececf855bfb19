# Runs a command under a time limit and prints what it said: RS, name, exit code, and below it both of its outputs.
part() {
    part_name=$1
    shift
    part_said=$(timeout -k 2 20 "$@" 2>&1 </dev/null)
    part_code=$?
    printf '\036%s %d\n%s\n' "$part_name" "$part_code" "$part_said"
}
