//! Signals: the host's handler queues them; the thread delivers them between blocks and around system calls.
//!
//! A thread's mask on the host is the guest's, without SIGSEGV, SIGBUS and SIGFPE, which the emulator needs:
//! the kernel does blocking, pending signals, sigwait and signalfd. A signal that the guest ignores or leaves
//! to its default is ignored or left to its default on the host too. For a signal with a handler, our handler
//! puts the siginfo into the thread's [`Shared`] and blocks everything: one asynchronous signal is on its way
//! at a time, and the kernel keeps the order of the others.
//!
//! The layout of frames is in the ABI module.

use crate::abi;
use crate::guest;
use crate::lock::{Held, Lock};
use crate::sys::{self, errno, nr};
use crate::syscall;
use crate::task::{self, Shared, SigInfo, Task};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crossdock_emu_guest::memory;
use crossdock_emu_jit as jit;

/// Signal numbers, the same on x86-64 and the generic ABI (signal(7)).
#[allow(missing_docs)]
pub mod number {
    pub const ILL: u32 = 4;
    pub const TRAP: u32 = 5;
    pub const ABRT: u32 = 6;
    pub const BUS: u32 = 7;
    pub const FPE: u32 = 8;
    pub const KILL: u32 = 9;
    pub const SEGV: u32 = 11;
    pub const CHLD: u32 = 17;
    pub const CONT: u32 = 18;
    pub const STOP: u32 = 19;
    pub const TTOU: u32 = 22;
    pub const URG: u32 = 23;
    pub const WINCH: u32 = 28;
    pub const SYS: u32 = 31;
}
use number::*;

/// The bit of a signal in a mask.
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Signals the host never blocks: the emulator needs them for the guest's memory accesses, and for
/// instructions that translated code leaves to the interpreter (an invalid floating-point operation, which
/// raises no signal in the guest).
const OURS: u64 = bit(SEGV) | bit(BUS) | bit(FPE);
/// [`OURS`] as a list.
const OUR_SIGNALS: [u32; 3] = [SEGV, BUS, FPE];
const UNBLOCKABLE: u64 = bit(KILL) | bit(STOP);

/// SIG_DFL and SIG_IGN.
pub const DEFAULT: u64 = 0;
/// See [`DEFAULT`].
pub const IGNORE: u64 = 1;

const SA_NOCLDSTOP: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;
/// sa_flags: the handler takes three arguments.
pub const SA_SIGINFO: u64 = 4;
/// sa_flags: `restorer` is set.
pub const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;

/// A `struct sigaction` of the kernel, as arm64 and x86-64 lay it out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// Address, [`DEFAULT`] or [`IGNORE`].
    pub handler: u64,
    /// SA_ flags.
    pub flags: u64,
    /// Where the handler returns to, with [`SA_RESTORER`].
    pub restorer: u64,
    /// Signals blocked in the handler, besides its own.
    pub mask: u64,
}

/// The actions of a process.
pub struct Actions {
    table: Lock<Table>,
}

/// Actions by signal number.
#[derive(Clone)]
pub(crate) struct Table {
    actions: [Action; 65],
    /// Signals whose action we have asked the host for or set.
    known: u64,
}

impl Actions {
    /// The actions that the process was started with, looked up when needed.
    pub const fn inherited() -> Self {
        let action = Action { handler: DEFAULT, flags: 0, restorer: 0, mask: 0 };
        Actions { table: Lock::new(Table { actions: [action; 65], known: 0 }) }
    }

    /// A copy, for a task that shares memory but not actions.
    pub fn copy(&self) -> Self {
        Actions { table: Lock::new(self.table.lock().clone()) }
    }

    /// Resets all handlers; ignored signals stay ignored (CLONE_CLEAR_SIGHAND, clone(2)).
    pub(crate) fn reset_handlers(&self) {
        let mut table = self.table.lock();
        for signal in 1..=64 {
            if table.known & bit(signal) != 0 && table.actions[signal as usize].handler > IGNORE {
                table.set(signal, Action::default());
            }
        }
    }

    /// Keeps the actions consistent, for a fork.
    pub(crate) fn hold(&self) -> Held<'_, Table> {
        self.table.lock()
    }

    /// The action of a signal.
    pub fn get(&self, signal: u32) -> Action {
        self.table.lock().get(signal)
    }
}

impl Table {
    fn get(&mut self, signal: u32) -> Action {
        if self.known & bit(signal) == 0 {
            self.known |= bit(signal);
            self.actions[signal as usize].handler = host_action(signal, None).handler;
        }
        self.actions[signal as usize]
    }

