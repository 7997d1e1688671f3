//! What is known of the program that the process runs; set once, before it starts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

/// Which system calls that are missing are told of, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// None.
    Quiet,
    /// Those that the emulator does not know.
    #[default]
    Unknown,
    /// Also those that it knows and refuses with ENOSYS, which programs expect and work around.
    Refused,
}

impl Log {
    /// What the value of CROSSDOCK_EMU_LOG says.
    pub fn from_setting(value: &[u8]) -> Log {
        match value {
            b"0" => Log::Quiet,
            b"" => Log::Unknown,
            _ => Log::Refused,
        }
    }
}

/// The program of this process.
#[derive(Debug, Default)]
pub struct Program {
    /// Its file, as /proc/self/exe shows it; empty where unknown.
    pub file: Vec<u8>,
    /// Its arguments, as /proc/self/cmdline shows them.
    pub arguments: Vec<Vec<u8>>,
    /// Its auxiliary vector, in words.
    pub auxiliary: Vec<u64>,
    /// The stack of its first thread.
    pub stack: Range<u64>,
    /// Whether the kernel's own /proc/self/cmdline and auxv show the guest's.
    pub described: bool,
    /// Whether system calls are printed.
    pub trace: bool,
    /// Which missing system calls are printed.
    pub log: Log,
}

static PROGRAM: AtomicPtr<Program> = AtomicPtr::new(core::ptr::null_mut());
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// The program. Before it is known, an empty one.
pub fn get() -> &'static Program {
    static NONE: Program = Program {
        file: Vec::new(),
        arguments: Vec::new(),
        auxiliary: Vec::new(),
        stack: 0..0,
        described: false,
        trace: false,
        log: Log::Unknown,
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

/// The descriptor of the emulator's own executable, which the guest does not see; negative if there is none.
pub fn descriptor() -> i32 {
    DESCRIPTOR.load(Ordering::Relaxed)
}

pub(crate) fn set_descriptor(descriptor: i32) {
    DESCRIPTOR.store(descriptor, Ordering::Relaxed);
}
