//! The alternate signal stack of a thread (sigaltstack(2)).

use crate::sys::{Errno, errno};

/// The guest's alternate signal stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alternate {
    /// Lowest address.
    pub base: u64,
    /// SS_AUTODISARM or 0.
    pub flags: u32,
    /// Bytes; 0 for no stack.
    pub size: u64,
}

const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;

impl Alternate {
    /// Whether a thread at `sp` runs on the stack.
    pub(crate) fn contains(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && sp > self.base && sp - self.base <= self.size
    }

    /// The three words of a stack_t.
    pub(crate) fn words(&self, sp: u64) -> [u64; 3] {
        let state = match self.size {
            0 => SS_DISABLE,
            _ if self.contains(sp) => SS_ONSTACK,
            _ => 0,
        };
        [self.base, u64::from(state | self.flags), self.size]
    }

    /// sigaltstack(2), for a thread at `sp`; stacks below `smallest` bytes (MINSIGSTKSZ) are refused.
    pub(crate) fn set(&mut self, [base, flags, size]: [u64; 3], sp: u64, smallest: u64) -> Result<(), Errno> {
        if self.contains(sp) {
            return Err(errno::EPERM);
        }
        let flags = flags as u32;
        *self = match flags & !SS_AUTODISARM {
            SS_DISABLE => Alternate { base: 0, flags: flags & SS_AUTODISARM, size: 0 },
            0 | SS_ONSTACK if size < smallest => return Err(errno::ENOMEM),
            0 | SS_ONSTACK => Alternate { base, flags: flags & SS_AUTODISARM, size },
            _ => return Err(errno::EINVAL),
        };
        Ok(())
    }

    /// Forgets the stack when a handler enters it, if the guest asked for that.
    pub(crate) fn entered(&mut self) {
        if self.flags & SS_AUTODISARM != 0 {
            *self = Alternate::default();
        }
    }

    /// Where a handler's frame goes: below the result. `wants_stack`: SA_ONSTACK.
    pub(crate) fn top(&self, sp: u64, wants_stack: bool) -> u64 {
        if wants_stack && !self.contains(sp) && self.size > 0 { self.base + self.size } else { sp }
    }
}
