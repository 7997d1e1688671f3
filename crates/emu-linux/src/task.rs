//! A guest thread: its registers, its signals, and the host stacks it uses.
//!
//! Each thread has one block of the emulator's region, found from any address on its signal stack:
//!
//! ```text
//! 0      Shared: what signal handlers write    64 K  no access    128 K  signal stack
//! 256 K  no access      260 K  return stack   324 K  no access    328 K  host stack ... 1 M
//! ```

use crate::code;
use crate::region::{self, BLOCK};
use crate::signal::{Actions, Alternate};
use crate::sys::nr;
use crate::syscall;
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crossdock_emu_guest::a64::{Invalidations, State};
use crossdock_emu_jit::{Engine, POKE, ReturnStack};

const SIGNAL_STACK: (u64, u64) = (128 << 10, 128 << 10);
/// The return stack of translated code; see `crossdock_emu_jit::ReturnStack`.
const RETURN_STACK: (u64, u64) = (260 << 10, 64 << 10);
const STACK: (u64, u64) = (328 << 10, BLOCK - (328 << 10));
const USABLE: [(u64, u64); 4] = [(0, 64 << 10), SIGNAL_STACK, RETURN_STACK, STACK];

/// Log of changed code; shared by all threads.
pub static CHANGES: Invalidations = Invalidations::new();

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
    /// The host's ids of the thread and of its process.
    pub thread: AtomicU32,
    /// See `thread`.
    pub process: AtomicU32,
    /// The handler of a fault in translated code has left all signals blocked.
    pub blocked_at_fault: AtomicBool,
    /// The siginfo of each signal in `queued`.
    pub info: UnsafeCell<[SigInfo; 65]>,
    /// The siginfo of the guest's last memory access that the host refused.
    pub fault: UnsafeCell<SigInfo>,
}

/// A guest thread.
pub struct Task {
    /// The part that the signal handler writes.
    pub shared: &'static Shared,
    /// Registers.
    pub state: State,
    /// Runs the guest's code. A vfork child borrows its parent's.
    pub engine: *mut Engine,
    /// Signal actions, shared between tasks as CLONE_SIGHAND says.
    pub actions: &'static Actions,
    /// Blocked signals, as the guest knows them.
    pub mask: u64,
    /// Signals blocked during a call that replaces the mask (rt_sigsuspend, ppoll, ...), until its signal is
    /// delivered.
    pub mask_of_call: Option<u64>,
    /// Whether a call was interrupted that SA_RESTART makes again.
    pub restart: bool,
    /// The guest's sigaltstack.
    pub alternate: Alternate,
    /// Exception syndrome and address of the last fault, for signal frames.
    pub syndrome: u64,
    /// See `syndrome`.
    pub fault_address: u64,
    /// Whether system calls accept pointers with a tag (PR_SET_TAGGED_ADDR_CTRL).
    pub tagged: bool,
    /// Whether a new thread first resets its signal handlers (CLONE_CLEAR_SIGHAND).
    pub clears_handlers: bool,
    /// Whether the thread frees the engine at its end.
    pub owns_engine: bool,
}

/// Takes a free block and resets its `Shared`. An error number if there is no memory.
pub fn new_shared() -> Result<&'static Shared, i64> {
    let block = region::take_block(&USABLE)?;
    // SAFETY: the block is ours now, its first 64 KiB are mapped and hold a Shared; zeroes are valid for its
    // atomics.
    let shared = unsafe { &*(block as *const Shared) };
    shared.interrupt.store(0, Ordering::Relaxed);
    shared.queued.store(0, Ordering::Relaxed);
    shared.filters.store(0, Ordering::Relaxed);
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
        self.thread.store(thread_id(), Ordering::Relaxed);
        self.process.store(process_id(), Ordering::Relaxed);
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

    /// End of the host stack.
    pub(crate) fn stack_end(&self) -> u64 {
        self.block() + STACK.0 + STACK.1
    }

    /// Makes the block's signal stack that of the calling thread.
    pub(crate) fn use_signal_stack(&self) {
        let stack = [self.block() + SIGNAL_STACK.0, 0, SIGNAL_STACK.1];
        // SAFETY: the memory is this thread's own.
        unsafe { syscall!(nr::SIGALTSTACK, stack.as_ptr(), 0) };
    }
}

impl Task {
    /// A thread with its block, which runs with these registers.
    pub fn new(shared: &'static Shared, state: State, actions: &'static Actions) -> Self {
        Task {
            shared,
            state,
            engine: core::ptr::null_mut(),
            actions,
            mask: 0,
            mask_of_call: None,
            restart: false,
            alternate: Alternate::default(),
            syndrome: 0,
            fault_address: 0,
            tagged: false,
            clears_handlers: false,
            owns_engine: false,
        }
    }

    /// Gives the thread an engine of its own.
    pub fn own_engine(&mut self) {
        let low = self.shared.block() + RETURN_STACK.0;
        let stack = ReturnStack { low, high: low + RETURN_STACK.1 };
        // SAFETY: the return stack is a part of this thread's block, with inaccessible pages below it.
        let engine = unsafe { Engine::new(&CHANGES, code::jit(), stack) };
        self.engine = Box::into_raw(Box::new(engine));
        self.owns_engine = true;
    }

    /// Frees what the thread owns, except its block.
    pub fn free(&mut self) {
        if self.owns_engine {
            // SAFETY: made by `own_engine`, used by no other thread once this one ends.
            drop(unsafe { Box::from_raw(self.engine) });
            self.owns_engine = false;
        }
    }
}

/// The host's thread id.
pub fn thread_id() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { syscall!(nr::GETTID) as u32 }
}

/// The host's process id.
pub fn process_id() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { syscall!(nr::GETPID) as u32 }
}
