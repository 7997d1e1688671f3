#!/bin/bash
# Under QEMU's user mode posix_spawn(3) of a program that does not exist reports success. The C library starts
# the child with CLONE_VM | CLONE_VFORK and reads the child's errno out of the memory that both share. QEMU
# answers such a clone with fork(2): the child has a copy, so its errno never arrives, and the caller gets the
# number of a process that ends at once with status 127. A program that falls back to another one when a
# spawn fails (ENOENT) therefore takes another branch than on a board. vfork(2) followed by execve(2), as
# Python's subprocess does it, is not affected: it reports through a pipe.
#
# Versions: qemu-user-static 1:7.2+dfsg (Debian 12), guest Debian 12 armhf, python3.11-minimal.
#
# Seen, with the same Python file:
#   QEMU:  posix_spawn: no error, child ended with 127; subprocess: FileNotFoundError
#   native: posix_spawn: FileNotFoundError;             subprocess: FileNotFoundError
#
# Needs apt-get and dpkg of Debian 12 on amd64, and a python3. Exit status: 0 as described, 1 if that has
# changed, 77 if something is missing.
set -u
command -v apt-get dpkg python3 >/dev/null || { echo "needs apt-get, dpkg, python3"; exit 77; }
W=$(mktemp -d) || exit 77
trap 'rm -rf "$W"' EXIT
mkdir -p "$W"/{lists/partial,cache/archives/partial,armhf,qemu}
: >"$W/status"
APT=(-q -o "Dir::State::lists=$W/lists" -o "Dir::Cache=$W/cache" -o "Dir::State::status=$W/status" -o APT::Sandbox::User=root)
GUEST=("${APT[@]}" -o APT::Architecture=armhf -o APT::Architectures=armhf)
# One list of several may be missing for a while; the downloads say whether that matters.
apt-get "${GUEST[@]}" update >/dev/null 2>&1
(cd "$W" && apt-get "${GUEST[@]}" download -t bookworm libc6 libgcc-s1 python3.11-minimal libpython3.11-minimal zlib1g libexpat1 >/dev/null 2>"$W/apt") ||
    { echo "the packages of armhf cannot be had: $(tail -1 "$W/apt")"; exit 77; }
for package in "$W"/*_armhf.deb; do dpkg -x "$package" "$W/armhf" || exit 77; done
(cd "$W/qemu" && apt-get -q download qemu-user-static >/dev/null 2>"$W/apt") || { echo "qemu-user-static cannot be had: $(tail -1 "$W/apt")"; exit 77; }
dpkg -x "$W"/qemu/*.deb "$W/qemu" || exit 77
qemu=$W/qemu/usr/bin/qemu-arm-static
"$qemu" --version | head -1 | grep "version 7\.2" || { echo "this is another version of QEMU"; exit 77; }

cat >"$W/spawn.py" <<'PY'
import os, subprocess
try:
    pid = os.posix_spawn("/no/such/program", ["x"], {})
    spawned = "no error, child ended with %d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
except OSError as error:
    spawned = type(error).__name__
try:
    subprocess.run(["/no/such/program"], close_fds=True)
    started = "no error"
except OSError as error:
    started = type(error).__name__
print("posix_spawn: %s; subprocess: %s" % (spawned, started))
PY
guest=$("$qemu" -L "$W/armhf" "$W/armhf/usr/bin/python3.11" -S "$W/spawn.py" 2>"$W/errors") || { cat "$W/errors"; exit 77; }
native=$(python3 -S "$W/spawn.py")
echo "QEMU:   $guest"
echo "native: $native"
[ "$guest" = "posix_spawn: no error, child ended with 127; subprocess: FileNotFoundError" ] &&
    [ "$native" = "posix_spawn: FileNotFoundError; subprocess: FileNotFoundError" ]
