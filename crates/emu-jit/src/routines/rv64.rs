//! RISC-V, 64 bits: functions of libraries. Made by `examples/routines.rs`.

use super::Routine::*;
use super::{Table, row};

/// Of glibc 2.41 and musl 1.2.5 of Debian 13, and glibc of Debian 12's cross compiler.
#[rustfmt::skip]
pub const TABLE: Table = Table { head: 20, rows: &[
    row(0x06cf49f9, 150, Copy, [38, 70, 0, 0, 0, 0], 0x56a55961905c956d),
    row(0x0997d8a2, 202, Set, [0, 0, 0, 0, 0, 0], 0x5fe98b9fd9be8bea),
    row(0x0b47bf3e, 292, Length, [0, 0, 0, 0, 0, 0], 0xdf1dc0d03003c0a2),
    row(0x0c1aa5fb, 344, FindInStringOrEnd, [0, 0, 0, 0, 0, 0], 0xeee95e5f4a418d86),
    row(0x2207624b, 164, Set, [0, 0, 0, 0, 0, 0], 0xcd52e7f0e60c2150),
    row(0x2838b0fc, 148, Copy, [38, 69, 0, 0, 0, 0], 0xe2069d984e3f2565),
    row(0x2c175fad, 208, LengthWithin, [26, 28, 30, 32, 0, 0], 0xe9efa8a76903319b),
    row(0x2e5f67e0, 294, Copy, [43, 105, 137, 140, 0, 0], 0x7289430d91217f79),
    row(0x2fa3a0dc, 38, Compare, [0, 0, 0, 0, 0, 0], 0x2f1f4dee38085638),
    row(0x3e881f4f, 146, CompareStringsWithin, [0, 0, 0, 0, 0, 0], 0x0521a1c949675258),
    row(0x48cbbf62, 298, Copy, [43, 108, 139, 142, 0, 0], 0xca1d28c0193db20e),
    row(0x51628fd0, 30, CompareStrings, [0, 0, 0, 0, 0, 0], 0x78fa03a3b55583ae),
    row(0x59d5ff20, 150, Set, [6, 8, 0, 0, 0, 0], 0x8a9840ee9dc73fae),
    row(0x666034b6, 484, Find, [0, 0, 0, 0, 0, 0], 0xdf5b2820762e9921),
    row(0x7898d660, 160, Find, [0, 0, 0, 0, 0, 0], 0x497e44a939ad9bd4),
    row(0x7938e440, 810, Compare, [1, 3, 403, 0, 0, 0], 0x85bf620334e9ff8c),
    row(0x82fd7d61, 342, Copy, [0, 0, 0, 0, 0, 0], 0xf847f3f4af0f0613),
    row(0x83196767, 74, CompareStringsWithin, [0, 0, 0, 0, 0, 0], 0xf3c39ce795c02610),
    row(0x83dc559f, 132, Find, [31, 33, 35, 37, 0, 0], 0x4550f04c31406a95),
    row(0x88c0bd16, 960, Copy, [0, 0, 0, 0, 0, 0], 0x132de3515531428e),
    row(0x8ce32dfc, 30, CompareStrings, [0, 0, 0, 0, 0, 0], 0x3b0bbd3ecf646455),
    row(0x936d6aaf, 134, Length, [0, 0, 0, 0, 0, 0], 0xb5b10c902a71fd66),
    row(0x936d6aaf, 176, Length, [16, 18, 20, 22, 0, 0], 0x41b6738596b960c6),
    row(0xca862e1e, 596, CompareStrings, [0, 0, 0, 0, 0, 0], 0x567da991f507656f),
    row(0xcb1aaf2e, 824, Compare, [1, 3, 410, 0, 0, 0], 0x67402aef37ca83b5),
    row(0xd3381324, 1026, CompareStringsWithin, [0, 0, 0, 0, 0, 0], 0xed07fae9a272e269),
    row(0xd7e5ba6e, 280, Copy, [107, 0, 0, 0, 0, 0], 0x9b14a44372d239e1),
    row(0xd8051ec3, 214, FindInString, [27, 29, 0, 0, 0, 0], 0x744222751f1a5b3f),
    row(0xe0f3a525, 200, FindInStringOrEnd, [92, 0, 0, 0, 0, 0], 0x6ec3fc35ffd89bdf),
    row(0xe1d819ee, 208, FindInStringOrEnd, [27, 29, 0, 0, 0, 0], 0x00bf07257dbabbec),
] };
