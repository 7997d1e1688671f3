//! Moves with conditions: the host computes them in any case, and chooses. Compilers use conditions where a
//! branch would be predicted badly, and a jump over the instruction would be one.

use super::{NO_BASE, PC, Translator};
use crate::translate::condition::Condition;
use crate::translate::operands::SINK;
use crossdock_emu_guest::a32::action::{Action, Form};
use crossdock_emu_guest::a32::{Instruction, Jump};
use crossdock_emu_x64::{Mem, Reg, Size};

/// RSB, MOV, MVN.
const REVERSE: u8 = 3;
const MOVE: u8 = 13;
const INVERT: u8 = 15;

/// Whether an instruction is computed in any case. Additions are not: they count, and what is read by the
/// count would wait for the comparison.
pub(super) fn is_selected(item: &Instruction) -> bool {
    let Action::Data { operation, sets: false, form } = item.action else { return false };
    let operand = match (operation, form) {
        (MOVE | INVERT, Form::Immediate) if item.rn != NO_BASE => item.rd,
        (MOVE | INVERT, Form::Plain) => item.rm,
        (REVERSE, Form::Immediate) => item.rn,
        _ => return false,
    };
    let is_plain = |register: u8| register < SINK && register != PC && register != NO_BASE;
    item.jump == Jump::No && is_plain(item.rd) && is_plain(operand)
}

impl Translator<'_> {
    /// Lowers an instruction of [`is_selected`] whose condition is in EFLAGS, which stay as they are.
    pub(super) fn choose(&mut self, item: &Instruction, condition: Condition) {
        let moves = item.action == Action::Data { operation: MOVE, sets: false, form: Form::Plain };
        if let (Condition::One(cc), Some(host), true) = (condition, self.general_host(item.rd), moves) {
            self.a.cmov(cc, Size::D, host, self.rm(item.rm));
            return self.changed(item.rd);
        }
        self.computed(item);
        if let (Condition::One(cc), Some(host)) = (condition, self.general_host(item.rd)) {
            self.a.cmov(cc, Size::D, host, Reg::RAX);
            return self.changed(item.rd);
        }
        let old = self.rm(item.rd);
        self.unless(condition, Size::D, Reg::RAX, old);
        self.put(item.rd, Reg::RAX);
    }

    /// `eax` = the result of an instruction of [`is_selected`]. Keeps EFLAGS.
    fn computed(&mut self, item: &Instruction) {
        let Action::Data { operation, form, .. } = item.action else { return };
        match (operation, form) {
            (MOVE, Form::Immediate) => self.a.mov_imm(Reg::RAX, item.imm.into()),
            (INVERT, Form::Immediate) => self.a.mov_imm(Reg::RAX, (!item.imm).into()),
            (MOVE, _) => self.a.mov(Size::D, Reg::RAX, self.rm(item.rm)),
            (INVERT, _) => self.inverted(item.rm),
            // -n is the complement of n, plus one.
            _ => {
                self.inverted(item.rn);
                let plus = (item.imm as i32).wrapping_add(1);
                self.a.lea(Size::D, Reg::RAX, Mem::at(Reg::RAX, plus));
            }
        }
    }

    /// `eax` = the complement of a register. Keeps EFLAGS.
    fn inverted(&mut self, register: u8) {
        self.a.mov(Size::D, Reg::RAX, self.rm(register));
        self.a.not(Size::D, Reg::RAX);
    }
}
