//! The flags and the rounding mode of floating point. Compilers save and restore the flags around comparisons
//! that must not raise any.
//!
//! The flags are those of FPSR and of the host's MXCSR together; FPSR has them in Arm's order, the reverse.

use super::Translator;
use crate::layout::{FPCR, FPSR, Slot, VL, slot};
use crate::mxcsr;
use crate::translate::operands::SINK;
use crate::translate::{Isa, Lowered, ONE};
use crate::unit::EXACT;
use crossdock_emu_guest::rv64::action::{Action, Csr, Float, Precision};
use crossdock_emu_guest::rv64::{Instruction, Rv64};
use crossdock_emu_x64::{Alu, Cc, Reg, Shift, Size};

const FFLAGS: u32 = 1;
const FRM: u32 = 2;
const VL_CSR: u32 = 0xc20;
const VLENB: u32 = 0xc22;
/// The flags in FPSR.
const FLAGS: i32 = 31;
/// Those that the host raises by itself: all but invalid operations, which the interpreter handles.
const OF_HOST: i32 = 0x1e;

/// How far [`Translator::loses_flags`] looks.
const LOST_MAX: usize = 6;

impl Translator<'_> {
    /// FRFLAGS, FSFLAGS, FRRM; the others are the interpreter's.
    pub(super) fn csr(&mut self, item: &Instruction, action: Action) -> Lowered {
        let only_reads =
            !matches!(action, Action::Csr(Csr::Write) | Action::CsrImmediate(Csr::Write)) && item.rs1() == 0;
        match (item.csr(), action) {
            (FFLAGS, _) if only_reads => {
                self.read_flags(item);
                if self.quiet_comparison(item) {
                    return Lowered::Words(3);
                }
            }
            (VL_CSR, _) if only_reads => {
                let t = self.result(item.rd, Reg::RAX);
                self.a.mov(Size::Q, t, VL);
                self.put(item.rd, t);
            }
            // The bytes of a vector register.
            (VLENB, _) if only_reads => self.put_constant(item.rd, 16),
            (FRM, _) if only_reads => {
                let t = self.result(item.rd, Reg::RAX);
                self.a.mov(Size::D, t, FPCR);
                self.put(item.rd, t);
            }
            (FFLAGS, Action::Csr(Csr::Write)) if item.rd == SINK => {
                self.clobber();
                self.copy(Size::D, Reg::RAX, item.rn);
                self.reverse_flags();
                self.write_flags();
            }
            (FFLAGS, Action::CsrImmediate(Csr::Write)) if item.rd == SINK => {
                self.clobber();
                self.a.mov_imm(Reg::RAX, u64::from(item.rs1().reverse_bits() >> 27));
                self.write_flags();
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// FLT or FLE behind the current instruction, FRFLAGS, with FSFLAGS of the same register behind it: so
    /// compilers compare without an exception for quiet NaNs. The host has such a comparison; if it signals a
    /// NaN, the interpreter does all three. False, without any code, for other instructions.
    fn quiet_comparison(&mut self, reads: &Instruction) -> bool {
        let [_, compares, writes, ..] = self.items else { return false };
        let Some(Action::Float { operation, precision }) = compares.action else { return false };
        let operation = match operation {
            Float::Lt => Float::Ltq,
            Float::Le => Float::Leq,
            _ => return false,
        };
        let restores = writes.action == Some(Action::Csr(Csr::Write))
            && writes.csr() == FFLAGS
            && writes.rd == SINK
            && writes.rn == reads.rd
            && compares.rd != reads.rd;
        let place = self.next;
        if !restores || precision == Precision::Half || self.mode & EXACT != 0 || self.wary_at.contains(place)
        {
            return false;
        }
        self.items = &self.items[1..];
        (self.pc, self.next) = (place, place.wrapping_add(Rv64::item_length(compares)));
        self.operation(compares, operation, precision == Precision::Double) == ONE
    }

    /// Whether the flags that the current instruction raises are overwritten behind it in the block before
    /// anything reads them: C libraries restore them around conversions.
    pub(super) fn loses_flags(&self) -> bool {
        for item in self.items.iter().skip(1).take(LOST_MAX) {
            match item.action {
                Some(Action::Csr(Csr::Write)) if item.csr() == FFLAGS => return item.rd == SINK,
                Some(
                    Action::Float { .. }
                    | Action::ToInteger { .. }
                    | Action::FromInteger { .. }
                    | Action::Convert { .. },
                ) => {}
                _ => return false,
            }
        }
        false
    }

    /// `reg` = the flags in MXCSR, in FPSR's order.
    fn host_flags(&mut self, reg: Reg) {
        self.a.stmxcsr(slot(Slot::Mxcsr));
        self.a.mov(Size::D, reg, slot(Slot::Mxcsr));
        self.a.shift_imm(Shift::Shr, Size::D, reg, 1);
        self.a.alu_imm(Alu::And, Size::D, reg, OF_HOST);
    }

    /// The low 5 bits of rax in reverse order, the others zero. Changes rcx.
    ///
    /// The product has the bits at such places that the mask takes each from another copy, and the second
    /// product gathers them, 8 bits in reverse order, in byte 4.
    fn reverse_flags(&mut self) {
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, FLAGS);
        for (constant, is_mask) in [(0x8020_0802_u64, false), (0x8_8442_2110, true), (0x1_0101_0101, false)] {
            self.a.mov_imm(Reg::RCX, constant);
            if is_mask {
                self.a.alu(Alu::And, Size::Q, Reg::RAX, Reg::RCX);
            } else {
                self.a.imul(Size::Q, Reg::RAX, Reg::RCX);
            }
        }
        self.a.shift_imm(Shift::Shr, Size::Q, Reg::RAX, 32 + 3);
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, FLAGS);
    }

    fn read_flags(&mut self, item: &Instruction) {
        self.clobber();
        self.host_flags(Reg::RAX);
        self.a.alu(Alu::Or, Size::D, Reg::RAX, FPSR);
        self.reverse_flags();
        self.put(item.rd, Reg::RAX);
    }

    /// FPSR = rax. MXCSR loses its flags only if one of them is to be clear: flags that are restored contain
    /// them.
    fn write_flags(&mut self) {
        self.a.mov_to(Size::D, FPSR, Reg::RAX);
        self.host_flags(Reg::RDX);
        self.a.andn(Size::D, Reg::RDX, Reg::RAX, Reg::RDX);
        let kept = self.a.skip_if(Cc::E);
        self.a.alu_imm(Alu::And, Size::D, slot(Slot::Mxcsr), !(mxcsr::FLAGS as i32));
        self.a.ldmxcsr(slot(Slot::Mxcsr));
        self.a.land(kept);
    }
}
