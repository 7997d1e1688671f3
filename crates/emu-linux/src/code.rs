//! The translated code of the process.

use crate::lock::Lock;
use crate::region;
use crate::sys::nr;
use crate::syscall;
use crate::task::CHANGES;
use alloc::boxed::Box;
use crossdock_emu_jit::{Cache, Held, Jit, System};

/// Not yet asked for; else what there is.
static JIT: Lock<Option<Option<&'static Jit>>> = Lock::new(None);

fn wait() {
    // SAFETY: no memory is involved.
    unsafe { syscall!(nr::SCHED_YIELD) };
}

/// The process's translator; `None` where the host's CPU is too old for its code, or memory that is writable and
/// executable is refused: then everything is interpreted.
pub(crate) fn jit() -> Option<&'static Jit> {
    *JIT.lock().get_or_insert_with(|| {
        let (code, size) = region::code_arena()?;
        // SAFETY: the arena is a part of our region that nobody else has, and this runs once.
        let jit = unsafe {
            Jit::new(code as *mut u8, size as u32, &CHANGES, System { wait, ready: region::code_ready })
        }?;
        Some(Box::leak(Box::new(jit)))
    })
}

/// Keeps it consistent, for a fork.
pub(crate) fn hold() -> Option<Held<'static, Cache>> {
    let jit = JIT.lock().flatten();
    jit.map(Jit::hold)
}
