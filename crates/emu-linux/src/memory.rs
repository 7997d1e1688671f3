//! Calls that map memory: as on the host, but never over the emulator's own part; and brk.

use crate::changes::CHANGES;
use crate::executable;
use crate::guest;
use crate::images::mapped;
use crate::lock::{self, Held, Lock};
use crate::maps;
use crate::program;
use crate::region::{self, could_be_guest, is_guest};
use crate::sys::call::checked;
use crate::sys::memory::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PAGE, PROT_NONE, PROT_READ_WRITE, lock,
    lock_all, map_new,
};
use crate::sys::{Errno, errno, nr};

const MAP_32BIT: u64 = 0x40;
const MREMAP_FIXED: u64 = 2;
/// Read, write, execute, and growth; arm64 has further bits (BTI, MTE) that the host does not know.
const PROTECTION: u64 = 7 | GROWTH;
/// PROT_GROWSDOWN and PROT_GROWSUP.
const GROWTH: u64 = 0x0300_0000;
const PROT_BTI: u64 = 0x10;
const PROT_EXEC: u64 = 4;
const PROT_WRITE: u64 = 2;

/// The program break.
#[derive(Debug)]
pub(crate) struct Break {
    start: u64,
    now: u64,
}

static BREAK: Lock<Break> = lock::new(Break { start: 0, now: 0 });

pub(crate) fn set_break(address: u64) {
    *BREAK.lock() = Break { start: address, now: address };
}

/// Keeps the break consistent, for a fork.
pub(crate) fn hold() -> Held<'static, Break> {
    BREAK.lock()
}

/// Makes a call that maps or unmaps guest memory, or unmaps what one has just mapped.
fn call(number: u64, arguments: [u64; 6]) -> Result<i64, Errno> {
    // SAFETY: callers have checked that the memory is not the emulator's, so no Rust code relies on it.
    unsafe { checked(number, arguments) }
}

/// Unmaps what one has just mapped.
fn give_up(address: u64, length: u64) {
    let _ = call(nr::MUNMAP, [address, length, 0, 0, 0, 0]);
}

fn changed(start: u64, length: u64) {
    // The guest may give any length: one that overflows means everything from `start` on.
    let length = length.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    CHANGES.invalidate(start..start.saturating_add(length));
}

/// Records that a part of memory has the rights of `prot`. Returns whether any of it was known to be
/// executable.
fn set_rights(start: u64, length: u64, prot: u64) -> bool {
    length
        .checked_next_multiple_of(PAGE)
        .is_some_and(|length| executable::set(start..start.saturating_add(length), prot & PROT_EXEC != 0))
}

/// Records that a part of memory has new contents and the rights of `prot`, and forgets its old code.
fn replaced(start: u64, length: u64, prot: u64) {
    if set_rights(start, length, prot) || executable::is_elsewhere() {
        changed(start, length);
        mapped::remove(&(start..start.saturating_add(length)));
    }
}

/// An address above all of the host's, at the same offset in its page: the kernel refuses it in place of one
/// that is not the guest's, in its usual order of checks.
fn outside(address: u64) -> u64 {
    1 << 47 | address & (PAGE - 1)
}

/// Makes room for a mapping of `length` bytes that the kernel refused. False if the reason was not a lack of
/// addresses.
fn make_room(length: u64) -> bool {
    // The break's lock lets in one thread at a time, and fork waits for it.
    let _held = BREAK.lock();
    region::is_full(length) && region::raise_limit()
}

/// Makes a call that maps `length` bytes where the kernel chooses. The kernel prefers places below the
/// region. If it finds none there, it takes one of the gaps around the host's stack: `undo` gives that back,
/// and the limit is raised as if the kernel had found nothing.
///
/// # Errors
///
/// Those of the call; ENOMEM if there is no place below the region.
fn place(length: u64, map: impl Fn() -> Result<i64, Errno>, undo: impl Fn(u64)) -> Result<i64, Errno> {
    let map = || {
        let got = map()? as u64;
        if is_guest(got, length) {
            return Ok(got as i64);
        }
        undo(got);
        Err(errno::ENOMEM)
    };
    match map() {
        Err(errno::ENOMEM) if make_room(length) => map(),
        other => other,
    }
}

