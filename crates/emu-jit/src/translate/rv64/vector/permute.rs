//! Moves of elements: slides, gathers, compression, scalars.

use super::chunk::{element, p, p38, part, repeated};
use super::operand::{Parts, Second};
use super::shape::{Body, chunks};
use crate::layout::{ROOM, STATE, VL, X0, X1, X2, group};
use crate::translate::operands::{SINK, half};
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::Permute;
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Shift, Size};

/// Whether an instruction has one way for all values of vl.
pub(super) fn goes_by_elements(item: &Instruction, operation: Permute) -> bool {
    match operation {
        Permute::Gather => item.code >> 12 & 7 == 0 && item.code >> 25 & 1 == 0,
        Permute::GatherByHalves | Permute::Compress => true,
        Permute::ToScalar | Permute::FromScalar | Permute::ToFloat | Permute::FromFloat | Permute::Whole => {
            true
        }
        _ => false,
    }
}

/// Whether there is code for an operation.
pub(super) fn has_lowering(parts: &Parts, operation: Permute) -> bool {
    match operation {
        Permute::ToFloat | Permute::FromFloat => parts.shape.sew >= 2,
        Permute::SlideOneUp | Permute::SlideOneDown => {
            parts.second() != Second::Float || parts.shape.sew >= 2
        }
        _ => true,
    }
}

