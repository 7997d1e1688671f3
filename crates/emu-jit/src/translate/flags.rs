//! Where the guest's N, Z, C and V are, and how one form is converted to another.
//!
//! | form | where |
//! |---|---|
//! | memory | the slot `Flags`, as LAHF and SETO give them after a subtraction |
//! | host, borrow | EFLAGS after a subtraction: CF is the complement of C |
//! | host, carry | EFLAGS after an addition or a logical operation: CF is C |
//! | logical | N and Z (and perhaps C as CF) in EFLAGS, the others in the slot |
//! | compare | EFLAGS after UCOMIS, which says less, equal, greater or unordered in ZF, PF and CF |
//!
//! Flags that nothing reads before they are written again are not saved. For 32-bit Arm, N and Z are followed
//! apart from C and V, since logical operations write only N and Z, and shifters only C.
//!
//! The slot is always stored and loaded as 32 bits, of which the upper half holds anything: the host does not
//! forward a store to a wider load, and takes 4 ns for a byte that is loaded into AH.
//!
//! MOV, MOVZX, LEA, NOT, SETcc, CMOVcc and the BMI shifts keep EFLAGS; before every other instruction that
//! changes EFLAGS, [`Translator::clobber`] saves the flags that are still needed.

use super::condition::{Condition, Flags};
use super::{Isa, Translator};
use crate::flag_form::{EQUAL, GREATER, LESS, UNORDERED};
use crate::layout::{Slot, slot};
use crossdock_emu_x64::{Alu, Cc, Label, Reg, Rm, Shift, Size};

/// Whether a guest condition needs UCOMIS of the operands in reverse order.
pub(super) fn wants_swap(condition: u32) -> bool {
    // CS, CC, MI, PL, HI, LS.
    matches!(condition >> 1, 1 | 2 | 4)
}

