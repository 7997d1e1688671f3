//! Loads and stores of vectors.
//!
//! An access that faults is run again by the interpreter from its first element: what has been loaded or
//! stored before is then loaded or stored again. So no index may be overwritten.

use super::chunk::{element, p3a, part};
use super::operand::Parts;
use super::shape::{Body, Chunk, Shape, chunks};
use crate::layout::{VL, X0, group};
use crate::translate::rv64::Translator;
use crate::translate::{Lowered, ONE};
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::Action;
use crossdock_emu_x64::{Alu, Cc, Map, Mem, Prefix, Reg, Shift, Size, Xmm};

/// How the addresses of elements follow each other.
fn mop(item: &Instruction) -> u32 {
    item.code >> 26 & 3
}

/// lumop and sumop, of unit-stride accesses.
fn field(item: &Instruction) -> u32 {
    item.code >> 20 & 31
}

/// The fields of a segment.
fn fields(item: &Instruction) -> u32 {
    (item.code >> 29) + 1
}

/// The logarithm of the bytes that the width stands for.
fn width(item: &Instruction) -> u8 {
    match item.code >> 12 & 7 {
        0 => 0,
        wide => wide as u8 - 4,
    }
}

/// Whether whole registers are accessed.
pub(super) fn is_whole(item: &Instruction) -> bool {
    mop(item) == 0 && field(item) == 8
}

fn is_of_mask(item: &Instruction) -> bool {
    mop(item) == 0 && field(item) == 11
}

fn is_indexed(item: &Instruction) -> bool {
    mop(item) & 1 == 1
}

/// Whether memory and group have the same order and no element is left out by a mask.
pub(super) fn is_plain(item: &Instruction) -> bool {
    mop(item) == 0 && fields(item) == 1 && item.code >> 25 & 1 == 1 && !is_of_mask(item)
}

/// Whether the instruction may lower vl.
pub(super) fn only_first_faults(item: &Instruction, action: Action) -> bool {
    action == Action::VectorLoad && mop(item) == 0 && field(item) == 16
}

/// Whether there is code for an access that is not of whole registers.
pub(super) fn has_lowering(parts: &Parts) -> bool {
    if parts.action == Action::VectorStore || !is_indexed(&parts.item) {
        return true;
    }
    // Indexes must stay.
    let indexes = parts.shape.with(width(&parts.item)).registers();
    let all = fields(&parts.item) * parts.shape.registers();
    parts.d + all <= parts.v2 || parts.v2 + indexes <= parts.d
}