impl Translator<'_> {
    pub(super) fn vector_permute(&mut self, parts: &Parts, operation: Permute, body: Body) {
        match operation {
            Permute::ToScalar => self.put_scalar_of(parts),
            Permute::ToFloat => self.put_float_of(parts),
            Permute::FromScalar | Permute::FromFloat => self.set_first(parts, body),
            Permute::Whole => {
                let bytes = 16 * ((parts.item.code >> 15 & 7) + 1);
                if bytes == 16 && (parts.d == 0 || parts.v2 == 0) {
                    // A mask, which is stored by halves.
                    for half in [0, 8] {
                        self.a.mov(Size::Q, Reg::RAX, group(parts.v2).plus(half));
                        self.a.mov_to(Size::Q, group(parts.d).plus(half), Reg::RAX);
                    }
                    return;
                }
                self.copy_lanes(group(parts.d), group(parts.v2), bytes);
            }
            Permute::SlideUp | Permute::SlideDown | Permute::SlideOneUp | Permute::SlideOneDown => {
                self.slide(parts, operation, body);
            }
            Permute::Gather if parts.second() != Second::Vector => self.gather_one(parts, body),
            Permute::Gather if parts.shape.sew == 0 && parts.shape.lmul == 0 && !body.masked => {
                self.gather_bytes(parts, body);
            }
            Permute::Gather => self.gather(parts, body, parts.shape.sew),
            Permute::GatherByHalves => self.gather(parts, body, 1),
            Permute::Compress => self.compress(parts, body),
        }
    }

    fn put_scalar_of(&mut self, parts: &Parts) {
        let rd = parts.item.rd;
        if rd != SINK {
            let t = self.result(rd, Reg::RAX);
            self.load(parts.shape.sew, true, t, group(parts.v2));
            self.put(rd, t);
        }
    }

    fn put_float_of(&mut self, parts: &Parts) {
        let is_double = parts.shape.sew == 3;
        self.lanes_load(X0, group(parts.v2), 1 << parts.shape.sew);
        if is_double {
            self.vput(half(parts.item.rd), X0);
            self.set_boxed(parts.item.rd, false);
        } else {
            self.put_boxed(parts.item.rd, X0);
        }
    }

    /// VMV.S.X and VFMV.S.F; the scalar is in xmm15.
    fn set_first(&mut self, parts: &Parts, body: Body) {
        let end = match body.vl {
            Some(0) => return,
            Some(_) => None,
            None => {
                self.a.alu_imm(Alu::Cmp, Size::D, VL, 0);
                Some(self.a.skip_if(Cc::E))
            }
        };
        self.lanes_store(group(parts.d), X2, 1 << parts.shape.sew);
        if let Some(end) = end {
            self.a.land(end);
        }
    }

    /// rcx = the bytes by which the offset of a slide moves elements, at most a group.
    fn slide_bytes(&mut self, parts: &Parts) {
        let elements = parts.shape.elements();
        if parts.second() == Second::Immediate {
            let bytes = parts.v1.min(elements) << parts.shape.sew;
            return self.a.mov_imm(Reg::RCX, bytes.into());
        }
        self.copy(Size::Q, Reg::RCX, parts.item.rn);
        self.a.mov_imm(Reg::RAX, elements.into());
        self.a.alu(Alu::Cmp, Size::Q, Reg::RCX, Reg::RAX);
        self.a.cmov(Cc::A, Size::Q, Reg::RCX, Reg::RAX);
        if parts.shape.sew > 0 {
            self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, parts.shape.sew);
        }
    }

    /// A slide by an immediate, or by one element, within a register: xmm0 = the result. False if that is no
    /// such slide.
    fn slide_in_register(&mut self, parts: &Parts, operation: Permute, body: Body) -> bool {
        let (sew, bytes) = (parts.shape.sew, parts.shape.bytes());
        let is_immediate = parts.second() == Second::Immediate;
        let is_whole = body.is_whole();
        let by = match operation {
            Permute::SlideUp | Permute::SlideDown if is_immediate => (parts.v1 << sew).min(16),
            Permute::SlideOneUp => 1 << sew,
            // The last element of the body gets the scalar.
            Permute::SlideOneDown if is_whole => 1 << sew,
            _ => return false,
        };
        if bytes > 16 {
            return false;
        }
        let ones = |from: u32, to: u32| {
            let below = |n: u32| if n >= 16 { u128::MAX } else { (1 << (8 * n)) - 1 };
            below(to) & !below(from)
        };
        self.lanes_load(X0, group(parts.v2), bytes);
        let up = matches!(operation, Permute::SlideUp | Permute::SlideOneUp);
        // VPSLLDQ, VPSRLDQ.
        self.a.vshift_imm(0x73, if up { 7 } else { 3 }, X0, X0, by as u8);
        match operation {
            Permute::SlideUp => {
                // What is below keeps its values.
                self.lanes_load(X1, group(parts.d), bytes);
                self.splat_constant(false, X2, ones(0, by));
                self.lanes_blend(false, X0, X0, X1, X2);
            }
            Permute::SlideOneUp => {
                self.splat_constant(false, X1, ones(0, by));
                self.lanes_blend(false, X0, X0, X2, X1);
            }
            Permute::SlideOneDown => {
                self.splat_constant(false, X1, ones(bytes - by, bytes));
                self.lanes_blend(false, X0, X0, X2, X1);
            }
            _ => {}
        }
        true
    }

    /// The source goes to the room in memory, and comes back from other bytes of it.
    fn slide(&mut self, parts: &Parts, operation: Permute, body: Body) {
        let (sew, bytes) = (parts.shape.sew, parts.shape.bytes());
        if self.slide_in_register(parts, operation, body) {
            if !body.is_whole() {
                self.find_tail(body, sew);
            }
            return chunks(bytes).for_each(|chunk| self.finish_part(parts.d, chunk, body, sew));
        }
        let zeros = |this: &mut Self, to: Mem| {
            this.splat_constant(false, X0, 0);
            for chunk in chunks(bytes) {
                this.lanes_store(to.plus(chunk.at as i32), X0, chunk.bytes.max(16));
            }
        };
        let by_rcx = |to: Mem| Mem { index: Some((Reg::RCX, 0)), ..to };
        let mut from = ROOM;
        match operation {
            Permute::SlideDown => {
                self.slide_bytes(parts);
                self.copy_lanes(ROOM, group(parts.v2), bytes);
                zeros(self, ROOM.plus(bytes as i32));
                // rdx keeps the offset, since rcx leads to the tail.
                self.a.lea(Size::Q, Reg::RDX, by_rcx(Mem::at(STATE, 0)));
                from = Mem { base: Reg::RDX, ..ROOM };
            }
            Permute::SlideUp => {
                self.slide_bytes(parts);
                self.copy_lanes(ROOM, group(parts.d), bytes);
                self.copy_lanes(by_rcx(ROOM), group(parts.v2), bytes);
            }
            Permute::SlideOneUp => {
                self.copy_lanes(ROOM.plus(1 << sew), group(parts.v2), bytes);
                self.lanes_store(ROOM, X2, 1 << sew);
            }
            _ => {
                self.copy_lanes(ROOM, group(parts.v2), bytes);
                match body.vl {
                    Some(vl) => self.lanes_store(ROOM.plus((vl << sew) as i32), X2, 1 << sew),
                    None => {
                        self.a.mov(Size::Q, Reg::RCX, VL);
                        let last = Mem { index: Some((Reg::RCX, sew)), ..ROOM };
                        self.lanes_store(last, X2, 1 << sew);
                    }
                }
                from = ROOM.plus(1 << sew);
            }
        }
        if !body.is_whole() {
            self.find_tail(body, sew);
        }
        for chunk in chunks(bytes) {
            self.lanes_load(X0, from.plus(chunk.at as i32), chunk.bytes.max(16));
            self.finish_part(parts.d, chunk, body, sew);
        }
    }

    /// VRGATHER.VX and VRGATHER.VI: one element for all.
    fn gather_one(&mut self, parts: &Parts, body: Body) {
        let (sew, elements) = (parts.shape.sew, parts.shape.elements());
        if parts.second() == Second::Immediate {
            if parts.v1 < elements {
                self.lanes_splat(true, sew, X2, group(parts.v2).plus((parts.v1 << sew) as i32));
            } else {
                self.splat_constant(true, X2, 0);
            }
        } else {
            self.splat_constant(true, X2, 0);
            self.copy(Size::Q, Reg::RCX, parts.item.rn);
            self.a.alu_imm(Alu::Cmp, Size::Q, Reg::RCX, elements as i32);
            let beyond = self.a.skip_if(Cc::Ae);
            self.lanes_splat(true, sew, X2, element(parts.v2, sew));
            self.a.land(beyond);
        }
        if !body.is_whole() {
            self.find_tail(body, sew);
        }
        for chunk in chunks(parts.shape.bytes()) {
            self.lanes(true, super::chunk::OR, X0, X2, X2);
            self.finish_part(parts.d, chunk, body, sew);
        }
    }

    /// VRGATHER.VV of bytes of one register.
    fn gather_bytes(&mut self, parts: &Parts, body: Body) {
        if !body.is_whole() {
            self.find_tail(body, 0);
        }
        for chunk in chunks(parts.shape.bytes()) {
            // Indexes beyond the group get their highest bit, for which VPSHUFB gives zero.
            self.splat_constant(false, X1, repeated(0x70, 0));
            // VPADDUSB.
            self.lanes(false, p(0xdc), X1, X1, part(parts.v1, chunk));
            self.lanes_load(X0, part(parts.v2, chunk), 16);
            self.lanes(false, p38(0x00), X0, X0, X1);
            self.finish_part(parts.d, chunk, body, 0);
        }
    }

    /// VRGATHER.VV and VRGATHEREI16.VV, element by element.
    fn gather(&mut self, parts: &Parts, body: Body, index: u8) {
        let (sew, elements) = (parts.shape.sew, parts.shape.elements());
        self.for_elements(
            body,
            |this| {
                this.load(index, false, Reg::RAX, element(parts.v1, index));
                this.a.mov_imm(Reg::RDX, 0);
                this.a.alu_imm(Alu::Cmp, Size::Q, Reg::RAX, elements as i32);
                let beyond = this.a.skip_if(Cc::Ae);
                let from = Mem { index: Some((Reg::RAX, sew)), ..group(parts.v2) };
                this.load(sew, false, Reg::RDX, from);
                this.a.land(beyond);
                this.store(sew, element(parts.d, sew), Reg::RDX);
            },
            |_| {},
        );
    }

    /// VCOMPRESS.VM.
    fn compress(&mut self, parts: &Parts, body: Body) {
        let sew = parts.shape.sew;
        self.a.lea(Size::Q, Reg::RDX, group(parts.d));
        self.for_elements(
            body.unmasked(),
            |this| {
                this.a.bit_test_by(Size::Q, group(parts.v1), Reg::RCX);
                let left_out = this.a.skip_if(Cc::Ae);
                this.load(sew, false, Reg::RAX, element(parts.v2, sew));
                this.store(sew, Mem::at(Reg::RDX, 0), Reg::RAX);
                this.a.alu_imm(Alu::Add, Size::Q, Reg::RDX, 1 << sew);
                this.a.land(left_out);
            },
            |_| {},
        );
    }
}
