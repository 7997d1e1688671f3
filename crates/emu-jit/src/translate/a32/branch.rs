//! The ends of blocks (manual F2.2).

use super::isa::indirect_end;
use super::{PC, Translator, pc_value};
use crate::layout::{APSR, ExitKind, FPCR, FPSR, Slot, general, slot};
use crate::mxcsr;
use crate::translate::condition::{Condition, Flags};
use crate::translate::pressure::ALL;
use crate::translate::{Cold, End, Zeros};
use crate::unit::STANDARD;
use crossdock_emu_guest::a32::action::{Action, Form};
use crossdock_emu_guest::a32::registers::{FLOAT_FLAGS, FPSCR_CONTROL, FPSCR_STATUS, IT};
use crossdock_emu_guest::a32::{Instruction, Jump};
use crossdock_emu_x64::{Alu, Cc, Mem, Reg, Size};

impl Translator<'_> {
    /// The condition of a direct branch.
    pub(super) fn branch_condition(&mut self) -> Condition {
        let item = self.items[0];
        let Action::CompareBranch { not } = item.action else {
            return self.condition(item.condition.into());
        };
        self.clobber();
        let n = self.held(item.rn, Reg::RAX);
        self.a.test(Size::D, n, n);
        Condition::One(if not { Cc::Ne } else { Cc::E })
    }

    /// A branch to a place that is known at run time only, with a condition: goes on behind it if the
    /// condition does not hold.
    pub(super) fn leave_on_condition(&mut self, item: &Instruction) {
        self.save_flags();
        let skip = self.a.label();
        match self.condition(item.condition.into()) {
            Condition::Always => {}
            condition => self.jump_on(condition.not(), skip),
        }
        let (assigned, dirty, flags) = (self.number(), self.dirty, self.flags);
        self.flags = Flags::Memory;
        self.reassign(STANDARD);
        self.end_block(indirect_end(item).unwrap_or(End::Look));
        // Behind the branch all is as before it.
        self.assume(assigned);
        (self.dirty, self.flags) = (dirty, flags);
        self.a.bind(skip);
    }

    /// A call with a condition: goes on behind it when the call returns, or if the condition does not hold.
    pub(super) fn call_on_condition(&mut self, item: &Instruction, end: End) {
        self.save_flags();
        let skip = self.a.label();
        match self.condition(item.condition.into()) {
            Condition::Always => {}
            condition => self.jump_on(condition.not(), skip),
        }
        let assigned = self.number();
        self.flags = Flags::Memory;
        self.reassign(STANDARD);
        self.mark();
        match end {
            End::Call(target) => self.call(target, None),
            _ => self.end_block(end),
        }
        self.reassign(assigned);
        self.a.bind(skip);
        self.dirty = ALL;
        self.flags = Flags::Memory;
        self.zeros = Zeros::default();
        (self.modes, self.aligned) = (None, 0);
    }

    /// Leaves behind an instruction inside an IT block.
    pub(super) fn leave_inside_it(&mut self, item: &Instruction) {
        self.reassign(STANDARD);
        self.a.alu_imm(Alu::And, Size::D, APSR, !(IT as i32));
        self.a.alu_imm(Alu::Or, Size::D, APSR, item.next_it.into());
        self.set_pc(self.next);
        self.exit(ExitKind::Indirect, 0);
    }

    /// VMSR FPSCR: leaves if the modes change.
    fn set_mode(&mut self) {
        self.save_flags();
        self.flags = Flags::Memory;
        let other = self.stub(Cold::Look { record: self.record() });
        self.fetch(self.items[0].rd, Reg::RAX);
        self.a.mov(Size::D, Reg::RCX, Reg::RAX);
        self.a.alu_imm(Alu::And, Size::D, Reg::RCX, FPSCR_CONTROL as i32);
        self.a.alu(Alu::Cmp, Size::D, Reg::RCX, FPCR);
        self.a.jump_if(Cc::Ne, other);
        self.a.mov(Size::D, Reg::RCX, Reg::RAX);
        self.a.alu_imm(Alu::And, Size::D, Reg::RCX, FPSCR_STATUS as i32);
        self.a.mov_to(Size::D, FPSR, Reg::RCX);
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, 0xf000_0000_u32 as i32);
        self.a.mov_to(Size::Q, general(FLOAT_FLAGS), Reg::RAX);
        self.a.stmxcsr(slot(Slot::Mxcsr));
        self.a.alu_imm(Alu::And, Size::D, slot(Slot::Mxcsr), !(mxcsr::FLAGS as i32));
        self.a.ldmxcsr(slot(Slot::Mxcsr));
    }

    pub(super) fn end_block(&mut self, end: End) {
        let item = self.items[0];
        match end {
            End::CallRegister => {
                self.save_flags();
                self.fetch(item.rm, Reg::RAX);
                self.push_return();
                let stub = self.stub(Cold::Indirect);
                self.a.call(stub);
                self.land_return();
                self.flags = Flags::Memory;
            }
            End::JumpRegister => {
                self.save_flags();
                self.branch_target(Reg::RAX);
                self.indirect_interruptible();
            }
            End::Return => {
                self.save_flags();
                self.branch_target(Reg::RAX);
                self.return_at(Reg::RAX);
            }
            End::SetMode => self.set_mode(),
            End::Syscall => {
                self.save_flags();
                self.set_pc(self.next);
                self.exit(ExitKind::Syscall, item.imm & 0xffff);
            }
            // If its condition does not hold, the rest of the IT block is interpreted.
            _ if item.next_it != 0 => {
                self.fallback();
                self.leave_inside_it(&item);
            }
            _ => self.look(),
        }
    }

    /// The place that the current instruction goes to, which BX takes, into `reg`. The flags are in memory.
    fn branch_target(&mut self, reg: Reg) {
        let item = self.items[0];
        match item.action {
            Action::Multiple { .. } => self.multiple(&item),
            Action::Access { .. } => self.load_target(&item, reg),
            Action::TableBranch { halves } => {
                let index = self.held(item.rm, Reg::RCX);
                let scale = u8::from(halves);
                let base = self.held(item.rn, Reg::RDX);
                self.mark();
                self.guest_access();
                let entry = Mem { base, index: Some((index, scale)), disp: 0 };
                if halves {
                    self.a.movzx16(reg, entry)
                } else {
                    self.a.movzx8(reg, entry)
                }
                self.guest_address(Reg::RCX, pc_value(self.pc) | 1);
                self.a.lea(Size::D, reg, Mem { base: Reg::RCX, index: Some((reg, 1)), disp: 0 });
            }
            Action::Data { operation, form, .. } => {
                if operation == 13 && form == Form::Plain {
                    self.fetch(item.rm, reg);
                } else {
                    self.operate(&item, operation, false, form);
                    // The result is in the slot of PC.
                    self.copy(Size::D, reg, PC);
                }
                if item.jump == Jump::Same {
                    let is_thumb = self.pc & 1 == 1;
                    let (op, bits) = if is_thumb { (Alu::Or, 1) } else { (Alu::And, !3) };
                    self.a.alu_imm(op, Size::D, reg, bits);
                }
            }
            _ => self.fetch(item.rm, reg),
        }
    }
}
