//! Constants of vector code: lanes of immediates, and the host's opcodes by the size of lanes.

/// `byte` in all bytes.
pub(in crate::translate) fn bytes(byte: u8) -> u128 {
    u128::from(byte) * (u128::MAX / 0xff)
}

/// `value` in all lanes of `8 << size` bits.
pub(in crate::translate) fn lanes(size: u32, value: u64) -> u128 {
    let low = u64::MAX >> (64 - (8 << size));
    u128::from(value & low) * (u128::MAX / u128::from(low))
}

/// Opcodes by size: map 0F, or with bit 8 map 0F38; 0 if the host has none.
pub(in crate::translate) type BySize = [u16; 4];

pub(in crate::translate) const ADD: BySize = [0xfc, 0xfd, 0xfe, 0xd4];
pub(in crate::translate) const SUB: BySize = [0xf8, 0xf9, 0xfa, 0xfb];
pub(in crate::translate) const EQUAL: BySize = [0x74, 0x75, 0x76, 0x129];
pub(in crate::translate) const GREATER: BySize = [0x64, 0x65, 0x66, 0x137];
pub(in crate::translate) const MAX_SIGNED: BySize = [0x13c, 0xee, 0x13d, 0];
pub(in crate::translate) const MAX_UNSIGNED: BySize = [0xde, 0x13e, 0x13f, 0];
pub(in crate::translate) const MIN_SIGNED: BySize = [0x138, 0xea, 0x139, 0];
pub(in crate::translate) const MIN_UNSIGNED: BySize = [0xda, 0x13a, 0x13b, 0];
/// The lower halves of two registers, element by element; by size of the elements.
pub(in crate::translate) const UNPACK_LOW: [u8; 4] = [0x60, 0x61, 0x62, 0x6c];
/// The upper halves.
pub(in crate::translate) const UNPACK_HIGH: [u8; 4] = [0x68, 0x69, 0x6a, 0x6d];
/// Predicates of VCMP: those that are called quiet signal only signalling NaNs.
pub(super) const EQUAL_QUIET: u8 = 0x00;
pub(super) const EQUAL_OR_UNORDERED: u8 = 0x08;
pub(super) const UNORDERED: u8 = 0x13;

pub(in crate::translate) const AND: u8 = 0xdb;
pub(in crate::translate) const AND_NOT: u8 = 0xdf;
pub(in crate::translate) const OR: u8 = 0xeb;
pub(in crate::translate) const XOR: u8 = 0xef;
