//! The ends of blocks (manual F2.2).

use super::{ALWAYS, Translator};
use crate::layout::ExitKind;
use crate::translate::condition::{Condition, Flags};
use crate::translate::{Cold, End};
use crossdock_emu_guest::a32::action::Action;
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

    pub(super) fn end_block(&mut self, end: End) {
        let item = self.items[0];
        debug_assert!(item.condition >= ALWAYS || end == End::Look);
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
                self.target(Reg::RAX);
                self.indirect_interruptible();
            }
            End::Return => {
                self.save_flags();
                self.target(Reg::RAX);
                let stub = self.stub(Cold::Return);
                self.a.alu(Alu::Cmp, Size::Q, Reg::RAX, Mem::at(Reg::RSP, 8));
                self.a.jump_if(Cc::Ne, stub);
                self.a.ret();
            }
            End::Syscall => {
                self.save_flags();
                self.set_pc(self.next);
                self.exit(ExitKind::Syscall, item.imm & 0xffff);
            }
            _ => self.look(),
        }
    }

    /// The place that the current instruction goes to, which BX takes, into `reg`. The flags are in memory.
    fn target(&mut self, reg: Reg) {
        let item = self.items[0];
        match item.action {
            Action::Multiple { .. } => self.multiple(&item),
            Action::Access { .. } => self.load_target(&item, reg),
            _ => self.fetch(item.rm, reg),
        }
    }
}
