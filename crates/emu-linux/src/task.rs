//! A guest thread with its registers, and the engine that runs its code.

use crate::arch::Abi;
use crate::engine::Engine;
use crate::thread::Thread;
use alloc::boxed::Box;
use core::sync::atomic::AtomicU32;
use crossdock_emu_guest::State;

/// A guest thread.
pub struct Task<A: Abi> {
    /// What does not depend on the ABI.
    pub thread: Thread,
    /// Registers.
    pub state: State,
    /// Runs the guest's code. A vfork child borrows its parent's.
    pub engine: *mut Engine<A>,
    /// Whether the thread frees the engine at its end.
    pub owns_engine: bool,
    /// Runs the thread to its end.
    pub run: fn(&mut Task<A>) -> !,
}

impl<A: Abi> Task<A> {
    /// A thread without an engine.
    pub fn new(thread: Thread, state: State, run: fn(&mut Task<A>) -> !) -> Self {
        Task { thread, state, engine: core::ptr::null_mut(), owns_engine: false, run }
    }

    /// Gives the thread an engine of its own.
    pub fn own_engine(&mut self) {
        self.engine = Box::into_raw(Box::new(Engine::new(self.thread.shared)));
        self.owns_engine = true;
    }

    /// The thread's engine with what it works on: the registers and the interrupt flag.
    #[inline]
    pub fn parts(&mut self) -> (&mut Engine<A>, &mut State, &AtomicU32) {
        // SAFETY: set by `own_engine` and valid while the thread lives, or its parent's, which does not run
        // while a vfork child does.
        (unsafe { &mut *self.engine }, &mut self.state, &self.thread.shared.interrupt)
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
