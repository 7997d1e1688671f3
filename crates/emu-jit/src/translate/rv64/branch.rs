//! The ends of blocks.
//!
//! JALR clears the lowest bit of its target, so generated code does, too.

use super::Translator;
use crate::layout::ExitKind;
use crate::translate::condition::{Condition, Flags};
use crate::translate::operands::{SINK, ZERO};
use crate::translate::{Cold, End};
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::{Action, Comparison};
use crossdock_emu_guest::rv64::registers::RA;
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Size};

/// The host's condition after a comparison of the operands, or of them in reverse order.
fn host_condition(comparison: Comparison, reversed: bool) -> Cc {
    match (comparison, reversed) {
        (Comparison::Equal, _) => Cc::E,
        (Comparison::NotEqual, _) => Cc::Ne,
        (Comparison::Less, false) => Cc::L,
        (Comparison::Less, true) => Cc::G,
        (Comparison::GreaterEqual, false) => Cc::Ge,
        (Comparison::GreaterEqual, true) => Cc::Le,
        (Comparison::LessUnsigned, false) => Cc::B,
        (Comparison::LessUnsigned, true) => Cc::A,
        (Comparison::GreaterEqualUnsigned, false) => Cc::Ae,
        (Comparison::GreaterEqualUnsigned, true) => Cc::Be,
    }
}

impl Translator<'_> {
    /// BEQ and its kin, and JAL with another link register than ra.
    pub(super) fn branch_condition(&mut self) -> Condition {
        let item = self.items[0];
        let Some(Action::Branch(comparison)) = item.action else {
            self.put_address(item.rd, self.next);
            return Condition::Always;
        };
        let (n, m) = (item.rn, item.rm);
        if n == m {
            let holds = comparison.holds(0, 0);
            // A branch that is never taken compares, too.
            if holds {
                return Condition::Always;
            }
        }
        self.clobber();
        if n == ZERO {
            self.test_zero(m);
            return Condition::One(host_condition(comparison, true));
        }
        if m == ZERO {
            self.test_zero(n);
        } else {
            let n = self.get(n, Reg::RAX);
            self.a.alu(Alu::Cmp, Size::Q, n, self.rm(m));
        }
        Condition::One(host_condition(comparison, false))
    }

    /// Compares a register with zero.
    pub(super) fn test_zero(&mut self, register: u8) {
        match self.general_host(register) {
            Some(host) => self.a.test(Size::Q, host, host),
            None => self.a.alu_imm(Alu::Cmp, Size::Q, self.rm(register), 0),
        }
    }

    /// `rax` = the target of JALR.
    fn jump_target(&mut self, item: &Instruction) {
        let base = self.get(item.rn, Reg::RAX);
        match item.imm as i32 {
            0 if base == Reg::RAX => {}
            0 => self.a.mov(Size::Q, Reg::RAX, base),
            offset => self.a.lea(Size::Q, Reg::RAX, Mem::at(base, offset)),
        }
        self.a.alu_imm(Alu::And, Size::Q, Reg::RAX, !1);
    }

    pub(super) fn end_block(&mut self, end: End) {
        let item = self.items[0];
        match end {
            End::CallRegister => {
                debug_assert_eq!(item.rd, RA);
                self.clobber();
                self.jump_target(&item);
                self.push_return();
                let stub = self.stub(Cold::Indirect);
                self.a.call(stub);
                self.land_return();
                self.flags = Flags::Memory;
            }
            End::JumpRegister => {
                self.clobber();
                self.jump_target(&item);
                if item.rd != SINK {
                    self.guest_address(Reg::RCX, self.next);
                    self.put(item.rd, Reg::RCX);
                }
                self.indirect_interruptible();
            }
            End::Return => {
                self.clobber();
                if item.imm == 0 {
                    return self.return_by(item.rn);
                }
                self.jump_target(&item);
                self.return_at(Reg::RAX);
            }
            End::Syscall => {
                self.set_pc(self.next);
                self.exit(ExitKind::Syscall, 0);
            }
            _ => self.look(),
        }
    }
}
