//! Where the guest's N, Z, C and V are, and how one form is converted to another.
//!
//! | form | where |
//! |---|---|
//! | memory | the slot `Flags`, as LAHF and SETO give them after a subtraction |
//! | host, borrow | EFLAGS after a subtraction: CF is the complement of C |
//! | host, carry | EFLAGS after an addition or a logical operation: CF is C |
//! | compare | EFLAGS after UCOMIS, which says less, equal, greater or unordered in ZF, PF and CF |
//!
//! Flags that nothing reads before they are written again are not saved. MOV, LEA, NOT, SETcc, CMOVcc and the
//! BMI shifts keep EFLAGS; before every other instruction that changes EFLAGS, [`Translator::clobber`] saves
//! the flags that are still needed.

use super::{Translator, bits};
use crate::layout::{Slot, slot};
use crossdock_emu_x64::{Cc, Mem, Reg, Rm, Size};

/// Where the flags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flags {
    /// In memory, or never read.
    Memory,
    /// In EFLAGS, after an operation with this meaning of CF.
    Host { borrow: bool, saved: bool },
    /// In EFLAGS, after UCOMIS of the operands, in reverse order if `swapped`.
    Compare { swapped: bool, saved: bool },
}

/// The form of the flags at a guest instruction, for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagForm {
    /// The slot holds them.
    Memory,
    /// EFLAGS; CF is the complement of C.
    Borrow,
    /// EFLAGS; CF is C.
    Carry,
    /// EFLAGS after UCOMIS.
    Compare {
        /// Whether the second operand was compared with the first.
        swapped: bool,
    },
}

impl Flags {
    pub(super) fn form(self) -> FlagForm {
        match self {
            Flags::Host { borrow: true, saved: false } => FlagForm::Borrow,
            Flags::Host { borrow: false, saved: false } => FlagForm::Carry,
            Flags::Compare { swapped, saved: false } => FlagForm::Compare { swapped },
            _ => FlagForm::Memory,
        }
    }

    fn saved(self) -> bool {
        matches!(self, Flags::Memory | Flags::Host { saved: true, .. } | Flags::Compare { saved: true, .. })
    }
}

impl FlagForm {
    /// Converts flags in this form to the slot's form.
    pub fn slot_of(self, eflags: u64, slot: u64) -> u64 {
        let (carry, zero, parity) = (eflags & 1, eflags >> 6 & 1, eflags >> 2 & 1);
        match self {
            FlagForm::Memory => slot,
            FlagForm::Borrow => (eflags & 0xff) << 8 | eflags >> 11 & 1,
            FlagForm::Carry => ((eflags ^ 1) & 0xff) << 8 | eflags >> 11 & 1,
            FlagForm::Compare { .. } if parity == 1 => UNORDERED,
            FlagForm::Compare { .. } if zero == 1 => EQUAL,
            FlagForm::Compare { swapped } => {
                if (carry == 1) != swapped {
                    LESS
                } else {
                    GREATER
                }
            }
        }
    }
}

/// The slot's form of the results of a floating-point comparison: NZCV 1000, 0110, 0010, 0011.
const LESS: u64 = 0x8100;
const EQUAL: u64 = 0x4000;
const GREATER: u64 = 0x0000;
const UNORDERED: u64 = 0x0001;

/// NZCV (bits 31 to 28, as in `State`) from the slot's form.
pub fn nzcv_of_slot(slot: u64) -> u32 {
    let slot = slot as u32;
    let carry = !slot >> 8 & 1;
    (slot >> 15 & 1) << 31 | (slot >> 14 & 1) << 30 | carry << 29 | (slot & 1) << 28
}

/// The slot's form of NZCV.
pub const fn slot_of_nzcv(nzcv: u32) -> u64 {
    ((nzcv >> 31 & 1) << 15 | (nzcv >> 30 & 1) << 14 | (!nzcv >> 29 & 1) << 8 | nzcv >> 28 & 1) as u64
}

/// A guest condition as conditions of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    One(Cc),
    Both(Cc, Cc),
    Either(Cc, Cc),
}

impl Condition {
    pub(super) fn not(self) -> Condition {
        match self {
            Condition::Always => Condition::Always,
            Condition::One(cc) => Condition::One(cc.not()),
            Condition::Both(a, b) => Condition::Either(a.not(), b.not()),
            Condition::Either(a, b) => Condition::Both(a.not(), b.not()),
        }
    }
}

/// Whether an instruction reads the flags and whether it writes all of them (manual C4.1).
pub(super) const fn flag_use(word: u32) -> (bool, bool) {
    let sets = bits(word, 29, 29) == 1;
    match bits(word, 28, 23) {
        // Add and subtract, immediate.
        0b10_0010 => return (false, sets),
        // Logical, immediate.
        0b10_0100 => return (false, bits(word, 30, 29) == 3),
        _ => {}
    }
    match bits(word, 28, 24) {
        0b01011 => (false, sets),
        0b01010 => (false, bits(word, 30, 29) == 3),
        0b11010 => match bits(word, 23, 21) {
            0 => (true, sets),
            0b010 => (true, true),
            0b100 => (true, false),
            _ => (false, false),
        },
        // B.cond, exceptions and system instructions.
        0b10100 | 0b10101 if word >> 29 & 3 == 2 => (true, false),
        // Scalar floating point: FCMP; FCCMP; FCSEL.
        0b11110 if word >> 29 & 7 == 0 && word >> 21 & 1 == 1 => match bits(word, 11, 10) {
            0 if bits(word, 15, 10) == 8 => (false, true),
            // FJCVTZS.
            0 if bits(word, 31, 10) == 0x0007_9f80 => (false, true),
            1 => (true, true),
            3 => (true, false),
            _ => (false, false),
        },
        _ => (false, false),
    }
}

