//! The ABI of each machine.

use super::Abi;
use super::arm::Arm;
use super::arm64::Arm64;
use super::machine::{ARM, ARM64, Machine, RISCV64};
use super::riscv64::Riscv64;

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
        ARM64 => Some(action.with::<Arm64>()),
        ARM => Some(action.with::<Arm>()),
        RISCV64 => Some(action.with::<Riscv64>()),
        _ => None,
    }
}
