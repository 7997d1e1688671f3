//! What the guest's CPU says it can do: HWCAP bits, and the identification registers that Linux lets programs
//! read (Linux, Documentation/arch/arm64/cpu-feature-registers.rst and elf_hwcaps.rst).
//!
//! These are exactly the features in the table of encodings.

/// `AT_HWCAP`: fp, asimd, aes, pmull, sha1, sha2, crc32, atomics, cpuid, asimdrdm, jscvt, lrcpc, asimddp.
pub const HWCAP: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 15
    | 1 << 20;
/// `AT_HWCAP2`: nothing.
pub const HWCAP2: u64 = 0;
/// The words of "Features" in /proc/cpuinfo.
pub const CPUINFO_FEATURES: &str =
    "fp asimd aes pmull sha1 sha2 crc32 atomics cpuid asimdrdm jscvt lrcpc asimddp";

/// MIDR_EL1: implementer Arm, part of a Cortex-A76, r0p0. Every library that reads it knows this CPU, and it
/// has no errata that programs work around.
pub const MIDR_EL1: u64 = 0x410f_d0b0;
/// MPIDR_EL1: as Linux shows it to programs.
pub const MPIDR_EL1: u64 = 1 << 31;
/// REVIDR_EL1.
pub const REVIDR_EL1: u64 = 0;
/// ID_AA64PFR0_EL1: EL0 in AArch64 only; FP and AdvSIMD without half-precision arithmetic.
pub const ID_AA64PFR0_EL1: u64 = 0x0000_0000_0000_0011;
/// ID_AA64ISAR0_EL1: AES with PMULL, SHA1, SHA256, CRC32, Atomic, RDM, DP.
pub const ID_AA64ISAR0_EL1: u64 = 2 << 4 | 1 << 8 | 1 << 12 | 1 << 16 | 2 << 20 | 1 << 28 | 1 << 44;
/// ID_AA64ISAR1_EL1: JSCVT, LRCPC.
pub const ID_AA64ISAR1_EL1: u64 = 1 << 12 | 1 << 20;

/// CTR_EL0: IDC = DIC = 0, so that programs announce the code they have written; 64-byte lines; ERG and CWG
/// 64 bytes.
pub const CTR_EL0: u64 = 1 << 31 | 4 << 24 | 4 << 20 | 4 << 16 | 3 << 14 | 4;
/// DCZID_EL0: DC ZVA clears 64 bytes.
pub const DCZID_EL0: u64 = 4;
/// Bytes in a line of the data and instruction caches, and of DC ZVA.
pub const CACHE_LINE: u64 = 64;
const _: () = assert!(CACHE_LINE == 1 << crate::code_lines::LINE_BITS);
/// CNTFRQ_EL0 in Hz: CNTVCT_EL0 counts nanoseconds.
pub const CNTFRQ_EL0: u64 = 1_000_000_000;
