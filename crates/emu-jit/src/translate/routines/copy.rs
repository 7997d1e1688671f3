//! memcpy, memmove, memset.

use super::{ARGUMENTS, BYTES_MAX, WIDE, indexed};
use crate::layout::{X0, X1, X2};
use crate::translate::{Isa, Translator};
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_x64::{Alu, Cc, Label, Mem, Reg, Shift, Size};

const TO: Reg = ARGUMENTS[0];
const FROM: Reg = ARGUMENTS[1];
const COUNT: Reg = ARGUMENTS[2];
const OFFSET: Reg = Reg::RAX;

impl<I: Isa> Translator<'_, I> {
    /// memmove, which does as memcpy, too.
    ///
    /// If the destination lies in one page, either no store faults or the first one does, and all but long
    /// copies load everything before they store. Else, and if source and destination overlap, all pages are
    /// asked for first.
    pub(super) fn routine_copy(&mut self, own: Label) {
        let [crosses, go] = [(); 2].map(|()| self.a.label());
        let [above_32, from_16, from_8, from_4, done] = [(); 5].map(|()| self.a.label());
        self.decline_if_it_wraps(FROM, COUNT, own);
        self.a.lea(Size::Q, Reg::RAX, indexed(TO, COUNT, -1));
        self.a.alu(Alu::Xor, Size::Q, Reg::RAX, TO);
        self.a.test_imm(Size::Q, Reg::RAX, -(PAGE as i32));
        self.a.jump_if(Cc::Ne, crosses);
        self.a.bind(go);
        self.a.alu_imm(Alu::Cmp, Size::Q, COUNT, WIDE);
        self.a.jump_if(Cc::A, above_32);
        for (least, way) in [(16, from_16), (8, from_8), (4, from_4)] {
            self.a.alu_imm(Alu::Cmp, Size::D, COUNT, least);
            self.a.jump_if(Cc::Ae, way);
        }
        // 0 to 3: the first byte, the middle one, the last one.
        self.a.test(Size::D, COUNT, COUNT);
        self.a.jump_if(Cc::E, done);
        let last = |base| indexed(base, COUNT, -1);
        self.guest_load8(Reg::RAX, last(FROM));
        self.a.shift_imm(Shift::Shl, Size::D, Reg::RAX, 8);
        self.a.mov(Size::D, Reg::RDX, COUNT);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RDX, 1);
        self.guest_load8(Reg::RCX, indexed(FROM, Reg::RDX, 0));
        self.accesses_guest(Mem::at(FROM, 0));
        self.a.load8(Reg::RAX, Mem::at(FROM, 0));
        self.guest_store8(Mem::at(TO, 0), Reg::RAX);
        self.guest_store8(indexed(TO, Reg::RDX, 0), Reg::RCX);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RAX, 8);
        self.guest_store8(last(TO), Reg::RAX);
        self.a.bind(done);
        self.return_from_routine();

        for (way, size, bytes) in [(from_4, Size::D, 4), (from_8, Size::Q, 8)] {
            self.a.bind(way);
            self.guest_load(size, Reg::RAX, Mem::at(FROM, 0));
            self.guest_load(size, Reg::RCX, indexed(FROM, COUNT, -bytes));
            self.guest_store(size, Mem::at(TO, 0), Reg::RAX);
            self.guest_store(size, indexed(TO, COUNT, -bytes), Reg::RCX);
            self.return_from_routine();
        }

        self.a.bind(from_16);
        self.guest_load_vector(X0, Mem::at(FROM, 0));
        self.guest_load_vector(X1, indexed(FROM, COUNT, -16));
        self.guest_store_vector(Mem::at(TO, 0), X0);
        self.guest_store_vector(indexed(TO, COUNT, -16), X1);
        self.return_from_routine();

        self.a.bind(above_32);
        let [above_64, above_96] = [(); 2].map(|()| self.a.label());
        self.guest_load_wide(X0, Mem::at(FROM, 0));
        self.guest_load_wide(X2, indexed(FROM, COUNT, -WIDE));
        self.a.alu_imm(Alu::Cmp, Size::Q, COUNT, 2 * WIDE);
        self.a.jump_if(Cc::A, above_64);
        self.guest_store_wide(Mem::at(TO, 0), X0);
        self.guest_store_wide(indexed(TO, COUNT, -WIDE), X2);
        self.return_from_wide();

        self.a.bind(above_64);
        self.a.alu_imm(Alu::Cmp, Size::Q, COUNT, 3 * WIDE);
        self.a.jump_if(Cc::A, above_96);
        self.guest_load_wide(X1, Mem::at(FROM, WIDE));
        self.guest_store_wide(Mem::at(TO, 0), X0);
        self.guest_store_wide(Mem::at(TO, WIDE), X1);
        self.guest_store_wide(indexed(TO, COUNT, -WIDE), X2);
        self.return_from_wide();

        self.a.bind(above_96);
        self.copy_long(own);

        self.a.bind(crosses);
        self.ask_for_pages(own, go);
    }

    /// The rest of a copy of more than 96 bytes. X0 holds the first 32 bytes and X2 the last ones.
    ///
    /// ```text
    /// if to - from (unsigned) < count { from the end }
    /// offset = 32 - to % 32
    /// store to, X0; copy 32 bytes at offset, loaded before
    /// while offset < count - 64 { copy 64 bytes at offset }
    /// if offset < count - 32 { copy 32 bytes at offset }
    /// store to + count - 32, X2
    /// ```
    fn copy_long(&mut self, own: Label) {
        let [backward, forward, rest, last] = [(); 4].map(|()| self.a.label());
        // A number below zero may lead to the same page.
        self.a.alu_imm(Alu::Cmp, Size::Q, COUNT, BYTES_MAX);
        self.a.jump_if(Cc::A, own);
        self.a.mov(Size::Q, Reg::RCX, TO);
        self.a.alu(Alu::Sub, Size::Q, Reg::RCX, FROM);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RCX, COUNT);
        self.a.jump_if(Cc::B, backward);
        self.a.mov(Size::D, OFFSET, TO);
        self.a.not(Size::D, OFFSET);
        self.a.alu_imm(Alu::And, Size::D, OFFSET, WIDE - 1);
        self.a.alu_imm(Alu::Add, Size::D, OFFSET, 1);
        self.guest_load_wide(X1, indexed(FROM, OFFSET, 0));
        self.guest_store_wide(Mem::at(TO, 0), X0);
        self.guest_store_wide(indexed(TO, OFFSET, 0), X1);
        self.a.alu_imm(Alu::Add, Size::Q, OFFSET, WIDE);
        self.a.lea(Size::Q, Reg::RCX, Mem::at(COUNT, -2 * WIDE));
        self.a.alu(Alu::Cmp, Size::Q, OFFSET, Reg::RCX);
        self.a.jump_if(Cc::Ae, rest);
        self.a.bind(forward);
        self.copy_two(OFFSET, [0, WIDE]);
        self.a.alu_imm(Alu::Add, Size::Q, OFFSET, 2 * WIDE);
        self.a.alu(Alu::Cmp, Size::Q, OFFSET, Reg::RCX);
        self.a.jump_if(Cc::B, forward);
        self.a.bind(rest);
        self.a.alu_imm(Alu::Add, Size::Q, Reg::RCX, WIDE);
        self.a.alu(Alu::Cmp, Size::Q, OFFSET, Reg::RCX);
        self.a.jump_if(Cc::Ae, last);
        self.guest_load_wide(X0, indexed(FROM, OFFSET, 0));
        self.guest_store_wide(indexed(TO, OFFSET, 0), X0);
        self.a.bind(last);
        self.guest_store_wide(indexed(TO, COUNT, -WIDE), X2);
        self.return_from_wide();

        // From the end to the start, where the destination overlaps the source's end.
        self.a.bind(backward);
        let [again, first] = [(); 2].map(|()| self.a.label());
        self.copy_wide(X2, X0);
        self.a.mov(Size::Q, OFFSET, COUNT);
        self.a.bind(again);
        self.copy_two(OFFSET, [-WIDE, -2 * WIDE]);
        self.a.alu_imm(Alu::Sub, Size::Q, OFFSET, 2 * WIDE);
        self.a.alu_imm(Alu::Cmp, Size::Q, OFFSET, 2 * WIDE);
        self.a.jump_if(Cc::A, again);
        self.a.alu_imm(Alu::Cmp, Size::Q, OFFSET, WIDE);
        self.a.jump_if(Cc::Be, first);
        self.guest_load_wide(X0, indexed(FROM, OFFSET, -WIDE));
        self.guest_store_wide(indexed(TO, OFFSET, -WIDE), X0);
        self.a.bind(first);
        self.guest_store_wide(Mem::at(TO, 0), X2);
        self.return_from_wide();
    }

    /// Copies 32 bytes each at two distances from an offset. Changes X0 and X1.
    fn copy_two(&mut self, offset: Reg, [one, other]: [i32; 2]) {
        self.guest_load_wide(X0, indexed(FROM, offset, one));
        self.guest_load_wide(X1, indexed(FROM, offset, other));
        self.guest_store_wide(indexed(TO, offset, one), X0);
        self.guest_store_wide(indexed(TO, offset, other), X1);
    }

    /// The start of a copy whose destination lies in several pages, or that copies nothing: goes on at `go`,
    /// or at `own` if it is too long. If source and destination overlap, first reads a byte of each page of
    /// the source, and reads and writes one of each page of the destination.
    fn ask_for_pages(&mut self, own: Label, go: Label) {
        self.a.alu_imm(Alu::Cmp, Size::Q, COUNT, BYTES_MAX);
        self.a.jump_if(Cc::A, own);
        self.decline_if_it_wraps(TO, COUNT, own);
        let [overlaps, page] = [(); 2].map(|()| self.a.label());
        self.a.mov(Size::Q, Reg::RAX, TO);
        self.a.alu(Alu::Sub, Size::Q, Reg::RAX, FROM);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, COUNT);
        self.a.jump_if(Cc::B, overlaps);
        self.a.neg(Size::Q, Reg::RAX);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, COUNT);
        self.a.jump_if(Cc::Ae, go);
        self.a.bind(overlaps);
        self.a.alu(Alu::Xor, Size::D, Reg::RCX, Reg::RCX);
        self.a.bind(page);
        self.ask_at(Reg::RCX, 0);
        self.a.alu_imm(Alu::Add, Size::Q, Reg::RCX, PAGE as i32);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RCX, COUNT);
        self.a.jump_if(Cc::B, page);
        self.ask_at(COUNT, -1);
        self.a.jump(go);
    }

    fn ask_at(&mut self, offset: Reg, disp: i32) {
        self.guest_load8(Reg::RAX, indexed(FROM, offset, disp));
        self.guest_load8(Reg::RAX, indexed(TO, offset, disp));
        self.guest_store8(indexed(TO, offset, disp), Reg::RAX);
    }

    /// memset.
    pub(super) fn routine_set(&mut self, own: Label) {
        const VALUE: Reg = FROM;
        let [small, end, again, below_8, below_16, below_4, done] = [(); 7].map(|()| self.a.label());
        self.a.alu_imm(Alu::Cmp, Size::Q, COUNT, BYTES_MAX);
        self.a.jump_if(Cc::A, own);
        self.decline_if_it_wraps(TO, COUNT, own);
        self.broadcast(X0, VALUE);
        self.a.alu_imm(Alu::Cmp, Size::D, COUNT, WIDE);
        self.a.jump_if(Cc::B, small);
        self.a.lea(Size::Q, Reg::RAX, indexed(TO, COUNT, -WIDE));
        self.guest_store_wide(Mem::at(TO, 0), X0);
        self.guest_store_wide(Mem::at(Reg::RAX, 0), X0);
        self.a.lea(Size::Q, Reg::RCX, Mem::at(TO, WIDE));
        self.a.alu_imm(Alu::And, Size::Q, Reg::RCX, -WIDE);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RCX, Reg::RAX);
        self.a.jump_if(Cc::Ae, end);
        self.a.bind(again);
        self.guest_store_wide(Mem::at(Reg::RCX, 0), X0);
        self.a.alu_imm(Alu::Add, Size::Q, Reg::RCX, WIDE);
        self.a.alu(Alu::Cmp, Size::Q, Reg::RCX, Reg::RAX);
        self.a.jump_if(Cc::B, again);
        self.a.bind(end);
        self.return_from_wide();

        self.a.bind(small);
        self.a.alu_imm(Alu::Cmp, Size::D, COUNT, 16);
        self.a.jump_if(Cc::B, below_16);
        self.guest_store_vector(Mem::at(TO, 0), X0);
        self.guest_store_vector(indexed(TO, COUNT, -16), X0);
        self.return_from_wide();
        self.a.bind(below_16);
        self.a.vmov_to(Size::Q, Reg::RAX, X0);
        for (bytes, size, below) in [(8, Size::Q, below_8), (4, Size::D, below_4)] {
            self.a.alu_imm(Alu::Cmp, Size::D, COUNT, bytes);
            self.a.jump_if(Cc::B, below);
            self.guest_store(size, Mem::at(TO, 0), Reg::RAX);
            self.guest_store(size, indexed(TO, COUNT, -bytes), Reg::RAX);
            self.return_from_wide();
            self.a.bind(below);
        }
        self.a.test(Size::D, COUNT, COUNT);
        self.a.jump_if(Cc::E, done);
        self.guest_store8(Mem::at(TO, 0), Reg::RAX);
        self.guest_store8(indexed(TO, COUNT, -1), Reg::RAX);
        self.a.mov(Size::D, Reg::RCX, COUNT);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RCX, 1);
        self.guest_store8(indexed(TO, Reg::RCX, 0), Reg::RAX);
        self.a.bind(done);
        self.return_from_wide();
    }
}
