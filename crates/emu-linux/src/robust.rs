//! Robust mutexes of 32-bit programs on a host that runs none: what the kernel does at a thread's end (Linux,
//! kernel/futex/core.c, exit_robust_list; get_robust_list(2)).
//!
//! We see the end of threads and processes that exit: those that are killed, or that execute another program,
//! leave their mutexes locked.

use crate::guest;
use crate::shared::{self, Shared};
use crate::sys::{self, Errno};
use core::sync::atomic::Ordering;

/// Longest list that is walked, since it may be circular (ROBUST_LIST_LIMIT).
const LIMIT: usize = 2048;
/// Bit of an entry: its mutex inherits priorities.
const INHERITS: u64 = 1;

// Bits of a mutex (linux/futex.h).
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const OWNER: u32 = 0x3fff_ffff;

/// Releases the mutexes of a thread of this process, which is about to end.
pub(crate) fn release(of: &Shared) {
    let head = of.robust.swap(0, Ordering::Relaxed);
    if head != 0 {
        // What the list leads to may be anything: the kernel stops at the first bad address, too.
        let _ = walk(head, of.thread.load(Ordering::Relaxed));
    }
}

/// Releases the mutexes of all threads of this process, which is about to end.
pub(crate) fn release_all(mine: &Shared) {
    release(mine);
    shared::other_threads(mine).for_each(release);
}

fn walk(head: u64, owner: u32) -> Result<(), Errno> {
    // struct robust_list_head: the first entry, how far the mutex is from its entry, an entry that is being
    // locked or unlocked.
    let [first, distance, pending] = guest::read_pointers::<3>(head, 4)?;
    let distance = i64::from(distance as u32 as i32) as u64;
    let address = |entry: u64| u64::from((entry & !INHERITS).wrapping_add(distance) as u32);
    let mut entry = first;
    for _ in 0..LIMIT {
        if entry & !INHERITS == head {
            break;
        }
        let next = guest::read32(entry & !INHERITS).map(u64::from);
        if entry != pending {
            set_dead(address(entry), owner, entry & INHERITS != 0, false)?;
        }
        entry = next?;
    }
    if pending == 0 { Ok(()) } else { set_dead(address(pending), owner, pending & INHERITS != 0, true) }
}

/// Marks a mutex of the thread `owner`, and wakes one thread that waits for it.
fn set_dead(mutex: u64, owner: u32, inherits: bool, is_pending: bool) -> Result<(), Errno> {
    loop {
        let value = guest::read32(mutex)?;
        // The thread has unlocked it, but not yet woken another.
        if is_pending && !inherits && value == 0 {
            wake(mutex);
        }
        if value & OWNER != owner {
            return Ok(());
        }
        let dead = value & WAITERS | OWNER_DIED;
        if guest::compare_swap32(mutex, value, dead)? == value {
            if !inherits && value & WAITERS != 0 {
                wake(mutex);
            }
            return Ok(());
        }
    }
}

fn wake(mutex: u64) {
    sys::process::wake_shared(mutex);
}
