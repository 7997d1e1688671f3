//! RV64 as the translator's planner sees it.

use super::Translator;
use super::vector::{configuration, is_configuration};
use crate::layout::Assignment;
use crate::routines::{RV64_TABLE, Table};
use crate::translate::accesses::{Accesses, NO, NONE, UNKNOWN, Uses};
use crate::translate::condition::Condition;
use crate::translate::operands::{SINK, ZERO, half};
use crate::translate::{Class, ENDS, End, FAULTS, Isa, Partly, VECTORS};
use alloc::vec::Vec;
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::rv64::action::{Action, Csr};
use crossdock_emu_guest::rv64::registers::{RA, T0};
use crossdock_emu_guest::rv64::{Instruction, Rv64, Upper, accessed, features};
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
                | Action::VectorLoad
                | Action::VectorStore
        )
    )
}

impl Isa for Rv64 {
    // Places have 48 bits, and those of generated code fewer than 62.
    const MODE_SHIFT: u32 = 62;

    const STANDARD: &'static Assignment = &Assignment::STANDARD_OF_RISCV;

    const ROUTINES: Table = RV64_TABLE;

    const EVEN_RETURNS: bool = true;

    const SIGNED_WORDS: bool = true;

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

    const CONFIGURES: bool = true;
    const HAS_FACTS: bool = true;

    fn configuration(item: &Instruction) -> Option<u8> {
        let sets = item.action == Some(Action::SetVectors);
        if sets { configuration(item.code) } else { None }
    }

    fn configuration_of(state: &State) -> Option<u8> {
        // All others are reserved.
        u8::try_from(state.vectors.vtype).ok().filter(|&vtype| is_configuration(vtype))
    }

    fn context(item: &Instruction) -> u8 {
        matches!(item.action, Some(Action::VectorLoad | Action::VectorStore)).into()
    }

    fn repeats(context: u8) -> bool {
        context != 0
    }

    fn lower_partly(translator: &mut Translator<'_>, partly: &Partly) {
        translator.vector_partly(partly);
    }

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

    fn jump_reads(item: &Instruction) -> bool {
        item.action == Some(Action::JumpRegister)
    }

    fn accessed(item: &Instruction, state: &State) -> Option<u64> {
        let address = state.gpr[usize::from(item.rn)].wrapping_add(item.imm);
        match item.action {
            Some(Action::ZeroBlock | Action::TouchBlock) => Some(address & !(features::BLOCK - 1)),
            action if accesses_memory(action) => Some(address),
            _ => None,
        }
    }

    fn accessed_by_elements(item: &Instruction, state: &State) -> Vec<(u64, u64)> {
        match item.action {
            Some(Action::VectorLoad | Action::VectorStore) => accessed(state, &item.op),
            _ => Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use crossdock_emu_guest::Host;
    use crossdock_emu_guest::memory::Memory;
    use crossdock_emu_guest::rv64::TABLE;

    extern crate std;

    /// SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// An instruction in memory, decoded.
    fn item(word: u32) -> Instruction {
        let code = std::vec![word, 0].leak();
        let start = code.as_ptr() as u64;
        // SAFETY: the window is that memory.
        let memory = unsafe { Memory::new(start, start + 8) };
        Instruction::read(&mut Words::new(&memory, None), start, &mut Upper::default()).expect("it is there")
    }

    #[test]
    fn what_an_instruction_writes_is_named() {
        let mut seed = 5;
        let data = std::vec![0x5a5a_5a5a_1234_5678_u64; 4096].leak();
        let start = data.as_mut_ptr() as u64;
        // SAFETY: the window is that memory.
        let memory = unsafe { Memory::new(start, start + 8 * data.len() as u64) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let mut named: BTreeMap<&str, u32> = BTreeMap::new();
        for row in TABLE {
            for _ in 0..100 {
                let item = item(row.value | random(&mut seed) as u32 & !row.mask);
                let found = Rv64::accesses(&item);
                if found.unknown {
                    continue;
                }
                let mut before = State::default();
                for x in &mut before.gpr[..32] {
                    let r = random(&mut seed);
                    *x = if r & 1 == 0 { start + 16384 + (r >> 32) % 256 * 16 } else { r >> 58 };
                }
                let run = |mut state: State| item.op.execute(&mut state, &host).is_ok().then_some(state);
                let Some(after) = run(before.clone()) else { continue };
                for x in 0..32 {
                    let written = after.gpr[x] != before.gpr[x];
                    assert!(found.write == x as u8 || !written, "{} writes {x}", row.name());
                }
                let write = found.write;
                let stores = matches!(item.action, Some(Action::Atomic { .. } | Action::CompareSwap { .. }));
                if write != NO && !found.reads.contains(&write) && !stores {
                    let mut other = before.clone();
                    other.gpr[usize::from(write)] ^= random(&mut seed);
                    let other = run(other).expect("it ran before");
                    assert_eq!(other.gpr[..32], after.gpr[..32], "{} reads {write}", row.name());
                    *named.entry(row.name()).or_default() += 1;
                }
            }
        }
        for name in ["ADD", "ADDIW", "MULHU", "SLTU", "LD", "LBU", "CLZ", "FEQ.D", "FCVT.L.D", "LUI"] {
            assert!(named.get(name).is_some_and(|&count| count > 5), "{name}: {named:?}");
        }
    }

    #[test]
    fn ends_of_blocks() {
        for (word, expected) in [
            (0x0000_0463_u32, Some(End::Branch(8))), // beq zero, zero, .+8
            (0x0080_006f, Some(End::Jump(8))),       // j .+8
            (0x0080_00ef, Some(End::Call(8))),       // jal ra, .+8
            (0x0080_02ef, Some(End::Branch(8))),     // jal t0, .+8
            (0x0000_8067, Some(End::Return)),        // ret
            (0x0007_8067, Some(End::JumpRegister)),  // jr a5
            (0x0007_80e7, Some(End::CallRegister)),  // jalr a5
            (0x0000_0073, Some(End::Syscall)),       // ecall
            (0x0010_0073, Some(End::Look)),          // ebreak
            (0x0000_100f, Some(End::Look)),          // fence.i
            (0x0020_1073, Some(End::Look)),          // fsrm zero
            (0x0020_2573, None),                     // frrm a0
            (0x0010_1073, None),                     // fsflags zero
            (0x00b5_0533, None),                     // add a0, a0, a1
        ] {
            let item = item(word);
            let relative = |end: End| match end {
                End::Branch(to) => End::Branch(to - item.place),
                End::Jump(to) => End::Jump(to - item.place),
                End::Call(to) => End::Call(to - item.place),
                other => other,
            };
            let end = Rv64::end_of(&item, item.place).map(relative);
            assert_eq!(end, expected, "{word:08x}");
            assert_eq!(Rv64::class(&item).has(ENDS), expected.is_some(), "{word:08x}");
        }
    }
}
