//! Vectors.
//!
//! A block is translated for one configuration (vtype), which an instruction of the block sets or which is
//! guessed; a guess is checked where the first instruction needs it, with vstart. If vl is known, an
//! instruction has one way. Else it has a fast one for all elements of its groups, and behind the unit's
//! blocks one for some of them ([`Partly`]).
//!
//! An instruction that faults is run again by the interpreter, from the element that vstart names; so sources
//! stay until nothing can fault any more, or vstart moves on.

mod chunk;
mod crypto;
mod elements;
mod float;
mod integer;
mod mask;
mod memory;
mod operand;
mod permute;
mod shape;
mod wide;

use super::Translator;
use crate::layout::{VCSR, VECTORS_USED, VL, VSTART, VTYPE};
use crate::translate::{Cold, Lowered, ONE, Partly};
use crate::unit::EXACT;
use crossdock_emu_guest::rv64::action::{Action, Arithmetic, Mask, VectorFloat};
use crossdock_emu_guest::rv64::{Instruction, Upper, accepts};
use crossdock_emu_x64::{Alu, Cc, Reg, Size};
use operand::Parts;
use shape::{Body, Shape};

/// vxrm in vcsr; zero is to nearest, with halves up.
const VXRM: u8 = 6;

/// Whether a configuration is none that is reserved.
pub(super) fn is_configuration(vtype: u8) -> bool {
    Shape::of(vtype.into()).is_some()
}

/// The configuration that VSETVLI or VSETIVLI sets, if it is none that is reserved.
pub(super) fn configuration(code: u32) -> Option<u8> {
    let vtype = match code >> 30 {
        0 | 1 => code >> 20 & 0x7ff,
        3 => code >> 20 & 0x3ff,
        _ => return None,
    };
    Shape::of(vtype).map(|_| vtype as u8)
}

/// Whether an instruction has one way for all values of vl.
fn goes_by_elements(parts: &Parts) -> bool {
    let item = &parts.item;
    match parts.action {
        Action::VectorLoad | Action::VectorStore => !memory::is_plain(item),
        Action::VectorMask(operation) => operation != Mask::Number,
        Action::VectorPermute(operation) => permute::goes_by_elements(item, operation),
        Action::VectorFloat(operation) => {
            float::goes_by_elements(operation) || elements::converts(parts, operation, false)
        }
        Action::Vector(operation) => elements::divides(operation),
        _ => false,
    }
}

