#!/bin/bash
# rustix 1.1.6: `Dir::read_from` opens "." of the given descriptor again with the status flags of that descriptor. Of
# a descriptor with O_PATH the new one has O_PATH, too, so no entry can be read: the call succeeds, and the first
# entry is the error EBADF. `openat(fd, ".", RDONLY | DIRECTORY)` and `Dir::new` read the same directory.
# fsmount(2) and open_tree(2) return such descriptors; code that takes an error for "nothing there" finds every
# directory of a mount empty that it holds this way.
#
# Seen:
#   a descriptor that reads: 1 entry
#   O_PATH, Dir::read_from: made; first entry: Bad file descriptor (os error 9)
#   O_PATH, openat and Dir::new: 1 entry
#
# Needs cargo and the registry of crates. Exit status: 0 as described, 1 if that has changed, 77 if something is
# missing.
set -u
command -v cargo >/dev/null || { echo "needs cargo"; exit 77; }
W=$(mktemp -d) || exit 77
trap 'rm -rf "$W"' EXIT
mkdir -p "$W/src" "$W/listed" && : >"$W/listed/file"
cat >"$W/Cargo.toml" <<'TOML'
[package]
name = "listing"
version = "0.1.0"
edition = "2021"
[dependencies]
rustix = { version = "=1.1.6", features = ["fs"] }
TOML
cat >"$W/src/main.rs" <<'RUST'
use rustix::fs::{openat, Dir, Mode, OFlags, CWD};

/// The entries but "." and "..", or the first error.
fn entries(dir: Dir) -> Result<usize, rustix::io::Errno> {
    let mut count = 0;
    for entry in dir {
        count += usize::from(!entry?.file_name().to_bytes().starts_with(b"."));
    }
    Ok(count)
}

fn main() {
    let place = std::env::args().nth(1).expect("a directory");
    let open = |flags| openat(CWD, place.as_str(), flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (reads, path) = (open(OFlags::RDONLY).expect("open"), open(OFlags::PATH).expect("open"));
    let count = entries(Dir::read_from(&reads).expect("read_from")).expect("entries");
    println!("a descriptor that reads: {count} entry");
    match Dir::read_from(&path).map(entries) {
        Ok(Err(error)) => println!("O_PATH, Dir::read_from: made; first entry: {error}"),
        other => println!("O_PATH, Dir::read_from: {other:?}"),
    }
    let again = openat(&path, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open");
    let count = entries(Dir::new(again).expect("new")).expect("entries");
    println!("O_PATH, openat and Dir::new: {count} entry");
}
RUST
(cd "$W" && cargo build -q 2>"$W/log") || { echo "cannot be built: $(tail -1 "$W/log")"; exit 77; }
program=$(find "$W/target" -name listing -type f -perm -1 | head -1)
said=$("$program" "$W/listed")
echo "$said"
[ "$said" = "a descriptor that reads: 1 entry
O_PATH, Dir::read_from: made; first entry: Bad file descriptor (os error 9)
O_PATH, openat and Dir::new: 1 entry" ]
