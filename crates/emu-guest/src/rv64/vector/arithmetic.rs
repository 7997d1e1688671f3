//! Integer arithmetic, fixed-point arithmetic, comparisons and reductions.

use super::element::{
    Shape, element_of, have_one_size, is_aligned, is_unmasked, may_overlap, overlap, vd, vs1, vs2,
};
use super::kind::Kind;
use crate::exit::{Flow, Leave, Step};
use crate::op::{Host, Op, sign_extend};
use crate::rv64::action::{Action, Arithmetic};
use crate::rv64::decode::row_of;
use crate::state::State;

fn kind(operation: Arithmetic) -> Kind {
    use Arithmetic::*;
    match operation {
        Waddu | Wadd | Wsubu | Wsub | Wmulu | Wmulsu | Wmul | Wmaccu | Wmacc | Wmaccus | Wmaccsu | Wsll => {
            Kind::Wide
        }
        WadduWide | WaddWide | WsubuWide | WsubWide => Kind::WideBoth,
        Nsrl | Nsra | Nclipu | Nclip => Kind::Narrow,
        Seq | Sne | Sltu | Slt | Sleu | Sle | Sgtu | Sgt | Madc | Msbc => Kind::Compare,
        RedSum | RedAnd | RedOr | RedXor | RedMinu | RedMin | RedMaxu | RedMax => Kind::Reduction,
        Wredsumu | Wredsum => Kind::WideReduction,
        Zext8 | Sext8 => Kind::Extension(3),
        Zext4 | Sext4 => Kind::Extension(2),
        Zext2 | Sext2 => Kind::Extension(1),
        Brev8 | Rev8 | Brev | Clz | Ctz | Cpop => Kind::Unary,
        _ => Kind::Same,
    }
}

/// Whether the immediate is unsigned: an amount of a shift.
fn is_unsigned_immediate(operation: Arithmetic) -> bool {
    use Arithmetic::*;
    matches!(operation, Sll | Srl | Sra | Ssrl | Ssra | Nsrl | Nsra | Nclipu | Nclip | Wsll | Ror)
}

/// The operand in the place of vs1 that is no vector: `None` if it is one.
fn scalar(s: &State, op: &Op, operation: Arithmetic) -> Option<u64> {
    match op.bits(14, 12) {
        4 | 6 => Some(s.gpr[usize::from(op.rn)]),
        3 if operation == Arithmetic::Ror => Some(u64::from(op.bits(26, 26) << 5 | op.bits(19, 15))),
        3 if is_unsigned_immediate(operation) => Some(op.bits(19, 15).into()),
        3 => Some(sign_extend(op.bits(19, 15).into(), 5)),
        _ => None,
    }
}

/// A value shifted right with rounding by vxrm ("Vector Fixed-Point Rounding Mode Register").
fn rounded(value: i128, amount: u32, vxrm: u32) -> i128 {
    if amount == 0 {
        return value;
    }
    let half = value >> (amount - 1) & 1;
    let below = value & ((1 << (amount - 1)) - 1) != 0;
    let result = value >> amount;
    let up = match vxrm {
        0 => half,
        1 => half & i128::from(below || result & 1 == 1),
        2 => 0,
        _ => i128::from((half == 1 || below) && result & 1 == 0),
    };
    result + up
}

/// A product without carries.
fn carryless(a: u64, b: u64) -> u128 {
    (0..64).filter(|bit| b >> bit & 1 == 1).fold(0, |product, bit| product ^ u128::from(a) << bit)
}

/// What the arithmetic of elements needs of the registers.
struct Modes {
    vxrm: u32,
    saturated: bool,
}

impl Modes {
    fn clamp(&mut self, value: i128, low: i128, high: i128) -> u64 {
        let clamped = value.clamp(low, high);
        self.saturated |= clamped != value;
        clamped as u64
    }

    fn clamp_signed(&mut self, value: i128, width: u32) -> u64 {
        let high = (1i128 << (width - 1)) - 1;
        self.clamp(value, -high - 1, high)
    }

