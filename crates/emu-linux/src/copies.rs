//! Copies of the process, for `--check`: code runs in a copy, whose memory can then be read.

use crate::sys::memory::{self, PAGE, PROT_READ_WRITE};
use crate::sys::process;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};
use crossdock_emu_jit::{Copies, Outcome};

/// How long the process waits before it looks whether the copy is still there, in nanoseconds.
const LOOK: u64 = 100_000_000;
/// How often it does so: code may wait in a loop for a signal, which no copy gets.
const LOOKS: u32 = 20;

/// What the process shares with a copy.
struct Shared {
    /// 1 when `outcome` has been written.
    done: AtomicU32,
    outcome: MaybeUninit<Outcome>,
}

/// A copy of the process, while there is one.
#[derive(Default)]
pub(crate) struct Copy {
    process: Option<u32>,
}

impl Copies for Copy {
    fn run(&mut self, code: &mut dyn FnMut() -> Outcome) -> Option<Outcome> {
        let length = (size_of::<Shared>() as u64).next_multiple_of(PAGE);
        let address = memory::map_shared(length, PROT_READ_WRITE).ok()?;
        let shared = address as *mut Shared;
        // SAFETY: `--check` makes copies only of processes with one thread, which is here and holds no lock.
        let process = unsafe { process::copy() };
        if process == Ok(0) {
            let outcome = code();
            // SAFETY: the mapping has room for it, zeros are a valid start, and the process reads the outcome
            // only when `done` is set. Registers own no memory, so the process may take them from there.
            unsafe {
                (*shared).outcome.write(outcome);
                (*shared).done.store(1, Ordering::Release);
                process::wake_any(&(*shared).done);
            }
            loop {
                process::sleep(u64::MAX / 4);
            }
        }
        let outcome = process.ok().and_then(|process| {
            self.process = Some(process);
            // SAFETY: as above.
            let done = unsafe { &(*shared).done };
            for _ in 0..LOOKS {
                if done.load(Ordering::Acquire) == 0 {
                    process::wait_any(done, 0, LOOK);
                }
                if done.load(Ordering::Acquire) == 1 {
                    break;
                }
                if process::has_ended(process) {
                    self.process = None;
                    break;
                }
            }
            // SAFETY: as above.
            (done.load(Ordering::Acquire) == 1).then(|| unsafe { (*shared).outcome.assume_init_read() })
        });
        // SAFETY: nothing refers to the mapping.
        let _ = unsafe { memory::unmap(address, length) };
        if outcome.is_none() {
            self.end();
        }
        outcome
    }

    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        self.process.is_some_and(|process| process::read_memory(process, address, bytes))
    }

    fn end(&mut self) {
        if let Some(process) = self.process.take() {
            process::end_copy(process);
        }
    }
}
