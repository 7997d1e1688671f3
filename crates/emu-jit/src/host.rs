//! What the host's CPU has.
//!
//! CPUID takes some microseconds in a virtual machine, which traps it, and processes of guests are short:
//! each leaf is asked for once.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU64, Ordering};

/// ECX of leaf 1 and, above it, EBX of leaf 7; 0 while nobody has asked.
static LEAVES: AtomicU64 = AtomicU64::new(0);

/// ECX of leaf 1 and EBX of leaf 7 (Intel's manual, volume 2, CPUID).
fn leaves() -> [u32; 2] {
    let mut both = LEAVES.load(Ordering::Relaxed);
    if both == 0 {
        let seven = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        both = u64::from(__cpuid(1).ecx) | u64::from(seven) << 32;
        LEAVES.store(both, Ordering::Relaxed);
    }
    [both as u32, (both >> 32) as u32]
}

/// Whether the host's CPU has what generated code uses: x86-64-v3 (AVX2, BMI1, BMI2, FMA, LZCNT, F16C). LAHF,
/// which is not asked for, is as old as 64-bit CPUs with SSE4.2.
pub fn host_is_able() -> bool {
    const FMA_SSE42_POPCNT_OSXSAVE_AVX_F16C: u32 = 1 << 12 | 1 << 20 | 1 << 23 | 1 << 27 | 1 << 28 | 1 << 29;
    const BMI1_AVX2_BMI2: u32 = 1 << 3 | 1 << 5 | 1 << 8;
    let [one, seven] = leaves();
    let has = |value: u32, all: u32| value & all == all;
    has(one, FMA_SSE42_POPCNT_OSXSAVE_AVX_F16C)
        && has(seven, BMI1_AVX2_BMI2)
        && has_lzcnt()
        // SAFETY: OSXSAVE was just seen. Bits 1 and 2: the system saves XMM and YMM.
        && unsafe { xgetbv() } & 6 == 6
}

/// Whether the host has PCLMULQDQ.
pub(crate) fn has_pclmul() -> bool {
    leaves()[0] >> 1 & 1 == 1
}

/// Whether the host has AES-NI.
pub(crate) fn has_aes() -> bool {
    leaves()[0] >> 25 & 1 == 1
}

/// Whether the host has the SHA extensions.
pub(crate) fn has_sha() -> bool {
    leaves()[1] >> 29 & 1 == 1
}

/// Whether the host has LZCNT, which others run as BSR: that finds 0 in 1. This is quicker than a third leaf.
fn has_lzcnt() -> bool {
    let count: u32;
    // SAFETY: LZCNT and BSR change a register and flags.
    unsafe { asm!("lzcnt {:e}, {:e}", out(reg) count, in(reg) 1u32, options(pure, nomem, nostack)) };
    count == 31
}

/// XCR0.
///
/// # Safety
///
/// The CPU has OSXSAVE.
unsafe fn xgetbv() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's promise; no memory is involved.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::arch::x86_64::__cpuid as cpuid;

    #[test]
    fn it_says_what_cpuid_says() {
        let extended = if cpuid(0x8000_0000).eax > 0x8000_0000 { cpuid(0x8000_0001).ecx } else { 0 };
        assert_eq!(has_lzcnt(), extended >> 5 & 1 == 1);
        assert_eq!((has_pclmul(), has_aes()), (cpuid(1).ecx >> 1 & 1 == 1, cpuid(1).ecx >> 25 & 1 == 1));
        assert_eq!(has_sha(), cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx >> 29 & 1 == 1);
    }
}