/// Raises the limit if a range needs it.
pub(crate) fn reach(address: u64, length: u64) {
    if !is_guest(address, length) && could_be_guest(address, length) {
        let _held = BREAK.lock();
        region::raise_limit();
    }
}

/// brk(2): returns the old break if it cannot be moved.
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
        if map_new(old_end, length, PROT_READ_WRITE, MAP_FIXED_NOREPLACE) != Ok(old_end) {
            return heap.now as i64;
        }
    } else if new_end < old_end {
        guest::unmap(new_end..old_end);
        replaced(new_end, old_end - new_end, 0);
    }
    heap.now = wanted;
    wanted as i64
}

/// mmap(2).
pub fn mmap([address, length, prot, flags, descriptor, offset]: [u64; 6]) -> Result<i64, Errno> {
    let fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
    let pages = length.checked_next_multiple_of(PAGE).ok_or(errno::ENOMEM)?;
    let mut address = address;
    if fixed {
        reach(address, pages);
    }
    if !is_guest(address, pages) {
        address = if fixed { outside(address) } else { 0 };
    }
    let prot = if prot & PROT_BTI != 0 { prot & !PROT_BTI } else { prot };
    let rights = guest::host_rights(prot);
    let map = || call(nr::MMAP, [address, length, rights, flags & !MAP_32BIT, descriptor, offset]);
    if flags & MAP_FIXED != 0 {
        program::leaves(&(address..address.saturating_add(pages)));
    }
    let got = if fixed { map()? } else { place(pages, map, |got| give_up(got, pages))? };
    replaced(got as u64, pages, prot);
    if prot & (PROT_EXEC | PROT_WRITE) == PROT_EXEC && flags & (MAP_PRIVATE | MAP_ANONYMOUS) == MAP_PRIVATE {
        mapped::add(got as u64..got as u64 + pages, descriptor as i32, offset);
    }
    Ok(got)
}

/// munmap(2).
pub fn munmap(address: u64, length: u64) -> Result<i64, Errno> {
    if !is_guest(address, length) {
        return Err(errno::EINVAL);
    }
    program::leaves(&(address..address.saturating_add(length)));
    let got = call(nr::MUNMAP, [address, length, 0, 0, 0, 0]);
    if got.is_ok() {
        replaced(address, length, 0);
    }
    got
}

/// mprotect(2), and pkey_mprotect(2) without key.
pub fn mprotect(address: u64, length: u64, prot: u64) -> Result<i64, Errno> {
    // In the kernel's order (mm/mprotect.c, do_mprotect_pkey).
    if prot & GROWTH == GROWTH || address & (PAGE - 1) != 0 {
        return Err(errno::EINVAL);
    }
    if length == 0 {
        return Ok(0);
    }
    let end = length.checked_next_multiple_of(PAGE).and_then(|length| address.checked_add(length));
    if end.is_none_or(|end| end <= address) {
        return Err(errno::ENOMEM);
    }
    if prot & !(PROTECTION | PROT_BTI) != 0 {
        return Err(errno::EINVAL);
    }
    if !is_guest(address, length) {
        return Err(errno::ENOMEM);
    }
    // In a range with a gap, mprotect may change only a part: all of the range becomes unknown first.
    let was_known = set_rights(address, length, 0);
    let got = guest::protect(address, length, prot & PROTECTION);
    if got.is_ok() && prot & PROT_EXEC != 0 {
        set_rights(address, length, prot);
    }
    if was_known || executable::is_elsewhere() {
        changed(address, length);
        mapped::remove(&(address..address.saturating_add(length)));
    }
    got.map(|()| 0)
}

/// mremap(2).
pub fn mremap([old, old_length, new_length, flags, new, _]: [u64; 6]) -> Result<i64, Errno> {
    const MREMAP_MAYMOVE: u64 = 1;
    let old = if is_guest(old, old_length) { old } else { outside(old) };
    let fixed = flags & MREMAP_FIXED != 0;
    if fixed {
        reach(new, new_length);
        if !is_guest(new, new_length) {
            return Err(errno::EINVAL);
        }
    }
    program::leaves(&(old..old.saturating_add(old_length)));
    if fixed {
        program::leaves(&(new..new.saturating_add(new_length)));
    }
    let is_executable = executable::find_known(old);
    let remap = || call(nr::MREMAP, [old, old_length, new_length, flags, new, 0]);
    let move_back = |got| {
        // An old length of 0 makes a second mapping.
        if old_length == 0 {
            return give_up(got, new_length);
        }
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
        let _ = call(nr::MREMAP, [got, new_length, old_length, flags, old, 0]);
    };
    let may_move = flags & (MREMAP_MAYMOVE | MREMAP_FIXED) == MREMAP_MAYMOVE;
    let got = if may_move { place(new_length, remap, move_back)? } else { remap()? };
    replaced(old, old_length, 0);
    replaced(got as u64, new_length, if is_executable { PROT_EXEC } else { 0 });
    Ok(got)
}

