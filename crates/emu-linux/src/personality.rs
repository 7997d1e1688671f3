//! The personality of the process (personality(2)), of which the guest sees a part.
//!
//! Linux uses none of the highest four bits, but every process inherits them: by fork, by execve, with or
//! without new rights. So they tell all programs of a container which CPU of a family its platform means, and
//! no program can lose or see the setting, as it could a variable of the environment. crossdock-sandbox sets
//! the same bits (`ArmVersion`).

use crate::sys::process;
use core::sync::atomic::{AtomicU64, Ordering};

/// The bits that hold a [`Cpu`].
const CPU: u64 = 0x3000_0000;
const SHIFT: u32 = 28;

/// The argument of personality(2) that only asks.
pub(crate) const ASK: u64 = 0xffff_ffff;

/// Which 32-bit Arm CPU programs see. The instructions are always those of Armv8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpu {
    /// Armv7-A: linux/arm/v7.
    #[default]
    V7,
    /// Armv6: linux/arm/v6.
    V6,
    /// Armv5TE: linux/arm/v5.
    V5,
}

impl Cpu {
    fn of(personality: u64) -> Cpu {
        match (personality & CPU) >> SHIFT {
            1 => Cpu::V6,
            2 => Cpu::V5,
            _ => Cpu::V7,
        }
    }

    /// The CPU of this process.
    pub fn current() -> Cpu {
        Cpu::of(process::personality())
    }

    /// Sets the CPU of this process and of those that come from it.
    pub fn choose(self) {
        let bits = match self {
            Cpu::V7 => 0,
            Cpu::V6 => 1,
            Cpu::V5 => 2,
        };
        process::set_personality(process::personality() & !CPU | bits << SHIFT);
        CPU_BITS.store(UNKNOWN, Ordering::Relaxed);
    }
}

/// The bits of [`CPU`], which no guest can change, or [`UNKNOWN`]: asking the host each time would double the
/// time of a call.
static CPU_BITS: AtomicU64 = AtomicU64::new(UNKNOWN);
const UNKNOWN: u64 = u64::MAX;

fn cpu_bits() -> u64 {
    let mut bits = CPU_BITS.load(Ordering::Relaxed);
    if bits == UNKNOWN {
        bits = process::personality() & CPU;
        CPU_BITS.store(bits, Ordering::Relaxed);
    }
    bits
}

/// The host's argument of personality(2) for the guest's.
pub(crate) fn to_host(personality: u64) -> u64 {
    match personality & 0xffff_ffff {
        ASK => ASK,
        value => value & !CPU | cpu_bits(),
    }
}

/// The guest's personality for the host's.
pub(crate) fn to_guest(personality: i64) -> i64 {
    personality & !(CPU as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_sees_no_cpu() {
        assert_eq!(to_guest(0x2004_0008), 0x0004_0008);
        assert_eq!(to_host(u64::MAX), ASK);
        assert_eq!(to_host(0x3000_0008) & !CPU, 8);
        let all = [0x0004_0000, 0x1000_0008, 0x2000_0000].map(Cpu::of);
        assert_eq!(all, [Cpu::V7, Cpu::V6, Cpu::V5]);
    }
}
