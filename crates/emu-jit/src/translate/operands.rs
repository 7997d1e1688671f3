//! Guest registers as operands of host instructions.
//!
//! Register numbers are indexes in `State::gpr`: [`ZERO`] reads as zero, [`SINK`] takes what is never read.

use super::pressure::{ALL, Change};
use super::{Isa, Translator};
use crate::layout::{Assignment, GENERAL, X0, general, vector};
use crate::unit::STANDARD;
use crossdock_emu_x64::{Reg, Rm, Size, Xmm};

/// An assignment that [`Translator::number`] must number first.
const UNNUMBERED: u16 = u16::MAX;

/// A register that reads as zero: its slot in the state is zero.
pub(super) const ZERO: u8 = crossdock_emu_guest::ZERO as u8;
/// A register that takes what nobody reads.
pub(super) const SINK: u8 = crossdock_emu_guest::SINK as u8;

impl<I: Isa> Translator<'_, I> {
    /// The host register of a general register, if it has one here.
    pub(super) fn general_host(&self, guest: u8) -> Option<Reg> {
        self.assignment.general_host(guest)
    }

    /// The host register of a vector register, if it has one here.
    pub(super) fn vector_host(&self, guest: u8) -> Option<Xmm> {
        self.assignment.vector_host(guest)
    }

    /// Moves the guest's registers to where the unit's assignment `number` has them. Keeps EFLAGS and the
    /// scratch registers.
    pub(super) fn reassign(&mut self, number: u16) {
        if number == self.assigned {
            return;
        }
        let (before, dirty) = (self.assignment.clone(), self.dirty);
        self.assume(number);
        self.dirty = dirty;
        for (place, host, old, _) in before.general_changes(&self.assignment) {
            if dirty >> place & 1 == 1 {
                self.a.mov_to(Size::Q, general(old), host);
            }
        }
        for (host, old, _) in before.vector_changes(&self.assignment) {
            self.a.vstore(vector(old), host);
        }
        for (place, host, _, new) in before.general_changes(&self.assignment) {
            self.a.mov(Size::Q, host, general(new));
            self.dirty &= !(1 << place);
        }
        for (host, _, new) in before.vector_changes(&self.assignment) {
            self.a.vload(host, vector(new));
        }
        if !self.plans {
            self.dirty = ALL;
        }
    }

    /// Assumes that the guest's registers are where the unit's assignment `number` has them; all may differ
    /// from memory.
    pub(super) fn assume(&mut self, number: u16) {
        self.dirty = ALL;
        if number == self.assigned {
            return;
        }
        self.assigned = number;
        self.assignment = match number {
            STANDARD => Assignment::STANDARD,
            _ => self.unit.assignments[usize::from(number) - 1].clone(),
        };
    }

    /// Whether the guest's registers are where the unit's assignment `number` has them.
    pub(super) fn holds(&self, number: u16) -> bool {
        number == self.assigned
            || self.assignment
                == match number {
                    STANDARD => Assignment::STANDARD,
                    _ => self.unit.assignments[usize::from(number) - 1].clone(),
                }
    }

    /// The number of the current assignment, which gets one if it has none.
    pub(super) fn number(&mut self) -> u16 {
        if self.assigned == UNNUMBERED {
            self.unit.assignments.push(self.assignment.clone());
            self.assigned = self.unit.assignments.len() as u16;
        }
        self.assigned
    }

    /// Moves registers before an instruction that reads them.
    pub(super) fn load_place(&mut self, change: &Change) {
        self.store_place(change);
        self.take_place(change);
        self.a.mov(Size::Q, GENERAL[change.place].1, general(change.guest));
    }

    /// Stores the register that gives up its place, if necessary.
    pub(super) fn store_place(&mut self, change: &Change) {
        if change.store {
            let old = self.assignment.general()[change.place];
            self.a.mov_to(Size::Q, general(old), GENERAL[change.place].1);
        }
    }

    /// Gives the place to the other register from here on.
    pub(super) fn take_place(&mut self, change: &Change) {
        let old = self.assignment.general()[change.place];
        self.assignment.replace_general(old, change.guest);
        self.assigned = UNNUMBERED;
    }

    /// A register as a register or memory operand.
    pub(super) fn rm(&self, guest: u8) -> Rm {
        match self.general_host(guest) {
            Some(host) => host.into(),
            None => general(guest).into(),
        }
    }

    /// A host register that holds the guest register: its own, or `scratch`, which is loaded. Keeps EFLAGS.
    pub(super) fn get(&mut self, guest: u8, scratch: Reg) -> Reg {
        match self.general_host(guest) {
            Some(host) => host,
            None => {
                self.copy(Size::Q, scratch, guest);
                scratch
            }
        }
    }

    /// `reg = guest`. Keeps EFLAGS.
    pub(super) fn copy(&mut self, size: Size, reg: Reg, guest: u8) {
        if guest == ZERO {
            self.a.mov_imm(reg, 0);
        } else if self.general_host(guest) != Some(reg) || size == Size::D {
            self.a.mov(size, reg, self.rm(guest));
        }
    }

    /// Where to compute a result: the guest register's host register, or `scratch`. [`Translator::put`]
    /// finishes it.
    pub(super) fn result(&self, guest: u8, scratch: Reg) -> Reg {
        self.general_host(guest).unwrap_or(scratch)
    }

    /// Like [`Translator::result`], for code that writes the result before it has read `reads`.
    pub(super) fn result_early(&self, guest: u8, scratch: Reg, reads: u8) -> Reg {
        if guest == reads { scratch } else { self.result(guest, scratch) }
    }

    /// `guest = reg`, all 64 bits. Keeps EFLAGS.
    pub(super) fn put(&mut self, guest: u8, reg: Reg) {
        if guest == SINK {
            return;
        }
        match self.general_host(guest) {
            Some(host) if host == reg => {}
            Some(host) => self.a.mov(Size::Q, host, reg),
            None => self.a.mov_to(Size::Q, general(guest), reg),
        }
    }

    /// `guest = value`. Changes rax.
    pub(super) fn put_constant(&mut self, guest: u8, value: u64) {
        match self.general_host(guest) {
            Some(host) => self.a.mov_imm(host, value),
            None => match i32::try_from(value as i64) {
                Ok(value) => self.a.mov_imm32(Size::Q, general(guest), value),
                Err(_) => {
                    self.a.mov_imm(Reg::RAX, value);
                    self.put(guest, Reg::RAX);
                }
            },
        }
    }

    /// A vector register as a register or memory operand.
    pub(super) fn vrm(&self, guest: u8) -> Rm {
        match self.vector_host(guest) {
            Some(host) => host.into(),
            None => vector(guest).into(),
        }
    }

    /// A host register that holds the guest's vector register: its own, or `scratch`, which is loaded.
    pub(super) fn vget(&mut self, guest: u8, scratch: Xmm) -> Xmm {
        match self.vector_host(guest) {
            Some(host) => host,
            None => {
                self.a.vload(scratch, vector(guest));
                scratch
            }
        }
    }

    /// Where to compute a vector result: the guest register's host register, or xmm0.
    pub(super) fn vresult(&self, guest: u8) -> Xmm {
        self.vector_host(guest).unwrap_or(X0)
    }

    /// Whether the bits above a scalar of 32 or 64 bits are known to be zero.
    pub(super) fn vclean(&self, double: bool, guest: u8) -> bool {
        (if double { self.zeros.from_64 } else { self.zeros.from_32 }) >> guest & 1 == 1
    }

    /// Records that the bits above a scalar of 32 or 64 bits are zero from here on.
    pub(super) fn set_vclean(&mut self, double: bool, guest: u8) {
        self.zeros.from_64 |= 1 << guest;
        if !double {
            self.zeros.from_32 |= 1 << guest;
        }
    }

    /// `guest` = the low 32 or 64 bits of `from`, zero-extended; `clean` means that the bits above are
    /// already zero. Changes xmm0.
    pub(super) fn vput_scalar(&mut self, double: bool, guest: u8, from: Xmm, clean: bool) {
        if clean {
            self.vput(guest, from);
        } else {
            let t = self.vresult(guest);
            self.vclear(double, t, from);
            self.vput(guest, t);
        }
        self.set_vclean(double, guest);
    }

    /// `d` = the low 32 or 64 bits of `from`, zero-extended.
    pub(super) fn vclear(&mut self, double: bool, d: Xmm, from: Xmm) {
        if double {
            self.a.vmovq(d, from);
        } else {
            // VINSERTPS: element 0 to element 0, zeros elsewhere.
            self.a.vp3a(0x21, d, from, from, 0x0e);
        }
    }

    /// `guest = from`, all 128 bits.
    pub(super) fn vput(&mut self, guest: u8, from: Xmm) {
        self.zeros.from_32 &= !(1 << guest);
        self.zeros.from_64 &= !(1 << guest);
        match self.vector_host(guest) {
            Some(host) if host == from => {}
            Some(host) => self.a.vload(host, from),
            None => self.a.vstore(vector(guest), from),
        }
    }
}