impl<I: Isa> Translator<'_, I> {
    /// Stores the flags in the slot. Changes rax, rcx and, in EFLAGS, only CF, which may be complemented, or
    /// after [`Flags::Logical`] CF and OF.
    pub(super) fn save_flags(&mut self) {
        if self.flags.saved() {
            return;
        }
        match self.flags {
            Flags::Memory => {}
            Flags::Host { borrow, .. } => {
                if !borrow {
                    self.a.cmc();
                }
                self.a.store_lahf_seto(slot(Slot::Flags));
                self.flags = Flags::Host { borrow: true, saved: true };
            }
            Flags::Logical { carry, .. } => {
                if carry {
                    self.a.cmc();
                } else {
                    // CF = the lowest bit, C of the flags before; rotations keep SF and ZF.
                    self.a.movzx8(Reg::RCX, slot(Slot::Flags).plus(1));
                    self.a.shift_imm(Shift::Ror, Size::D, Reg::RCX, 1);
                }
                self.a.mov(Size::D, Reg::RAX, slot(Slot::Flags));
                self.a.lahf();
                self.a.mov_to(Size::D, slot(Slot::Flags), Reg::RAX);
                self.flags = Flags::Logical { carry: false, saved: true };
            }
            Flags::Compare { swapped, .. } => {
                let (below, above) = if swapped { (GREATER, LESS) } else { (LESS, GREATER) };
                self.a.mov_imm(Reg::RAX, above);
                for (cc, value) in [(Cc::B, below), (Cc::E, EQUAL), (Cc::P, UNORDERED)] {
                    self.a.mov_imm(Reg::RCX, value);
                    self.a.cmov(cc, Size::D, Reg::RAX, Reg::RCX);
                }
                self.a.mov_to(Size::D, slot(Slot::Flags), Reg::RAX);
                self.flags = Flags::Compare { swapped, saved: true };
            }
        }
    }

    /// EFLAGS = those that UCOMIS, of operands in reverse order if `swapped`, leaves where a comparison gives
    /// the NZCV of eax, bits 31 to 28. Changes rax, rcx and rdx.
    pub(super) fn compared_flags(&mut self, swapped: bool) {
        // LAHF's bytes: ZF, PF and CF; just CF; nothing. By N, Z, C and V as a number, times 8: what is less
        // has 8, and so the lowest byte.
        let (less, greater) = if swapped { (0x00, 0x01) } else { (0x01, 0x00) };
        let [equal, unordered] = [0x40, 0x45];
        let bytes = less | greater << (2 * 8) | unordered << (3 * 8) | equal << (6 * 8);
        self.a.mov(Size::D, Reg::RCX, Reg::RAX);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RCX, 28);
        self.a.shift_imm(Shift::Shl, Size::D, Reg::RCX, 3);
        self.a.mov_imm(Reg::RDX, bytes);
        self.a.shiftx(Shift::Shr, Size::Q, Reg::RAX, Reg::RDX, Reg::RCX);
        self.a.shift_imm(Shift::Shl, Size::D, Reg::RAX, 8);
        self.a.sahf();
    }

    /// Stores the complement of C, 0 or 1 in a register, in the slot, where V stays, but not N and Z. Changes
    /// the register and EFLAGS.
    pub(super) fn store_carry(&mut self, complement: Reg) {
        self.a.shift_imm(Shift::Shl, Size::D, complement, 8);
        self.a.alu_imm(Alu::And, Size::D, slot(Slot::Flags), 1);
        self.a.alu_to(Alu::Or, Size::D, slot(Slot::Flags), complement);
    }

    /// Prepares for a change of EFLAGS: saves the guest's flags if they are read later. Changes rax and rcx.
    pub(super) fn clobber(&mut self) {
        // Where only C and V are read, and they are in memory already, nothing is to be saved.
        let [sign, _] = self.live_groups_before;
        let kept = matches!(self.flags, Flags::Logical { carry: false, .. }) && I::FLAG_GROUPS == 2 && !sign;
        if self.live_before && !kept {
            self.save_flags();
        }
        self.flags = Flags::Memory;
    }

    /// Records that the current instruction has left N and Z in EFLAGS, and C as CF if `carry`, and keeps the
    /// other flags.
    pub(super) fn set_some_flags(&mut self, carry: bool) {
        self.flags = if self.live_groups[1] {
            Flags::Logical { carry, saved: false }
        } else {
            // Nobody reads the others before they are written again.
            Flags::Host { borrow: false, saved: false }
        };
    }

    /// Records that the current instruction has left the guest's flags in EFLAGS.
    pub(super) fn set_flags(&mut self, borrow: bool) {
        self.flags = Flags::Host { borrow, saved: false };
    }

    /// Loads the flags into EFLAGS in the form of a subtraction. Changes rax and rcx.
    fn load_flags(&mut self) {
        if let Flags::Compare { .. } | Flags::Logical { .. } = self.flags {
            self.save_flags();
            self.flags = Flags::Memory;
        }
        match self.flags {
            Flags::Host { .. } => {}
            _ => {
                self.a.mov(Size::D, Reg::RAX, slot(Slot::Flags));
                self.a.add_al(0x7f);
                self.a.sahf();
                self.flags = Flags::Host { borrow: true, saved: true };
            }
        }
    }

    /// Makes CF the complement of C (`borrow`) or C, for an instruction that changes EFLAGS: the flags must
    /// be saved if they are read behind it. Changes rax and rcx.
    pub(super) fn load_carry(&mut self, borrow: bool) {
        if let Flags::Compare { .. } = self.flags {
            self.save_flags();
        }
        let now = match self.flags {
            Flags::Host { borrow, .. } => borrow,
            Flags::Logical { carry: true, .. } => false,
            _ => {
                // The lowest bit is the complement of C.
                self.a.movzx8(Reg::RAX, slot(Slot::Flags).plus(1));
                self.a.shift_imm(Shift::Shr, Size::D, Reg::RAX, 1);
                true
            }
        };
        if now != borrow {
            self.a.cmc();
        }
        self.flags = Flags::Memory;
    }

    /// The host's condition for a guest condition; the flags are in EFLAGS from here. Changes rax and rcx.
    pub(super) fn condition(&mut self, condition: u32) -> Condition {
        if condition >> 1 == 7 {
            return Condition::Always;
        }
        let positive = match self.flags {
            Flags::Compare { swapped, .. } => compare_condition(condition >> 1, swapped),
            Flags::Logical { carry, .. } => logical_condition(condition >> 1, carry),
            _ => None,
        };
        let positive = positive.unwrap_or_else(|| {
            self.load_flags();
            // HI means CF = 0 and ZF = 0 only in the form of a subtraction.
            if condition >> 1 == 4
                && let Flags::Host { borrow: false, saved } = self.flags
            {
                self.a.cmc();
                self.flags = Flags::Host { borrow: true, saved };
            }
            let borrow = matches!(self.flags, Flags::Host { borrow: true, .. });
            Condition::One(match condition >> 1 {
                0 => Cc::E,
                1 if borrow => Cc::Ae,
                1 => Cc::B,
                2 => Cc::S,
                3 => Cc::O,
                4 => Cc::A,
                5 => Cc::Ge,
                _ => Cc::G,
            })
        });
        if condition & 1 == 1 { positive.not() } else { positive }
    }

    /// Jumps if the condition holds; never for [`Condition::Always`], which here is the opposite of always.
    pub(super) fn jump_on(&mut self, condition: Condition, label: Label) {
        match condition {
            Condition::Always => {}
            Condition::One(cc) => self.a.jump_if(cc, label),
            Condition::Both(a, b) => {
                let no = self.a.skip_if(a.not());
                self.a.jump_if(b, label);
                self.a.land(no);
            }
            Condition::Either(a, b) => {
                self.a.jump_if(a, label);
                self.a.jump_if(b, label);
            }
        }
    }

    /// `reg = rm` if the condition does not hold.
    pub(super) fn unless(&mut self, condition: Condition, size: Size, reg: Reg, rm: Rm) {
        match condition {
            Condition::Always => {}
            Condition::One(cc) => self.a.cmov(cc.not(), size, reg, rm),
            Condition::Both(a, b) => {
                self.a.cmov(a.not(), size, reg, rm);
                self.a.cmov(b.not(), size, reg, rm);
            }
            Condition::Either(a, b) => {
                // Neither holds.
                let yes = self.a.skip_if(a);
                self.a.cmov(b.not(), size, reg, rm);
                self.a.land(yes);
            }
        }
    }
}

/// The host's condition for EQ, CS and MI (0 to 2) where EFLAGS have N, Z and perhaps C.
fn logical_condition(condition: u32, carry: bool) -> Option<Condition> {
    match condition {
        0 => Some(Condition::One(Cc::E)),
        1 if carry => Some(Condition::One(Cc::B)),
        2 => Some(Condition::One(Cc::S)),
        _ => None,
    }
}

/// The host's condition after UCOMIS for EQ, CS, MI, VS, HI, GE and GT (0 to 6).
fn compare_condition(condition: u32, swapped: bool) -> Option<Condition> {
    Some(match (condition, swapped) {
        (0, _) => Condition::Both(Cc::E, Cc::Np),
        (3, _) => Condition::One(Cc::P),
        // Not less: C is set for equal, greater, unordered.
        (1, true) => Condition::One(Cc::Be),
        (2, true) => Condition::One(Cc::A),
        (4, true) => Condition::One(Cc::B),
        (5, false) => Condition::One(Cc::Ae),
        (6, false) => Condition::One(Cc::A),
        _ => return None,
    })
}
