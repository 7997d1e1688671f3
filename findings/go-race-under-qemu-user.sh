#!/bin/bash
# A program for arm64 that `go build -race` made does not start under QEMU's user mode, though the same program
# without -race does, and so does one of gcc -fsanitize=thread, which has the same run-time library. The library
# counts the bits of the address of the first thread's stack. gcc's accepts the 39 bits that a stack has under
# QEMU; the one that Go brings for arm64 accepts only 48. So tests that run with -race on a machine end before
# main under emulation. (gcc's starts itself again if addresses are random, which QEMU without a handler for
# arm64 cannot do; setarch -R avoids that, and changes nothing for Go's.)
#
# Versions: golang-1.19 1.19.8, gcc-12-aarch64-linux-gnu, qemu-user-static 1:7.2+dfsg (Debian 12).
#
# Seen:
#   plain: started
#   race:  FATAL: ThreadSanitizer: unsupported VMA range / FATAL: Found 39 - Supported 48; exit status 66
#   tsan:  started
#
# Needs apt-get, dpkg and setarch of Debian 12 on amd64. Exit status: 0 as described, 1 if that has changed, 77 if
# something is missing.
set -u
command -v apt-get dpkg setarch >/dev/null || { echo "needs apt-get, dpkg and setarch"; exit 77; }
W=$(mktemp -d) || exit 77
trap 'chmod -R u+w "$W"; rm -rf "$W"' EXIT
R=$W/root
mkdir -p "$R" "$W/packages"
(cd "$W/packages" && apt-get -q download golang-1.19-go golang-1.19-src binutils-aarch64-linux-gnu \
    gcc-12-aarch64-linux-gnu cpp-12-aarch64-linux-gnu libgcc-12-dev-arm64-cross libgcc-s1-arm64-cross \
    libtsan2-arm64-cross libc6-arm64-cross libc6-dev-arm64-cross linux-libc-dev-arm64-cross \
    libstdc++6-arm64-cross libisl23 libmpc3 libmpfr6 libgmp10 qemu-user-static >/dev/null 2>"$W/apt") ||
    { echo "the packages cannot be had: $(tail -1 "$W/apt")"; exit 77; }
for package in "$W"/packages/*.deb; do dpkg -x "$package" "$R" || exit 77; done
L=$R/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH=$L${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
qemu=$R/usr/bin/qemu-aarch64-static
"$qemu" --version | head -1 | grep "version 7\.2" || { echo "this is another version of QEMU"; exit 77; }
gcc="$R/usr/bin/aarch64-linux-gnu-gcc-12 --sysroot=$R"

cat >"$W/main.go" <<'GO'
package main

func main() { println("started") }
GO
cat >"$W/main.c" <<'C'
#include <stdio.h>
int main(void) { fputs("started\n", stderr); return 0; }
C
# Debian keeps the library and its sources in two places, joined by links below the root directory.
mkdir -p "$W/go" && cp -rL "$R"/usr/share/go-1.19/. "$W/go/" 2>/dev/null
cp -r "$R"/usr/lib/go-1.19/. "$W/go/" 2>/dev/null
export GOROOT=$W/go GOCACHE=$W/cache GO111MODULE=off GOTOOLCHAIN=local GOFLAGS= GOOS=linux GOARCH=arm64 CGO_ENABLED=1 CC=$gcc
cd "$W" || exit 77
"$W/go/bin/go" build -o plain main.go && "$W/go/bin/go" build -race -o race main.go &&
    $gcc -fsanitize=thread -o tsan main.c || { echo "the programs cannot be built"; exit 77; }
for program in plain race tsan; do
    setarch -R "$qemu" -L "$R/usr/aarch64-linux-gnu" "./$program" >"$program.out" 2>&1
    echo "$program: exit status $?: $(paste -s -d/ "$program.out")" | tee "$program.said"
done
grep -qx "plain: exit status 0: started" plain.said &&
    grep -q "^race: exit status 66: FATAL: ThreadSanitizer: unsupported VMA range/FATAL: Found 39 - Supported 48" race.said &&
    grep -qx "tsan: exit status 0: started" tsan.said
