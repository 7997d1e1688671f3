//! The alignment of SP (manual D1.3.10.2, "SP alignment checking"): a load or store whose base is SP needs SP
//! to be a multiple of 16. Linux sets SCTLR_EL1.SA0, so programs are checked.
//!
//! Nearly all code keeps SP aligned, and nearly all instructions that write SP leave an aligned SP aligned:
//! `SUB SP, SP, #32`, `STP X29, X30, [SP, #-16]!`. So accesses are not checked one by one. An SP that is
//! aligned at the start of a block stays so until an instruction of [`may_unalign`], and blocks end after
//! such an instruction. In a block that begins with an unaligned SP, each instruction is checked.

use crate::op::bits;

/// SP must be a multiple of this where it is the base of an access.
pub const ALIGNMENT: u64 = 16;

const LOW: u32 = ALIGNMENT as u32 - 1;

/// Whether `word` may turn an aligned SP into an unaligned one.
#[inline(always)]
pub const fn may_unalign(word: u32) -> bool {
    // SP is written as Rd or, with write-back, as Rn.
    word & 31 == 31 && sets_unaligned(word) || word >> 5 & 31 == 31 && moves_unaligned(word)
}

/// ADD, SUB, AND, ORR and EOR to SP (manual C4.1.92, C4.1.95).
const fn sets_unaligned(word: u32) -> bool {
    let from_sp = bits(word, 9, 5) == 31;
    let sets_flags = bits(word, 29, 29) == 1;
    if bits(word, 28, 23) == 0b10_0010 && !sets_flags {
        // An immediate, which may be shifted by 12.
        let aligned = bits(word, 22, 22) == 1 || bits(word, 13, 10) == 0;
        return !(from_sp && aligned);
    }
    if bits(word, 28, 21) == 0b0101_1001 && !sets_flags {
        // An extended register, which is shifted by up to 4.
        return !(from_sp && bits(word, 12, 10) == 4);
    }
    if bits(word, 28, 23) == 0b10_0100 && bits(word, 30, 29) != 3 {
        let clear = low_bits_of_mask(word) == 0;
        // Register 31 as a source is zero here.
        return !(clear && (bits(word, 30, 29) == 0 || from_sp));
    }
    false
}

/// Bits 3 to 0 of the mask of a logical immediate (DecodeBitMasks of the manual's shared pseudo-code).
const fn low_bits_of_mask(word: u32) -> u32 {
    let (n, immr, imms) = (bits(word, 22, 22), bits(word, 21, 16), bits(word, 15, 10));
    let combined = n << 6 | !imms & 0x3f;
    if combined < 2 {
        // Reserved.
        return LOW;
    }
    let element = 1 << (31 - combined.leading_zeros());
    let (ones, rotation) = (imms % element + 1, immr % element);
    let mut mask = 0;
    let mut bit = 0;
    while bit < 4 {
        // The bit is taken from the run of ones before its rotation to the right.
        let from = (bit + rotation) % element;
        if from < ones {
            mask |= 1 << bit;
        }
        bit += 1;
    }
    mask
}

/// Loads and stores that have SP as their base and write it back (manual C4.1.94).
const fn moves_unaligned(word: u32) -> bool {
    if bits(word, 27, 27) == 0b1 && bits(word, 25, 25) == 0 {
        match bits(word, 29, 28) {
            // A pair with an immediate that is scaled by the size of a register.
            0b10 => {
                let vector = bits(word, 26, 26);
                let scale = if vector == 1 { 2 + bits(word, 31, 30) } else { 2 + bits(word, 31, 31) };
                return bits(word, 23, 23) == 1 && (bits(word, 21, 15) << scale) & LOW != 0;
            }
            0b11 => {
                let indexed = bits(word, 24, 24) == 0 && bits(word, 21, 21) == 0 && bits(word, 10, 10) == 1;
                return indexed && bits(word, 15, 12) != 0;
            }
            // Structures, post-indexed: by a register, or by their size.
            0b00 if bits(word, 26, 26) == 1 => {
                let whole = bits(word, 24, 24) == 0 && bits(word, 30, 30) == 1;
                return bits(word, 23, 23) == 1 && !(whole && bits(word, 20, 16) == 31);
            }
            _ => {}
        }
    }
    false
}

