//! The translated code of the process.

use crate::changes::CHANGES;
use crate::lock::{self, Lock};
use crate::maps::Places;
use crate::options;
use crate::region;
use crate::sys::{self, file};
use alloc::boxed::Box;
use alloc::format;
use crossdock_emu_jit::{Cache, Held, Isa, Jit, System};

/// The name of the guest's architecture, for perf(1).
static NAME: Lock<&str> = lock::new("");

/// `None` until the first call of [`jit`]; then its result.
static JIT: Lock<Option<Option<&'static Jit>>> = lock::new(None);

/// `--perf-map`: adds a line to the file in which perf(1) looks up names of code that is in no file. Called
/// with the cache's lock held.
fn placed(guest: u64, code: u64, length: u64) {
    static PLACES: Lock<Places> = lock::new(Places::NONE);
    const O_WRONLY_CREAT_APPEND: u64 = 0o1 | 0o100 | 0o2000;
    const O_NOFOLLOW: u64 = 0o400_000;
    let line = format!("{code:x} {length:x} {} {}\n", *NAME.lock(), PLACES.lock().place(guest));
    let path = format!("/tmp/perf-{}.map\0", sys::process_id());
    if let Ok(file) =
        file::open_mode(file::AT_FDCWD, path.as_bytes(), O_WRONLY_CREAT_APPEND | O_NOFOLLOW, 0o600)
    {
        let _ = file::write_all(file.number(), line.as_bytes());
    }
}

/// The process's translator; `None` if the host's CPU is too old for its code, or the host refuses memory
/// that is writable and executable: then everything is interpreted.
pub(crate) fn jit<I: Isa>(name: &'static str) -> Option<&'static Jit> {
    *JIT.lock().get_or_insert_with(|| {
        if options::get().interpret {
            return None;
        }
        *NAME.lock() = name;
        let (code, size) = region::code_arena()?;
        let placed = options::get().perf_map.then_some(placed as fn(u64, u64, u64));
        let (wait, point_gs) = (sys::process::give_way, sys::process::point_gs);
        let system = System { wait, ready: region::code_ready, point_gs, placed };
        // SAFETY: the arena is a part of our region that nothing else uses, and this runs once.
        let jit = unsafe { Jit::of::<I>(code as *mut u8, size as u32, &CHANGES, system) }?;
        Some(Box::leak(Box::new(jit)))
    })
}

/// The process's translator, if [`jit`] has made one.
pub(crate) fn present() -> Option<&'static Jit> {
    JIT.lock().flatten()
}

/// Keeps the cache consistent, for a fork.
pub(crate) fn hold() -> Option<Held<'static, Cache>> {
    let jit = JIT.lock().flatten();
    jit.map(Jit::hold)
}
