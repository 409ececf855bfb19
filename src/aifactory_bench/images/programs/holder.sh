# Who holds a lock: `HOST:PID:START:BOOT`, a process that is never taken for another one.
set -u
LC_ALL=C
export LC_ALL
host=$(uname -n)
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo none)

# Prints when a process was started, in clock ticks; nothing when it has ended.
start_of() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'
}

# Whether the holder of a lock does not live any more. $1 the holder, $2 the lock.
# Of another machine, or another boot, nothing is known but its signs of life.
dead() {
    rest=${1#*:}
    pid=${rest%%:*}
    rest=${rest#*:}
    if [ "${1%%:*}" = "$host" ] && [ "${rest#*:}" = "$boot" ]; then
        [ "$(start_of "$pid")" != "${rest%%:*}" ]
    else
        [ -n "$(find "$2" -mmin +5 2>/dev/null)" ] && { [ ! -e "$2.alive" ] || [ -n "$(find "$2.alive" -mmin +5)" ]; }
    fi
}

short_sleep() {
    sleep 0.1 2>/dev/null || sleep 1
}
