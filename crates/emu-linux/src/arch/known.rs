//! The ABIs of this executable.

use super::arm64::Arm64;
use super::{Abi, Machine};

/// The programs that this executable runs.
pub const MACHINES: [Machine; 1] = [Arm64::MACHINE];

/// Something that is done for the ABI of a program, which is known when the program is opened.
pub trait ForAbi {
    /// The result.
    type Output;
    /// Does it.
    fn with<A: Abi>(self) -> Self::Output;
}

/// Does something for the ABI of `machine`; `None` if there is none.
pub fn with_abi<F: ForAbi>(machine: Machine, action: F) -> Option<F::Output> {
    match machine {
        Arm64::MACHINE => Some(action.with::<Arm64>()),
        _ => None,
    }
}
