#!/bin/bash
# Linux forgets all handlers of binfmt_misc when the file system is unmounted for the last time, also those
# that were registered with flag F, whose emulator the kernel has open. A container that mounts binfmt_misc,
# registers an emulator and ends has thus registered nothing where the machine itself has it not mounted (no
# systemd, or its automount never touched); while it runs, and in its own output, all is well. The kernel's
# Documentation/admin-guide/binfmt-misc.rst does not say so. One more mount of the same instance, anywhere,
# keeps the handlers.
#
# Seen with Linux 6.18, handler of qemu-user-static 1:7.2+dfsg-7+deb12u18+b3 for aarch64:
#   registered: enabled
#   unmounted and mounted again: gone
#   the same with a second mount: enabled
#
# Needs apt-get, dpkg, unshare (util-linux) and, so that nothing of this machine changes, Linux 6.7 with user
# namespaces, each of which may have an instance of its own. Exit status: 0 as described, 1 if that has
# changed, 77 if something is missing.
set -u
VERSION=1:7.2+dfsg-7+deb12u18+b3
command -v unshare apt-get dpkg >/dev/null || { echo "needs util-linux, apt-get, dpkg"; exit 77; }
W=$(mktemp -d) || exit 77
chmod 755 "$W"
trap 'rm -rf "$W"' EXIT
(cd "$W" && apt-get download -q "qemu-user-static=$VERSION" >/dev/null 2>"$W/apt") || { echo "qemu-user-static $VERSION cannot be had: $(tail -1 "$W/apt")"; exit 77; }
dpkg -x "$W"/qemu-user-static_*.deb "$W/qemu" || exit 77

cat > "$W/inside.sh" <<'EOF'
at=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc none $at 2>/dev/null || exit 77
magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
register() { printf '%s' ":finding:M::$magic:$mask:$1:F" > $at/register || exit 77; }
state() { head -n 1 $at/finding 2>/dev/null || echo gone; }
register "$1"; echo "registered: $(state)"
umount $at && mount -t binfmt_misc none $at || exit 77
echo "unmounted and mounted again: $(state)"
[ -e $at/finding ] || register "$1"
mkdir -p "$2" && mount -t binfmt_misc none "$2" || exit 77
umount $at && mount -t binfmt_misc none $at || exit 77
echo "the same with a second mount: $(state)"
EOF
unshare --user --map-root-user --mount sh "$W/inside.sh" "$W/qemu/usr/bin/qemu-aarch64-static" "$W/second" > "$W/seen" || { echo "no binfmt_misc of a user namespace here (Linux 6.7)"; exit 77; }
cat "$W/seen"
printf 'registered: enabled\nunmounted and mounted again: gone\nthe same with a second mount: enabled\n' | cmp -s - "$W/seen"
