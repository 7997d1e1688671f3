//! The host's vDSO: the time without a system call (vdso(7)).

use crate::sys::process;
use core::sync::atomic::{AtomicU64, Ordering};

/// Address of `__vdso_clock_gettime`; 0 if there is none.
static CLOCK_GETTIME: AtomicU64 = AtomicU64::new(0);

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;

/// Looks up the function; `base` is AT_SYSINFO_EHDR, or 0.
pub(crate) fn init(base: u64) {
    if base != 0 {
        CLOCK_GETTIME.store(find(base, b"__vdso_clock_gettime\0").unwrap_or(0), Ordering::Relaxed);
    }
}

fn find(base: u64, name: &[u8]) -> Option<u64> {
    // SAFETY: the kernel maps a whole ELF file at `base`; all offsets are its own.
    unsafe {
        let word = |at: u64| (at as *const u32).read_unaligned();
        let double = |at: u64| (at as *const u64).read_unaligned();
        let headers = base + double(base + 32);
        let count = u64::from((base as *const u16).add(28).read_unaligned());
        let (mut bias, mut dynamic) = (None, None);
        for header in (0..count).map(|n| headers + 56 * n) {
            match word(header) {
                PT_LOAD if bias.is_none() => bias = Some(base.wrapping_sub(double(header + 16))),
                PT_DYNAMIC => dynamic = Some(base + double(header + 8)),
                _ => {}
            }
        }
        let (bias, mut entry) = (bias?, dynamic?);
        let (mut hash, mut strings, mut symbols) = (0, 0, 0);
        while double(entry) != 0 {
            let value = bias.wrapping_add(double(entry + 8));
            match double(entry) {
                DT_HASH => hash = value,
                DT_STRTAB => strings = value,
                DT_SYMTAB => symbols = value,
                _ => {}
            }
            entry += 16;
        }
        if hash == 0 || strings == 0 || symbols == 0 {
            return None;
        }
        // The second word of DT_HASH is the number of symbols.
        (0..u64::from(word(hash + 4))).map(|n| symbols + 24 * n).find_map(|symbol| {
            let text = (strings + u64::from(word(symbol))) as *const u8;
            let same = name.iter().enumerate().all(|(n, &byte)| *text.add(n) == byte);
            same.then(|| bias.wrapping_add(double(symbol + 8)))
        })
    }
}

/// clock_gettime(2) by the vDSO: seconds and nanoseconds. `None` if the vDSO cannot answer.
pub(crate) fn clock_gettime(clock: u64) -> Option<[u64; 2]> {
    let address = CLOCK_GETTIME.load(Ordering::Relaxed);
    if address == 0 {
        return None;
    }
    let mut time = [0; 2];
    // SAFETY: the vDSO's function has this type; it writes the timespec given.
    let result = unsafe {
        let function: extern "C" fn(i32, *mut [u64; 2]) -> i32 = core::mem::transmute(address as usize);
        function(clock as i32, &raw mut time)
    };
    (result == 0).then_some(time)
}

/// Nanoseconds since the start of the host.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    const CLOCK_MONOTONIC: u64 = 1;
    let [seconds, nanoseconds] =
        clock_gettime(CLOCK_MONOTONIC).unwrap_or_else(|| process::time(CLOCK_MONOTONIC));
    seconds * 1_000_000_000 + nanoseconds
}
