//! The forms in which the guest's flags are kept, and conversions between them. The table of forms is in
//! [`crate::translate`]'s module of flags.

/// The form of the flags at a guest instruction, for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagForm {
    /// The slot holds them.
    Memory,
    /// EFLAGS; CF is the complement of C.
    Borrow,
    /// EFLAGS; CF is C.
    Carry,
    /// N and Z are SF and ZF, and with `carry` C is CF; the slot holds the others. After 32-bit Arm's logical
    /// operations.
    Logical {
        /// Whether C is CF.
        carry: bool,
    },
    /// EFLAGS after UCOMIS.
    Compare {
        /// Whether the second operand was compared with the first.
        swapped: bool,
    },
}

impl FlagForm {
    /// Converts flags in this form to the slot's form.
    pub fn slot_of(self, eflags: u64, slot: u64) -> u64 {
        let (carry, zero, parity) = (eflags & 1, eflags >> 6 & 1, eflags >> 2 & 1);
        match self {
            FlagForm::Memory => slot,
            FlagForm::Borrow => (eflags & 0xff) << 8 | eflags >> 11 & 1,
            FlagForm::Carry => ((eflags ^ 1) & 0xff) << 8 | eflags >> 11 & 1,
            FlagForm::Logical { carry: false } => (eflags & 0xc0) << 8 | slot & 0x01ff,
            FlagForm::Logical { carry: true } => ((eflags ^ 1) & 0xc1) << 8 | slot & 0xff,
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
pub(crate) const LESS: u64 = 0x8100;
pub(crate) const EQUAL: u64 = 0x4000;
pub(crate) const GREATER: u64 = 0x0000;
pub(crate) const UNORDERED: u64 = 0x0001;

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
        // V stays, and C without a carry: of NZCV 0011, N and Z change.
        let slot = slot_of_nzcv(0x3000_0000);
        assert_eq!(nzcv_of_slot(FlagForm::Logical { carry: false }.slot_of(0xc1, slot)), 0xf000_0000);
        assert_eq!(nzcv_of_slot(FlagForm::Logical { carry: true }.slot_of(0x80, slot)), 0x9000_0000);
        let compare = |swapped, eflags| nzcv_of_slot(FlagForm::Compare { swapped }.slot_of(eflags, 0));
        assert_eq!(compare(false, 0x01), 0x8000_0000);
        assert_eq!(compare(true, 0x01), 0x2000_0000);
        assert_eq!(compare(false, 0x40), 0x6000_0000);
        assert_eq!(compare(true, 0x45), 0x3000_0000);
    }
}
