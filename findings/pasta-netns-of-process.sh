#!/bin/bash
# pasta (Debian 12, passt 0.0~git20230309.7c7625d-1) cannot join the network namespace of a process that
# root has started, although root runs it and asks it to stay root (--runas 0:0). It gives up its
# capabilities before it opens the path, and the kernel shows /proc/PID/ns of a process only to those who
# have as many (ptrace(2), PTRACE_MODE_READ). The message names no reason. The same namespace by a file that
# it is bound to (as `ip netns add` makes one) works, and so does slirp4netns with the path in /proc.
#
# Seen:
#   Couldn't open network namespace /proc/PID/ns/net      (exit status 1)
#   with the bound file: exit status 0
#
# Needs root, apt-get, unshare and nsenter (util-linux) and /dev/net/tun. Exit status: 0 as described, 1 if
# that has changed, 77 if something is missing.
set -u
VERSION=0.0~git20230309.7c7625d-1
[ "$(id -u)" = 0 ] && [ -c /dev/net/tun ] && command -v unshare apt-get dpkg >/dev/null || { echo "needs root, /dev/net/tun, util-linux, apt-get"; exit 77; }
W=$(mktemp -d) || exit 77
chmod 755 "$W"
cleanup() { [ -n "${pid:-}" ] && kill "$pid" 2>/dev/null; umount -l "$W/bound" 2>/dev/null; rm -rf "$W"; }
trap cleanup EXIT
(cd "$W" && apt-get download -q "passt=$VERSION" >/dev/null 2>"$W/apt") || { echo "passt $VERSION cannot be had: $(tail -1 "$W/apt")"; exit 77; }
dpkg -x "$W"/passt_*.deb "$W/passt" || exit 77
pasta=$W/passt/usr/bin/pasta

unshare --net sleep 60 & pid=$!
for _ in $(seq 50); do
    [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break
    sleep 0.1
done
touch "$W/bound" && mount --bind "/proc/$pid/ns/net" "$W/bound" || exit 77

join() { timeout 10 "$pasta" --runas 0:0 --config-net --netns "$1" -t none -u none -T none -U none --pid "$W/pid" >"$W/said" 2>&1; }
join "/proc/$pid/ns/net"; by_process=$?
grep -v syslog "$W/said"
grep -q "Couldn't open network namespace /proc/$pid/ns/net" "$W/said"; told=$?
join "$W/bound"; by_file=$?
grep -v syslog "$W/said"
[ -s "$W/pid" ] && kill "$(cat "$W/pid")" 2>/dev/null
echo "path in /proc: $by_process, bound file: $by_file"
[ "$by_process" != 0 ] && [ "$told" = 0 ] && [ "$by_file" = 0 ]
