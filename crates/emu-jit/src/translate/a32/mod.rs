//! A32 and T32: what their instructions do, and their lowerings.
//!
//! Registers are 32 bits wide, in the low halves of the state's; operations of 32 bits keep the high halves
//! zero. Guest addresses wrap at 4 GiB: accesses have the address-size prefix.

mod access;
mod branch;
mod data;
mod exclusive;
mod float;
mod isa;
mod vectors;

use super::condition::{Condition, Flags};
use crossdock_emu_guest::a32::action::Action;
use crossdock_emu_guest::a32::{A32, Instruction, registers};
use crossdock_emu_x64::{Mem, Reg};
use float::Arithmetic;
use vectors::Transfer;

type Translator<'t> = super::Translator<'t, A32>;

/// The slot of PC, which generated code does not keep.
const PC: u8 = registers::PC;

/// The condition from which on an instruction runs always.
const ALWAYS: u8 = 14;

/// What the instruction at a place reads as PC.
fn pc_value(place: u64) -> u64 {
    (place & !1).wrapping_add(if place & 1 == 1 { 4 } else { 8 }) & 0xffff_ffff
}

impl Translator<'_> {
    /// Lowers the current instruction, which is no branch.
    fn instruction(&mut self) -> usize {
        let instruction = self.items[0];
        if let Some(arithmetic) = Arithmetic::of(instruction.word)
            && instruction.condition >= ALWAYS
            && let Some(done) = self.arithmetic_float(&instruction, &arithmetic)
        {
            return done;
        }
        let moves = Transfer::of(instruction.word);
        if moves.is_none() && instruction.action == Action::Other || !self.can_lower(&instruction) {
            // The interpreter looks at the condition itself.
            self.fallback();
            return 1;
        }
        if isa::leaves_on_condition(&instruction) {
            self.leave_on_condition(&instruction);
            return 1;
        }
        if instruction.condition >= ALWAYS {
            self.lower_action(&instruction);
            return 1;
        }
        if self.live {
            self.save_flags();
        }
        let skip = self.a.label();
        match self.condition(instruction.condition.into()) {
            Condition::Always => {}
            condition => self.jump_on(condition.not(), skip),
        }
        self.flags = Flags::Memory;
        self.lower_action(&instruction);
        if self.live {
            self.save_flags();
        }
        self.flags = Flags::Memory;
        self.a.bind(skip);
        1
    }

    fn lower_action(&mut self, instruction: &Instruction) {
        match instruction.action {
            Action::Access { .. } => self.access(instruction),
            Action::Multiple { .. } => self.multiple(instruction),
            Action::Nop => {}
            Action::Barrier => self.barrier(),
            Action::LoadExclusive { size } => self.load_exclusive(instruction, size),
            Action::StoreExclusive { size } => self.store_exclusive(instruction, size),
            Action::Other => {
                if let Some(transfer) = Transfer::of(instruction.word) {
                    self.transfer_vectors(&transfer);
                }
            }
            _ => self.data(instruction),
        }
    }

    /// Loads a register into `reg`; PC is a constant.
    fn fetch(&mut self, guest: u8, reg: Reg) {
        if guest == PC {
            self.a.mov_imm(reg, pc_value(self.pc));
        } else {
            self.copy(crossdock_emu_x64::Size::D, reg, guest);
        }
    }

    /// A host register that holds the guest register: its own, or `scratch`.
    fn held(&mut self, guest: u8, scratch: Reg) -> Reg {
        match self.general_host(guest) {
            Some(host) if guest != PC => host,
            _ => {
                self.fetch(guest, scratch);
                scratch
            }
        }
    }

    /// Begins an access to guest memory: its addresses wrap at 4 GiB.
    fn guest_access(&mut self) {
        // The address-size prefix.
        self.a.byte(0x67);
    }
}

/// `base + disp`, which the address-size prefix wraps.
fn at(base: Reg, disp: u32) -> Mem {
    Mem::at(base, disp as i32)
}
