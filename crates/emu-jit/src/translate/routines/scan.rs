//! strlen, strnlen, memchr, strchr, strchrnul.

use super::{ARGUMENTS, BYTES_MAX, EQUAL, MINIMUM, WIDE, XOR, indexed};
use crate::layout::{X0, X1, X2};
use crate::routines::Routine;
use crate::translate::{Isa, Translator};
use crossdock_emu_x64::{Alu, Cc, Label, Mem, Reg, Shift, Size};

/// The first argument and the result.
const START: Reg = ARGUMENTS[0];
const AT: Reg = Reg::RCX;

/// What a search stops at.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    /// The byte in all lanes of X0.
    Byte,
    /// That byte, or a zero; X2 is zero.
    ByteOrZero,
}

impl<I: Isa> Translator<'_, I> {
    /// A search from the first argument on: in vectors that are aligned, so that none reaches into a page
    /// with nothing of the string.
    ///
    /// ```text
    /// at = start & -32
    /// mask = stops in at[..32] >> start % 32
    /// if mask != 0 { offset = lowest bit of mask, done }
    /// at += 32; if at % 64 != 0 { the same with all of at[..32]; at += 32 }
    /// loop { the same with at[..64]; at += 64 }
    /// ```
    pub(super) fn scan(&mut self, routine: Routine, own: Label) {
        let (stop, bound) = match routine {
            Routine::Length => (Stop::Byte, None),
            Routine::LengthWithin => (Stop::Byte, Some(ARGUMENTS[1])),
            Routine::Find => (Stop::Byte, Some(ARGUMENTS[2])),
            _ => (Stop::ByteOrZero, None),
        };
        let is_length = matches!(routine, Routine::Length | Routine::LengthWithin);
        let [again, found, offset, none] = [(); 4].map(|()| self.a.label());
        if let Some(bound) = bound {
            self.a.test(Size::Q, bound, bound);
            self.a.jump_if(Cc::E, none);
        }
        if is_length {
            self.wide(XOR, X0, X0, X0);
        } else {
            self.broadcast(X0, ARGUMENTS[1]);
        }
        if stop == Stop::ByteOrZero {
            self.wide(XOR, X2, X2, X2);
        }
        self.a.mov(Size::Q, AT, START);
        self.a.alu_imm(Alu::And, Size::Q, AT, -WIDE);
        self.stops(stop, Reg::RAX, 0);
        self.a.shiftx(Shift::Shr, Size::D, Reg::RAX, Reg::RAX, START);
        self.a.alu_imm(Alu::Add, Size::Q, AT, WIDE);
        self.a.test(Size::D, Reg::RAX, Reg::RAX);
        let first = self.a.label();
        self.a.jump_if(Cc::Ne, first);
        self.a.test_imm8(AT, 2 * WIDE as u8 - 1);
        self.a.jump_if(Cc::E, again);
        self.leave_at_bound(bound, none, own);
        self.stops(stop, Reg::RAX, 0);
        self.a.test(Size::D, Reg::RAX, Reg::RAX);
        self.a.jump_if(Cc::Ne, found);
        self.a.alu_imm(Alu::Add, Size::Q, AT, WIDE);
        self.a.bind(again);
        self.leave_at_bound(bound, none, own);
        self.stops(stop, Reg::RAX, 0);
        self.stops(stop, Reg::RDX, WIDE);
        self.a.shift_imm(Shift::Shl, Size::Q, Reg::RDX, 32);
        self.a.alu(Alu::Or, Size::Q, Reg::RAX, Reg::RDX);
        self.a.jump_if(Cc::Ne, found);
        self.a.alu_imm(Alu::Add, Size::Q, AT, 2 * WIDE);
        self.a.jump(again);

        self.a.bind(found);
        self.a.tzcnt(Size::Q, Reg::RAX, Reg::RAX);
        self.a.alu(Alu::Add, Size::Q, Reg::RAX, AT);
        self.a.alu(Alu::Sub, Size::Q, Reg::RAX, START);
        self.a.jump(offset);
        self.a.bind(first);
        self.a.tzcnt(Size::D, Reg::RAX, Reg::RAX);
        self.a.bind(offset);
        if let Some(bound) = bound {
            self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, bound);
            self.a.jump_if(Cc::Ae, none);
        }
        if is_length {
            self.a.mov(Size::Q, START, Reg::RAX);
        } else {
            if routine == Routine::FindInString {
                self.guest_load8(Reg::RDX, indexed(START, Reg::RAX, 0));
                self.a.movzx8(Reg::RCX, ARGUMENTS[1]);
                self.a.alu(Alu::Cmp, Size::D, Reg::RDX, Reg::RCX);
                self.a.jump_if(Cc::Ne, none);
            }
            self.a.alu(Alu::Add, Self::pointer_size(), START, Reg::RAX);
        }
        self.return_from_wide();
        if bound.is_some() || routine == Routine::FindInString {
            self.a.bind(none);
            match bound {
                Some(bound) if is_length => self.a.mov(Size::Q, START, bound),
                _ => self.a.alu(Alu::Xor, Size::D, START, START),
            }
            self.return_from_wide();
        }
    }

    /// Goes on at `none` if the bytes from [`AT`] on lie behind the bound, and at `own` after many bytes.
    /// Changes rdx.
    fn leave_at_bound(&mut self, bound: Option<Reg>, none: Label, own: Label) {
        self.a.mov(Size::Q, Reg::RDX, AT);
        self.a.alu(Alu::Sub, Size::Q, Reg::RDX, START);
        if let Some(bound) = bound {
            self.a.alu(Alu::Cmp, Size::Q, Reg::RDX, bound);
            self.a.jump_if(Cc::Ae, none);
        }
        self.a.alu_imm(Alu::Cmp, Size::Q, Reg::RDX, BYTES_MAX);
        self.a.jump_if(Cc::A, own);
    }

    /// `mask` = a bit for each of the 32 bytes at [`AT`] plus `disp` at which the search stops. Changes X1.
    fn stops(&mut self, stop: Stop, mask: Reg, disp: i32) {
        let at = Mem::at(AT, disp);
        match stop {
            Stop::Byte => self.wide_of_guest(EQUAL, X1, X0, at),
            Stop::ByteOrZero => {
                self.wide_of_guest(XOR, X1, X0, at);
                self.wide_of_guest(MINIMUM, X1, X1, at);
                self.wide(EQUAL, X1, X1, X2);
            }
        }
        self.wide_mask(mask, X1);
    }
}
