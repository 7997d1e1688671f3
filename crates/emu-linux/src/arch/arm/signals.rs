//! Calls about signals with masks of 32 bits, and those with a siginfo_t or a sigevent.

use super::siginfo;
use super::words::{Timeout, Width};
use crate::arch::call::Row;
use crate::calls::host::{after_mask, host};
use crate::calls::signals::change_action;
use crate::guest;
use crate::shared::SigInfo;
use crate::signal::deliver::{change_mask, has_blocked, take_blocked};
use crate::signal::number::UNBLOCKABLE;
use crate::signal::{Action, host_mask};
use crate::sys::{self, Errno, errno};
use crate::thread::Thread;
use core::sync::atomic::Ordering;

/// sigaction(2) before masks had 64 bits (Linux, struct old_sigaction): handler, mask, flags, restorer.
pub(super) fn sigaction(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let new = match a[1] {
        0 => None,
        at => {
            let [handler, mask, flags, restorer] = guest::read_pointers(at, 4)?;
            Some(Action { handler, flags, restorer, mask })
        }
    };
    let Action { handler, flags, restorer, mask } = change_action(thread, a[0] as u32, new)?;
    if a[2] != 0 {
        guest::write_pointers(a[2], &[handler, mask, flags, restorer], 4)?;
    }
    Ok(0)
}

/// sigprocmask(2) of 32 signals.
pub(super) fn sigprocmask(thread: &mut Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let before = thread.mask;
    if a[1] != 0 {
        let set = u64::from(guest::read32(a[1])?);
        let mask = match a[0] as i32 {
            0 => before | set,
            1 => before & !set,
            2 => before >> 32 << 32 | set,
            _ => return Err(errno::EINVAL),
        };
        change_mask(thread, mask & !UNBLOCKABLE)?;
    }
    if a[2] != 0 {
        guest::write32(a[2], before as u32)?;
    }
    Ok(0)
}

/// sigpending(2) of 32 signals.
pub(super) fn sigpending(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    let pending = sys::signal::pending() | thread.shared.queued.load(Ordering::SeqCst) & thread.mask;
    guest::write32(a[0], pending as u32).map(|()| 0)
}

/// sigsuspend(2) of 32 signals: the mask is the third argument.
pub(super) fn sigsuspend(thread: &mut Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    thread.mask_of_call = Some(a[2]);
    let mask = host_mask(a[2]);
    let result = host(thread, u64::from(row.host), &[&raw const mask as u64, 8, 0, 0, 0, 0]);
    after_mask(thread, result)
}

/// rt_sigqueueinfo(2) and rt_tgsigqueueinfo(2), whose siginfo is argument `at`.
pub(super) fn queue(thread: &Thread, row: &Row, a: &[u64; 6], at: usize) -> Result<i64, Errno> {
    let mut bytes = [0; 128];
    guest::read(a[at], &mut bytes)?;
    // The kernel takes the signal's number from the arguments.
    let mut info = siginfo::widen(&bytes);
    info[0] = info[0] >> 32 << 32 | a[at - 1] & 0xffff_ffff;
    let mut with = *a;
    with[at] = info.as_ptr() as u64;
    host(thread, u64::from(row.host), &with)
}

/// rt_sigtimedwait(2). As `calls::signals` has it for the host's layout.
pub(super) fn timed_wait(thread: &Thread, row: &Row, a: &[u64; 6], width: Width) -> Result<i64, Errno> {
    if a[3] != 8 {
        return Err(errno::EINVAL);
    }
    let set = guest::read64(a[0])?;
    let mut timeout = Timeout::read(a[2], width)?;
    let give = |info: &SigInfo| if a[1] == 0 { Ok(()) } else { guest::write(a[1], &siginfo::narrow(info)) };
    loop {
        if let Some((signal, info)) = take_blocked(thread, set) {
            return give(&info).map(|()| i64::from(signal));
        }
        let mut info = SigInfo::default();
        let with = [&raw const set as u64, info.as_mut_ptr() as u64, timeout.pointer(), 8, 0, 0];
        match host(thread, u64::from(row.host), &with) {
            Err(errno::EINTR) if has_blocked(thread, set) => {}
            result => {
                let signal = result?;
                return give(&info).map(|()| signal);
            }
        }
    }
}

/// waitid(2).
pub(super) fn waitid(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    let (mut info, mut usage) = (SigInfo::default(), [0u64; 18]);
    let usage_pointer = if a[4] == 0 { 0 } else { usage.as_mut_ptr() as u64 };
    let with = [a[0], a[1], info.as_mut_ptr() as u64, a[3], usage_pointer, 0];
    let result = host(thread, u64::from(row.host), &with)?;
    if a[4] != 0 {
        super::words::write(a[4], &usage)?;
    }
    if a[2] != 0 {
        // The kernel writes the fields of a child alone.
        guest::write(a[2], &siginfo::narrow(&info)[..24])?;
    }
    Ok(result)
}

/// A struct sigevent: value, signal, kind, thread.
fn sigevent(at: u64) -> Result<[u64; 8], Errno> {
    let [value, signal, kind, thread] = guest::read_pointers(at, 4)?;
    let mut event = [0; 8];
    event[..3].copy_from_slice(&[value, signal | kind << 32, thread]);
    Ok(event)
}

/// timer_create(2) and mq_notify(2), whose second argument is a sigevent, or null.
pub(super) fn with_event(thread: &Thread, row: &Row, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[1] == 0 {
        return host(thread, u64::from(row.host), a);
    }
    let event = sigevent(a[1])?;
    let mut with = *a;
    with[1] = event.as_ptr() as u64;
    host(thread, u64::from(row.host), &with)
}
