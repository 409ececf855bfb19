# Connects to the job from the login node. $1 port; then names and addresses of the node.
set -u
port=$1
shift
for host in "$@"; do
    # shellcheck disable=SC2016  # for the shell that is started
    part "reach:$host" timeout 8 bash -c 'exec 3<>"/dev/tcp/$1/$2" && head -n 1 <&3 && date +%s' afb "$host" "$port"
done
exit 0
