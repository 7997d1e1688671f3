//! A vector instruction as its lowering sees it.

/// An instruction of Advanced SIMD without its encoding. A64 and 32-bit Arm number the operations of a class
/// alike, mostly (manual C4.1.97 and F4.1.10); where they do not, the number is A64's.
///
/// Operands are those of [`crate::translate::operands`]: vector registers, and for 32-bit Arm halves of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::translate) struct Form {
    /// The destination.
    pub(in crate::translate) d: u8,
    /// The first operand.
    pub(in crate::translate) n: u8,
    /// The second operand.
    pub(in crate::translate) m: u8,
    /// The lane of `m` that is the second operand, in instructions with an element.
    pub(in crate::translate) lane: Option<u8>,
    /// The operation in its class.
    pub(in crate::translate) opcode: u32,
    /// U, the lowest bit of the operation in many classes: mostly, that the lanes are unsigned.
    pub(in crate::translate) unsigned: bool,
    /// log2 of the bytes of a lane; of the narrower ones, if the operands have two widths.
    pub(in crate::translate) size: usize,
    /// All 128 bits; if not, the low 64 bits or the half that the operand is. Of operands of 64 bits beside
    /// such of 128, their upper halves.
    pub(in crate::translate) q: bool,
    /// Only the lowest lane.
    pub(in crate::translate) scalar: bool,
    /// The immediate of shifts: their width plus the count to the left, or twice the width less that to the
    /// right.
    pub(in crate::translate) imm: u32,
}