    fn set(&mut self, signal: u32, action: Action) {
        self.known |= bit(signal);
        self.actions[signal as usize] = action;
        if OURS & bit(signal) == 0 {
            host_action(signal, Some(host_form(action)));
        }
    }
}

/// The host's action for a guest's action.
fn host_form(action: Action) -> Action {
    let kept = action.flags & (SA_NOCLDSTOP | SA_NOCLDWAIT);
    if action.handler == DEFAULT || action.handler == IGNORE {
        return Action {
            handler: action.handler,
            flags: kept | SA_RESTORER,
            restorer: sys::restorer(),
            mask: 0,
        };
    }
    Action {
        handler: on_host_signal as *const () as u64,
        flags: kept | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER,
        restorer: sys::restorer(),
        mask: !0,
    }
}

/// Sets the host's action and returns the old one.
fn host_action(signal: u32, new: Option<Action>) -> Action {
    let mut old = Action::default();
    let new = new.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: both structures are of the kernel's layout; the handler is async-signal-safe.
    unsafe { syscall!(nr::RT_SIGACTION, signal, new, &raw mut old, 8) };
    old
}

/// Sets the mask of the host's thread; returns the old one.
fn set_host_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both sets are locals.
    unsafe { syscall!(nr::RT_SIGPROCMASK, 2, &raw const mask, &raw mut old, 8) };
    old
}

/// Blocks everything but our own signals; returns the old mask.
pub(crate) fn block_all() -> u64 {
    set_host_mask(!OURS)
}

/// Blocks everything, our own signals too.
pub(crate) fn block_even_ours() {
    set_host_mask(!0);
}

/// The host's form of a guest's mask.
pub(crate) fn host_mask(mask: u64) -> u64 {
    mask & !OURS
}

/// Gives the host the guest's mask.
pub(crate) fn use_mask(mask: u64) {
    set_host_mask(host_mask(mask));
}

/// Prepares the first thread, with the handlers and the mask that the process inherited.
pub(crate) fn init(task: &mut Task) {
    task.shared.use_signal_stack();
    task.mask = block_all();
    let mut table = task.actions.hold();
    for signal in OUR_SIGNALS {
        let action = Action { handler: IGNORE + 1, ..Action::default() };
        let old = host_action(signal, Some(host_form(action))).handler;
        table.known |= bit(signal);
        table.actions[signal as usize].handler = if old == IGNORE { IGNORE } else { DEFAULT };
    }
    drop(table);
    use_mask(task.mask);
}

/// Makes the host ignore and block our signals where the guest does, for execve; `back` undoes it.
pub(crate) fn prepare_exec(task: &Task, back: bool) {
    if task.mask & OURS != 0 {
        set_host_mask(if back { host_mask(task.mask) } else { task.mask });
    }
    for signal in OUR_SIGNALS {
        if task.actions.get(signal).handler == IGNORE {
            let handler = if back { IGNORE + 1 } else { IGNORE };
            host_action(signal, Some(host_form(Action { handler, ..Action::default() })));
        }
    }
}

// Offsets in the host's ucontext_t (x86-64, asm/ucontext.h and asm/sigcontext.h), in words.
const CONTEXT_RCX: usize = 5 + 14;
const CONTEXT_RBP: usize = 5 + 10;
const CONTEXT_RIP: usize = 5 + 16;
const CONTEXT_EFLAGS: usize = 5 + 17;
const CONTEXT_ERROR: usize = 5 + 19;
const CONTEXT_TRAP: usize = 5 + 20;
const CONTEXT_CR2: usize = 5 + 22;
const CONTEXT_MASK: usize = 37;

/// Code of a signal that the kernel raises for no address.
const SI_KERNEL: i32 = 0x80;
/// x86's vector of page faults.
const PAGE_FAULT: u64 = 14;

/// Where the handler continues after a memory access of the guest, interpreted or translated, faulted at
/// `pc`, and whether the guest gets a signal for the fault.
///
/// # Safety
///
/// `context` is the ucontext_t of the fault.
unsafe fn resume(pc: u64, code: i32, address: u64, context: *const u64) -> Option<(u64, bool)> {
    const WRITE: u64 = 2;
    if let Some(next) = memory::resume_after_fault(pc as usize) {
        // It may be a system call's access.
        return Some((next as u64, false));
    }
    // SAFETY: the caller's promise; the layout is that of the kernel.
    unsafe {
        let is_page_fault = code != SI_KERNEL && *context.add(CONTEXT_TRAP) == PAGE_FAULT;
        let page_fault = is_page_fault.then_some((address, *context.add(CONTEXT_ERROR) & WRITE != 0));
        jit::resume_after_fault(pc, *context.add(CONTEXT_RBP), *context.add(CONTEXT_EFLAGS), page_fault)
    }
}

