//! The common exceptions, hints, barriers and system registers (manual C4.1.93).

use super::registers::{destination, source};
use super::{Lowered, ONE, Translator, bits};
use crate::layout::{EXCLUSIVE_SIZE, FPCR, FPSR, SCRATCH_MEMORY, Slot, TPIDR, X0, slot};
use crossdock_emu_guest::a64::{FPSR_MASK, constant_register, features};
use crossdock_emu_x64::{Alu, Mem, Reg, Shift, Size, Xmm};

impl Translator<'_> {
    /// System instructions within blocks; branches are lowered elsewhere.
    pub(super) fn system(&mut self, word: u32) -> Lowered {
        // MRS and MSR of TPIDR_EL0.
        match word & 0xffff_ffe0 {
            0xd53b_d040 => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                self.a.mov(Size::Q, t, TPIDR);
                self.put(rd, t);
                return ONE;
            }
            0xd51b_d040 => {
                let t = self.get(source(word, 0), Reg::RAX);
                self.a.mov_to(Size::Q, TPIDR, t);
                return ONE;
            }
            // MRS FPCR, which mathematical functions read first.
            0xd53b_4400 => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                self.a.mov(Size::D, t, FPCR);
                self.put(rd, t);
                return ONE;
            }
            // MRS FPSR: DZC, OFC, UFC, IXC are ZE, OE, UE, PE of MXCSR too; IOC is set when the host signals
            // it.
            0xd53b_4420 => {
                self.clobber();
                self.a.stmxcsr(slot(Slot::Mxcsr));
                self.a.mov(Size::D, Reg::RAX, slot(Slot::Mxcsr));
                self.a.shift_imm(Shift::Shr, Size::D, Reg::RAX, 1);
                self.a.alu_imm(Alu::And, Size::D, Reg::RAX, 0x1e);
                self.a.alu(Alu::Or, Size::D, Reg::RAX, FPSR);
                self.put(destination(word, 0), Reg::RAX);
                return ONE;
            }
            // MSR FPSR: clears the host's flags.
            0xd51b_4420 => {
                self.clobber();
                self.copy(Size::Q, Reg::RAX, source(word, 0));
                self.a.alu_imm(Alu::And, Size::D, Reg::RAX, FPSR_MASK as i32);
                self.a.mov_to(Size::D, FPSR, Reg::RAX);
                self.a.stmxcsr(slot(Slot::Mxcsr));
                self.a.alu_imm(Alu::And, Size::D, slot(Slot::Mxcsr), !0x3f);
                self.a.ldmxcsr(slot(Slot::Mxcsr));
                return ONE;
            }
            // DC ZVA.
            0xd50b_7420 => {
                let x = source(word, 0);
                self.clobber();
                self.copy(Size::Q, Reg::RDX, x);
                self.mark();
                self.a.alu_imm(Alu::And, Size::Q, Reg::RDX, -(features::CACHE_LINE as i32));
                self.a.vp(0xef, X0, X0, X0);
                for offset in (0..features::CACHE_LINE as i32).step_by(16) {
                    self.a.vstore(Mem::at(Reg::RDX, offset), Xmm(0));
                }
                return ONE;
            }
            // DC CVAC, CVAU, CIVAC: the host keeps coherent what these instructions clean. They fault like a
            // load.
            0xd50b_7a20 | 0xd50b_7b20 | 0xd50b_7e20 => {
                self.copy(Size::Q, Reg::RAX, source(word, 0));
                self.mark();
                self.a.movzx8(Reg::RAX, Mem::at(Reg::RAX, 0));
                return ONE;
            }
            _ => {}
        }
        if let Some(value) = constant_register(word) {
            self.put_constant(destination(word, 0), value);
            return ONE;
        }
        // Hints: NOP, PAC, BTI, YIELD. YIELD does nothing on Arm's cores either, where programs count how
        // often they wait; PAUSE takes 60 cycles.
        if word & 0xffff_f01f == 0xd503_201f {
            return ONE;
        }
        match word & 0xffff_f0ff {
            // CLREX.
            0xd503_305f => {
                self.a.mov_imm32(Size::Q, EXCLUSIVE_SIZE, 0);
                ONE
            }
            // DSB and DMB; for loads alone, and for stores alone, the host needs no instruction.
            0xd503_30bf | 0xd503_309f => {
                if bits(word, 9, 8) & 3 != 1 && bits(word, 9, 8) & 3 != 2 {
                    // Cheaper than MFENCE, with the same ordering of accesses to ordinary memory.
                    self.a.xchg(3, SCRATCH_MEMORY, Reg::RAX);
                }
                if word & 0xffff_f0ff == 0xd503_309f {
                    self.clobber();
                    self.complete_invalidations();
                }
                ONE
            }
            _ => Lowered::No,
        }
    }
}
