//! Hostile inputs: valid ones, damaged in the ways that break parsers.
//!
//! Every input is a function of a seed and a number, so that a failure can be repeated from what it prints.
//! The tests try inputs for a second; `cargo xtask soak hostile/parsers` sets [`INPUTS`] and tries thousands.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Environment variable with the number of inputs to try.
pub const INPUTS: &str = "CROSSDOCK_HOSTILE_INPUTS";
/// Environment variable with the seed, 1 without it.
pub const SEED: &str = "CROSSDOCK_HOSTILE_SEED";
/// Environment variable with the number of the only input to try.
pub const ONLY: &str = "CROSSDOCK_HOSTILE_ONLY";
/// Environment variable with the path of a file that holds the input being tried, and still holds it after a
/// crash.
pub const KEPT: &str = "CROSSDOCK_HOSTILE_KEPT";

/// Without [`INPUTS`], inputs are tried for this long.
const TIME: Duration = Duration::from_secs(1);
/// An input that takes longer counts as a hang.
const HANG: Duration = Duration::from_secs(5);
/// An input that makes the process larger than this, in KiB, takes too much memory.
const MEMORY_MAX_KIB: u64 = 1024 * 1024;
/// Longest input in bytes, unless a seed is longer.
const SIZE_MAX: usize = 256 * 1024;

/// A small generator of numbers, splitmix64.
pub struct Random(u64);

impl Random {
    /// The generator for one input.
    pub fn new(seed: u64, number: u64) -> Random {
        let mut random = Random(seed);
        let start = random.next() ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        Random(start)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)] // it never ends
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The remainder is below a usize.
        (self.next() % (end.max(1) as u64)) as usize
    }

    /// One of the choices.
    pub fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

/// Integers at the borders of types, as text.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e309",
    "0x7fffffff",
    "0777777777777",
    "99999999999999999999999999999999999999999",
];

/// Integers at the borders of types, as bytes in either order, cut to the length that fits.
const BORDERS: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 63,
    u64::MAX >> 1,
    u64::MAX,
];

/// Bytes with a meaning to some parser.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\\",
    b"\\\n",
    b"\"",
    b"'",
    b"../",
    b"/../../../../",
    b"/",
    b"//",
    b".",
    b"${",
    b"}",
    b"$",
    b"[",
    b"]",
    b"{",
    b":",
    b",",
    b"=",
    b"@",
    b"@sha256:",
    b"%00",
    b"%2e%2e%2f",
    b"**/",
    b"*",
    b"?",
    b"<<EOF\n",
    b"--",
    b" ",
    b"\t",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\\u0000",
    b"\\ud800",
    b".wh.",
    b".wh..wh..opq",
    b"sha256:0000000000000000000000000000000000000000000000000000000000000000",
];

/// Damages one of the seeds in one to four ways.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    let size_max = SIZE_MAX.max(bytes.len() * 2);
    for _ in 0..=random.below(4) {
        damage(random, &mut bytes, seeds);
        bytes.truncate(size_max);
    }
    bytes
}

fn damage(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let length = match random.below(3) {
        0 => random.below(8),
        1 => random.below(64),
        _ => random.below(bytes.len() + 1),
    };
    let range = at..(at + length).min(bytes.len());
    match random.below(16) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = random.next() as u8,
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(range)),
        5 => {
            let copy = bytes[range].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        6 | 7 => drop(bytes.splice(at..at, random.of(PIECES).iter().copied())),
        8 | 9 => replace_number(random, bytes, at),
        10 => {
            let border = random.of(BORDERS.iter().collect::<Vec<_>>().as_slice());
            let width = [1, 2, 4, 8][random.below(4)];
            let (little, big) = (border.to_le_bytes(), border.to_be_bytes());
            let value = if random.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, value.iter().copied());
        }
        // A long token.
        11 => {
            let byte = if at < bytes.len() { bytes[at] } else { b'a' };
            let count = 1 << random.below(17);
            bytes.splice(at..at, std::iter::repeat_n(byte, count));
        }
        // Deep nesting.
        12 => {
            let open: &[u8] =
                random.of(&[&b"["[..], b"{\"a\":", b"(", b"${a:-", b"\"", b"a/", b"../", b"\\"]);
            bytes.splice(at..at, open.repeat(1 << random.below(14)));
        }
        // Two inputs in one.
        13 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        14 => {
            for byte in &mut bytes[range] {
                *byte = random.next() as u8;
            }
        }
        _ => bytes[range].fill(0),
    }
}

