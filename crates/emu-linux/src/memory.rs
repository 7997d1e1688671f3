//! Calls that map memory: as the host's, but never over the emulator's own part; and brk.

use crate::lock::{Held, Lock};
use crate::region::{self, MAP_FIXED_NOREPLACE, is_guest};
use crate::sys::{errno, nr};
use crate::syscall;
use crate::task::CHANGES;

const PAGE: u64 = 4096;
const MAP_FIXED: u64 = 0x10;
const MAP_32BIT: u64 = 0x40;
const MREMAP_FIXED: u64 = 2;
/// Read, write, execute, and growth; arm64 has others (BTI, MTE) that the host does not know.
const PROTECTION: u64 = 7 | 0x0300_0000;
const PROT_BTI: u64 = 0x10;

/// The program break.
#[derive(Debug)]
pub(crate) struct Break {
    start: u64,
    now: u64,
}

static BREAK: Lock<Break> = Lock::new(Break { start: 0, now: 0 });

pub(crate) fn set_break(address: u64) {
    *BREAK.lock() = Break { start: address, now: address };
}

/// Keeps it consistent, for a fork.
pub(crate) fn hold() -> Held<'static, Break> {
    BREAK.lock()
}

fn result(value: i64) -> Result<i64, i64> {
    if value < 0 && value > -4096 { Err(value) } else { Ok(value) }
}

fn changed(start: u64, length: u64) {
    // Whatever the guest gives: more than there is means everything from there on.
    let length = length.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    CHANGES.invalidate(start..start.saturating_add(length));
}

/// brk(2): the old break where it cannot be moved.
pub fn brk(wanted: u64) -> i64 {
    let mut heap = BREAK.lock();
    if wanted < heap.start || wanted >= region::start() {
        return heap.now as i64;
    }
    let (old_end, new_end) = (heap.now.next_multiple_of(PAGE), wanted.next_multiple_of(PAGE));
    if new_end > old_end {
        let length = new_end - old_end;
        if !is_guest(old_end, length) {
            return heap.now as i64;
        }
        let flags = region::MAP_PRIVATE | region::MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
        // SAFETY: replaces nothing.
        let got = unsafe { syscall!(nr::MMAP, old_end, length, 3, flags, u64::MAX, 0) };
        if got != old_end as i64 {
            return heap.now as i64;
        }
    } else if new_end < old_end {
        // SAFETY: part of the guest's heap.
        unsafe { syscall!(nr::MUNMAP, new_end, old_end - new_end) };
        changed(new_end, old_end - new_end);
    }
    heap.now = wanted;
    wanted as i64
}

/// mmap(2).
pub fn mmap([address, length, prot, flags, descriptor, offset]: [u64; 6]) -> Result<i64, i64> {
    let fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
    let pages = length.checked_next_multiple_of(PAGE).ok_or(errno::ENOMEM)?;
    let mut address = address;
    if !is_guest(address, pages) {
        if fixed {
            return Err(errno::ENOMEM);
        }
        address = 0;
    }
    let prot = if prot & PROT_BTI != 0 { prot & !PROT_BTI } else { prot };
    // SAFETY: guest memory only, see above; without an address the kernel finds a place below our region.
    let got =
        result(unsafe { syscall!(nr::MMAP, address, length, prot, flags & !MAP_32BIT, descriptor, offset) })?;
    if !is_guest(got as u64, pages) {
        // SAFETY: just made.
        unsafe { syscall!(nr::MUNMAP, got, length) };
        return Err(errno::ENOMEM);
    }
    if fixed {
        changed(got as u64, pages);
    }
    Ok(got)
}

/// munmap(2).
pub fn munmap(address: u64, length: u64) -> Result<i64, i64> {
    if !is_guest(address, length) {
        return Err(errno::EINVAL);
    }
    // SAFETY: guest memory.
    let got = result(unsafe { syscall!(nr::MUNMAP, address, length) });
    changed(address, length);
    got
}

/// mprotect(2), and pkey_mprotect(2) without key.
pub fn mprotect(address: u64, length: u64, prot: u64) -> Result<i64, i64> {
    if !is_guest(address, length) {
        return Err(errno::ENOMEM);
    }
    if prot & !(PROTECTION | PROT_BTI) != 0 {
        return Err(errno::EINVAL);
    }
    // SAFETY: guest memory.
    let got = result(unsafe { syscall!(nr::MPROTECT, address, length, prot & PROTECTION) });
    changed(address, length);
    got
}

/// mremap(2).
pub fn mremap([old, old_length, new_length, flags, new, _]: [u64; 6]) -> Result<i64, i64> {
    if !is_guest(old, old_length) {
        return Err(errno::EFAULT);
    }
    if flags & MREMAP_FIXED != 0 && !is_guest(new, new_length) {
        return Err(errno::EINVAL);
    }
    // SAFETY: guest memory; the kernel's own choice is below our region.
    let got = result(unsafe { syscall!(nr::MREMAP, old, old_length, new_length, flags, new) })?;
    changed(old, old_length);
    changed(got as u64, new_length);
    Ok(got)
}

/// shmat(2).
pub fn shmat(id: u64, address: u64, flags: u64) -> Result<i64, i64> {
    if address >= region::start() {
        return Err(errno::EINVAL);
    }
    // SAFETY: guest memory; a segment that reached into our region would need SHM_REMAP and is refused below.
    const SHM_REMAP: u64 = 0o40_000;
    if flags & SHM_REMAP != 0 && address != 0 {
        return Err(errno::EINVAL);
    }
    // SAFETY: without SHM_REMAP nothing is replaced.
    result(unsafe { syscall!(nr::SHMAT, id, address, flags) })
}

/// madvise(2), mlock(2) and others that take a range: whether it is the guest's.
pub fn check(address: u64, length: u64) -> Result<(), i64> {
    if is_guest(address, length) { Ok(()) } else { Err(errno::ENOMEM) }
}

/// The heap that brk made.
pub(crate) fn range() -> core::ops::Range<u64> {
    let heap = BREAK.lock();
    heap.start & !(PAGE - 1)..heap.now.next_multiple_of(PAGE)
}
