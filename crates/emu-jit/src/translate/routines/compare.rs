//! memcmp, strcmp, strncmp.

use super::{AND, ARGUMENTS, BYTES_MAX, EQUAL, MINIMUM, WIDE, XOR, indexed};
use crate::layout::{X0, X1, X2};
use crate::translate::{Isa, Translator};
use crossdock_emu_guest::addresses::PAGE;
use crossdock_emu_x64::{Alu, Cc, Label, Reg, Size};

const ONE: Reg = ARGUMENTS[0];
const OTHER: Reg = ARGUMENTS[1];
const BOUND: Reg = ARGUMENTS[2];
const OFFSET: Reg = Reg::RAX;

impl<I: Isa> Translator<'_, I> {
    /// A comparison, of strings or of bytes, with a bound or without. The result is the difference of the
    /// first bytes that differ.
    ///
    /// Vectors reach beyond the end of what is compared. If the first one would reach into another page, the
    /// bytes at the end of the page are compared one by one; later vectors may fault, which leads to the
    /// guest's own code.
    pub(super) fn routine_compare(&mut self, strings: bool, bounded: bool, own: Label) {
        let [single, first, again, equal, differ, at_offset] = [(); 6].map(|()| self.a.label());
        if bounded {
            self.a.test(Size::Q, BOUND, BOUND);
            self.a.jump_if(Cc::E, equal);
        }
        self.a.alu(Alu::Xor, Size::D, OFFSET, OFFSET);
        for pointer in [ONE, OTHER] {
            self.a.mov(Size::D, Reg::RCX, pointer);
            self.a.alu_imm(Alu::And, Size::D, Reg::RCX, PAGE as i32 - 1);
            self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, PAGE as i32 - WIDE);
            self.a.jump_if(Cc::A, single);
        }
        self.differences(strings);
        self.a.jump_if(Cc::Ne, first);
        self.a.alu_imm(Alu::Add, Size::D, OFFSET, WIDE);
        self.a.bind(again);
        if bounded {
            self.a.alu(Alu::Cmp, Size::Q, OFFSET, BOUND);
            self.a.jump_if(Cc::Ae, equal);
        }
        self.a.alu_imm(Alu::Cmp, Size::D, OFFSET, BYTES_MAX);
        self.a.jump_if(Cc::A, own);
        self.differ_in_two(strings);
        self.a.jump_if(Cc::Ne, differ);
        self.a.alu_imm(Alu::Add, Size::D, OFFSET, 2 * WIDE);
        self.a.jump(again);

        self.a.bind(differ);
        self.differences(strings);
        self.a.jump_if(Cc::Ne, first);
        self.a.alu_imm(Alu::Add, Size::D, OFFSET, WIDE);
        self.differences(strings);
        self.a.bind(first);
        self.a.tzcnt(Size::D, Reg::RCX, Reg::RCX);
        self.a.alu(Alu::Add, Size::D, OFFSET, Reg::RCX);
        if bounded {
            self.a.alu(Alu::Cmp, Size::Q, OFFSET, BOUND);
            self.a.jump_if(Cc::Ae, equal);
        }
        self.guest_load8(Reg::RCX, indexed(ONE, OFFSET, 0));
        self.guest_load8(Reg::RDX, indexed(OTHER, OFFSET, 0));
        self.a.bind(at_offset);
        self.a.alu(Alu::Sub, Size::D, Reg::RCX, Reg::RDX);
        if I::SIGNED_WORDS {
            self.a.movsxd(ONE, Reg::RCX);
        } else {
            self.a.mov(Size::D, ONE, Reg::RCX);
        }
        self.return_from_wide();
        self.a.bind(equal);
        self.a.alu(Alu::Xor, Size::D, ONE, ONE);
        self.return_from_wide();

        self.a.bind(single);
        self.guest_load8(Reg::RCX, indexed(ONE, OFFSET, 0));
        self.guest_load8(Reg::RDX, indexed(OTHER, OFFSET, 0));
        self.a.alu(Alu::Cmp, Size::D, Reg::RCX, Reg::RDX);
        self.a.jump_if(Cc::Ne, at_offset);
        if strings {
            self.a.test(Size::D, Reg::RCX, Reg::RCX);
            self.a.jump_if(Cc::E, equal);
        }
        self.a.alu_imm(Alu::Add, Size::D, OFFSET, 1);
        if bounded {
            self.a.alu(Alu::Cmp, Size::Q, OFFSET, BOUND);
            self.a.jump_if(Cc::Ae, equal);
        }
        self.a.alu_imm(Alu::Cmp, Size::D, OFFSET, WIDE);
        self.a.jump_if(Cc::B, single);
        self.a.jump(again);
    }

    /// ecx = a bit for each of the 32 bytes at [`OFFSET`] that differ, or where a string ends; ZF
    /// = whether there is none. Changes X0, X1 and X2.
    fn differences(&mut self, strings: bool) {
        self.guest_load_wide(X0, indexed(ONE, OFFSET, 0));
        self.wide_of_guest(EQUAL, X1, X0, indexed(OTHER, OFFSET, 0));
        if strings {
            // Zero where the bytes differ or are zero.
            self.wide(MINIMUM, X1, X1, X0);
            self.wide(XOR, X2, X2, X2);
            self.wide(EQUAL, X1, X1, X2);
            self.wide_mask(Reg::RCX, X1);
            self.a.test(Size::D, Reg::RCX, Reg::RCX);
        } else {
            self.wide_mask(Reg::RCX, X1);
            self.a.alu_imm(Alu::Xor, Size::D, Reg::RCX, -1);
        }
    }

    /// ZF = whether the 64 bytes at [`OFFSET`] have none of [`Translator::differences`].
    fn differ_in_two(&mut self, strings: bool) {
        let join = if strings { MINIMUM } else { AND };
        self.guest_load_wide(X0, indexed(ONE, OFFSET, 0));
        self.wide_of_guest(EQUAL, X1, X0, indexed(OTHER, OFFSET, 0));
        if strings {
            self.wide(MINIMUM, X1, X1, X0);
        }
        self.guest_load_wide(X0, indexed(ONE, OFFSET, WIDE));
        self.wide_of_guest(EQUAL, X2, X0, indexed(OTHER, OFFSET, WIDE));
        if strings {
            self.wide(MINIMUM, X2, X2, X0);
        }
        self.wide(join, X1, X1, X2);
        if strings {
            self.wide(XOR, X2, X2, X2);
            self.wide(EQUAL, X1, X1, X2);
            self.wide_mask(Reg::RCX, X1);
            self.a.test(Size::D, Reg::RCX, Reg::RCX);
        } else {
            self.wide_mask(Reg::RCX, X1);
            self.a.alu_imm(Alu::Cmp, Size::D, Reg::RCX, -1);
        }
    }
}