    fn clamp_unsigned(&mut self, value: i128, width: u32) -> u64 {
        self.clamp(value, 0, (1i128 << width) - 1)
    }
}

/// The result for elements of `width` bits: `a` is vs2's, `b` vs1's, `d` the destination's, all
/// zero-extended.
fn compute(m: &mut Modes, operation: Arithmetic, width: u32, a: u64, b: u64, d: u64, carry: bool) -> u64 {
    use Arithmetic::*;
    let sx = |value: u64| sign_extend(value, width) as i64;
    let (sa, sb) = (sx(a), sx(b));
    let (wa, wb) = (i128::from(sa), i128::from(sb));
    let (ua, ub) = (i128::from(a), i128::from(b));
    let amount = b as u32 & (width - 1);
    let carry = u64::from(carry);
    match operation {
        Add => a.wrapping_add(b),
        Sub => a.wrapping_sub(b),
        Rsub => b.wrapping_sub(a),
        Adc => a.wrapping_add(b).wrapping_add(carry),
        Sbc => a.wrapping_sub(b).wrapping_sub(carry),
        Minu => a.min(b),
        Min => sa.min(sb) as u64,
        Maxu => a.max(b),
        Max => sa.max(sb) as u64,
        And => a & b,
        Or => a | b,
        Xor => a ^ b,
        Andn => a & !b,
        Sll => a << amount,
        Srl => a >> amount,
        Sra => (sa >> amount) as u64,
        Rol => a << amount | a.checked_shr(width - amount).unwrap_or(0),
        Ror => a >> amount | a.checked_shl(width - amount).unwrap_or(0),
        Saddu => m.clamp_unsigned(ua + ub, width),
        Sadd => m.clamp_signed(wa + wb, width),
        Ssubu => m.clamp_unsigned(ua - ub, width),
        Ssub => m.clamp_signed(wa - wb, width),
        Aaddu => rounded(ua + ub, 1, m.vxrm) as u64,
        Aadd => rounded(wa + wb, 1, m.vxrm) as u64,
        Asubu => rounded(ua - ub, 1, m.vxrm) as u64,
        Asub => rounded(wa - wb, 1, m.vxrm) as u64,
        Smul => {
            let product = rounded(wa * wb, width - 1, m.vxrm);
            m.clamp_signed(product, width)
        }
        Ssrl => rounded(ua, amount, m.vxrm) as u64,
        Ssra => rounded(wa, amount, m.vxrm) as u64,
        Divu => a.checked_div(b).unwrap_or(u64::MAX),
        Remu => a.checked_rem(b).unwrap_or(a),
        Div => {
            if b == 0 {
                u64::MAX
            } else {
                sa.wrapping_div(sb) as u64
            }
        }
        Rem => {
            if b == 0 {
                a
            } else {
                sa.wrapping_rem(sb) as u64
            }
        }
        Mul => a.wrapping_mul(b),
        Mulhu => ((u128::from(a) * u128::from(b)) >> width) as u64,
        Mulh => (wa * wb >> width) as u64,
        Mulhsu => (wa.wrapping_mul(ub) >> width) as u64,
        Madd => b.wrapping_mul(d).wrapping_add(a),
        Nmsub => a.wrapping_sub(b.wrapping_mul(d)),
        Macc => d.wrapping_add(a.wrapping_mul(b)),
        Nmsac => d.wrapping_sub(a.wrapping_mul(b)),
        Merge => {
            if carry == 1 {
                b
            } else {
                a
            }
        }
        Move => b,
        Seq => (a == b).into(),
        Sne => (a != b).into(),
        Sltu => (a < b).into(),
        Slt => (sa < sb).into(),
        Sleu => (a <= b).into(),
        Sle => (sa <= sb).into(),
        Sgtu => (a > b).into(),
        Sgt => (sa > sb).into(),
        Madc => ((ua + ub + i128::from(carry)) >> width != 0).into(),
        Msbc => (ua - ub - i128::from(carry) < 0).into(),
        Waddu => a.wrapping_add(b),
        Wadd => sa.wrapping_add(sb) as u64,
        Wsubu => a.wrapping_sub(b),
        Wsub => sa.wrapping_sub(sb) as u64,
        Wmulu => a.wrapping_mul(b),
        Wmul => sa.wrapping_mul(sb) as u64,
        Wmulsu => sa.wrapping_mul(b as i64) as u64,
        Wmaccu => d.wrapping_add(a.wrapping_mul(b)),
        Wmacc => d.wrapping_add(sa.wrapping_mul(sb) as u64),
        Wmaccus => d.wrapping_add(b.wrapping_mul(sa as u64)),
        Wmaccsu => d.wrapping_add((sb as u64).wrapping_mul(a)),
        Wsll => a << (b as u32 & (2 * width - 1)),
        WadduWide => a.wrapping_add(b),
        WsubuWide => a.wrapping_sub(b),
        WaddWide => a.wrapping_add(sb as u64),
        WsubWide => a.wrapping_sub(sb as u64),
        Nsrl => a >> (b as u32 & (2 * width - 1)),
        Nsra => (sign_extend(a, 2 * width) as i64 >> (b as u32 & (2 * width - 1))) as u64,
        Nclipu => {
            let shifted = rounded(ua, b as u32 & (2 * width - 1), m.vxrm);
            m.clamp_unsigned(shifted, width)
        }
        Nclip => {
            let wide = i128::from(sign_extend(a, 2 * width) as i64);
            let shifted = rounded(wide, b as u32 & (2 * width - 1), m.vxrm);
            m.clamp_signed(shifted, width)
        }
        RedSum | Wredsumu => a.wrapping_add(d),
        Wredsum => d.wrapping_add(sa as u64),
        RedAnd => a & d,
        RedOr => a | d,
        RedXor => a ^ d,
        RedMinu => a.min(d),
        RedMin => sa.min(sx(d)) as u64,
        RedMaxu => a.max(d),
        RedMax => sa.max(sx(d)) as u64,
        Zext8 | Zext4 | Zext2 => a,
        Sext8 => sign_extend(a, width / 8),
        Sext4 => sign_extend(a, width / 4),
        Sext2 => sign_extend(a, width / 2),
        Brev8 => a.reverse_bits().swap_bytes(),
        Rev8 => a.swap_bytes() >> (64 - width),
        Brev => a.reverse_bits() >> (64 - width),
        Clz => u64::from(a.leading_zeros() - (64 - width)),
        Ctz => u64::from(a.trailing_zeros().min(width)),
        Cpop => a.count_ones().into(),
        Clmul => carryless(a, b) as u64,
        Clmulh => (carryless(a, b) >> 64) as u64,
    }
}

