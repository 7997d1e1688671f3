//! Loads and stores. No register changes before the access, so one that faults can be run again by the
//! interpreter.

use super::Translator;
use crate::layout::X0;
use crate::translate::operands::{ZERO, half};
use crossdock_emu_guest::rv64::Instruction;
use crossdock_emu_guest::rv64::action::Action;
use crossdock_emu_x64::{Mem, Reg, Size};

impl Translator<'_> {
    pub(super) fn access(&mut self, item: &Instruction, action: Action) {
        let base = self.get(item.rn, Reg::RDX);
        let mem = Mem::at(base, item.imm as i32);
        match action {
            Action::Load { size, signed } => {
                let t = self.result(item.rd, Reg::RAX);
                self.load(size, signed, t, mem);
                self.put(item.rd, t);
            }
            Action::Store { size } => {
                if item.rm == ZERO && size >= 2 {
                    let size = if size == 3 { Size::Q } else { Size::D };
                    return self.a.mov_imm32(size, mem, 0);
                }
                let t = self.get(item.rm, Reg::RAX);
                self.store(size, mem, t);
            }
            Action::LoadFloat { size } => self.load_float(item, size, mem),
            Action::StoreFloat { size } => match (size, self.vector_host(half(item.rm))) {
                (3, Some(host)) => self.a.vstore_q(mem, host),
                (2, Some(host)) => self.a.vmov_to(Size::D, mem, host),
                _ => {
                    self.part_bits(Reg::RAX, half(item.rm));
                    self.store(size, mem, Reg::RAX);
                }
            },
            _ => {}
        }
    }

    /// FLD, FLW, FLH.
    fn load_float(&mut self, item: &Instruction, size: u8, mem: Mem) {
        let d = half(item.rd);
        let t = self.vresult(d);
        match size {
            3 => {
                self.a.vmovq(t, mem);
                self.vput(d, t);
                self.set_boxed(item.rd, false);
            }
            2 => {
                self.a.vmov_from(Size::D, t, mem);
                self.put_boxed(item.rd, t);
            }
            _ => {
                self.a.movzx16(Reg::RAX, mem);
                self.a.vmov_from(Size::D, t, Reg::RAX);
                let above = self.constant(u128::from(u64::MAX << 16));
                // VPOR.
                self.a.vp(0xeb, t, t, above);
                self.vput(d, t);
                self.set_boxed(item.rd, false);
            }
        }
        debug_assert!(t == X0 || self.vector_host(d) == Some(t));
    }

    /// `reg` = memory, extended to 64 bits.
    pub(super) fn load(&mut self, size: u8, signed: bool, reg: Reg, mem: Mem) {
        match (size, signed) {
            (0, false) => self.a.movzx8(reg, mem),
            (1, false) => self.a.movzx16(reg, mem),
            (2, false) => self.a.mov(Size::D, reg, mem),
            (0, true) => self.a.movsx8(Size::Q, reg, mem),
            (1, true) => self.a.movsx16(Size::Q, reg, mem),
            (2, true) => self.a.movsxd(reg, mem),
            _ => self.a.mov(Size::Q, reg, mem),
        }
    }

    /// Memory = the low bytes of `reg`.
    pub(super) fn store(&mut self, size: u8, mem: Mem, reg: Reg) {
        match size {
            0 => self.a.store8(mem, reg),
            1 => self.a.store16(mem, reg),
            2 => self.a.mov_to(Size::D, mem, reg),
            _ => self.a.mov_to(Size::Q, mem, reg),
        }
    }
}
