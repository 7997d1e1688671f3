//! Shifts and rotations with their carry (manual F2.4.4, F1.7: Shift_C, A32ExpandImm_C, T32ExpandImm_C).

/// Logical shift left.
pub(crate) const LSL: u32 = 0;
/// Logical shift right.
pub(crate) const LSR: u32 = 1;
/// Arithmetic shift right.
pub(crate) const ASR: u32 = 2;
/// Rotation right.
pub(crate) const ROR: u32 = 3;
/// Rotation right by one through the carry flag.
pub(crate) const RRX: u32 = 4;

/// The kind and the amount of a shift by an immediate, from the fields of the encoding (DecodeImmShift).
pub(crate) const fn decode_immediate(kind: u32, amount: u32) -> (u32, u32) {
    match (kind, amount) {
        (LSR | ASR, 0) => (kind, 32),
        (ROR, 0) => (RRX, 1),
        _ => (kind, amount),
    }
}

/// `value` shifted by `amount`, 0 to 255, and the carry out; `carry` is the carry flag (Shift_C).
#[inline(always)]
pub(crate) fn shift(value: u32, kind: u32, amount: u32, carry: bool) -> (u32, bool) {
    if amount == 0 {
        return (value, carry);
    }
    match kind {
        LSL => match amount {
            1..=31 => (value << amount, value >> (32 - amount) & 1 == 1),
            32 => (0, value & 1 == 1),
            _ => (0, false),
        },
        LSR => match amount {
            1..=31 => (value >> amount, value >> (amount - 1) & 1 == 1),
            32 => (0, value >> 31 == 1),
            _ => (0, false),
        },
        ASR => {
            let sign = (value as i32 >> 31) as u32;
            if amount < 32 {
                ((value as i32 >> amount) as u32, value >> (amount - 1) & 1 == 1)
            } else {
                (sign, sign != 0)
            }
        }
        ROR => {
            let result = value.rotate_right(amount & 31);
            (result, result >> 31 == 1)
        }
        _ => (value >> 1 | u32::from(carry) << 31, value & 1 == 1),
    }
}

/// What an immediate operand does to the carry flag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carry {
    /// Leaves it.
    Keep,
    /// Makes it the highest bit of the immediate.
    High,
}

/// The immediate of A32 data processing: 8 bits, rotated right by twice 4 bits (A32ExpandImm_C).
pub(crate) const fn expand_arm(imm: u32) -> (u32, Carry) {
    let rotation = imm >> 8 & 15;
    ((imm & 255).rotate_right(2 * rotation), if rotation == 0 { Carry::Keep } else { Carry::High })
}

/// The immediate of T32 data processing, 12 bits (T32ExpandImm_C); `None` for the reserved ones.
pub(crate) const fn expand_thumb(imm: u32) -> Option<(u32, Carry)> {
    let byte = imm & 255;
    if imm >> 10 != 0 {
        let value = (0x80 | imm & 0x7f).rotate_right(imm >> 7 & 31);
        return Some((value, Carry::High));
    }
    let value = match imm >> 8 & 3 {
        0 => byte,
        _ if byte == 0 => return None,
        1 => byte << 16 | byte,
        2 => byte << 24 | byte << 8,
        _ => byte << 24 | byte << 16 | byte << 8 | byte,
    };
    Some((value, Carry::Keep))
}
