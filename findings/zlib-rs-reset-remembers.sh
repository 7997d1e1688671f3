#!/bin/bash
# zlib-rs 0.6.8 (by flate2 1.1.11 with its feature "zlib-rs"): a `Compress` that was `reset` does not give the bytes
# that a new one gives. Where a dictionary is set behind the reset (`set_dictionary`, for parts of a stream that are
# compressed side by side, as pigz does), one part of some dozens differs, with the same input, level and flush, and
# room for all of the output. What the compressor had been used for before decides. All results are valid and
# decompress to the input, so no round trip shows it; whoever expects the same bytes for the same input (digests of
# layers, reproducible archives) must make a new compressor for each part. zlib (flate2's feature "zlib") gives
# the same bytes in both cases.
#
# Seen:
#   zlib-rs: new and new: 0 of 600 parts differ; new and reset: some do
#   zlib: new and new: 0 of 600 parts differ; new and reset: none do
#
# Needs cargo, a C compiler, and the registry of crates. Exit status: 0 as described, 1 if that has changed, 77 if
# something is missing.
set -u
command -v cargo >/dev/null && command -v cc >/dev/null || { echo "needs cargo and cc"; exit 77; }
W=$(mktemp -d) || exit 77
trap 'rm -rf "$W"' EXIT
mkdir -p "$W/src"
cat >"$W/src/main.rs" <<'RUST'
use flate2::{Compress, Compression, FlushCompress};

const WINDOW: usize = 32 * 1024;

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Words of some hundred, with numbers between them.
fn text(length: usize) -> Vec<u8> {
    let mut state = 1;
    let words: Vec<Vec<u8>> = (0..400)
        .map(|_| (0..2 + random(&mut state) % 7).map(|_| b'a' + (random(&mut state) % 26) as u8).collect())
        .collect();
    let mut text = Vec::new();
    while text.len() < length {
        text.extend(&words[(random(&mut state) % 400) as usize]);
        if random(&mut state) % 3 == 0 {
            text.extend(random(&mut state).to_le_bytes());
        }
        text.push(b' ');
    }
    text
}

/// Compresses a part of `data`, which may refer to the bytes before it.
fn compress(deflate: &mut Compress, data: &[u8], start: usize, length: usize) -> Vec<u8> {
    deflate.set_dictionary(&data[start - WINDOW..start]).expect("set_dictionary");
    let mut out = Vec::with_capacity(2 * length + 1024);
    deflate.compress_vec(&data[start..start + length], &mut out, FlushCompress::Sync).expect("compress");
    assert_eq!(deflate.total_in(), length as u64);
    out
}

fn main() {
    let data = text(600_000);
    let (mut news, mut resets, mut total) = (0, 0, 0);
    for level in [2, 6] {
        let new = || Compress::new(Compression::new(level), false);
        let mut used = new();
        for length in [5_000, 30_000, 60_000] {
            for n in 0..100 {
                let start = WINDOW + n * 5_003;
                let one = compress(&mut new(), &data, start, length);
                news += usize::from(compress(&mut new(), &data, start, length) != one);
                used.reset();
                resets += usize::from(compress(&mut used, &data, start, length) != one);
                total += 1;
            }
        }
    }
    eprintln!("{resets}");
    println!("new and new: {news} of {total} parts differ; new and reset: {}", if resets > 0 { "some do" } else { "none do" });
}
RUST
run() {
  cat >"$W/Cargo.toml" <<TOML
[package]
name = "parts"
version = "0.1.0"
edition = "2021"
[dependencies]
flate2 = { version = "=1.1.11", default-features = false, features = ["$1"] }
$2
TOML
  (cd "$W" && cargo build -q --release 2>"$W/log") || { echo "cannot be built: $(tail -1 "$W/log")"; exit 77; }
  echo "$1: $("$(find "$W/target" -name parts -type f -perm -1 -path '*release/parts' | head -1)")"
}
said=$(run zlib-rs 'zlib-rs = "=0.6.8"'; run zlib 'libz-sys = "=1.1.28"')
echo "$said"
[ "$said" = "zlib-rs: new and new: 0 of 600 parts differ; new and reset: some do
zlib: new and new: 0 of 600 parts differ; new and reset: none do" ]
