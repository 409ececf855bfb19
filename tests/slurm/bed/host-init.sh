#!/bin/bash
# The first process of a host, in namespaces of its own (network, name, mounts, processes): gives it a name and a file tree,
# then only waits, for orphans too. When it is killed, everything on the host is gone, as if the power had failed.
# Arguments: the cluster's folder, the host's name.
set -eu
root=$1
name=$2
own=$root/hosts/$name

over() { # over SOURCE TARGET: the host sees SOURCE at TARGET, if this machine has such a place
  if [ -e "$2" ]; then mount --bind "$1" "$2"; fi
}

hostname "$name"
for file in hosts passwd group shadow profile nsswitch.conf; do over "$root/etc/$file" "/etc/$file"; done
mount --bind "$root/etc/slurm" /etc/slurm
mount --bind "$own/ssh" /etc/ssh
mount --bind "$root/home" /home
mount --bind "$root/srv" /srv
mount --bind "$root/sbin" /usr/local/sbin
mount --bind "$root/run/munge" "$own/run/munge"
mount --bind "$own/log" /var/log
mount --bind "$own/spool" /var/spool
mount -t tmpfs -o mode=1777 shm /dev/shm
ip link set lo up
mount --rbind "$own/run" /run
mount --bind "$own/tmp" /tmp # after the others: the folder may lie in /tmp, and no host sees it
cd /
: >/run/ready

while :; do
  sleep 3600 &
  wait $! || true
done
