//! What the CPU is: the extensions as Linux tells them.

pub use super::load_store::BLOCK;

/// AT_HWCAP (Linux, arch/riscv/include/uapi/asm/hwcap.h): a bit per letter of I, M, A, F, D, C, V.
pub const HWCAP: u64 =
    letter(b'I') | letter(b'M') | letter(b'A') | letter(b'F') | letter(b'D') | letter(b'C') | letter(b'V');

const fn letter(letter: u8) -> u64 {
    1 << (letter - b'A')
}

/// The names of the extensions in /proc/cpuinfo, in the order of the manual's chapter on names.
pub const ISA: &str = "rv64imafdcv_zicbom_zicboz_zicntr_zicond_zicsr_zifencei_zihintntl_zihintpause_zimop_\
    zaamo_zabha_zacas_zalrsc_zawrs_zfa_zfh_zfhmin_zca_zcb_zcd_zcmop_zba_zbb_zbc_zbs_\
    zve32f_zve32x_zve64d_zve64f_zve64x_zvbb_zvbc_zvkb_zvkned_zvknha";
