//! How instructions and runs of them end.

use crate::memory::Fault;

/// Why [`crate::Interpreter::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// SVC with this immediate. `pc` is that of the next instruction.
    Syscall(u16),
    /// BRK with this immediate. `pc` is that of the BRK.
    Breakpoint(u16),
    /// An encoding that is not an instruction of this CPU, at `pc`.
    Undefined(u32),
    /// The instruction at `pc` could not access memory, or could not be fetched. No register has changed; a
    /// store of several registers may have written some of them.
    Fault(Fault),
    /// The access at `pc` needs an aligned address: an atomic or ordered one, or of 32-bit Arm one of VFP. No
    /// register has changed.
    Unaligned {
        /// The address.
        address: u64,
    },
    /// `pc` is not a multiple of 4.
    UnalignedPc,
    /// The load or store at `pc` has SP as its base, and SP is not a multiple of 16
    /// ([`crate::a64::stack_pointer`]). No register has changed.
    UnalignedSp,
    /// IC IVAU: code in the line of 64 bytes at `address` may have changed; call
    /// [`crate::Invalidations::invalidate`]. `pc` is that of the next instruction.
    CodeModified {
        /// Start of the line.
        address: u64,
    },
    /// FENCE.I of RISC-V: any code may have changed. `pc` is that of the next instruction.
    AllCodeModified,
    /// The budget is used up. `pc` is that of the next instruction.
    Budget,
    /// The interrupt flag is set. `pc` is that of the next instruction.
    Interrupted,
}

/// Which instruction follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next instruction in memory.
    Next,
    /// The instruction at [`crate::State::pc`], which has been set.
    Jump,
}

/// The instruction leaves the interpreter; `State::exit` says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave;

/// Result of one instruction.
pub type Step = Result<Flow, Leave>;
