//! Calls that the host answers with the guest's own pointers, and masks that hold while a call waits.

use crate::guest;
use crate::signal;
use crate::sys::{self, Errno, errno};
use crate::thread::Thread;

/// Gives a call to the host. A signal may interrupt it.
///
/// The kernel writes to whatever the arguments point to. That is the guest's memory, which no Rust code
/// relies on: callers have made pointers that lead elsewhere harmless ([`crate::region::harmless`],
/// [`super::indirect`]), or pass a local of their own.
pub(crate) fn host(thread: &Thread, number: u64, arguments: &[u64; 6]) -> Result<i64, Errno> {
    // SAFETY: see above.
    unsafe { sys::interruptible(number, arguments, &thread.shared.interrupt) }
}

/// [`host`] by a call of 32-bit programs, of at most five arguments: its number is that of i386, and the
/// kernel converts structures. ENOSYS where the host runs no 32-bit programs.
pub(crate) fn host32(thread: &Thread, number: u64, arguments: &[u64; 6]) -> Result<i64, Errno> {
    // SAFETY: as for `host`.
    unsafe { sys::call::call32(number, arguments, &thread.shared.interrupt) }
}

/// Reads the signal mask that a call installs while it waits, and remembers it for the delivery. Returns the
/// host's form.
pub(crate) fn with_mask(thread: &mut Thread, set: u64, size: u64) -> Result<Option<u64>, Errno> {
    if set == 0 {
        return Ok(None);
    }
    if size != 8 {
        return Err(errno::EINVAL);
    }
    let mask = guest::read64(set)?;
    thread.mask_of_call = Some(mask);
    Ok(Some(signal::host_mask(mask)))
}

/// Forgets the mask of a call that no signal has ended.
pub(crate) fn after_mask(thread: &mut Thread, result: Result<i64, Errno>) -> Result<i64, Errno> {
    if !thread.shared.interrupted() || result == Err(errno::NOT_STARTED) {
        thread.mask_of_call = None;
    }
    result
}
