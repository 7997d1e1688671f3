//! The emulator's own executable: an open file that execve needs again, hidden from the guest.

use crate::region;
use crate::sys::file::{self, AT_FDCWD, Fd};
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicI32, Ordering};

const F_SETFD: u64 = 2;
const FD_CLOEXEC: u64 = 1;
const F_DUPFD_CLOEXEC: u64 = 1030;

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// The descriptor of the emulator's own executable, which the guest does not see; negative if there is none.
pub fn descriptor() -> i32 {
    DESCRIPTOR.load(Ordering::Relaxed)
}

/// Whether a descriptor, an argument of a call, is the emulator's.
pub(crate) fn is_own(argument: u64) -> bool {
    argument as i32 == descriptor() && descriptor() >= 0
}

fn set_descriptor(descriptor: i32) {
    DESCRIPTOR.store(descriptor, Ordering::Relaxed);
}

/// Opens the emulator's executable at a high descriptor number, unless its descriptor was passed on.
pub(crate) fn open(passed: Option<i32>, auxiliary: &[(u64, u64)]) {
    const AT_EXECFN: u64 = 31;
    if let Some(own) = passed {
        pass_on(own, false);
        set_descriptor(own);
        return;
    }
    let mut found = file::open(AT_FDCWD, b"/proc/self/exe\0", 0).ok();
    if found.is_none()
        && let Some(&(_, name)) = auxiliary.iter().find(|pair| pair.0 == AT_EXECFN)
    {
        // Without /proc, this is the only path to our executable. Under binfmt_misc, it names the guest's
        // program.
        // SAFETY: the kernel's string, which is never written.
        let name = unsafe { CStr::from_ptr(name as *const c_char) };
        found = file::open(AT_FDCWD, name.to_bytes_with_nul(), 0).ok();
        found = found.filter(|file| is_own_file(file.number()));
    }
    if let Some(file) = found {
        set_descriptor(file.into_number());
        move_descriptor();
    }
}

/// Sets whether an execve passes a descriptor on.
pub(crate) fn pass_on(descriptor: i32, passes: bool) {
    let _ = file::control(descriptor, F_SETFD, if passes { 0 } else { FD_CLOEXEC });
}

/// Whether a path, with NUL, leads to the emulator's executable.
pub(crate) fn is_emulator(path: &[u8]) -> bool {
    match (file::status(descriptor()), file::status_of(path)) {
        (Ok(ours), Ok(theirs)) => ours.file == theirs.file,
        _ => false,
    }
}

/// Whether a file begins with the same bytes as the emulator in memory: headers, and the build id after them.
fn is_own_file(descriptor: i32) -> bool {
    let mut start = [0; 2048];
    let length = file::read_at(descriptor, &mut start, 0).unwrap_or(0);
    length == start.len() && start == *region::executable_start()
}

/// Moves the descriptor of the executable to another high number, so that its present one is free for the
/// guest.
///
/// Not above 1023: at each fork, the kernel copies the table of descriptors up to the highest in use.
pub(crate) fn move_descriptor() {
    let old = descriptor();
    for lowest in [960, 200, 50, 0] {
        if let Ok(new) = file::control(old, F_DUPFD_CLOEXEC, lowest) {
            set_descriptor(new as i32);
            drop(Fd::from_number(old));
            return;
        }
    }
}