impl Translator<'_> {
    /// VL1RE8.V, VS1R.V and their kin.
    pub(super) fn whole_registers(&mut self, item: &Instruction, loads: bool) -> Lowered {
        let (count, d) = (fields(item), item.code >> 7 & 31);
        if !count.is_power_of_two() || !d.is_multiple_of(count) {
            return Lowered::No;
        }
        self.check_start();
        self.mark();
        self.copy_group(item, d, 16 * count, loads);
        ONE
    }

    /// Copies a group from or to memory.
    fn copy_group(&mut self, item: &Instruction, d: u32, bytes: u32, loads: bool) {
        let base = self.get(item.rn, Reg::RDX);
        let mut at = 0;
        while at < bytes {
            let rest = bytes - at;
            let size = if rest >= 32 { 32 } else { 1 << rest.ilog2() };
            let chunk = Chunk { at, bytes: size };
            let (memory, register) = (Mem::at(base, at as i32), part(d, chunk));
            let (from, to) = if loads { (memory, register) } else { (register, memory) };
            self.lanes_load(X0, from, size);
            self.lanes_store(to, X0, size);
            at += size;
        }
    }

    /// Copies rcx bytes, which are a multiple of `1 << size`, between the group and memory. Changes rax, rcx,
    /// rdx.
    fn copy_bytes(&mut self, item: &Instruction, d: u32, size: u8, loads: bool) {
        self.copy(Size::Q, Reg::RDX, item.rn);
        self.a.lea(Size::Q, Reg::RAX, group(d));
        let (from, to) = if loads { (Reg::RDX, Reg::RAX) } else { (Reg::RAX, Reg::RDX) };
        let (from, to) = (Mem::at(from, 0), Mem::at(to, 0));
        let (again, rest) = (self.a.label(), self.a.label());
        self.a.bind(again);
        self.a.alu_imm(Alu::Sub, Size::Q, Reg::RCX, 16);
        self.a.jump_if(Cc::B, rest);
        self.a.vload(X0, from);
        self.a.vstore(to, X0);
        self.a.alu_imm(Alu::Add, Size::Q, Reg::RDX, 16);
        self.a.alu_imm(Alu::Add, Size::Q, Reg::RAX, 16);
        self.a.jump(again);
        self.a.bind(rest);
        for log2 in (size..4).rev() {
            let bytes = 1 << log2;
            self.a.test_imm8(Reg::RCX, bytes);
            let none = self.a.skip_if(Cc::E);
            match bytes {
                8 => {
                    self.a.vmovq(X0, from);
                    self.a.vstore_q(to, X0);
                }
                4 => {
                    self.a.vmov_from(Size::D, X0, from);
                    self.a.vmov_to(Size::D, to, X0);
                }
                2 => {
                    // VPINSRW, VPEXTRW.
                    self.lanes_imm(false, (Prefix::P66, Map::M0F, false, 0xc4), X0, X0, from, 0);
                    self.lanes_imm(false, p3a(0x15), X0, Xmm(0), to, 0);
                }
                _ => {
                    // VPINSRB, VPEXTRB.
                    self.lanes_imm(false, p3a(0x20), X0, X0, from, 0);
                    self.lanes_imm(false, p3a(0x14), X0, Xmm(0), to, 0);
                }
            }
            if log2 > size {
                self.a.alu_imm(Alu::Add, Size::Q, Reg::RDX, bytes.into());
                self.a.alu_imm(Alu::Add, Size::Q, Reg::RAX, bytes.into());
            }
            self.a.land(none);
        }
    }

    pub(super) fn transfer_vectors(&mut self, parts: &Parts, body: Body, loads: bool) {
        let item = &parts.item;
        if is_of_mask(item) {
            return match body.vl {
                Some(vl) => self.copy_group(item, parts.d, vl.div_ceil(8), loads),
                None => {
                    self.a.mov(Size::Q, Reg::RCX, VL);
                    self.a.alu_imm(Alu::Add, Size::Q, Reg::RCX, 7);
                    self.a.shift_imm(Shift::Shr, Size::Q, Reg::RCX, 3);
                    self.copy_bytes(item, parts.d, 0, loads);
                }
            };
        }
        if is_plain(item) {
            let size = width(item);
            return match body.vl {
                Some(vl) => self.copy_group(item, parts.d, vl << size, loads),
                None => {
                    self.a.mov(Size::Q, Reg::RCX, VL);
                    if size > 0 {
                        self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, size);
                    }
                    self.copy_bytes(item, parts.d, size, loads);
                }
            };
        }
        if is_indexed(item) {
            return self.transfer_indexed(parts, body, loads);
        }
        let size = width(item);
        let data = parts.shape.with(size);
        let fields = fields(item);
        self.copy(Size::Q, Reg::RDX, item.rn);
        let is_strided = mop(item) == 2;
        self.for_elements(
            body,
            |this| this.move_fields(parts.d, data, fields, Mem::at(Reg::RDX, 0), Reg::RAX, loads),
            |this| {
                if is_strided {
                    let stride = this.rm(item.rm);
                    this.a.alu(Alu::Add, Size::Q, Reg::RDX, stride);
                } else {
                    this.a.alu_imm(Alu::Add, Size::Q, Reg::RDX, (fields << size) as i32);
                }
            },
        );
    }

    fn transfer_indexed(&mut self, parts: &Parts, body: Body, loads: bool) {
        let item = &parts.item;
        let (index, base) = (width(item), self.rm(item.rn));
        self.for_elements(
            body,
            |this| {
                this.load(index, false, Reg::RAX, element(parts.v2, index));
                this.a.alu(Alu::Add, Size::Q, Reg::RAX, base);
                this.move_fields(parts.d, parts.shape, fields(item), Mem::at(Reg::RAX, 0), Reg::RDX, loads);
            },
            |_| {},
        );
    }

    /// Moves the fields of the element that rcx numbers between memory and their groups, by way of `through`.
    fn move_fields(&mut self, d: u32, data: Shape, fields: u32, memory: Mem, through: Reg, loads: bool) {
        for field in 0..fields {
            let memory = memory.plus((field << data.sew) as i32);
            let register = element(d + field * data.registers(), data.sew);
            let (from, to) = if loads { (memory, register) } else { (register, memory) };
            self.load(data.sew, false, through, from);
            self.store(data.sew, to, through);
        }
    }

    /// Writes code for each element of the body, which rcx numbers, and code that follows for all elements.
    pub(super) fn for_elements(
        &mut self,
        body: Body,
        each: impl FnOnce(&mut Self),
        then: impl FnOnce(&mut Self),
    ) {
        let (again, end) = (self.a.label(), self.a.label());
        match body.vl {
            Some(0) => return,
            Some(_) => {}
            None => {
                self.a.alu_imm(Alu::Cmp, Size::D, VL, 0);
                self.a.jump_if(Cc::E, end);
            }
        }
        self.a.mov_imm(Reg::RCX, 0);
        self.a.bind(again);
        if body.masked {
            let next = self.a.label();
            self.a.bit_test_by(Size::Q, group(0), Reg::RCX);
            self.a.jump_if(Cc::Ae, next);
            each(self);
            self.a.bind(next);
        } else {
            each(self);
        }
        then(self);
        self.a.alu_imm(Alu::Add, Size::D, Reg::RCX, 1);
        match body.vl {
            Some(vl) => self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, vl as i32),
            None => self.a.alu(Alu::Cmp, Size::D, Reg::RCX, VL),
        }
        self.a.jump_if(Cc::B, again);
        self.a.bind(end);
    }

    /// Copies bytes of the state, as far as `chunks` go.
    pub(super) fn copy_lanes(&mut self, to: Mem, from: Mem, bytes: u32) {
        for chunk in chunks(bytes) {
            let size = chunk.bytes.max(16);
            self.lanes_load(X0, from.plus(chunk.at as i32), size);
            self.lanes_store(to.plus(chunk.at as i32), X0, size);
        }
    }
}