/// Replaces the first run of digits after `at` with a number at some border.
fn replace_number(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(start..start + length, random.of(NUMBERS).bytes());
}

/// Tries damaged seeds on `body`, which accepts or refuses them: it must not panic, take longer than five
/// seconds or need a gigabyte. `body` checks what else must hold, and panics where it does not.
pub fn try_inputs(name: &str, seeds: &[Vec<u8>], body: impl Fn(&[u8])) {
    try_numbered(name, |random| mutate(random, seeds), body);
}

/// Like [`try_inputs`], with inputs made by `make`.
pub fn try_numbered(name: &str, make: impl Fn(&mut Random) -> Vec<u8>, body: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number(SEED).unwrap_or(1);
    let inputs = number(INPUTS);
    let kept = std::env::var_os(KEPT).map(PathBuf::from);
    let numbers = match number(ONLY) {
        Some(only) => only..=only,
        None => 0..=inputs.unwrap_or(u64::MAX).saturating_sub(1),
    };
    let started = Instant::now();
    let watch = Watch::default();
    std::thread::scope(|scope| {
        let _end = Ended(&watch);
        scope.spawn(|| watch.over(name, seed));
        for number in numbers {
            let input = make(&mut Random::new(seed, number));
            if let Some(kept) = &kept {
                std::fs::write(kept, &input).expect("room for the input");
            }
            watch.begin(number);
            let result = catch_unwind(AssertUnwindSafe(|| body(&input)));
            watch.idle.store(true, Ordering::SeqCst);
            let repeat = format!("{name}: input {number} of seed {seed}, {}", shown(&input));
            if let Err(panic) = result {
                eprintln!("{repeat} panics");
                resume_unwind(panic);
            }
            let peak = peak_kib();
            assert!(peak < MEMORY_MAX_KIB, "{repeat}: {peak} KiB of memory");
            if inputs.is_none() && started.elapsed() > TIME {
                break;
            }
        }
    });
}

/// The input that is being tried, and since when.
struct Watch {
    start: Instant,
    number: AtomicU64,
    /// Milliseconds after `start`.
    since: AtomicU64,
    idle: AtomicBool,
    ended: AtomicBool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            start: Instant::now(),
            number: AtomicU64::new(0),
            since: AtomicU64::new(0),
            idle: AtomicBool::new(true),
            ended: AtomicBool::new(false),
        }
    }
}

impl Watch {
    fn milliseconds(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).expect("no test runs for ages")
    }

    fn begin(&self, number: u64) {
        self.number.store(number, Ordering::SeqCst);
        self.since.store(self.milliseconds(), Ordering::SeqCst);
        self.idle.store(false, Ordering::SeqCst);
    }

    /// A thread that hangs cannot be ended, so the whole process is.
    fn over(&self, name: &str, seed: u64) {
        let limit = u64::try_from(HANG.as_millis()).expect("some seconds");
        while !self.ended.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(20));
            let taken = self.milliseconds().saturating_sub(self.since.load(Ordering::SeqCst));
            if !self.idle.load(Ordering::SeqCst) && taken > limit {
                let number = self.number.load(Ordering::SeqCst);
                // Not by a macro, whose output the test harness keeps until the test ends.
                let _ = writeln!(std::io::stderr(), "{name}: input {number} of seed {seed} hangs");
                std::process::abort();
            }
        }
    }
}

/// Ends the watch even when an input panics.
struct Ended<'a>(&'a Watch);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

/// The beginning of an input.
fn shown(input: &[u8]) -> String {
    let head = &input[..input.len().min(120)];
    format!("{} bytes, \"{}\"", input.len(), head.escape_ascii())
}

/// Peak memory of this process in KiB, proc_pid_status(5).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Texts as seeds.
pub fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
