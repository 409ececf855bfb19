# Looks at the node that it runs on. DIR, WORD, PYTHON, RUNTIME, BIND, MODULES and IMAGES were set above; nothing is put anywhere but
# into DIR.
# A network file system may show a new folder some seconds late.
for pause in 0 2 4 4; do
    sleep "$pause"
    cd "$DIR" 2>/dev/null && break
done
[ "$PWD" -ef "$DIR" ] || exit 7
umask 077
printf '%s\n%s\n' "$(uname -n)" "${SLURMD_NODENAME:-}" > .begun && mv -f .begun begun || exit 7
{
    part node:letter cat letter
    number=0
    for module in "${MODULES[@]}"; do
        number=$((number + 1))
        said=$(module load "$module" 2>&1)
        printf '\036node:module:%d %d\n%s\n' "$number" $? "$said"
        module load "$module" >/dev/null 2>&1
    done
    # shellcheck disable=SC2016  # Python's
    part node:python "$PYTHON" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
    part node:program "$PYTHON" node.pyz --help
    [ "$RUNTIME" = host ] || part node:runtime "$RUNTIME" --version
    number=0
    for image in "${IMAGES[@]}"; do
        number=$((number + 1))
        part "node:image:$number" test -r "$image" -a -s "$image"
    done
    part node:internet timeout 8 bash -c 'exec 3<>/dev/tcp/registry-1.docker.io/443'
    part node:address hostname -i
} > .answer 2>/dev/null </dev/null
mv -f .answer answer
"$PYTHON" - "$BIND" "$WORD" <<'LISTEN'
import os, socket, sys, time
server = socket.socket()
server.bind((sys.argv[1], 0))
server.listen(4)
server.settimeout(40)
with open(".port", "w") as file:
    file.write("%d\n" % server.getsockname()[1])
os.rename(".port", "port")
end = time.time() + 60
while time.time() < end:
    connection, _ = server.accept()
    connection.sendall(("%s %d\n" % (sys.argv[2], time.time())).encode())
    connection.close()
LISTEN
exit 0