/// Whether a signal of ours comes from the interrupted instruction. Its code alone does not say: the end of a
/// child, whose signal may be any, has a positive code too.
///
/// # Safety
///
/// `context` is the ucontext_t of the signal.
unsafe fn is_fault(signal: u32, code: i32, address: u64, context: *const u64) -> bool {
    const ALIGNMENT_CHECK: u64 = 17;
    const SIMD_FLOATING_POINT: u64 = 19;
    // SAFETY: the caller's promise; the layout is that of the kernel.
    let (trap, cr2, pc) =
        unsafe { (*context.add(CONTEXT_TRAP), *context.add(CONTEXT_CR2), *context.add(CONTEXT_RIP)) };
    if signal == FPE {
        return code > 0 && trap == SIMD_FLOATING_POINT && address == pc;
    }
    // For a signal from elsewhere, trap and CR2 are those of the thread's last fault.
    code == SI_KERNEL
        || code > 0 && (trap == PAGE_FAULT && cr2 == address || trap == ALIGNMENT_CHECK && address == 0)
}

/// The handler of all signals. Runs on the thread's signal stack with everything blocked.
extern "C" fn on_host_signal(signal: u32, info: *const SigInfo, context: *mut u64) {
    let here = 0u8;
    // SAFETY: installed with SA_ONSTACK, and each thread has set its signal stack, in its block.
    let shared = unsafe { Shared::of(&raw const here as u64) };
    // SAFETY: the kernel passes a siginfo and a ucontext of the layout above.
    unsafe {
        let code = (*info)[1] as i32;
        let pc = *context.add(CONTEXT_RIP);
        let address = (*info)[2];
        if OURS & bit(signal) != 0
            && is_fault(signal, code, address, context)
            && !is_childs_end(code, pc, address)
        {
            match resume(pc, code, address, context) {
                Some((next, raises)) => {
                    *shared.fault.get() = *info;
                    *context.add(CONTEXT_RIP) = next;
                    if raises {
                        // For `raise`, which comes next.
                        *context.add(CONTEXT_MASK) = !OURS;
                        shared.blocked_at_fault.store(true, Ordering::Relaxed);
                    }
                    return;
                }
                None => own_fault(signal, pc, address),
            }
        }
        (*shared.info.get())[signal as usize] = *info;
        shared.queued.fetch_or(bit(signal), Ordering::SeqCst);
        shared.interrupt.store(1, Ordering::SeqCst);
        *context.add(CONTEXT_MASK) = !OURS;
        if let Some(next) = sys::leave_call(pc, *context.add(CONTEXT_RCX)) {
            *context.add(CONTEXT_RIP) = next;
        }
        jit::interrupt_soon(pc, *context.add(CONTEXT_RBP));
    }
}

/// Whether a child was created whose end is reported by a signal of [`OURS`].
static TOLD_BY_OURS: AtomicBool = AtomicBool::new(false);

/// Notes that a child whose end is reported by `signal` is about to be created.
pub(crate) fn tells_end(signal: u32) {
    if (1..=64).contains(&signal) && OURS & bit(signal) != 0 {
        TOLD_BY_OURS.store(true, Ordering::SeqCst);
    }
}

/// Whether an apparent fault is the end (or stop) of a child, reported by one of our signals: the child's
/// number stands where a fault has its address (sigaction(2)), and may equal the address of the thread's last
/// fault. Asks the kernel for such a child (waitid(2)); a real fault comes again at once.
fn is_childs_end(code: i32, pc: u64, address: u64) -> bool {
    const CLD_EXITED: i32 = 1;
    const CLD_CONTINUED: i32 = 6;
    const P_PID: u64 = 1;
    const WSTOPPED: u64 = 2;
    const WEXITED: u64 = 4;
    const WCONTINUED: u64 = 8;
    const WNOWAIT: u64 = 0x0100_0000;
    const WNOHANG: u64 = 1;
    const ALL_CHILDREN: u64 = 0x4000_0000;
    static LAST: AtomicU64 = AtomicU64::new(0);
    if !TOLD_BY_OURS.load(Ordering::SeqCst) || !(CLD_EXITED..=CLD_CONTINUED).contains(&code) {
        return false;
    }
    let this = pc ^ address.rotate_left(48);
    let (child, mut info) = (address as u32, SigInfo::default());
    let options = WEXITED | WSTOPPED | WCONTINUED | WNOWAIT | WNOHANG | ALL_CHILDREN;
    // SAFETY: the kernel writes to a local.
    let found = unsafe { syscall!(nr::WAITID, P_PID, child, &raw mut info, options, 0) };
    found == 0 && info[0] as u32 != 0 && LAST.swap(this, Ordering::SeqCst) != this
}

