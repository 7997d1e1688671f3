//! Where the guest's flags are while code is written, and conditions over them.

use crate::flag_form::FlagForm;
use crossdock_emu_x64::Cc;

/// Where the flags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flags {
    /// In memory, or never read.
    Memory,
    /// In EFLAGS, after an operation with this meaning of CF.
    Host { borrow: bool, saved: bool },
    /// N and Z in EFLAGS, and C as CF if `carry`; the others in memory, where the flags from before are, or
    /// all of them if `saved`.
    Logical { carry: bool, saved: bool },
    /// In EFLAGS, after UCOMIS of the operands, in reverse order if `swapped`.
    Compare { swapped: bool, saved: bool },
}

impl Flags {
    pub(super) fn form(self) -> FlagForm {
        match self {
            Flags::Host { borrow: true, saved: false } => FlagForm::Borrow,
            Flags::Host { borrow: false, saved: false } => FlagForm::Carry,
            Flags::Logical { carry, saved: false } => FlagForm::Logical { carry },
            Flags::Compare { swapped, saved: false } => FlagForm::Compare { swapped },
            _ => FlagForm::Memory,
        }
    }

    pub(super) fn saved(self) -> bool {
        match self {
            Flags::Memory => true,
            Flags::Host { saved, .. } | Flags::Logical { saved, .. } | Flags::Compare { saved, .. } => saved,
        }
    }
}

/// A guest condition as conditions of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
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
