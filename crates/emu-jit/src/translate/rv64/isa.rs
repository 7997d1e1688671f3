//! RV64 as the translator's planner sees it.

use super::Translator;
use crate::layout::Assignment;
use crate::translate::accesses::{Accesses, NO, NONE, UNKNOWN, Uses};
use crate::translate::condition::Condition;
use crate::translate::operands::{SINK, ZERO, half};
use crate::translate::{Class, ENDS, End, FAULTS, Isa, VECTORS};
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::rv64::action::{Action, Csr};
use crossdock_emu_guest::rv64::registers::{RA, T0};
use crossdock_emu_guest::rv64::{Instruction, Rv64, Upper, features};
use crossdock_emu_guest::{Op, State};
use crossdock_emu_x64::Label;

/// FFLAGS, FRM and FCSR.
const FRM: u32 = 2;
const FCSR: u32 = 3;

/// Whether the instruction may write the rounding mode, after which other code may have to run.
fn sets_mode(item: &Instruction) -> bool {
    let writes = |kind: Csr| kind == Csr::Write || item.rs1() != 0;
    match item.action {
        Some(Action::Csr(kind) | Action::CsrImmediate(kind)) => {
            matches!(item.csr(), FRM | FCSR) && writes(kind)
        }
        _ => false,
    }
}

/// Whether the code of an action may access the guest's memory.
fn accesses_memory(action: Option<Action>) -> bool {
    matches!(
        action,
        Some(
            Action::Load { .. }
                | Action::Store { .. }
                | Action::LoadFloat { .. }
                | Action::StoreFloat { .. }
                | Action::LoadReserved { .. }
                | Action::StoreConditional { .. }
                | Action::Atomic { .. }
                | Action::CompareSwap { .. }
                | Action::ZeroBlock
                | Action::TouchBlock
        )
    )
}

impl Isa for Rv64 {
    // Places have 48 bits, and those of generated code fewer than 62.
    const MODE_SHIFT: u32 = 62;

    const STANDARD: &'static Assignment = &Assignment::STANDARD_OF_HALVES;

    type Item = Instruction;

    fn can_run(_: &State) -> bool {
        true
    }

    fn read(words: &mut Words<'_>, place: u64, upper: &mut Upper) -> Option<Instruction> {
        Instruction::read(words, place, upper).ok()
    }

    const DECODED: bool = true;

    #[inline(always)]
    fn of_decoded(op: &Op, place: u64, upper: &mut Upper) -> Option<Instruction> {
        Some(Instruction::of(op, place, upper))
    }

    fn item_length(item: &Instruction) -> u64 {
        item.length.into()
    }

    fn place(items: &[Instruction], _: u64, i: usize) -> u64 {
        items[i].place
    }

    fn count_before(items: &[Instruction], _: u64, at: u64) -> Option<usize> {
        items.iter().position(|item| item.place == at).filter(|&i| i > 0)
    }

    const HALVES: bool = true;

    const CANONICAL_NANS: bool = true;

    fn class(item: &Instruction) -> Class {
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let floats = item.floats.contains(&true);
        let ends = item.ends() || sets_mode(item);
        Class(bit(accesses_memory(item.action), FAULTS) | bit(ends, ENDS) | bit(floats, VECTORS))
    }

    fn end_of(item: &Instruction, _: u64) -> Option<End> {
        match item.action {
            Some(Action::Branch(_)) => Some(End::Branch(item.imm)),
            Some(Action::Jump) => Some(match item.rd {
                SINK => End::Jump(item.imm),
                RA => End::Call(item.imm),
                // The branch is always taken, and sets the register.
                _ => End::Branch(item.imm),
            }),
            Some(Action::JumpRegister) => Some(match (item.rd, item.target) {
                (RA, Some(target)) => End::Call(target),
                (SINK, Some(target)) => End::Jump(target),
                (RA, None) => End::CallRegister,
                (SINK, None) if matches!(item.rn, RA | T0) && item.imm == 0 => End::Return,
                _ => End::JumpRegister,
            }),
            Some(Action::EnvironmentCall) => Some(End::Syscall),
            _ if item.ends() || sets_mode(item) => Some(End::Look),
            _ => None,
        }
    }

    fn accessed(item: &Instruction, state: &State) -> Option<u64> {
        let address = state.gpr[usize::from(item.rn)].wrapping_add(item.imm);
        match item.action {
            Some(Action::ZeroBlock | Action::TouchBlock) => Some(address & !(features::BLOCK - 1)),
            action if accesses_memory(action) => Some(address),
            _ => None,
        }
    }

    fn accesses(item: &Instruction) -> Accesses {
        // The registers of a pair are not all named.
        let is_pair = matches!(item.action, Some(Action::CompareSwap { size: 4 }));
        if item.action.is_none() || item.ends() || is_pair {
            return UNKNOWN;
        }
        let general = |i: usize, register: u8| {
            if item.generals[i] && register != ZERO && register != SINK { register } else { NO }
        };
        let reads = [general(1, item.rn), general(2, item.rm), general(3, item.ra)];
        Accesses { reads, write: general(0, item.rd), ..NONE }
    }

    fn count_uses(item: &Instruction, weight: u32, uses: &mut Uses) {
        let registers = [item.rd, item.rn, item.rm, item.ra];
        for (i, register) in registers.into_iter().enumerate() {
            if item.floats[i] {
                uses.operand(half(register), weight);
            } else if item.generals[i] && register < ZERO {
                uses.pointer(register.into(), weight);
            }
        }
    }

    fn may_unalign(_: &Instruction) -> bool {
        false
    }

    fn check_stack_pointer(_: &mut Translator<'_>) {}

    fn op(item: &Instruction, _: u64) -> Op {
        item.op
    }

    fn lower(translator: &mut Translator<'_>) -> usize {
        translator.instruction()
    }

    fn branch_condition(translator: &mut Translator<'_>) -> Condition {
        translator.branch_condition()
    }

    fn end(translator: &mut Translator<'_>, end: End) {
        translator.end_block(end);
    }

    fn invalidate_marked(_: &mut Translator<'_>, _: u8, _: Label, _: Label) {
        unreachable!("RISC-V changes code by FENCE.I or a system call");
    }
}
