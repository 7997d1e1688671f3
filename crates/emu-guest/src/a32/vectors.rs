//! The vector registers D0 to D31 and Q0 to Q15 in the shared [`State`], and operands that name them.
//!
//! D(2n) and D(2n + 1) are the low and the high half of `v[n]`, which is Q(n) (manual E1.3.1). An operand is
//! the number of a D register, 0 to 31; a quadword operand has the even number of its low half.

use super::fields::Word;
use crate::exit::{Flow, Step};
use crate::lanes::map_size;
use crate::op::{Handler, Op};
use crate::state::State;

/// FPSCR.QC in [`State::fpsr`]: a result was saturated.
const QC: u32 = 1 << 27;

impl State {
    /// Quadword or doubleword register; the latter has zeros above.
    #[inline(always)]
    pub(crate) fn vector(&self, number: u8, quad: bool) -> u128 {
        let whole = self.v[usize::from(number >> 1 & 15)];
        if quad { whole } else { u128::from((whole >> (64 * (number & 1))) as u64) }
    }

    /// Sets a quadword or doubleword register.
    #[inline(always)]
    pub(crate) fn set_vector(&mut self, number: u8, quad: bool, value: u128) {
        let whole = &mut self.v[usize::from(number >> 1 & 15)];
        let low = u128::from(u64::MAX);
        *whole = match (quad, number & 1) {
            (true, _) => value,
            (_, 0) => *whole & !low | value & low,
            _ => *whole & low | value << 64,
        };
    }

    /// Sets FPSCR.QC if a lane was saturated.
    #[inline(always)]
    pub(crate) fn note_saturation(&mut self, saturated: bool) {
        if saturated {
            self.fpsr |= QC;
        }
    }
}

impl Op {
    /// Whether the vectors are quadwords.
    #[inline(always)]
    pub(crate) fn is_quad(&self) -> bool {
        self.ra != 0
    }

    /// Log2 of the bytes of a lane.
    #[inline(always)]
    pub(crate) fn lane_size(&self) -> u32 {
        self.extra()
    }

    /// The same instruction with the operands exchanged.
    pub(crate) fn exchanged(self) -> Op {
        Op { rn: self.rm, rm: self.rn, ..self }
    }
}

impl Word<'_> {
    /// Whether one of these operands is an odd D register, which no quadword is.
    pub(crate) fn names_odd(&self, letters: &str) -> bool {
        letters.chars().any(|letter| self.field(letter) & 1 == 1)
    }

    /// The instruction with vector operands; no register is checked.
    pub(crate) fn vectors(&self, run: Handler, quad: bool, size: u32) -> Op {
        Op {
            rd: self.double('d'),
            rn: self.double('n'),
            rm: self.double('m'),
            ra: u8::from(quad),
            ..self.op(run)
        }
        .with_extra(size)
    }

    /// The instruction with vector operands, all quadwords if the field `Q` is set; `None` if one of them is
    /// odd then.
    pub(crate) fn same_vectors(&self, run: Handler, size: u32) -> Option<Op> {
        let quad = self.is('Q');
        (!(quad && self.names_odd("dnm"))).then(|| self.vectors(run, quad, size))
    }

    /// The scalar operand of lanes of 16 or 32 bits (`size` 1 or 2): a D register and a lane of it.
    pub(crate) fn scalar(&self, size: u32) -> (u8, u32) {
        let (high, m) = (self.field('M'), self.field('m'));
        if size == 1 { ((m & 7) as u8, high << 1 | m >> 3) } else { (m as u8, high) }
    }
}

/// Applies an operation of [`crate::lanes::arithmetic`] to the lanes of n, `m` and d.
#[inline(always)]
pub(crate) fn lanewise(
    s: &mut State,
    op: &Op,
    m: u128,
    mut operation: impl FnMut(&mut bool, u32, u64, u64, u64) -> u64,
) -> Step {
    let (n, d) = (s.vector(op.rn, op.is_quad()), s.vector(op.rd, op.is_quad()));
    let mut saturated = false;
    let result = map_size(op.lane_size(), n, m, d, |w, n, m, d| operation(&mut saturated, w, n, m, d));
    s.set_vector(op.rd, op.is_quad(), result);
    s.note_saturation(saturated);
    Ok(Flow::Next)
}
