//! Signal numbers, the same on x86-64 and the generic ABI (signal(7)), and sets of them.
#![allow(missing_docs)]

use crate::shared::SigInfo;

pub const ILL: u32 = 4;
pub const TRAP: u32 = 5;
pub const ABRT: u32 = 6;
pub const BUS: u32 = 7;
pub const FPE: u32 = 8;
pub const KILL: u32 = 9;
pub const SEGV: u32 = 11;
pub const CHLD: u32 = 17;
pub const CONT: u32 = 18;
pub const STOP: u32 = 19;
pub const TTOU: u32 = 22;
pub const URG: u32 = 23;
pub const WINCH: u32 = 28;
pub const SYS: u32 = 31;

/// The bit of a signal in a mask.
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Signals the host never blocks: the emulator needs them for the guest's memory accesses, and for
/// instructions that translated code leaves to the interpreter (an invalid floating-point operation, which
/// raises no signal in the guest).
pub(crate) const OURS: u64 = bit(SEGV) | bit(BUS) | bit(FPE);
/// [`OURS`] as a list.
pub(crate) const OUR_SIGNALS: [u32; 3] = [SEGV, BUS, FPE];
/// Signals that no mask blocks.
pub(crate) const UNBLOCKABLE: u64 = bit(KILL) | bit(STOP);

/// si_code of a signal that the kernel raises for no address.
pub(crate) const SI_KERNEL: i32 = 0x80;

/// The siginfo of a fault.
pub fn fault_info(signal: u32, code: i32, address: u64) -> SigInfo {
    let mut info = [0; 16];
    info[0] = u64::from(signal);
    info[1] = code as u32 as u64;
    info[2] = address;
    info
}
