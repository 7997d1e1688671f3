//! A thread's block of the emulator's region: what signal handlers write, and the thread's stacks.
//!
//! The block is found from any address on the thread's signal stack:
//!
//! ```text
//! 0      Shared: what signal handlers write    64 K  no access    128 K  signal stack
//! 256 K  no access      260 K  return stack   324 K  no access    328 K  host stack ... 1 M
//! ```

use crate::region::{self, BLOCK};
use crate::sys::{self, Errno};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crossdock_emu_jit::{POKE, ReturnStack};

const SIGNAL_STACK: (u64, u64) = (128 << 10, 128 << 10);
/// The return stack of translated code; see `crossdock_emu_jit::ReturnStack`.
const RETURN_STACK: (u64, u64) = (260 << 10, 64 << 10);
const STACK: (u64, u64) = (328 << 10, BLOCK - (328 << 10));
const USABLE: [(u64, u64); 3] = [(0, 64 << 10), SIGNAL_STACK, RETURN_STACK];

/// A siginfo_t: 128 bytes, the same on x86-64 and arm64.
pub type SigInfo = [u64; 16];

/// Data that the host's signal handler writes and the thread reads.
#[repr(C)]
pub struct Shared {
    /// 0 while the block is free. The first field, since [`region::take_block`] reads it there.
    pub used: AtomicU32,
    /// Not 0 if signals wait for delivery, apart from the engine's bit [`POKE`].
    pub interrupt: AtomicU32,
    /// Signals that wait for delivery: bit n - 1 for signal n.
    pub queued: AtomicU64,
    /// The thread's system call filters, for [`crate::seccomp`]; 0 for none.
    pub filters: AtomicU64,
    /// The address of the thread's list of robust mutexes, for [`crate::robust`]; 0 if the host's kernel
    /// walks it, or there is none.
    pub robust: AtomicU64,
    /// The host's ids of the thread and of its process.
    pub thread: AtomicU32,
    /// See `thread`.
    pub process: AtomicU32,
    /// The handler of a fault in translated code has left all signals blocked.
    pub blocked_at_fault: AtomicBool,
    /// Whether the host stack can be used: not before a second thread needs one.
    has_stack: AtomicBool,
    /// The siginfo of each signal in `queued`.
    pub info: UnsafeCell<[SigInfo; 65]>,
    /// The siginfo of the guest's last memory access that the host refused.
    pub fault: UnsafeCell<SigInfo>,
}

/// Takes a free block, whose host stack can be used, and resets its `Shared`. An error number if there is no
/// memory.
pub fn with_stack() -> Result<&'static Shared, Errno> {
    let shared = new()?;
    if !shared.has_stack.load(Ordering::Relaxed) {
        if let Err(error) = region::make_usable(shared.block(), STACK) {
            shared.used.store(0, Ordering::Release);
            return Err(error);
        }
        shared.has_stack.store(true, Ordering::Relaxed);
    }
    Ok(shared)
}

/// As [`with_stack`], for the first thread, which is on the stack of the kernel's.
pub fn new() -> Result<&'static Shared, Errno> {
    let block = region::take_block(&USABLE)?;
    // SAFETY: the block is ours now, its first 64 KiB are mapped and hold a Shared; zeroes are valid for its
    // atomics.
    let shared = unsafe { &*(block as *const Shared) };
    shared.interrupt.store(0, Ordering::Relaxed);
    shared.queued.store(0, Ordering::Relaxed);
    shared.filters.store(0, Ordering::Relaxed);
    shared.robust.store(0, Ordering::Relaxed);
    shared.blocked_at_fault.store(false, Ordering::Relaxed);
    shared.thread.store(0, Ordering::Relaxed);
    shared.process.store(0, Ordering::Relaxed);
    Ok(shared)
}

impl Shared {
    /// The block around an address on a thread's signal stack.
    ///
    /// # Safety
    ///
    /// `address` is on a thread's signal stack.
    pub(crate) unsafe fn of(address: u64) -> &'static Shared {
        // SAFETY: blocks are aligned to their size and begin with a Shared.
        unsafe { &*((address & !(BLOCK - 1)) as *const Shared) }
    }

    /// Notes the ids of the calling thread, whose block this is.
    pub(crate) fn note_ids(&self) {
        self.thread.store(sys::thread_id(), Ordering::Relaxed);
        self.process.store(sys::process_id(), Ordering::Relaxed);
    }

    /// Takes a signal whose bit in `queued` is set from the queue.
    pub(crate) fn take(&self, signal: u32) -> SigInfo {
        // SAFETY: the handler wrote the siginfo before it set the bit. It writes again only after the bit is
        // cleared, or for another signal of the same number.
        let info = unsafe { (*self.info.get())[signal as usize] };
        self.queued.fetch_and(!(1 << (signal - 1)), Ordering::SeqCst);
        info
    }

    /// The siginfo of the thread's last memory access that the host refused.
    pub(crate) fn last_fault(&self) -> SigInfo {
        // SAFETY: the handler wrote the siginfo before the access returned, on this thread.
        unsafe { *self.fault.get() }
    }

    /// Whether signals wait for delivery.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::SeqCst) & !POKE != 0
    }

    fn block(&self) -> u64 {
        self as *const Shared as u64
    }

    /// The host stack: where it starts, and its bytes.
    pub(crate) fn stack(&self) -> (u64, u64) {
        (self.block() + STACK.0, STACK.1)
    }

    /// The return stack of translated code.
    pub(crate) fn return_stack(&self) -> ReturnStack {
        let low = self.block() + RETURN_STACK.0;
        ReturnStack { low, high: low + RETURN_STACK.1 }
    }

    /// End of the host stack.
    pub(crate) fn stack_end(&self) -> u64 {
        self.block() + STACK.0 + STACK.1
    }

    /// Makes the block's signal stack that of the calling thread.
    pub(crate) fn use_signal_stack(&self) {
        // SAFETY: the memory is this thread's own.
        let _ = unsafe { sys::signal::use_stack(self.block() + SIGNAL_STACK.0, SIGNAL_STACK.1) };
    }
}

/// The blocks of the other threads of a thread's process.
pub(crate) fn other_threads(mine: &Shared) -> impl Iterator<Item = &'static Shared> {
    let process = mine.process.load(Ordering::Relaxed);
    other_blocks(mine).filter(move |other| {
        other.used.load(Ordering::Acquire) != 0 && other.process.load(Ordering::Relaxed) == process
    })
}

/// In the child of a fork: frees the blocks of the other threads, which do not exist there.
pub(crate) fn free_others(mine: &Shared) {
    other_blocks(mine).for_each(|other| other.used.store(0, Ordering::Release));
}

fn other_blocks(mine: &Shared) -> impl Iterator<Item = &'static Shared> {
    let own = mine.block();
    // SAFETY: a block that was ever handed out is mapped and begins with a Shared, of which callers read
    // atomics alone.
    region::blocks().filter(move |&at| at != own).map(|at| unsafe { &*(at as *const Shared) })
}
