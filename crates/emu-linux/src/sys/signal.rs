//! Signals of the host: actions, masks, stacks, and raising them.

use super::call::{interruptible, nr, restorer, with_numbers};
use super::errno::Errno;
use super::process::{exit_group, process_id, thread_id};
use crate::sys::call::syscall;
use core::sync::atomic::AtomicU32;

/// The kernel's `struct sigaction` of x86-64 (sigaction(2)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct HostAction {
    /// Address, 0 for SIG_DFL, 1 for SIG_IGN.
    pub handler: u64,
    /// SA_ flags, without SA_RESTORER.
    pub flags: u64,
    restorer: u64,
    /// Signals blocked in the handler.
    pub mask: u64,
}

const SA_RESTORER: u64 = 0x0400_0000;

impl HostAction {
    /// An action; the restorer is ours.
    pub fn new(handler: u64, flags: u64, mask: u64) -> HostAction {
        HostAction { handler, flags: flags | SA_RESTORER, restorer: restorer(), mask }
    }
}

/// Sets the action of a signal, if one is given (rt_sigaction(2)); returns the old one.
///
/// # Safety
///
/// A handler is a function for signals of this process, and async-signal-safe.
pub unsafe fn set_action(signal: u32, new: Option<&HostAction>) -> HostAction {
    let mut old = HostAction::default();
    let new = new.map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: both structures are of the kernel's layout.
    let _ = unsafe { syscall!(nr::RT_SIGACTION, signal, new, &raw mut old, 8) };
    old
}

const SIG_SETMASK: u64 = 2;

/// Sets the mask of the thread (rt_sigprocmask(2), SIG_SETMASK); returns the old one.
pub fn set_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both sets are locals.
    let _ = unsafe { syscall!(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const mask, &raw mut old, 8) };
    old
}

/// [`set_mask`] unless a signal has set `interrupt`: then [`super::errno::NOT_STARTED`].
pub fn set_mask_unless(mask: u64, interrupt: &AtomicU32) -> Result<(), Errno> {
    let arguments = [SIG_SETMASK, &raw const mask as u64, 0, 8, 0, 0];
    // SAFETY: the set is a local.
    unsafe { interruptible(nr::RT_SIGPROCMASK, &arguments, interrupt) }.map(|_| ())
}

/// Signals that wait because the thread blocks them (rt_sigpending(2)).
pub fn pending() -> u64 {
    let mut pending = 0u64;
    // SAFETY: the set is a local.
    let _ = unsafe { syscall!(nr::RT_SIGPENDING, &raw mut pending, 8) };
    pending
}

/// Sends a signal to the calling thread (tgkill(2)).
pub fn raise(signal: u32) {
    let ids = [process_id().into(), thread_id().into(), signal.into()];
    let _ = with_numbers::<{ nr::TGKILL }, _>(ids);
}

/// Dies of a signal: the parent gets the wait status of a program that has died of it.
pub fn die(signal: u32) -> ! {
    // SAFETY: the default action has no handler.
    unsafe { set_action(signal, Some(&HostAction::new(0, 0, 0))) };
    set_mask(!(1 << (signal - 1)));
    raise(signal);
    exit_group(128 + signal as i32)
}

/// Whether a child with this number exists of which `options` asks (waitid(2), P_PID). Its end is not taken.
pub fn has_child(child: u32, options: u64) -> bool {
    const P_PID: u64 = 1;
    const WNOHANG: u64 = 1;
    const WNOWAIT: u64 = 0x0100_0000;
    const ALL_CHILDREN: u64 = 0x4000_0000;
    let mut info = [0u64; 16];
    let options = options | WNOHANG | WNOWAIT | ALL_CHILDREN;
    // SAFETY: the kernel writes a siginfo_t, of 128 bytes, to a local.
    let found = unsafe { syscall!(nr::WAITID, P_PID, child, &raw mut info, options, 0) };
    found.is_ok() && info[0] as u32 != 0
}

/// Sets the thread's signal stack (sigaltstack(2)).
///
/// # Safety
///
/// Nothing else uses the memory while the thread lives.
pub unsafe fn use_stack(base: u64, size: u64) -> Result<(), Errno> {
    let stack = [base, 0, size];
    // SAFETY: the kernel reads a local; the caller's promise.
    unsafe { syscall!(nr::SIGALTSTACK, stack.as_ptr(), 0) }.map(|_| ())
}
