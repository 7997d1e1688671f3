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

/// The integer that makes signalling NaNs, by its addition, of numbers of 4 or 8 bytes (`log2` is 2 or 3)
/// with the smallest normal magnitude, and of those up to 1.5 times that; of those up to twice that it makes
/// quiet NaNs, and of all others, NaNs included, numbers. It moves the exponent 1 to that of NaNs; the sign
/// stays, and the 1 makes a NaN of the smallest one, which would be infinity.
pub(in crate::translate) fn above_smallest(log2: u32) -> u64 {
    if log2 == 3 { 0x7fe0_0000_0000_0001 } else { 0x7f00_0001 }
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
pub(super) const UNORDERED_QUIET: u8 = 0x03;
pub(super) const UNORDERED: u8 = 0x13;

pub(in crate::translate) const AND: u8 = 0xdb;
pub(in crate::translate) const AND_NOT: u8 = 0xdf;
pub(in crate::translate) const OR: u8 = 0xeb;
pub(in crate::translate) const XOR: u8 = 0xef;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addition_makes_nans_of_the_smallest_numbers_alone() {
        let add = |bits: u32| bits.wrapping_add(above_smallest(2) as u32);
        let is_signalling = |bits: u32| f32::from_bits(bits).is_nan() && bits >> 22 & 1 == 0;
        // Around all exponents, with both signs: subnormal numbers do not come here.
        for exponent in (0..256u32).filter(|&exponent| exponent != 0) {
            for fraction in [0, 1, 0x3f_fffe, 0x3f_ffff, 0x40_0000, 0x7f_fffe, 0x7f_ffff] {
                for sign in [0, 1 << 31] {
                    let bits = sign | exponent << 23 | fraction;
                    let sum = add(bits);
                    assert_eq!(
                        f32::from_bits(sum).is_nan(),
                        exponent == 1 && fraction < 0x7f_ffff,
                        "{bits:x}"
                    );
                    assert_eq!(is_signalling(sum), exponent == 1 && fraction < 0x3f_ffff, "{bits:x}");
                }
            }
        }
        assert!([0, 1 << 31].into_iter().all(|zero| !f32::from_bits(add(zero)).is_nan()));
        for sign in [0, 1 << 63] {
            let sum = (sign | f64::MIN_POSITIVE.to_bits()).wrapping_add(above_smallest(3));
            assert_eq!(sum, sign | 0x7ff0_0000_0000_0001);
            let above = (sign | (2.0 * f64::MIN_POSITIVE).to_bits()).wrapping_add(above_smallest(3));
            assert!(!f64::from_bits(above).is_nan());
        }
    }
}
