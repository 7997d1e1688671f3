//! Delivers signals to the guest, between blocks of code and around system calls.

use super::action::{Action, DEFAULT, IGNORE, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART};
use super::mask::{block_all, host_mask, use_mask};
use super::number::*;
use crate::arch::{Abi, Delivery};
use crate::maps;
use crate::program;
use crate::shared::SigInfo;
use crate::sys::signal::{die, set_mask};
use crate::sys::{self, Errno, errno};
use crate::task::Task;
use crate::thread::Thread;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering;

/// Prepares the first thread, with the handlers and the mask that the process inherited.
pub(crate) fn init(thread: &mut Thread) {
    thread.shared.use_signal_stack();
    thread.mask = block_all();
    super::action::take_ours(thread.actions);
    use_mask(thread.mask);
}

/// Makes the host ignore and block our signals where the guest does, for execve; `back` undoes it.
pub(crate) fn prepare_exec(thread: &Thread, back: bool) {
    if thread.mask & OURS != 0 {
        set_mask(if back { host_mask(thread.mask) } else { thread.mask });
    }
    super::action::ignore_ours(thread.actions, back);
}

/// Delivers the queued signals; only signals of ours that the guest blocks stay in the queue.
pub fn deliver<A: Abi>(task: &mut Task<A>) {
    block_all();
    task.thread.shared.interrupt.store(0, Ordering::SeqCst);
    loop {
        let blocked = task.thread.mask_of_call.unwrap_or(task.thread.mask) & OURS;
        let ready = task.thread.shared.queued.load(Ordering::SeqCst) & !blocked;
        if ready == 0 {
            break;
        }
        let signal = ready.trailing_zeros() + 1;
        let info = task.thread.shared.take(signal);
        dispatch(task, signal, &info);
    }
    task.thread.mask_of_call = None;
    if core::mem::take(&mut task.thread.restart) {
        A::call_again(&mut task.state);
    }
    use_mask(task.thread.mask);
}

fn dispatch<A: Abi>(task: &mut Task<A>, signal: u32, info: &SigInfo) {
    let action = {
        let mut table = task.thread.actions.hold();
        let action = table.get(signal);
        if action.flags & SA_RESETHAND != 0 && action.handler > IGNORE {
            table.set(signal, Action { handler: DEFAULT, ..action });
        }
        action
    };
    match action.handler {
        IGNORE => {}
        DEFAULT => default_action(signal),
        _ => enter_handler(task, signal, info, action),
    }
}

/// The default action of a signal that was on its way to a handler when its action was reset.
fn default_action(signal: u32) {
    match signal {
        CHLD | CONT | URG | WINCH => {}
        // SIGTSTP, SIGTTIN, SIGTTOU: by now the host's action is the default.
        20..=TTOU => {
            sys::signal::raise(signal);
            set_mask(!OURS & !bit(signal));
            block_all();
        }
        _ => die(signal),
    }
}

fn enter_handler<A: Abi>(task: &mut Task<A>, signal: u32, info: &SigInfo, action: Action) {
    let (thread, state) = (&mut task.thread, &mut task.state);
    if core::mem::take(&mut thread.restart) {
        if action.flags & SA_RESTART != 0 {
            A::call_again(state);
        } else {
            A::set_result(state, Err(errno::EINTR));
        }
    }
    let sp = A::sp(state);
    let top = thread.alternate.top(sp, action.flags & SA_ONSTACK != 0);
    // A frame must not overrun a full alternate stack.
    let fits = !thread.alternate.contains(sp) || thread.alternate.contains(A::frame_start(top));
    let trampoline = program::trampoline::<A>();
    let delivery = Delivery {
        signal,
        info,
        action,
        mask: thread.mask,
        trap: thread.trap,
        stack: thread.alternate.words(sp),
        top,
        trampoline: trampoline.unwrap_or(0),
    };
    if !fits || trampoline.is_err() || A::push_frame(state, &delivery).is_err() {
        return no_room(task, signal);
    }
    thread.alternate.entered();
    let during = thread.mask_of_call.take().unwrap_or(thread.mask) | action.mask;
    let own = if action.flags & SA_NODEFER != 0 { 0 } else { bit(signal) };
    thread.mask = (during | own) & !UNBLOCKABLE;
    A::exception_return(state);
}

