//! The operands of an instruction of vectors.

use super::chunk::repeated;
use super::shape::Shape;
use crate::layout::{X0, X2};
use crate::translate::operands::{ZERO, half};
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::{Action, Arithmetic, Permute, VectorFloat};
use crossdock_emu_x64::{Alu, Reg, Size};

/// An instruction of vectors and its operands.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) item: Instruction,
    pub(super) action: Action,
    /// What vtype says.
    pub(super) shape: Shape,
    /// vd, vs1 and vs2, or what is in their places.
    pub(super) d: u32,
    pub(super) v1: u32,
    pub(super) v2: u32,
}

/// What the operand in the place of vs1 is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    Vector,
    Immediate,
    General,
    Float,
}

/// By how much elements are shifted.
#[derive(Clone, Copy)]
pub(super) enum By {
    Immediate(u8),
    /// The low half of xmm15.
    Low,
}

impl Parts {
    pub(super) fn of(item: &Instruction, action: Action, configuration: u8) -> Parts {
        let shape = Shape::of(configuration.into()).expect("the configuration is none that is reserved");
        let field = |low: u32| item.code >> low & 31;
        Parts { item: *item, action, shape, d: field(7), v1: field(15), v2: field(20) }
    }

    pub(super) fn second(&self) -> Second {
        match self.item.code >> 12 & 7 {
            0..3 => Second::Vector,
            3 => Second::Immediate,
            4 | 6 => Second::General,
            _ => Second::Float,
        }
    }

    /// Whether vm is clear.
    pub(super) fn has_mask(&self) -> bool {
        self.item.code >> 25 & 1 == 0
    }

    /// Whether the mask is an operand, and leaves no element out.
    pub(super) fn reads_mask(&self) -> bool {
        matches!(self.action, Action::Vector(Arithmetic::Merge) | Action::VectorFloat(VectorFloat::Merge))
    }

    /// The immediate, sign-extended.
    pub(super) fn immediate(&self) -> i64 {
        i64::from(self.v1.cast_signed() << 27 >> 27)
    }

    /// The amount of a shift by an immediate.
    pub(super) fn amount(&self) -> u8 {
        match self.action {
            Action::Vector(Arithmetic::Ror) => (self.item.code >> 26 << 5 & 32 | self.v1) as u8,
            _ => self.v1 as u8,
        }
    }

    /// The logarithm of the bytes of the elements that the scalar operand is in.
    fn scalar_size(&self) -> u8 {
        use Arithmetic::{
            Wadd, WaddWide, Waddu, WadduWide, Wmacc, Wmaccsu, Wmaccu, Wmaccus, Wmul, Wmulsu, Wmulu, Wsub,
            WsubWide, Wsubu, WsubuWide,
        };
        let is_wide = matches!(
            self.action,
            Action::Vector(
                Waddu
                    | Wadd
                    | Wsubu
                    | Wsub
                    | WadduWide
                    | WaddWide
                    | WsubuWide
                    | WsubWide
                    | Wmulu
                    | Wmulsu
                    | Wmul
                    | Wmaccu
                    | Wmacc
                    | Wmaccus
                    | Wmaccsu
            )
        );
        self.shape.sew + u8::from(is_wide)
    }

    /// Whether the scalar operand is extended with zeros to the wide elements.
    fn is_scalar_unsigned(&self) -> bool {
        use Arithmetic::{Waddu, WadduWide, Wmaccu, Wmaccus, Wmulsu, Wmulu, Wsubu, WsubuWide};
        match self.action {
            // The scalar of VWMACCUS is the unsigned operand, that of VWMACCSU the signed one.
            Action::Vector(operation) => {
                matches!(operation, Waddu | Wsubu | WadduWide | WsubuWide | Wmulu | Wmulsu | Wmaccu | Wmaccus)
            }
            _ => false,
        }
    }

    /// Whether the scalar operand is the amount of a shift.
    pub(super) fn shifts(&self) -> bool {
        use Arithmetic::{Nsra, Nsrl, Rol, Ror, Sll, Sra, Srl};
        matches!(self.action, Action::Vector(Sll | Srl | Sra | Nsrl | Nsra | Rol | Ror))
    }

    /// Whether the scalar operand belongs into all elements of a register.
    fn has_splat(&self) -> bool {
        match self.action {
            Action::Vector(_) | Action::VectorFloat(_) => self.second() != Second::Vector,
            Action::VectorPermute(operation) => {
                matches!(operation, Permute::FromScalar | Permute::FromFloat)
                    || matches!(operation, Permute::SlideOneUp | Permute::SlideOneDown)
            }
            _ => false,
        }
    }
}

impl Translator<'_> {
    /// xmm15 = the scalar operand in all elements, or the amount of a shift in its low half.
    pub(super) fn scalar_operand(&mut self, parts: &Parts) {
        if !parts.has_splat() {
            return;
        }
        let sew = parts.scalar_size();
        match parts.second() {
            Second::Vector => {}
            Second::Immediate if parts.shifts() => {}
            Second::Immediate => {
                let value = repeated(parts.immediate().cast_unsigned(), sew);
                self.splat_constant(true, X2, value);
            }
            Second::General if parts.shifts() => {
                use Arithmetic::{Nsra, Nsrl};
                let narrows = matches!(parts.action, Action::Vector(Nsrl | Nsra));
                self.copy(Size::D, Reg::RAX, parts.item.rn);
                let width = 8i32 << parts.shape.sew << u8::from(narrows);
                self.a.alu_imm(Alu::And, Size::D, Reg::RAX, width - 1);
                self.a.vmov_from(Size::D, X2, Reg::RAX);
            }
            Second::General => {
                if parts.item.rn == ZERO {
                    return self.splat_constant(true, X2, 0);
                }
                let mut from = self.get(parts.item.rn, Reg::RAX);
                if sew > parts.shape.sew {
                    match (parts.shape.sew, parts.is_scalar_unsigned()) {
                        (0, true) => self.a.movzx8(Reg::RAX, from),
                        (0, false) => self.a.movsx8(Size::Q, Reg::RAX, from),
                        (1, true) => self.a.movzx16(Reg::RAX, from),
                        (1, false) => self.a.movsx16(Size::Q, Reg::RAX, from),
                        (_, true) => self.a.mov(Size::D, Reg::RAX, from),
                        (_, false) => self.a.movsxd(Reg::RAX, from),
                    }
                    from = Reg::RAX;
                }
                self.a.vmov_from(if sew == 3 { Size::Q } else { Size::D }, X2, from);
                self.lanes_splat(true, sew, X2, X2);
            }
            Second::Float => {
                if parts.shape.sew == 2 {
                    self.unbox(parts.item.rn);
                }
                let from = self.vget(half(parts.item.rn), X0);
                self.lanes_splat(true, parts.shape.sew, X2, from);
            }
        }
    }
}
