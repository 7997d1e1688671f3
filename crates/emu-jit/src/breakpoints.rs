//! Places where a thread leaves generated code for a signal, by the fault of an instruction put there for it.
//!
//! Only marks ([`crate::cache::Mark`]) say where the guest's registers and flags are. So a signal that
//! interrupts generated code puts HLT on the first byte of the next mark's code: the thread faults there, its
//! registers are found as for any other fault, and the signal is taken at that guest instruction. Other
//! threads that reach the HLT fault, too: the interpreter runs the instruction for them, and they go on.

/// HLT: a privileged instruction, which faults with SIGSEGV. It is one byte, so other threads see either the
/// old code or the new.
const HLT: u8 = 0xf4;

/// Most breakpoints at a time; a signal for which there is no room is taken at the next loop's head.
const LENGTH_MAX: usize = 32;

#[derive(Clone, Copy)]
struct Breakpoint {
    /// Offset in the arena.
    offset: u32,
    /// The byte that HLT replaced.
    byte: u8,
    /// The thread that is to leave, by the address of its state.
    owner: u64,
}

/// The breakpoints of a process. They are changed in signal handlers, so they allocate no memory.
pub(crate) struct Breakpoints {
    all: [Breakpoint; LENGTH_MAX],
    length: usize,
}

impl Breakpoints {
    /// No breakpoints.
    pub const fn new() -> Breakpoints {
        Breakpoints { all: [Breakpoint { offset: 0, byte: 0, owner: 0 }; LENGTH_MAX], length: 0 }
    }

    fn list(&self) -> &[Breakpoint] {
        &self.all[..self.length]
    }

    /// Whether there is a breakpoint at an offset.
    pub fn contains(&self, offset: u32) -> bool {
        self.list().iter().any(|breakpoint| breakpoint.offset == offset)
    }

    /// The number of breakpoints.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Sets a breakpoint for a thread.
    ///
    /// # Safety
    ///
    /// An instruction of generated code begins at the offset in the arena, and has a mark.
    pub unsafe fn set(&mut self, arena: *mut u8, offset: u32, owner: u64) {
        if self.length == LENGTH_MAX {
            return;
        }
        let same = self.list().iter().find(|breakpoint| breakpoint.offset == offset);
        // SAFETY: the offset is in the arena.
        let byte = same.map_or_else(|| unsafe { *arena.add(offset as usize) }, |breakpoint| breakpoint.byte);
        self.all[self.length] = Breakpoint { offset, byte, owner };
        self.length += 1;
        // SAFETY: as above.
        unsafe { arena.add(offset as usize).write_volatile(HLT) };
    }

    /// Removes the breakpoints of a thread, or all, and restores the code unless another thread has a
    /// breakpoint there.
    ///
    /// # Safety
    ///
    /// The arena is that of [`Breakpoints::set`], and its code has not been replaced.
    pub unsafe fn remove(&mut self, arena: *mut u8, owner: Option<u64>) {
        let mut kept = 0;
        for i in 0..self.length {
            let breakpoint = self.all[i];
            if owner.is_some_and(|owner| owner != breakpoint.owner) {
                self.all[kept] = breakpoint;
                kept += 1;
                continue;
            }
            let rest = self.all[..kept].iter().chain(&self.all[i + 1..self.length]);
            if !rest.into_iter().any(|other| other.offset == breakpoint.offset) {
                // SAFETY: the caller's promise.
                unsafe { arena.add(breakpoint.offset as usize).write_volatile(breakpoint.byte) };
            }
        }
        self.length = kept;
    }

    /// Forgets all breakpoints, because their code is gone.
    pub fn clear(&mut self) {
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_is_removed_puts_the_code_back() {
        let code: &mut [u8] = &mut [1, 2, 3];
        let (arena, mut breakpoints) = (code.as_mut_ptr(), Breakpoints::new());
        let bytes = || {
            core::array::from_fn::<u8, 3, _>(|i| {
                // SAFETY: the array has three bytes.
                unsafe { arena.add(i).read_volatile() }
            })
        };
        // SAFETY: nobody runs the code.
        unsafe {
            breakpoints.set(arena, 1, 10);
            breakpoints.set(arena, 1, 20);
            breakpoints.set(arena, 2, 10);
            assert_eq!(bytes(), [1, HLT, HLT]);
            assert!(breakpoints.contains(2) && !breakpoints.contains(0));
            breakpoints.remove(arena, Some(10));
            assert_eq!(bytes(), [1, HLT, 3]);
            breakpoints.remove(arena, Some(10));
            assert_eq!((bytes(), breakpoints.len()), ([1, HLT, 3], 1));
            breakpoints.remove(arena, Some(20));
            assert_eq!((bytes(), breakpoints.len()), ([1, 2, 3], 0));
            for owner in 0..2 * LENGTH_MAX as u64 {
                breakpoints.set(arena, 0, owner);
            }
            assert_eq!((bytes(), breakpoints.len()), ([HLT, 2, 3], LENGTH_MAX));
            breakpoints.remove(arena, None);
            assert_eq!((bytes(), breakpoints.len()), ([1, 2, 3], 0));
        }
    }
}