/// Raises SIGSEGV because the stack has no room for a frame; its handler may use another stack (Linux,
/// force_sigsegv).
fn no_room<A: Abi>(task: &mut Task<A>, signal: u32) {
    if signal == SEGV {
        die(SEGV);
    }
    force(task, SEGV, &fault_info(SEGV, SI_KERNEL, 0));
}

/// Raises a signal that the instruction at `pc` caused, unless an earlier signal is on its way: the earlier
/// one goes first, since the handler of this one may block it. Then the instruction runs again.
pub fn raise<A: Abi>(task: &mut Task<A>, signal: u32, info: &SigInfo) {
    // The handler of a fault in translated code leaves everything blocked.
    if !task.thread.shared.blocked_at_fault.swap(false, Ordering::Relaxed) {
        block_all();
    }
    if !task.thread.shared.interrupted() {
        force_blocked(task, signal, info);
    }
}

/// Raises a signal that the thread cannot go on without: if the guest blocks or ignores it, the guest dies of
/// it.
pub fn force<A: Abi>(task: &mut Task<A>, signal: u32, info: &SigInfo) {
    block_all();
    force_blocked(task, signal, info);
}

/// The same with everything blocked.
fn force_blocked<A: Abi>(task: &mut Task<A>, signal: u32, info: &SigInfo) {
    let action = task.thread.actions.get(signal);
    if task.thread.mask & bit(signal) != 0 || action.handler <= IGNORE {
        if signal == ILL {
            explain_undefined::<A>(A::pc(&task.state));
        }
        die(signal);
    }
    dispatch(task, signal, info);
    settle(&task.thread);
}

/// Gives the host the guest's new mask, unless signals wait. Called with everything blocked.
fn settle(thread: &Thread) {
    if thread.shared.queued.load(Ordering::SeqCst) & !thread.mask & OURS != 0 {
        thread.shared.interrupt.store(1, Ordering::SeqCst);
    }
    if !thread.shared.interrupted() {
        use_mask(thread.mask);
    }
}

/// Signals of ours in `set` that wait because the guest blocks them.
fn blocked(thread: &Thread, set: u64) -> u64 {
    thread.shared.queued.load(Ordering::SeqCst) & thread.mask & OURS & set
}

/// Whether a signal of `set` waits that the guest blocks and the host does not.
pub(crate) fn has_blocked(thread: &Thread, set: u64) -> bool {
    blocked(thread, set) != 0
}

/// Takes such a signal from the queue ([`has_blocked`]).
pub(crate) fn take_blocked(thread: &Thread, set: u64) -> Option<(u32, SigInfo)> {
    let ready = blocked(thread, set);
    if ready == 0 {
        return None;
    }
    let signal = ready.trailing_zeros() + 1;
    Some((signal, thread.shared.take(signal)))
}

/// Changes the guest's mask, and the host's with it; [`errno::NOT_STARTED`] if a signal is on its way, which
/// is delivered first. A signal that arrives after the call is one that both masks let through, or that only
/// the new one does: it is delivered after the change.
pub(crate) fn change_mask(thread: &mut Thread, mask: u64) -> Result<(), Errno> {
    if mask == thread.mask {
        return Ok(());
    }
    sys::signal::set_mask_unless(host_mask(mask), &thread.shared.interrupt)?;
    thread.mask = mask;
    if thread.shared.queued.load(Ordering::SeqCst) & !mask & OURS != 0 {
        block_all();
        thread.shared.interrupt.store(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Reports the instruction at `pc`, which the thread dies of.
fn explain_undefined<A: Abi>(pc: u64) {
    sys::complain(&format!(
        "crossdock-emu: {}: this CPU has no instruction {} at {}\n",
        String::from_utf8_lossy(&program::file()),
        A::undefined_instruction(pc),
        maps::place(pc),
    ));
}