/// Whether `word` is a load or store (manual C4.1.94) whose base is SP and which checks the alignment of SP:
/// not a prefetch.
pub const fn accesses(word: u32) -> bool {
    if bits(word, 27, 27) == 0 || bits(word, 25, 25) == 1 || bits(word, 9, 5) != 31 {
        return false;
    }
    let register = bits(word, 29, 28) == 0b11;
    let literal = bits(word, 29, 28) == 0b01 && bits(word, 24, 24) == 0;
    // Scaled, unscaled and register offset; the others of these sizes are atomic.
    let form = bits(word, 24, 24) == 1
        || bits(word, 21, 21) == 0 && bits(word, 11, 10) == 0
        || bits(word, 21, 21) == 1 && bits(word, 11, 10) == 2;
    let prefetch = register && form && word >> 30 == 3 && bits(word, 26, 26) == 0 && bits(word, 23, 22) == 2;
    !literal && !prefetch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compilers_make_keeps_sp_aligned() {
        for word in [
            0xd100_83ff, // sub sp, sp, #32
            0x9140_07ff, // add sp, sp, #1, lsl #12
            0xa9be_7bfd, // stp x29, x30, [sp, #-32]!
            0xa8c2_7bfd, // ldp x29, x30, [sp], #32
            0xf81f_0ffe, // str x30, [sp, #-16]!
            0x927c_ed3f, // and sp, x9, #0xfffffffffffffff0
            0xcb20_73ff, // sub sp, sp, x0, lsl #4
            0x4cdf_7fe0, // ld1 {v0.2d}, [sp], #16
            0xf900_03e0, // str x0, [sp]
            0xeb20_63ff, // cmp sp, x0
            0xf100_07ff, // cmp sp, #1
        ] {
            assert!(!may_unalign(word), "{word:08x}");
        }
        for word in [
            0x9100_03bf, // mov sp, x29
            0xd100_43bf, // sub sp, x29, #16
            0xcb20_63ff, // sub sp, sp, x0
            0x9100_07ff, // add sp, sp, #1
            0x927d_ed3f, // and sp, x9, #0xfffffffffffffff8 (rotated)
            0xf81f_8fe0, // str x0, [sp, #-8]!
            0xf840_87e0, // ldr x0, [sp], #8
            0xa8c0_87e0, // ldp x0, x1, [sp], #8
            0x4cc0_7fe0, // ld1 {v0.2d}, [sp], x0
            0x0cdf_7fe0, // ld1 {v0.1d}, [sp], #8
        ] {
            assert!(may_unalign(word), "{word:08x}");
        }
    }

    #[test]
    fn accesses_are_loads_and_stores_by_sp() {
        for word in [
            0xf940_03e0,                            // ldr x0, [sp]
            0xa9be_7bfd,                            // stp x29, x30, [sp, #-32]!
            0xf860_6be0,                            // ldr x0, [sp, x0]
            0xc85f_7fe0,                            // ldxr x0, [sp]
            0xf820_03e1,                            // ldadd x0, x1, [sp]
            0xf8a0_03e1,                            // ldadda x0, x1, [sp]
            0x4c40_73e0,                            // ld1 {v0.16b}, [sp]
            0x3dc0_03e0,                            // ldr q0, [sp]
            0xf980_03e0_u32 & !(1 << 23) | 1 << 22, // ldr x0, [sp] again, made from a prefetch
        ] {
            assert!(accesses(word), "{word:08x}");
        }
        for word in [
            0xf980_03e0, // prfm pldl1keep, [sp]
            0xf880_03e0, // prfum pldl1keep, [sp]
            0xf8a0_6be0, // prfm pldl1keep, [sp, x0]
            0x5800_03e0, // ldr x0, a literal
            0xf940_0020, // ldr x0, [x1]
            0x9100_03bf, // mov sp, x29
        ] {
            assert!(!accesses(word), "{word:08x}");
        }
    }
}
