//! Operations with masks.

use super::operand::Parts;
use super::shape::{Body, Chunk, chunks};
use crate::layout::{ROOM, X0, group};
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::action::Mask;
use crossdock_emu_x64::{Alu, Cc, Map, Mem, Prefix, Reg, Size};

/// Whether there is code for an operation.
pub(super) fn has_lowering(parts: &Parts, operation: Mask) -> bool {
    match operation {
        Mask::BeforeFirst | Mask::OnlyFirst | Mask::IncludingFirst => parts.shape.elements() <= 64,
        Mask::Iota => false,
        _ => true,
    }
}

impl Translator<'_> {
    pub(super) fn vector_mask(&mut self, parts: &Parts, operation: Mask, body: Body) {
        match operation {
            Mask::Count => self.count_mask(parts, body),
            Mask::First => self.first_of_mask(parts, body),
            Mask::BeforeFirst | Mask::OnlyFirst | Mask::IncludingFirst => {
                self.around_first(parts, operation, body);
            }
            Mask::Number => self.number_elements(parts, body),
            _ => self.combine_masks(parts, operation, body.unmasked()),
        }
    }

    /// VMAND.MM and its kin.
    fn combine_masks(&mut self, parts: &Parts, operation: Mask, body: Body) {
        for half in 0..body.elements.div_ceil(64) {
            let at = 8 * half as i32;
            let (a, b) = (group(parts.v2).plus(at), group(parts.v1).plus(at));
            let alu = match operation {
                Mask::And | Mask::Nand | Mask::Andn => Alu::And,
                Mask::Or | Mask::Nor | Mask::Orn => Alu::Or,
                _ => Alu::Xor,
            };
            self.a.mov(Size::Q, Reg::RAX, b);
            if matches!(operation, Mask::Andn | Mask::Orn) {
                self.a.not(Size::Q, Reg::RAX);
            }
            self.a.alu(alu, Size::Q, Reg::RAX, a);
            if matches!(operation, Mask::Nand | Mask::Nor | Mask::Xnor) {
                self.a.not(Size::Q, Reg::RAX);
            }
            self.a.mov_to(Size::Q, ROOM.plus(at), Reg::RAX);
        }
        self.merge_mask(parts.d, body);
    }

    /// VCPOP.M.
    fn count_mask(&mut self, parts: &Parts, body: Body) {
        let halves = body.elements.div_ceil(64);
        for half in (0..halves).rev() {
            self.body_bits(half, body);
            self.a.alu(Alu::And, Size::Q, Reg::RAX, group(parts.v2).plus(8 * half as i32));
            self.a.popcnt(Size::Q, Reg::RAX, Reg::RAX);
            match (halves, half) {
                (2, 1) => self.a.mov_to(Size::Q, ROOM, Reg::RAX),
                (2, _) => self.a.alu(Alu::Add, Size::Q, Reg::RAX, ROOM),
                _ => {}
            }
        }
        self.put(parts.item.rd, Reg::RAX);
    }

    /// VFIRST.M.
    fn first_of_mask(&mut self, parts: &Parts, body: Body) {
        let found = self.a.label();
        for half in 0..body.elements.div_ceil(64) {
            self.body_bits(half, body);
            self.a.alu(Alu::And, Size::Q, Reg::RAX, group(parts.v2).plus(8 * half as i32));
            self.a.tzcnt(Size::Q, Reg::RAX, Reg::RAX);
            if half > 0 {
                // LEA keeps the carry.
                self.a.lea(Size::Q, Reg::RAX, Mem::at(Reg::RAX, 64));
            }
            // The carry says that there is none.
            self.a.jump_if(Cc::Ae, found);
        }
        self.a.mov_imm(Reg::RAX, u64::MAX);
        self.a.bind(found);
        self.put(parts.item.rd, Reg::RAX);
    }

    /// VMSBF.M, VMSOF.M, VMSIF.M.
    fn around_first(&mut self, parts: &Parts, operation: Mask, body: Body) {
        self.body_bits(0, body);
        self.a.alu(Alu::And, Size::Q, Reg::RAX, group(parts.v2));
        // BLSMSK and BLSI of rax to rcx.
        let extension = if operation == Mask::OnlyFirst { 3 } else { 2 };
        self.a.vex(Prefix::None, Map::M0F38, true, 0xf3, extension, Reg::RCX.0, Reg::RAX);
        if operation == Mask::BeforeFirst {
            // All below the lowest bit.
            self.a.andn(Size::Q, Reg::RCX, Reg::RAX, Reg::RCX);
        }
        self.a.mov_to(Size::Q, ROOM, Reg::RCX);
        self.merge_mask(parts.d, body);
    }

    /// VID.V.
    fn number_elements(&mut self, parts: &Parts, body: Body) {
        let sew = parts.shape.sew;
        if !body.is_whole() {
            self.find_tail(body, sew);
        }
        for chunk in chunks(parts.shape.bytes()) {
            for at in (chunk.at..chunk.at + chunk.bytes).step_by(16) {
                let mut numbers = 0;
                for i in 0..16u32 >> sew {
                    numbers |= u128::from((at >> sew) + i) << (i * (8 << sew));
                }
                self.splat_constant(false, X0, numbers);
                let half = Chunk { at, bytes: chunk.bytes.min(16) };
                if body.is_whole() || !chunk.long() {
                    self.finish_part(parts.d, half, body, sew);
                } else {
                    self.lanes_store(ROOM.plus((at - chunk.at) as i32), X0, 16);
                }
            }
            if !body.is_whole() && chunk.long() {
                self.lanes_load(X0, ROOM, 32);
                self.finish_part(parts.d, chunk, body, sew);
            }
        }
    }
}
