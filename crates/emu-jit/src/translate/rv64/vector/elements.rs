//! Operations that the host has for single numbers only: one element after the other, by its integer division
//! and its conversions of 64 bits.

use super::chunk::element;
use super::operand::{Parts, Second};
use super::shape::Body;
use crate::layout::{ROOM, VSTART, X0};
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::action::{Arithmetic, VectorFloat};
use crossdock_emu_x64::{Alu, Cc, Reg, Size};

/// Whether an operation divides.
pub(super) fn divides(operation: Arithmetic) -> bool {
    use Arithmetic::{Div, Divu, Rem, Remu};
    matches!(operation, Divu | Div | Remu | Rem)
}

/// A conversion of single elements.
#[derive(Clone, Copy)]
pub(super) struct Conversion {
    /// The logarithms of the bytes of both elements.
    from: u8,
    to: u8,
    /// An integer becomes a number of floating point, and whether it has a sign; else whether to truncate.
    of_integer: bool,
    signed: bool,
}

/// The conversion of an instruction, if it is one of those here.
pub(super) fn conversion(parts: &Parts) -> Option<Conversion> {
    let (sew, code) = (parts.shape.sew, parts.v1);
    let (from, to) = match code >> 3 {
        0 => (sew, sew),
        1 => (sew, sew + 1),
        _ => (sew + 1, sew),
    };
    let (of_integer, signed) = (matches!(code & 7, 2 | 3), code & 1 == 1);
    let is_here = match (code & 7, from, to) {
        // Unsigned 32 bits to both, signed 64 bits to both.
        (2, 2, 2 | 3) | (3, 3, 2 | 3) => true,
        // Both to signed 64 bits; the host's own signals what does not fit.
        (1 | 7, 2 | 3, 3) => true,
        _ => false,
    };
    // The second one truncates.
    let signed = if of_integer { signed } else { code & 7 == 7 };
    is_here.then_some(Conversion { from, to, of_integer, signed })
}

/// Whether an operation of floating point is a conversion of single elements.
pub(super) fn converts(parts: &Parts, operation: VectorFloat, is_wary: bool) -> bool {
    let found = if operation == VectorFloat::Convert { conversion(parts) } else { None };
    found.is_some_and(|found| found.of_integer || !is_wary)
}

impl Translator<'_> {
    /// VDIV and its kin.
    pub(super) fn divide_elements(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::{Div, Rem, Remu};
        let sew = parts.shape.sew;
        let signed = matches!(operation, Div | Rem);
        let is_scalar = parts.second() != Second::Vector;
        if is_scalar {
            self.copy(Size::Q, Reg::RAX, parts.item.rn);
            self.a.mov_to(Size::Q, ROOM, Reg::RAX);
            self.load(sew, signed, Reg::RAX, ROOM);
            self.a.mov_to(Size::Q, ROOM, Reg::RAX);
        }
        let result = if matches!(operation, Rem | Remu) { Reg::RDX } else { Reg::RAX };
        self.for_elements(
            body,
            |this| {
                if !is_scalar {
                    this.load(sew, signed, Reg::RAX, element(parts.v1, sew));
                    this.a.mov_to(Size::Q, ROOM, Reg::RAX);
                }
                this.load(sew, signed, Reg::RAX, element(parts.v2, sew));
                let (by_zero, negates, done) = (this.a.label(), this.a.label(), this.a.label());
                this.a.alu_imm(Alu::Cmp, Size::Q, ROOM, 0);
                this.a.jump_if(Cc::E, by_zero);
                if signed {
                    // The quotient of the lowest number does not fit, and is that number.
                    this.a.alu_imm(Alu::Cmp, Size::Q, ROOM, -1);
                    this.a.jump_if(Cc::E, negates);
                    this.a.sign_to_rdx(Size::Q);
                    this.a.idiv(Size::Q, ROOM);
                } else {
                    this.a.mov_imm(Reg::RDX, 0);
                    this.a.div(Size::Q, ROOM);
                }
                this.a.jump(done);
                this.a.bind(negates);
                this.a.neg(Size::Q, Reg::RAX);
                this.a.mov_imm(Reg::RDX, 0);
                this.a.jump(done);
                this.a.bind(by_zero);
                this.a.mov(Size::Q, Reg::RDX, Reg::RAX);
                this.a.mov_imm(Reg::RAX, u64::MAX);
                this.a.bind(done);
                this.store(sew, element(parts.d, sew), result);
            },
            |_| {},
        );
    }

    /// VFCVT between 64 bits, and its kin.
    pub(super) fn convert_elements(&mut self, parts: &Parts, body: Body) {
        let Some(Conversion { from, to, of_integer, signed }) = conversion(parts) else { return };
        let bytes = 1 << to;
        self.for_elements(
            body,
            |this| {
                if of_integer {
                    // Unsigned 32 bits are signed 64 bits.
                    this.load(from, signed, Reg::RAX, element(parts.v2, from));
                    this.a.vp(0xef, X0, X0, X0);
                    this.a.vconvert(to == 3, Size::Q, 0x2a, X0.0, X0.0, Reg::RAX);
                    this.lanes_store(element(parts.d, to), X0, bytes);
                } else {
                    // The source may be overwritten, so a signal begins at its element.
                    this.a.mov_to(Size::Q, VSTART, Reg::RCX);
                    let opcode = if signed { 0x2c } else { 0x2d };
                    this.a.vconvert(from == 3, Size::Q, opcode, Reg::RAX.0, 0, element(parts.v2, from));
                    this.store(to, element(parts.d, to), Reg::RAX);
                }
            },
            |_| {},
        );
        if !of_integer {
            self.a.mov_imm32(Size::Q, VSTART, 0);
        }
    }
}
