//! Immediates of vector instructions and of scalar floating point (manual C4.1.97, F4.1.10).

use super::form::Form;
use super::lanes::{AND, OR, bytes, lanes};
use crate::layout::X0;
use crate::translate::{Isa, Lowered, ONE, Translator};

/// VFPExpandImm for single or double precision.
pub(in crate::translate) fn expand_immediate(double: bool, imm8: u32) -> u64 {
    let (sign, top, low) = (u64::from(imm8 >> 7), imm8 >> 6 & 1, u64::from(imm8 & 63));
    if double {
        let exponent = if top == 1 { 0x3fc0_0000_0000_0000 } else { 0x4000_0000_0000_0000 };
        sign << 63 | exponent | low << 48
    } else {
        let exponent = if top == 1 { 0x3e00_0000 } else { 0x4000_0000 };
        sign << 31 | exponent | low << 19
    }
}

/// AdvSIMDExpandImm, in both halves. The opcode of the form is cmode; `unsigned` is op.
fn immediate(f: Form) -> Option<u128> {
    let (cmode, inverted, imm8, wide) = (f.opcode, f.unsigned, f.imm, u64::from(f.imm));
    Some(match cmode {
        0..8 => lanes(2, wide << (8 * (cmode >> 1))),
        8..12 => lanes(1, wide << (8 * (cmode >> 1 & 1))),
        12 => lanes(2, wide << 8 | 0xff),
        13 => lanes(2, wide << 16 | 0xffff),
        14 if !inverted => bytes(imm8 as u8),
        14 => {
            let half = (0..8).filter(|i| imm8 >> i & 1 == 1).fold(0, |value, i| value | 0xff << (8 * i));
            lanes(3, half)
        }
        _ if !inverted => lanes(2, expand_immediate(false, imm8)),
        _ if f.q => lanes(3, expand_immediate(true, imm8)),
        _ => return None,
    })
}

impl<I: Isa> Translator<'_, I> {
    /// MOVI, MVNI, FMOV, ORR, BIC (immediate), of the 8 bits in the form's immediate.
    pub(in crate::translate) fn modified_immediate(&mut self, f: Form) -> Lowered {
        let Some(value) = immediate(f) else { return Lowered::No };
        let (d, q, cmode, inverted) = (f.d, f.q, f.opcode, f.unsigned);
        let t = self.vresult(d);
        if cmode < 12 && cmode & 1 == 1 {
            let value = if inverted { !value } else { value };
            let old = self.vget(d, X0);
            let constant = self.constant(value);
            self.a.vp(if inverted { AND } else { OR }, t, old, constant);
            self.finish(q, d, t);
            return ONE;
        }
        let value = if inverted && cmode < 14 { !value } else { value };
        self.load_constant(t, if q { value } else { value & u128::from(u64::MAX) });
        self.vput(d, t);
        if !q || value == 0 {
            self.set_vclean(value != 0, d);
        }
        ONE
    }
}
