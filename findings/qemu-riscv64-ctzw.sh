#!/bin/bash
# CTZW (RISC-V, Zbb) counts the zeros at the end of the lower 32 bits of its operand, and gives 32 if they are all
# zero. QEMU 7.2 counts on in the upper half, so the result may be anything up to 63. Compilers emit CTZW for
# __builtin_ctz of a value whose upper half they need not clear. QEMU 10.0.13 gives 32.
#
# Version: qemu-user-static 1:7.2+dfsg (Debian 12).
#
# Seen:
#   ctzw of 0xf000000000: 36
#
# Needs apt-get and dpkg of Debian 12 on amd64. Exit status: 0 as described, 1 if that has changed, 77 if something is
# missing.
set -u
command -v apt-get dpkg >/dev/null || { echo "needs apt-get and dpkg"; exit 77; }
W=$(mktemp -d) || exit 77
trap 'rm -rf "$W"' EXIT
mkdir "$W/unpacked"
(cd "$W" && apt-get -q download qemu-user-static binutils-riscv64-linux-gnu >/dev/null 2>"$W/apt") ||
    { echo "the packages cannot be had: $(tail -1 "$W/apt")"; exit 77; }
for package in "$W"/*.deb; do dpkg -x "$package" "$W/unpacked" || exit 77; done
qemu=$W/unpacked/usr/bin/qemu-riscv64-static
"$qemu" --version | head -1 | grep "version 7\.2" || { echo "this is another version of QEMU"; exit 77; }
export LD_LIBRARY_PATH=$W/unpacked/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

cat >"$W/ctzw.s" <<'S'
    .globl _start
_start:
    li t0, 0xf000000000
    .insn i 0x1b, 1, a0, t0, 0x601      # ctzw a0, t0
    li a7, 93                           # exit(a0)
    ecall
S
bin=$W/unpacked/usr/bin/riscv64-linux-gnu
"$bin-as" -march=rv64gc -o "$W/ctzw.o" "$W/ctzw.s" && "$bin-ld" -o "$W/ctzw" "$W/ctzw.o" || { echo "the program cannot be built"; exit 77; }
"$qemu" "$W/ctzw"
zeros=$?
echo "ctzw of 0xf000000000: $zeros"
[ "$zeros" = 36 ]
