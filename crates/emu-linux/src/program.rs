//! Facts about the program that the process runs; set once, before the program starts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The program of this process.
#[derive(Debug, Default)]
pub struct Program {
    /// The program's file, as /proc/self/exe shows it; empty if unknown.
    pub file: Vec<u8>,
    /// Its arguments, as /proc/self/cmdline shows them.
    pub arguments: Vec<Vec<u8>>,
    /// Its auxiliary vector, in words.
    pub auxiliary: Vec<u64>,
    /// The stack of its first thread.
    pub stack: Range<u64>,
    /// Whether the kernel's own /proc/self/cmdline and auxv show the guest's data.
    pub described: bool,
}

static PROGRAM: AtomicPtr<Program> = AtomicPtr::new(core::ptr::null_mut());
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);

/// The program; an empty one before it is known.
pub fn get() -> &'static Program {
    static NONE: Program = Program {
        file: Vec::new(),
        arguments: Vec::new(),
        auxiliary: Vec::new(),
        stack: 0..0,
        described: false,
    };
    // SAFETY: set once to a box that is never freed.
    unsafe { PROGRAM.load(Ordering::Acquire).as_ref() }.unwrap_or(&NONE)
}

pub(crate) fn set(program: Program) {
    PROGRAM.store(Box::into_raw(Box::new(program)), Ordering::Release);
}

/// Where signal handlers return to.
pub(crate) fn trampoline() -> u64 {
    TRAMPOLINE.load(Ordering::Relaxed)
}

pub(crate) fn set_trampoline(address: u64) {
    TRAMPOLINE.store(address, Ordering::Relaxed);
}