/// Bytes of a segment of shared memory (shmctl, IPC_STAT); 0 where the guest may not know.
fn segment_size(id: u64) -> u64 {
    const IPC_STAT: u64 = 2;
    // struct shmid64_ds of x86-64: shm_segsz follows the 48 bytes of struct ipc64_perm.
    let mut status = [0; 14];
    let _ = call(nr::SHMCTL, [id, IPC_STAT, status.as_mut_ptr() as u64, 0, 0, 0]);
    status[6]
}

/// shmat(2).
pub fn shmat(id: u64, address: u64, flags: u64) -> Result<i64, Errno> {
    if address >= region::limit() {
        return Err(errno::EINVAL);
    }
    // A segment that reached into our region would need SHM_REMAP.
    const SHM_REMAP: u64 = 0o40_000;
    if flags & SHM_REMAP != 0 && address != 0 {
        return Err(errno::EINVAL);
    }
    // Without SHM_REMAP nothing is replaced.
    let attach = || call(nr::SHMAT, [id, address, flags, 0, 0, 0]);
    if address != 0 {
        return attach();
    }
    let detach = |got| {
        let _ = call(nr::SHMDT, [got, 0, 0, 0, 0, 0]);
    };
    place(segment_size(id), attach, detach)
}

/// shmdt(2). The length of the segment is not known.
pub fn shmdt(address: u64) -> Result<i64, Errno> {
    // A segment that the guest has attached: there are none of ours.
    let got = call(nr::SHMDT, [address, 0, 0, 0, 0, 0])?;
    if executable::is_elsewhere() {
        changed(address, u64::MAX);
    }
    Ok(got)
}

/// The address for a call that takes a range: the guest's own, or one that the kernel refuses.
pub(crate) fn own_range(address: u64, length: u64) -> u64 {
    if is_guest(address, length) { address } else { outside(address) }
}

/// mlockall(2): of the present mappings, locks only the guest's, which RLIMIT_MEMLOCK is for. Mappings locked
/// before an error stay locked.
pub(crate) fn mlockall(flags: u64) -> Result<i64, Errno> {
    const MCL_CURRENT: u64 = 1;
    const MCL_FUTURE: u64 = 2;
    const MCL_ONFAULT: u64 = 4;
    const MLOCK_ONFAULT: u64 = 1;
    if flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags & (MCL_CURRENT | MCL_FUTURE) == 0 {
        return Err(errno::EINVAL);
    }
    if flags & MCL_CURRENT != 0 {
        let on_fault = if flags & MCL_ONFAULT != 0 { MLOCK_ONFAULT } else { 0 };
        for range in maps::mappings() {
            // A mapping that has gone meanwhile or has no pages to lock is no error of the call.
            match lock(range.start, range.end - range.start, on_fault) {
                Err(errno::ENOMEM) if !is_lockable(range.end - range.start) => return Err(errno::ENOMEM),
                Err(errno::EPERM) => return Err(errno::EPERM),
                _ => {}
            }
        }
    }
    if flags & MCL_FUTURE == 0 {
        return Ok(0);
    }
    lock_all(flags & !MCL_CURRENT).map(|()| 0)
}

/// Whether RLIMIT_MEMLOCK leaves room for `length` bytes: tries to map and lock as many.
fn is_lockable(length: u64) -> bool {
    const MAP_LOCKED: u64 = 0x2000;
    let Ok(got) = map_new(0, length, PROT_NONE, MAP_LOCKED) else { return false };
    give_up(got, length);
    true
}

/// The range of the guest's heap (brk).
pub(crate) fn range() -> core::ops::Range<u64> {
    let heap = BREAK.lock();
    heap.start & !(PAGE - 1)..heap.now.next_multiple_of(PAGE)
}