/// Runs an operation.
pub(crate) fn run(s: &mut State, _: &Host, op: &Op) -> Step {
    let Some(Action::Vector(operation)) = row_of(op).map(|row| row.action) else { return s.undefined(op) };
    let shape = s.shape(op)?;
    let kind = kind(operation);
    let (to, from2, from1) = shapes(s, op, operation, kind, shape)?;
    check(s, op, operation, kind, [to, from2, from1])?;
    let operand = scalar(s, op, operation);
    let mut modes = Modes { vxrm: s.vectors.vcsr >> 1, saturated: false };
    let (d, v1, v2) = (vd(op), vs1(op), vs2(op));
    if matches!(kind, Kind::Reduction | Kind::WideReduction) {
        let mut sum = s.element(v1, 0, to.sew);
        for i in s.body().filter(|&i| s.is_active(op, i)) {
            let a = s.element(v2, i, from2.sew);
            sum = compute(&mut modes, operation, from2.width(), a, 0, sum, false);
            sum &= u64::MAX >> (64 - to.width());
        }
        if s.vectors.vl > 0 {
            s.set_element(d, 0, to.sew, sum);
        }
        s.end_vector();
        return Ok(Flow::Next);
    }
    let uses_carry = matches!(
        operation,
        Arithmetic::Adc | Arithmetic::Sbc | Arithmetic::Madc | Arithmetic::Msbc | Arithmetic::Merge
    );
    // Where the mask is an operand, all elements take part.
    let low = u64::MAX >> (64 - from1.width());
    // A mask is written as it is made, so a source that it overlaps is read from before.
    let before = s.vectors.registers;
    for i in s.body() {
        let bit = before[0] >> i & 1 == 1;
        if !uses_carry && !is_unmasked(op) && !bit {
            continue;
        }
        let a = s.element(v2, i, from2.sew);
        let b = operand.unwrap_or_else(|| s.element(v1, i, from1.sew)) & low;
        let carry = bit && !is_unmasked(op);
        if kind == Kind::Compare {
            let value = element_of(&before, v2, i, from2.sew);
            let b = operand.map_or_else(|| element_of(&before, v1, i, from1.sew), |operand| operand & low);
            let result = compute(&mut modes, operation, shape.width(), value, b, 0, carry);
            s.set_mask_bit(d, i, result == 1);
        } else {
            let old = s.element(d, i, to.sew);
            let width = if matches!(kind, Kind::Extension(_)) { to.width() } else { shape.width() };
            let result = compute(&mut modes, operation, width, a, b, old, carry);
            s.set_element(d, i, to.sew, result);
        }
    }
    if modes.saturated {
        s.vectors.vcsr |= 1;
    }
    s.end_vector();
    Ok(Flow::Next)
}

