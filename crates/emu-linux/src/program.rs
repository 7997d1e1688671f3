//! Facts about the program that the process runs: set once, before the program starts, or found out when they
//! are first needed.

use crate::arch::Abi;
use crate::executable;
use crate::guest;
use crate::lock::{self, Held, Lock};
use crate::maps;
use crate::region;
use crate::sys::memory::{PAGE, PROT_READ_EXECUTE, PROT_READ_WRITE, map_new};
use crate::sys::{Errno, errno};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The program of this process.
#[derive(Debug, Default)]
pub struct Program {
    /// The path that it was started by, without NUL.
    pub path: Vec<u8>,
    /// An address at which its file is mapped at the start.
    pub code: u64,
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

/// What is found out when it is first needed.
pub(crate) struct Late {
    /// The page of [`trampoline`], or 0.
    trampoline: u64,
    file: Option<Vec<u8>>,
}

static LATE: Lock<Late> = lock::new(Late { trampoline: 0, file: None });

/// [`Program::code`] while the name of the program's file is not known; then 0.
static CODE: AtomicU64 = AtomicU64::new(0);

/// The program; an empty one before it is known.
pub fn get() -> &'static Program {
    static NONE: Program = Program {
        path: Vec::new(),
        code: 0,
        arguments: Vec::new(),
        auxiliary: Vec::new(),
        stack: 0..0,
        described: false,
    };
    // SAFETY: set once to a box that is never freed.
    unsafe { PROGRAM.load(Ordering::Acquire).as_ref() }.unwrap_or(&NONE)
}

pub(crate) fn set(program: Program) {
    CODE.store(program.code, Ordering::Relaxed);
    PROGRAM.store(Box::into_raw(Box::new(program)), Ordering::Release);
}

/// The program's file, as /proc/self/exe shows it. It is looked up in the list of mappings when it is first
/// needed, since a link in /proc takes the kernel 15 microseconds, a thirtieth of a native process. Without
/// /proc, it is the path that the program was started by.
pub fn file() -> Vec<u8> {
    let mut late = LATE.lock();
    let find = || {
        let found = maps::file_at(CODE.load(Ordering::Relaxed));
        CODE.store(0, Ordering::Relaxed);
        found.map_or_else(|| get().path.clone(), |(file, _)| file)
    };
    late.file.get_or_insert_with(find).clone()
}

/// The guest unmaps or replaces a range: while the program's file is still mapped, its name is kept.
pub(crate) fn leaves(range: &Range<u64>) {
    let code = CODE.load(Ordering::Relaxed);
    if code != 0 && range.contains(&code) {
        file();
    }
}

/// Where the code is that signal handlers return to: a page of the guest's, mapped when a handler is first
/// called.
pub(crate) fn trampoline<A: Abi>() -> Result<u64, Errno> {
    let mut late = LATE.lock();
    if late.trampoline == 0 {
        let page = map_new(0, PAGE, PROT_READ_WRITE, 0)?;
        if !region::is_guest(page, PAGE) {
            guest::unmap(page..page + PAGE);
            return Err(errno::ENOMEM);
        }
        for (index, word) in (0..).zip(A::TRAMPOLINE) {
            guest::write32(page + 4 * index, *word)?;
        }
        guest::protect(page, PAGE, PROT_READ_EXECUTE)?;
        executable::set(page..page + PAGE, true);
        late.trampoline = page;
    }
    Ok(late.trampoline)
}

/// Whether the page of [`trampoline`] is at an address.
pub(crate) fn is_trampoline(address: u64) -> bool {
    address != 0 && LATE.lock().trampoline == address
}

/// Keeps what is found out late consistent, for a fork.
pub(crate) fn hold() -> Held<'static, Late> {
    LATE.lock()
}
