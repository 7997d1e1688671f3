#!/bin/bash
# For root, `test -w FILE` of busybox 1.35.0 is true on a file system that is mounted read-only, where a write
# fails with EROFS. dash 0.5.12 and coreutils 9.1 say no, as POSIX' words ("permission to write to the file will
# be granted") suggest. A script with `if [ -w FILE ]` therefore takes another branch in images whose shell is
# busybox than in Debian's, wherever a bind mount of a RUN step or a container is read-only, and fails at the
# write that it has asked about.
#
# Seen:
#   busybox: read-only file is writable; write fails: Read-only file system
#   dash: read-only file is not writable
#   coreutils: read-only file is not writable
#
# Needs root, apt-get, dpkg and unshare (util-linux). Exit status: 0 as described, 1 if that has changed, 77 if
# something is missing.
set -u
PACKAGES="busybox-static=1:1.35.0-4+deb12u1+b1 dash=0.5.12-2 coreutils=9.1-1"
[ "$(id -u)" = 0 ] && command -v unshare apt-get dpkg >/dev/null || { echo "needs root, util-linux, apt-get"; exit 77; }
W=$(mktemp -d) || exit 77
chmod 755 "$W"
trap 'rm -rf "$W"' EXIT
(cd "$W" && apt-get download -q $PACKAGES >/dev/null 2>"$W/apt") || { echo "packages cannot be had: $(tail -1 "$W/apt")"; exit 77; }
for deb in "$W"/*.deb; do dpkg -x "$deb" "$W/root" || exit 77; done
mkdir "$W/mounted" && echo data >"$W/mounted/f" && chmod 644 "$W/mounted/f"
root=$W/root
dash=$(find "$root" -name dash -type f -perm -1 | head -1)
test=$(find "$root" -name test -type f -perm -1 | head -1)
[ -x "$dash" ] && [ -x "$test" ] && [ -x "$root/bin/busybox" ] || { echo "a package has no program where it was"; exit 77; }

# A mount namespace of its own, with the directory read-only.
inside() { unshare --mount sh -c 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77; cd "$1"; shift; "$@"' sh "$W/mounted" "$@"; }
inside true || { echo "cannot mount"; exit 77; }
word() { [ "$1" = 0 ] && echo "is writable" || echo "is not writable"; }
inside "$root/bin/busybox" sh -c 'test -w f'; busybox=$?
wrote=$(inside "$root/bin/busybox" sh -c 'echo x >f' 2>&1); write=$?
inside "$dash" -c 'test -w f'; of_dash=$?
inside "$test" -w f; of_coreutils=$?
echo "busybox: read-only file $(word $busybox); write fails: ${wrote##*: }"
echo "dash: read-only file $(word $of_dash)"
echo "coreutils: read-only file $(word $of_coreutils)"
[ "$busybox" = 0 ] && [ "$write" != 0 ] && [ "$of_dash" = 1 ] && [ "$of_coreutils" = 1 ]