/// The shapes of the destination, of vs2 and of vs1.
fn shapes(
    s: &mut State,
    op: &Op,
    operation: Arithmetic,
    kind: Kind,
    shape: Shape,
) -> Result<(Shape, Shape, Shape), Leave> {
    let doubles = matches!(kind, Kind::Wide | Kind::WideBoth | Kind::Narrow);
    s.require(op, !doubles || shape.sew < 3 && shape.lmul < 3)?;
    s.require(op, kind != Kind::WideReduction || shape.sew < 3)?;
    let is_carryless = matches!(operation, Arithmetic::Clmul | Arithmetic::Clmulh);
    s.require(op, !is_carryless || shape.sew == 3)?;
    if let Kind::Extension(by) = kind {
        s.require(op, shape.sew >= by && shape.lmul - by as i32 >= -3)?;
    }
    Ok(kind.shapes(shape))
}

/// What makes an instruction reserved: groups that begin at other registers than they may, or overlap.
fn check(
    s: &mut State,
    op: &Op,
    operation: Arithmetic,
    kind: Kind,
    [to, from2, from1]: [Shape; 3],
) -> Result<(), Leave> {
    let (d, v1, v2) = (vd(op), vs1(op), vs2(op));
    let is_reduction = matches!(kind, Kind::Reduction | Kind::WideReduction);
    let has_v1 = scalar(s, op, operation).is_none() && !matches!(kind, Kind::Extension(_) | Kind::Unary);
    let mut holds = is_aligned(v2, from2.lmul) && (is_reduction || is_aligned(d, to.lmul));
    holds &= !has_v1 || is_reduction || is_aligned(v1, from1.lmul);
    holds &= have_one_size(op, Some((v2, from2)), has_v1.then_some((v1, from1)));
    if is_reduction {
        return s.require(op, holds && s.vectors.vstart == 0);
    }
    if kind == Kind::Compare {
        // A mask may be the lowest register of a source.
        let apart = |v: u32, lmul: i32| d == v || !overlap(d, 0, v, lmul);
        holds &= apart(v2, from2.lmul) && (!has_v1 || apart(v1, from1.lmul));
        return s.require(op, holds);
    }
    holds &= is_unmasked(op) || d != 0 || operation == Arithmetic::Wredsum;
    holds &= operation == Arithmetic::Move || may_overlap(d, to, v2, from2);
    // A destination that is read is a source, too.
    let accumulates = matches!(
        operation,
        Arithmetic::Wmaccu | Arithmetic::Wmacc | Arithmetic::Wmaccus | Arithmetic::Wmaccsu
    );
    holds &= !accumulates || have_one_size(op, Some((d, to)), Some((v2, from2)));
    holds &= !accumulates || !has_v1 || have_one_size(op, Some((d, to)), Some((v1, from1)));
    holds &= !has_v1 || may_overlap(d, to, v1, from1);
    s.require(op, holds)
}
