#!/bin/bash
# QEMU's user mode for riscv64 writes to x0, the register that always reads as zero: AMOCAS.W (Zacas) with x0 as its
# destination leaves there what was in memory, and the instructions behind it read that as zero. A compiler chooses x0
# for a compare-and-swap from zero whose old value nobody wants.
#
# Version: qemu-user 1:10.0.13+ds-0+deb13u1 (Debian 13), -cpu max.
#
# Seen, with 7 in memory, which is not 0 and so stays:
#   x0 + x0 behind AMOCAS.W x0, t1, (t0): 14
#
# Needs apt-get and dpkg of Debian on amd64, the keyring of Debian's archive, and binutils-riscv64-linux-gnu in the
# machine's own suite. Exit status: 0 as described, 1 if that has changed, 77 if something is missing.
set -u
command -v apt-get dpkg >/dev/null || { echo "needs apt-get and dpkg"; exit 77; }
W=$(mktemp -d) || exit 77
trap 'rm -rf "$W"' EXIT
mkdir -p "$W"/{lists/partial,cache/archives/partial,none,qemu,tools}
: >"$W/status"
mirror=$(apt-get indextargets --format '$(SITE)' 'Identifier: Packages' | grep -m1 '/debian/\?$')
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$W/sources"
APT=(-q -o "Dir::State::Lists=$W/lists" -o "Dir::Cache=$W/cache" -o "Dir::State::Status=$W/status" -o "Dir::Etc::SourceList=$W/sources"
    -o "Dir::Etc::SourceParts=$W/none" -o "Dir::Etc::PreferencesParts=$W/none" -o APT::Sandbox::User=root)
apt-get "${APT[@]}" update >/dev/null 2>"$W/apt"
(cd "$W/qemu" && apt-get "${APT[@]}" download qemu-user >/dev/null 2>"$W/apt") || { echo "qemu-user cannot be had: $(tail -1 "$W/apt")"; exit 77; }
(cd "$W/tools" && apt-get -q download binutils-riscv64-linux-gnu >/dev/null 2>"$W/apt") || { echo "binutils cannot be had: $(tail -1 "$W/apt")"; exit 77; }
for package in "$W"/qemu/*.deb; do dpkg -x "$package" "$W/qemu" || exit 77; done
for package in "$W"/tools/*.deb; do dpkg -x "$package" "$W/tools" || exit 77; done
qemu=$W/qemu/usr/bin/qemu-riscv64
"$qemu" --version | head -1 | grep "version 10\.0\.13" || { echo "this is another version of QEMU"; exit 77; }
export LD_LIBRARY_PATH=$W/tools/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

cat >"$W/zero.s" <<'S'
    .globl _start
_start:
    li a7, 93                           # exit(a0); behind the AMOCAS this would load 100
    la t0, word
    li t1, 9
    .insn r 0x2f, 2, 0x14, x0, t0, t1   # amocas.w x0, t1, (t0)
    add a0, x0, x0
    ecall
    .data
    .align 2
word: .word 7
S
bin=$W/tools/usr/bin/riscv64-linux-gnu
"$bin-as" -march=rv64gc -o "$W/zero.o" "$W/zero.s" && "$bin-ld" -o "$W/zero" "$W/zero.o" || { echo "the program cannot be built"; exit 77; }
"$qemu" -cpu max "$W/zero"
sum=$?
echo "x0 + x0 behind AMOCAS.W x0, t1, (t0): $sum"
[ "$sum" = 14 ]