/// Reports a fault of the emulator itself and dies of it.
fn own_fault(signal: u32, pc: u64, address: u64) {
    let mut text = crate::text::Text::<200>::new();
    let base = crate::region::executable();
    text.line(format_args!(
        "crossdock-emu: internal fault (signal {signal}) at +{:#x}, address {address:#x}; this is a bug of the emulator\n",
        pc.wrapping_sub(base)
    ));
    sys::complain(text.as_str());
    die(signal)
}

/// Dies of a signal on the host: the parent gets the same wait status as without the emulator.
pub(crate) fn die(signal: u32) -> ! {
    host_action(signal, Some(Action { restorer: sys::restorer(), flags: SA_RESTORER, ..Action::default() }));
    set_host_mask(!bit(signal));
    // SAFETY: no memory is involved.
    unsafe { syscall!(nr::TGKILL, task::process_id(), task::thread_id(), signal) };
    sys::exit_group(128 + signal as i32)
}

/// The guest's alternate signal stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alternate {
    /// Lowest address.
    pub base: u64,
    /// SS_AUTODISARM or 0.
    pub flags: u32,
    /// Bytes; 0 for no stack.
    pub size: u64,
}

const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;

impl Alternate {
    fn contains(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && sp > self.base && sp - self.base <= self.size
    }

    /// The three words of a stack_t.
    fn words(&self, sp: u64) -> [u64; 3] {
        let state = match self.size {
            0 => SS_DISABLE,
            _ if self.contains(sp) => SS_ONSTACK,
            _ => 0,
        };
        [self.base, u64::from(state | self.flags), self.size]
    }

    fn set(&mut self, [base, flags, size]: [u64; 3], sp: u64) -> Result<(), i64> {
        if self.contains(sp) {
            return Err(errno::EPERM);
        }
        let flags = flags as u32;
        *self = match flags & !SS_AUTODISARM {
            SS_DISABLE => Alternate { base: 0, flags: flags & SS_AUTODISARM, size: 0 },
            0 | SS_ONSTACK if size < abi::MINSIGSTKSZ => return Err(errno::ENOMEM),
            0 | SS_ONSTACK => Alternate { base, flags: flags & SS_AUTODISARM, size },
            _ => return Err(errno::EINVAL),
        };
        Ok(())
    }
}

/// Delivers the queued signals; only signals of ours that the guest blocks stay in the queue.
pub fn deliver(task: &mut Task) {
    block_all();
    task.shared.interrupt.store(0, Ordering::SeqCst);
    loop {
        let blocked = task.mask_of_call.unwrap_or(task.mask) & OURS;
        let ready = task.shared.queued.load(Ordering::SeqCst) & !blocked;
        if ready == 0 {
            break;
        }
        let signal = ready.trailing_zeros() + 1;
        // SAFETY: the handler wrote the siginfo before it set the bit; it writes again only after the bit is
        // cleared.
        let info = unsafe { (*task.shared.info.get())[signal as usize] };
        task.shared.queued.fetch_and(!bit(signal), Ordering::SeqCst);
        dispatch(task, signal, &info);
    }
    task.mask_of_call = None;
    if core::mem::take(&mut task.restart) {
        task.state.pc -= abi::SVC_LENGTH;
    }
    use_mask(task.mask);
}

fn dispatch(task: &mut Task, signal: u32, info: &SigInfo) {
    let action = {
        let mut table = task.actions.hold();
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
            // SAFETY: no memory is involved.
            unsafe { syscall!(nr::TGKILL, task::process_id(), task::thread_id(), signal) };
            set_host_mask(!OURS & !bit(signal));
            block_all();
        }
        _ => die(signal),
    }
}

