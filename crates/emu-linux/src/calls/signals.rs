//! Calls about signals, in layouts that differ between architectures by the length of a pointer alone.

use super::host::{after_mask, host, with_mask};
use crate::arch::Abi;
use crate::guest;
use crate::signal::deliver::{change_mask, force, has_blocked, take_blocked};
use crate::signal::number::{OURS, SEGV, SI_KERNEL, UNBLOCKABLE};
use crate::signal::{Action, IGNORE, bit, fault_info};
use crate::sys::{self, Errno, errno, nr};
use crate::task::Task;
use crate::thread::Thread;
use core::sync::atomic::Ordering;

/// rt_sigaction(2).
pub(super) fn rt_sigaction<A: Abi>(
    thread: &Thread,
    signal: u64,
    new: u64,
    old: u64,
    size: u64,
) -> Result<i64, Errno> {
    if size != 8 {
        return Err(errno::EINVAL);
    }
    let word = A::MACHINE.word();
    let mask_at = if A::HAS_RESTORER { 3 * word } else { 2 * word };
    let action = match new {
        0 => None,
        _ => {
            let [handler, flags] = guest::read_pointers(new, word)?;
            let restorer =
                if A::HAS_RESTORER { guest::read_pointer(new.wrapping_add(2 * word), word)? } else { 0 };
            let mask = guest::read64(new.wrapping_add(mask_at))?;
            Some(Action { handler, flags, restorer, mask })
        }
    };
    let before = change_action(thread, signal as u32, action)?;
    if old != 0 {
        let words = [before.handler, before.flags, before.restorer];
        guest::write_pointers(old, &words[..if A::HAS_RESTORER { 3 } else { 2 }], word)?;
        guest::write64(old.wrapping_add(mask_at), before.mask)?;
    }
    Ok(0)
}

/// Changes the action of a signal, if one is given; returns the old one (sigaction(2)).
pub(crate) fn change_action(thread: &Thread, signal: u32, new: Option<Action>) -> Result<Action, Errno> {
    if !(1..=64).contains(&signal) || new.is_some() && UNBLOCKABLE & bit(signal) != 0 {
        return Err(errno::EINVAL);
    }
    let mut table = thread.actions.hold();
    let before = table.get(signal);
    if let Some(action) = new {
        table.set(signal, Action { mask: action.mask & !UNBLOCKABLE, ..action });
        // The kernel forgets pending signals, but does not know of those in our queue.
        if action.handler == IGNORE && OURS & bit(signal) != 0 {
            thread.shared.queued.fetch_and(!bit(signal), Ordering::SeqCst);
        }
    }
    Ok(before)
}

/// rt_sigprocmask(2).
pub(crate) fn rt_sigprocmask(
    thread: &mut Thread,
    how: u64,
    set: u64,
    old: u64,
    size: u64,
) -> Result<i64, Errno> {
    if size != 8 {
        return Err(errno::EINVAL);
    }
    let before = thread.mask;
    if set != 0 {
        let set = guest::read64(set)?;
        let mask = match how as i32 {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(errno::EINVAL),
        } & !UNBLOCKABLE;
        change_mask(thread, mask)?;
    }
    if old != 0 {
        guest::write64(old, before)?;
    }
    Ok(0)
}

/// rt_sigpending(2).
pub(crate) fn rt_sigpending(thread: &Thread, set: u64, size: u64) -> Result<i64, Errno> {
    if size > 8 {
        return Err(errno::EINVAL);
    }
    let pending = sys::signal::pending() | thread.shared.queued.load(Ordering::SeqCst) & thread.mask;
    guest::write(set, &pending.to_le_bytes()[..size as usize])?;
    Ok(0)
}

/// rt_sigtimedwait(2). Signals that the host does not block for the guest may be queued already, or may come
/// during the wait, which they interrupt on the host.
pub(super) fn rt_sigtimedwait(thread: &Thread, a: &[u64; 6]) -> Result<i64, Errno> {
    if a[3] != 8 {
        return Err(errno::EINVAL);
    }
    let set = guest::read64(a[0])?;
    loop {
        if let Some((signal, info)) = take_blocked(thread, set) {
            if a[1] != 0 {
                guest::write_words(a[1], &info)?;
            }
            return Ok(i64::from(signal));
        }
        let result = host(thread, nr::RT_SIGTIMEDWAIT, a);
        if result != Err(errno::EINTR) || !has_blocked(thread, set) {
            return result;
        }
    }
}

/// rt_sigsuspend(2).
pub(super) fn rt_sigsuspend(thread: &mut Thread, set: u64, size: u64) -> Result<i64, Errno> {
    if size != 8 {
        return Err(errno::EINVAL);
    }
    let mask = with_mask(thread, set, size)?.ok_or(errno::EFAULT)?;
    let result = host(thread, nr::RT_SIGSUSPEND, &[&raw const mask as u64, 8, 0, 0, 0, 0]);
    after_mask(thread, result)
}

/// sigaltstack(2), for a thread at `sp`.
pub(super) fn sigaltstack<A: Abi>(thread: &mut Thread, sp: u64, new: u64, old: u64) -> Result<i64, Errno> {
    let word = A::MACHINE.word();
    let new = if new == 0 { None } else { Some(guest::read_pointers(new, word)?) };
    let before = change_stack::<A>(thread, sp, new)?;
    if old != 0 {
        guest::write_pointers(old, &before, word)?;
    }
    Ok(0)
}

/// Changes the alternate stack, if one is given; returns the old one. Both are address, flags and size.
pub(crate) fn change_stack<A: Abi>(
    thread: &mut Thread,
    sp: u64,
    new: Option<[u64; 3]>,
) -> Result<[u64; 3], Errno> {
    let before = thread.alternate.words(sp);
    if let Some(stack) = new {
        thread.alternate.set(stack, sp, A::SIGNAL_STACK_MIN)?;
    }
    Ok(before)
}

/// rt_sigreturn(2): takes all registers from the frame; raises SIGSEGV if there is no valid one.
pub(super) fn rt_sigreturn<A: Abi>(task: &mut Task<A>) {
    let Ok(frame) = A::read_frame(&task.state) else {
        return force(task, SEGV, &fault_info(SEGV, SI_KERNEL, 0));
    };
    if change_mask(&mut task.thread, frame.mask & !UNBLOCKABLE).is_err() {
        return A::call_again(&mut task.state);
    }
    task.state = frame.state;
    // As in the kernel, a bad stack in the frame is ignored.
    let _ = task.thread.alternate.set(frame.stack, A::sp(&task.state), A::SIGNAL_STACK_MIN);
    A::exception_return(&mut task.state);
}