/// Whether bits below 21 matter to [`flag_use`], because the word is scalar floating point.
pub(super) const fn flag_use_needs_all(word: u32) -> bool {
    bits(word, 28, 24) == 0b11110 && word >> 29 & 7 == 0 && word >> 21 & 1 == 1
}

/// Whether a guest condition needs UCOMIS of the operands in reverse order.
pub(super) fn wants_swap(condition: u32) -> bool {
    // CS, CC, MI, PL, HI, LS.
    matches!(condition >> 1, 1 | 2 | 4)
}

impl Translator<'_> {
    /// Stores the flags in the slot. Changes rax, rcx and, in EFLAGS, only CF, which may be complemented.
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
            Flags::Compare { swapped, .. } => {
                let (below, above) = if swapped { (GREATER, LESS) } else { (LESS, GREATER) };
                self.a.mov_imm(Reg::RAX, above);
                for (cc, value) in [(Cc::B, below), (Cc::E, EQUAL), (Cc::P, UNORDERED)] {
                    self.a.mov_imm(Reg::RCX, value);
                    self.a.cmov(cc, Size::D, Reg::RAX, Reg::RCX);
                }
                self.a.store16(slot(Slot::Flags), Reg::RAX);
                self.flags = Flags::Compare { swapped, saved: true };
            }
        }
    }

    /// Prepares for a change of EFLAGS: saves the guest's flags if they are read later. Changes rax and rcx.
    pub(super) fn clobber(&mut self) {
        if self.live_before {
            self.save_flags();
        }
        self.flags = Flags::Memory;
    }

    /// Records that the current instruction has left the guest's flags in EFLAGS.
    pub(super) fn set_flags(&mut self, borrow: bool) {
        self.flags = Flags::Host { borrow, saved: false };
    }

    /// Loads the flags into EFLAGS in the form of a subtraction. Changes rax and rcx.
    fn load_flags(&mut self) {
        if let Flags::Compare { .. } = self.flags {
            self.save_flags();
            self.flags = Flags::Memory;
        }
        match self.flags {
            Flags::Host { .. } => {}
            _ => {
                let Mem { base, index, disp } = slot(Slot::Flags);
                self.a.movzx16(Reg::RAX, Rm::M(Mem { base, index, disp }));
                self.a.add_al(0x7f);
                self.a.sahf();
                self.flags = Flags::Host { borrow: true, saved: true };
            }
        }
    }

    /// Makes CF the complement of C (`borrow`) or C.
    pub(super) fn load_carry(&mut self, borrow: bool) {
        self.load_flags();
        if let Flags::Host { borrow: now, saved } = self.flags
            && now != borrow
        {
            self.a.cmc();
            self.flags = Flags::Host { borrow, saved };
        }
    }

    /// The host's condition for a guest condition; the flags are in EFLAGS from here. Changes rax and rcx.
    pub(super) fn condition(&mut self, condition: u32) -> Condition {
        if condition >> 1 == 7 {
            return Condition::Always;
        }
        let positive = match self.flags {
            Flags::Compare { swapped, .. } => compare_condition(condition >> 1, swapped),
            _ => None,
        };
        let positive = positive.unwrap_or_else(|| {
            self.load_flags();
            // HI means CF = 0 and ZF = 0 only in the form of a subtraction.
            if condition >> 1 == 4 {
                self.load_carry(true);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_holds_all_flags() {
        for nzcv in 0..16 {
            let nzcv = nzcv << 28;
            assert_eq!(nzcv_of_slot(slot_of_nzcv(nzcv)), nzcv);
        }
        assert_eq!(nzcv_of_slot(LESS), 0x8000_0000);
        assert_eq!(nzcv_of_slot(EQUAL), 0x6000_0000);
        assert_eq!(nzcv_of_slot(GREATER), 0x2000_0000);
        assert_eq!(nzcv_of_slot(UNORDERED), 0x3000_0000);
    }

    #[test]
    fn forms_give_the_same_flags() {
        // 1 - 2: borrow, negative. SF = 1, CF = 1.
        let slot = FlagForm::Borrow.slot_of(0x81, 0);
        assert_eq!(nzcv_of_slot(slot), 0x8000_0000);
        // A carry and zero: ZF = 1, CF = 1.
        assert_eq!(nzcv_of_slot(FlagForm::Carry.slot_of(0x41, 0)), 0x6000_0000);
        let compare = |swapped, eflags| nzcv_of_slot(FlagForm::Compare { swapped }.slot_of(eflags, 0));
        assert_eq!(compare(false, 0x01), 0x8000_0000);
        assert_eq!(compare(true, 0x01), 0x2000_0000);
        assert_eq!(compare(false, 0x40), 0x6000_0000);
        assert_eq!(compare(true, 0x45), 0x3000_0000);
    }
}