fn enter_handler(task: &mut Task, signal: u32, info: &SigInfo, action: Action) {
    if core::mem::take(&mut task.restart) {
        if action.flags & SA_RESTART != 0 {
            task.state.pc -= abi::SVC_LENGTH;
        } else {
            task.state.set_x(0, errno::EINTR as u64);
        }
    }
    let sp = task.state.sp();
    let on = task.alternate.contains(sp);
    let top = if action.flags & SA_ONSTACK != 0 && !on && task.alternate.size > 0 {
        task.alternate.base + task.alternate.size
    } else {
        sp
    };
    let stack = task.alternate.words(sp);
    // A frame must not overrun a full alternate stack.
    let fits = !on || task.alternate.contains(abi::frame_start(top));
    if !fits || abi::push_frame(task, signal, info, action, top, stack).is_err() {
        return no_room(task, signal);
    }
    if task.alternate.flags & SS_AUTODISARM != 0 {
        task.alternate = Alternate::default();
    }
    let during = task.mask_of_call.take().unwrap_or(task.mask) | action.mask;
    let own = if action.flags & SA_NODEFER != 0 { 0 } else { bit(signal) };
    task.mask = (during | own) & !UNBLOCKABLE;
    task.state.exclusive_size = 0;
}

/// Raises SIGSEGV because the stack has no room for a frame; its handler may use another stack (Linux,
/// force_sigsegv).
fn no_room(task: &mut Task, signal: u32) {
    if signal == SEGV {
        die(SEGV);
    }
    force(task, SEGV, &fault_info(SEGV, SI_KERNEL, 0));
}

/// Raises a signal that the instruction at `pc` caused, unless an earlier signal is on its way: the earlier
/// one goes first, since the handler of this one may block it. Then the instruction runs again.
pub fn raise(task: &mut Task, signal: u32, info: &SigInfo) {
    // The handler of a fault in translated code leaves everything blocked.
    if !task.shared.blocked_at_fault.swap(false, Ordering::Relaxed) {
        block_all();
    }
    if !task.shared.interrupted() {
        force_blocked(task, signal, info);
    }
}

/// Raises a signal that the thread cannot go on without: if the guest blocks or ignores it, the guest dies of
/// it.
pub fn force(task: &mut Task, signal: u32, info: &SigInfo) {
    block_all();
    force_blocked(task, signal, info);
}

/// The same with everything blocked.
fn force_blocked(task: &mut Task, signal: u32, info: &SigInfo) {
    let action = task.actions.get(signal);
    if task.mask & bit(signal) != 0 || action.handler <= IGNORE {
        if signal == ILL {
            crate::run::explain_undefined(task);
        }
        die(signal);
    }
    dispatch(task, signal, info);
    settle(task);
}

/// Gives the host the guest's new mask, unless signals wait. Called with everything blocked.
fn settle(task: &Task) {
    if task.shared.queued.load(Ordering::SeqCst) & !task.mask & OURS != 0 {
        task.shared.interrupt.store(1, Ordering::SeqCst);
    }
    if !task.shared.interrupted() {
        use_mask(task.mask);
    }
}

/// Signals of ours in `set` that wait because the guest blocks them.
fn blocked(task: &Task, set: u64) -> u64 {
    task.shared.queued.load(Ordering::SeqCst) & task.mask & OURS & set
}

/// Whether a signal of `set` waits that the guest blocks and the host does not.
pub(crate) fn has_blocked(task: &Task, set: u64) -> bool {
    blocked(task, set) != 0
}

/// Takes such a signal from the queue ([`has_blocked`]).
pub(crate) fn take_blocked(task: &Task, set: u64) -> Option<(u32, SigInfo)> {
    let ready = blocked(task, set);
    if ready == 0 {
        return None;
    }
    let signal = ready.trailing_zeros() + 1;
    // SAFETY: the handler wrote the siginfo before it set the bit; one that comes now is of the same signal.
    let info = unsafe { (*task.shared.info.get())[signal as usize] };
    task.shared.queued.fetch_and(!bit(signal), Ordering::SeqCst);
    Some((signal, info))
}

