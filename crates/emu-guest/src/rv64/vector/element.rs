//! Elements of vector registers, and what an instruction must know of vtype.

use crate::exit::Leave;
use crate::op::Op;
use crate::state::State;

/// Bytes of a vector register.
pub(crate) const VLENB: u64 = 16;
/// vtype.vill: the configuration is reserved.
pub(super) const VILL: u64 = 1 << 63;

/// The part of vtype that instructions use.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// The logarithm of the bytes of an element.
    pub(super) sew: u32,
    /// The logarithm of the registers of a group, from -3 to 3.
    pub(super) lmul: i32,
}

impl Shape {
    /// The shape that vtype stands for; `None` if it is reserved.
    pub(super) fn of(vtype: u64) -> Option<Shape> {
        let (lmul, sew) = (((vtype & 7) << 61) as i64 >> 61, (vtype >> 3 & 7) as u32);
        // With a fraction of a register, an element must fit into as large a part of 64 bits.
        let fits = sew <= 3 && lmul != -4 && sew as i64 <= 3 + lmul.min(0);
        (vtype >> 8 == 0 && fits).then_some(Shape { sew, lmul: lmul as i32 })
    }

    /// Bits of an element.
    pub(super) fn width(self) -> u32 {
        8 << self.sew
    }

    /// The most elements of a group.
    pub(super) fn vlmax(self) -> u64 {
        let elements = VLENB >> self.sew;
        if self.lmul < 0 { elements >> -self.lmul } else { elements << self.lmul }
    }

    /// The shape with elements of twice the size, in twice the registers.
    pub(super) fn wide(self) -> Shape {
        Shape { sew: self.sew + 1, lmul: self.lmul + 1 }
    }
}

impl State {
    /// The current shape; a reserved one makes the instruction undefined.
    pub(super) fn shape(&mut self, op: &Op) -> Result<Shape, Leave> {
        self.vectors.used = true;
        match Shape::of(self.vectors.vtype) {
            Some(shape) => Ok(shape),
            None => self.undefined(op),
        }
    }

    /// Element `i` of `1 << size` bytes of the group from register `v` on.
    #[inline(always)]
    pub(super) fn element(&self, v: u32, i: u64, size: u32) -> u64 {
        element_of(&self.vectors.registers, v, i, size)
    }

    /// Sets an element.
    #[inline(always)]
    pub(super) fn set_element(&mut self, v: u32, i: u64, size: u32, value: u64) {
        let byte = u64::from(v) * VLENB + (i << size);
        let (shift, mask) = (byte % VLENB * 8, u128::from(u64::MAX >> (64 - (8 << size))));
        let register = &mut self.vectors.registers[(byte / VLENB) as usize & 31];
        *register = *register & !(mask << shift) | (u128::from(value) & mask) << shift;
    }

    /// Bit `i` of a mask register.
    #[inline(always)]
    pub(super) fn mask_bit(&self, v: u32, i: u64) -> bool {
        self.vectors.registers[v as usize & 31] >> i & 1 == 1
    }

    /// Sets a bit of a mask register.
    #[inline(always)]
    pub(super) fn set_mask_bit(&mut self, v: u32, i: u64, value: bool) {
        let register = &mut self.vectors.registers[v as usize & 31];
        *register = *register & !(1 << i) | u128::from(value) << i;
    }

    /// Whether element `i` takes part.
    #[inline(always)]
    pub(super) fn is_active(&self, op: &Op, i: u64) -> bool {
        is_unmasked(op) || self.mask_bit(0, i)
    }

    /// The elements that an instruction goes through.
    pub(super) fn body(&self) -> core::ops::Range<u64> {
        self.vectors.vstart..self.vectors.vl
    }

    /// Ends an instruction.
    pub(super) fn end_vector(&mut self) {
        self.vectors.vstart = 0;
    }

    /// Undefined unless the condition holds.
    pub(super) fn require(&mut self, op: &Op, holds: bool) -> Result<(), Leave> {
        if holds { Ok(()) } else { self.undefined(op) }
    }
}

/// Element `i` of `1 << size` bytes of the group from register `v` on.
#[inline(always)]
pub(super) fn element_of(registers: &[u128; 32], v: u32, i: u64, size: u32) -> u64 {
    let byte = u64::from(v) * VLENB + (i << size);
    let bits = (registers[(byte / VLENB) as usize & 31] >> (byte % VLENB * 8)) as u64;
    bits & u64::MAX >> (64 - (8 << size))
}

/// vd, or vs3.
pub(super) fn vd(op: &Op) -> u32 {
    op.bits(11, 7)
}

/// vs1, or its place.
pub(super) fn vs1(op: &Op) -> u32 {
    op.bits(19, 15)
}

/// vs2.
pub(super) fn vs2(op: &Op) -> u32 {
    op.bits(24, 20)
}

/// vm: all elements take part.
#[inline(always)]
pub(super) fn is_unmasked(op: &Op) -> bool {
    op.bit(25)
}

/// Whether a group of `1 << lmul` registers may begin at `v`.
pub(super) fn is_aligned(v: u32, lmul: i32) -> bool {
    lmul <= 0 || v & ((1 << lmul) - 1) == 0
}

/// How many registers a group has.
pub(super) fn registers(lmul: i32) -> u32 {
    1 << lmul.max(0)
}

/// Whether two groups have a register in common.
pub(super) fn overlap(a: u32, a_lmul: i32, b: u32, b_lmul: i32) -> bool {
    a < b + registers(b_lmul) && b < a + registers(a_lmul)
}

/// Whether sources are read with one size of elements each: a register may not hold elements of two sizes,
/// and the mask has elements of one bit. A source is its first register and the shape of its elements.
pub(super) fn have_one_size(op: &Op, first: Option<(u32, Shape)>, second: Option<(u32, Shape)>) -> bool {
    let is_mask = |source: Option<(u32, Shape)>| !is_unmasked(op) && source.is_some_and(|(v, _)| v == 0);
    let differ = match (first, second) {
        (Some((a, from)), Some((b, other))) => from.sew != other.sew && overlap(a, from.lmul, b, other.lmul),
        _ => false,
    };
    !is_mask(first) && !is_mask(second) && !differ
}

/// Whether a destination of other elements than a source's may overlap it (manual, "Vector Register
/// Overlap"): a smaller one in the source's lowest part, or a larger one whose highest part is the source,
/// which must be whole registers.
pub(super) fn may_overlap(vd: u32, to: Shape, vs: u32, from: Shape) -> bool {
    if !overlap(vd, to.lmul, vs, from.lmul) || to.sew == from.sew {
        true
    } else if to.sew < from.sew {
        vd == vs
    } else {
        from.lmul >= 0 && vs + registers(from.lmul) == vd + registers(to.lmul)
    }
}