impl Translator<'_> {
    /// Lowers an instruction of vectors.
    pub(super) fn vector(&mut self, item: &Instruction, action: Action) -> Lowered {
        if action == Action::SetVectors {
            return self.set_vectors(item);
        }
        self.clobber();
        if matches!(action, Action::VectorLoad | Action::VectorStore) && memory::is_whole(item) {
            return self.whole_registers(item, action == Action::VectorLoad);
        }
        // Elements of funct3 1 and 5 are numbers of floating point.
        let computes = matches!(action, Action::VectorFloat(_) | Action::VectorPermute(_))
            && matches!(item.code >> 12 & 7, 1 | 5);
        let is_wary = computes && self.mode & EXACT == 0 && self.wary_at.contains(self.pc);
        let Some(configuration) = self.configured.or(self.guessed) else { return Lowered::No };
        let parts = Parts::of(item, action, configuration);
        if computes && self.mode & EXACT != 0
            || !accepts(&item.op, configuration.into())
            || !self.has_lowering(&parts, is_wary)
        {
            return Lowered::No;
        }
        self.check_configuration(configuration);
        // vxrm must say that halves are rounded up.
        let rounded = match action {
            Action::Vector(operation) if integer::rounds(operation) => Some(self.a.label()),
            _ => None,
        };
        if let Some(end) = rounded {
            let slow = self.slow_path(end);
            self.a.test_imm8(VCSR, VXRM);
            self.a.jump_if(Cc::Ne, slow);
        }
        if is_wary {
            self.begin_wary();
        }
        self.scalar_operand(&parts);
        let body = Body {
            elements: parts.shape.elements(),
            vl: self.length,
            masked: item.code >> 25 & 1 == 0 && !parts.reads_mask(),
        };
        if let Action::VectorCrypto(_) = action {
            // With fewer elements, which must be whole groups, the interpreter goes on.
            let back = self.a.label();
            let stub = self.slow_path(back);
            self.a.alu_imm(Alu::Cmp, Size::D, VL, body.elements as i32);
            self.a.jump_if(Cc::Ne, stub);
            self.lower_body(&parts, body);
            self.a.bind(back);
        } else if body.vl.is_some() || body.masked || goes_by_elements(&parts) {
            self.mark();
            self.lower_body(&parts, body);
        } else {
            let back = self.a.label();
            let partly =
                Partly { op: item.op, pc: self.pc, configuration, wary: self.wary, boxed: self.boxed, back };
            let stub = self.stub(Cold::Partly(partly));
            self.a.alu_imm(Alu::Cmp, Size::D, VL, body.elements as i32);
            self.a.jump_if(Cc::Ne, stub);
            self.mark();
            self.lower_body(&parts, Body { vl: Some(body.elements), ..body });
            self.a.bind(back);
        }
        if is_wary {
            self.end_wary();
        }
        if let Some(end) = rounded {
            self.a.bind(end);
        }
        if memory::only_first_faults(item, action) {
            self.length = None;
        }
        ONE
    }

    /// The way for some of the elements.
    pub(super) fn vector_partly(&mut self, partly: &Partly) {
        let item = Instruction::of(&partly.op, partly.pc, &mut Upper::default());
        let Some(action) = item.action else { return };
        (self.pc, self.wary, self.boxed) = (partly.pc, partly.wary, partly.boxed);
        self.repeats = matches!(action, Action::VectorLoad | Action::VectorStore);
        self.mark();
        let parts = Parts::of(&item, action, partly.configuration);
        self.lower_body(&parts, Body { elements: parts.shape.elements(), vl: None, masked: false });
        (self.wary, self.repeats) = (false, false);
    }

    /// Whether [`Translator::lower_body`] has code for the instruction.
    fn has_lowering(&self, parts: &Parts, is_wary: bool) -> bool {
        match parts.action {
            Action::VectorLoad | Action::VectorStore => memory::has_lowering(parts),
            Action::Vector(Arithmetic::Clmul | Arithmetic::Clmulh) => self.features.pclmul,
            Action::Vector(operation) if elements::divides(operation) => true,
            Action::Vector(operation) => integer::has_lowering(parts, operation),
            Action::VectorFloat(operation) if elements::converts(parts, operation, is_wary) => true,
            Action::VectorCrypto(operation) => crypto::has_lowering(parts, operation, self.features),
            Action::VectorFloat(operation) => float::has_lowering(parts, operation, is_wary),
            Action::VectorMask(operation) => mask::has_lowering(parts, operation),
            Action::VectorPermute(operation) => permute::has_lowering(parts, operation),
            _ => false,
        }
    }

    fn lower_body(&mut self, parts: &Parts, body: Body) {
        match parts.action {
            Action::VectorLoad => self.transfer_vectors(parts, body, true),
            Action::VectorStore => self.transfer_vectors(parts, body, false),
            Action::Vector(operation @ (Arithmetic::Clmul | Arithmetic::Clmulh)) => {
                self.carryless_products(parts, operation, body);
            }
            Action::Vector(operation) if elements::divides(operation) => {
                self.divide_elements(parts, operation, body);
            }
            Action::VectorFloat(operation) if elements::converts(parts, operation, false) => {
                self.convert_elements(parts, body);
            }
            Action::Vector(operation) => self.vector_arithmetic(parts, operation, body),
            Action::VectorCrypto(operation) => self.vector_crypto(parts, operation),
            Action::VectorFloat(operation) => self.vector_float(parts, operation, body),
            Action::VectorMask(operation) => self.vector_mask(parts, operation, body),
            Action::VectorPermute(operation) => self.vector_permute(parts, operation, body),
            _ => {}
        }
    }

    /// Leaves if the configuration is not this one, or vstart not zero.
    fn check_configuration(&mut self, configuration: u8) {
        if self.configured.is_some() {
            return;
        }
        let stub = self.stub(Cold::Look { record: self.record() });
        self.a.alu_imm(Alu::Cmp, Size::Q, VTYPE, configuration.into());
        self.a.jump_if(Cc::Ne, stub);
        self.a.alu_imm(Alu::Cmp, Size::D, VSTART, 0);
        self.a.jump_if(Cc::Ne, stub);
        self.configured = Some(configuration);
    }

    /// Leaves if vstart is not zero, and notes that vectors are used.
    fn check_start(&mut self) {
        if self.configured.is_none() {
            let stub = self.stub(Cold::Look { record: self.record() });
            self.a.alu_imm(Alu::Cmp, Size::D, VSTART, 0);
            self.a.jump_if(Cc::Ne, stub);
            self.a.mov_imm32(Size::D, VECTORS_USED, 1);
        }
    }

    /// Forgets the configuration, which the interpreter may have changed.
    pub(super) fn forget_configuration(&mut self) {
        (self.configured, self.length) = (None, None);
    }

    /// VSETVLI and VSETIVLI.
    fn set_vectors(&mut self, item: &Instruction) -> Lowered {
        let Some(vtype) = configuration(item.code) else { return Lowered::No };
        let Some(shape) = Shape::of(vtype.into()) else { return Lowered::No };
        self.clobber();
        let elements = shape.elements();
        let before = self.configured.replace(vtype);
        if before != Some(vtype) {
            self.a.mov_imm32(Size::Q, VTYPE, vtype.into());
        }
        if before.is_none() {
            self.a.mov_imm32(Size::Q, VSTART, 0);
            self.a.mov_imm32(Size::D, VECTORS_USED, 1);
        }
        let (rd, rs1) = (item.code >> 7 & 31, item.rs1());
        let known = match (item.code >> 30, rs1, rd) {
            (3, ..) => Some(rs1.min(elements)),
            (_, 0, 0) => self.length.map(|length| length.min(elements)),
            (_, 0, _) => Some(elements),
            _ => None,
        };
        if let Some(vl) = known {
            if self.length != Some(vl) {
                self.a.mov_imm32(Size::Q, VL, vl as i32);
            }
            if rd != 0 {
                self.put_constant(item.rd, vl.into());
            }
            self.length = Some(vl);
            return ONE;
        }
        self.length = None;
        let keeps = rs1 == 0;
        if keeps
            && before.and_then(|before| Shape::of(before.into())).is_some_and(|s| s.elements() <= elements)
        {
            return ONE;
        }
        self.a.mov_imm(Reg::RAX, elements.into());
        if keeps {
            self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, VL);
            self.a.cmov(Cc::A, Size::Q, Reg::RAX, VL);
        } else {
            let wanted = self.get(item.rn, Reg::RCX);
            self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, wanted);
            self.a.cmov(Cc::A, Size::Q, Reg::RAX, wanted);
        }
        self.a.mov_to(Size::Q, VL, Reg::RAX);
        if rd != 0 {
            self.put(item.rd, Reg::RAX);
        }
        ONE
    }

    /// Whether an operation of floating point signals what the interpreter must look at.
    fn is_float(operation: VectorFloat) -> bool {
        !matches!(operation, VectorFloat::Merge | VectorFloat::Sgnj | VectorFloat::Sgnjn | VectorFloat::Sgnjx)
    }
}