/// Changes the guest's mask, and the host's with it; [`errno::NOT_STARTED`] if a signal is on its way, which
/// is delivered first. A signal that arrives after the call is one that both masks let through, or that only
/// the new one does: it is delivered after the change.
fn change_mask(task: &mut Task, mask: u64) -> Result<(), i64> {
    const SIG_SETMASK: u64 = 2;
    if mask == task.mask {
        return Ok(());
    }
    let host = host_mask(mask);
    let arguments = [SIG_SETMASK, &raw const host as u64, 0, 8, 0, 0];
    // SAFETY: the set is a local.
    let result = unsafe { sys::interruptible(nr::RT_SIGPROCMASK, &arguments, &task.shared.interrupt) };
    if result == errno::NOT_STARTED {
        return Err(result);
    }
    task.mask = mask;
    if task.shared.queued.load(Ordering::SeqCst) & !mask & OURS != 0 {
        block_all();
        task.shared.interrupt.store(1, Ordering::SeqCst);
    }
    Ok(())
}

/// The siginfo of a fault.
pub fn fault_info(signal: u32, code: i32, address: u64) -> SigInfo {
    let mut info = [0; 16];
    info[0] = u64::from(signal);
    info[1] = code as u32 as u64;
    info[2] = address;
    info
}

/// rt_sigaction(2).
pub fn rt_sigaction(task: &Task, signal: u64, new: u64, old: u64, size: u64) -> Result<i64, i64> {
    let signal = signal as u32;
    if size != 8 {
        return Err(errno::EINVAL);
    }
    let action = match new {
        0 => None,
        _ => {
            let [handler, flags, restorer, mask] = guest::read_words::<4>(new)?;
            Some(Action { handler, flags, restorer, mask: mask & !UNBLOCKABLE })
        }
    };
    if !(1..=64).contains(&signal) || action.is_some() && UNBLOCKABLE & bit(signal) != 0 {
        return Err(errno::EINVAL);
    }
    let before = {
        let mut table = task.actions.hold();
        let before = table.get(signal);
        if let Some(action) = action {
            table.set(signal, action);
            // The kernel forgets pending signals, but does not know of those in our queue.
            if action.handler == IGNORE && OURS & bit(signal) != 0 {
                task.shared.queued.fetch_and(!bit(signal), Ordering::SeqCst);
            }
        }
        before
    };
    if old != 0 {
        for (index, word) in
            [before.handler, before.flags, before.restorer, before.mask].into_iter().enumerate()
        {
            guest::write64(old.wrapping_add(8 * index as u64), word)?;
        }
    }
    Ok(0)
}

/// rt_sigprocmask(2).
pub fn rt_sigprocmask(task: &mut Task, how: u64, set: u64, old: u64, size: u64) -> Result<i64, i64> {
    if size != 8 {
        return Err(errno::EINVAL);
    }
    let before = task.mask;
    if set != 0 {
        let set = guest::read64(set)?;
        let mask = match how as i32 {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(errno::EINVAL),
        } & !UNBLOCKABLE;
        change_mask(task, mask)?;
    }
    if old != 0 {
        guest::write64(old, before)?;
    }
    Ok(0)
}

/// rt_sigpending(2).
pub fn rt_sigpending(task: &Task, set: u64, size: u64) -> Result<i64, i64> {
    if size > 8 {
        return Err(errno::EINVAL);
    }
    let mut pending = 0u64;
    // SAFETY: the set is a local.
    unsafe { syscall!(nr::RT_SIGPENDING, &raw mut pending, 8) };
    pending |= task.shared.queued.load(Ordering::SeqCst) & task.mask;
    guest::write(set, &pending.to_le_bytes()[..size as usize])?;
    Ok(0)
}

/// sigaltstack(2).
pub fn sigaltstack(task: &mut Task, new: u64, old: u64) -> Result<i64, i64> {
    let sp = task.state.sp();
    let before = task.alternate.words(sp);
    if new != 0 {
        let words = guest::read_words(new)?;
        task.alternate.set(words, sp)?;
    }
    if old != 0 {
        for (index, word) in before.into_iter().enumerate() {
            guest::write64(old.wrapping_add(8 * index as u64), word)?;
        }
    }
    Ok(0)
}

/// rt_sigreturn(2): takes all registers from the frame; raises SIGSEGV if there is no valid one.
pub fn rt_sigreturn(task: &mut Task) {
    match abi::read_frame(task) {
        Ok(frame) => {
            if change_mask(task, frame.mask & !UNBLOCKABLE).is_err() {
                task.state.pc -= abi::SVC_LENGTH;
                return;
            }
            task.state = frame.state;
            let _ = task.alternate.set(frame.stack, task.state.sp());
            task.state.exclusive_size = 0;
        }
        Err(_) => {
            let info = fault_info(SEGV, SI_KERNEL, 0);
            force(task, SEGV, &info);
        }
    }
}
