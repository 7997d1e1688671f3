//! A32 and T32 as the translator's planner sees them.

use super::float;
use super::kind::Kind;
use super::{ALWAYS, PC, Translator, is_write_fpscr, pc_value};
use crate::layout::Assignment;
use crate::routines::{A32_TABLE, Table};
use crate::translate::accesses::{Accesses, NO, NONE, UNKNOWN, Uses, mask};
use crate::translate::condition::Condition;
use crate::translate::{Class, ENDS, End, FAULTS, Isa, READS, READS_CV, VECTORS, WRITES, WRITES_CV};
use crossdock_emu_guest::a32::action::{Action, Form, Mode, Transfer};
use crossdock_emu_guest::a32::registers::{LR, SP, place};
use crossdock_emu_guest::a32::{A32, Instruction, It, Jump};
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::{Op, State};
use crossdock_emu_x64::Label;

/// How a block ends with a branch to a place that is known at run time only, if there is a lowering.
pub(super) fn indirect_end(item: &Instruction) -> Option<End> {
    match item.action {
        Action::BranchRegister if item.rm == LR => Some(End::Return),
        Action::BranchRegister if item.rm != PC => Some(End::JumpRegister),
        Action::Multiple { loads: true } => Some(End::Return),
        Action::Access { transfer: Transfer::Load(2), mode, .. } if item.extra & 7 != 4 => {
            // LDR PC, [SP], #4 is a POP.
            let pops = mode == Mode::After && item.rn == SP;
            Some(if pops { End::Return } else { End::JumpRegister })
        }
        Action::Data { operation: 13, sets: false, form: Form::Plain }
            if item.rm == LR && item.jump == Jump::Exchange =>
        {
            Some(End::Return)
        }
        Action::Data { sets: false, .. } => Some(End::JumpRegister),
        Action::TableBranch { .. } => Some(End::JumpRegister),
        _ => None,
    }
}

/// How a block ends with a call.
pub(super) fn call_end(item: &Instruction) -> Option<End> {
    match item.action {
        Action::BranchLink => Some(End::Call(item.imm.into())),
        Action::BranchLinkRegister => Some(End::CallRegister),
        _ => None,
    }
}

/// Whether the instruction is a call, or a branch of [`indirect_end`], with a condition: the block goes on
/// behind it.
pub(super) fn leaves_on_condition(item: &Instruction) -> bool {
    item.ends && item.condition < ALWAYS && (call_end(item).is_some() || indirect_end(item).is_some())
}

/// The groups of flags that a condition reads, as bits of a class.
fn groups_of_condition(condition: u8) -> u8 {
    match condition >> 1 {
        // EQ and MI, CS and VS, and their opposites; then none; else both.
        0 | 2 => READS,
        1 | 3 => READS_CV,
        7 => 0,
        _ => READS | READS_CV,
    }
}

/// The groups of flags that an instruction reads beside those of its condition, as bits of a class.
pub(super) fn read_flags(item: &Instruction, kind: &Kind) -> u8 {
    match (item.action, kind) {
        (Action::Data { operation, form, .. }, _) => {
            let shifts_by_carry = form == Form::Shifted && item.extra == 4;
            if matches!(operation, 5..=7) || shifts_by_carry { READS_CV } else { 0 }
        }
        // Instructions for the interpreter may read the flags.
        (Action::Other, Kind::General) => READS | READS_CV,
        (_, Kind::Float(arithmetic)) if arithmetic.reads_flags() => READS | READS_CV,
        _ => 0,
    }
}

/// The groups of flags that an instruction writes if it runs, as bits of a class.
pub(super) fn written_flags(item: &Instruction, kind: &Kind) -> u8 {
    match (item.action, kind) {
        // Logical operations keep V, and mostly C.
        (Action::Data { operation, sets: true, .. }, _) => {
            if matches!(operation, 2..=7 | 10 | 11) {
                WRITES | WRITES_CV
            } else {
                WRITES
            }
        }
        (Action::Multiply { sets: true, .. }, _) => WRITES,
        (_, Kind::Float(arithmetic)) if arithmetic.writes_flags() => WRITES | WRITES_CV,
        _ => 0,
    }
}

/// The general registers of an instruction with vector registers.
fn accesses_of_vectors(item: &Instruction) -> Accesses {
    let always = item.condition >= ALWAYS;
    let moved = |writes: bool, [first, second]: [Option<u8>; 2]| {
        let [first, second] = [first, second].map(|register| register.unwrap_or(NO));
        if writes {
            // Not even one of two is only written: the interpreter may run the instruction.
            let written = mask(first) | mask(second);
            Accesses { reads: [first, second, NO], also: written, ..NONE }
        } else {
            Accesses { reads: [first, second, NO], ..NONE }
        }
    };
    match Kind::of(item.word) {
        Kind::General => UNKNOWN,
        // VMRS may be left to the interpreter, but has no register.
        Kind::Float(arithmetic) => match arithmetic.general_registers() {
            None => NONE,
            Some((true, [Some(register), None])) if always => Accesses { write: register, ..NONE },
            Some((writes, registers)) => moved(writes, registers),
        },
        Kind::Vector(vector) => match vector.general_register() {
            None => NONE,
            Some((true, register)) if always => Accesses { write: register, ..NONE },
            Some((writes, register)) => moved(writes, [Some(register), None]),
        },
        Kind::Transfer(transfer) => {
            let also = if transfer.writes_back() { mask(transfer.base) } else { 0 };
            let base = if transfer.base == PC { NO } else { transfer.base };
            Accesses { reads: [base, transfer.index().unwrap_or(NO), NO], also, ..NONE }
        }
    }
}

impl Isa for A32 {
    const ROUTINES: Table = A32_TABLE;

    type Item = Instruction;

    // Places have 32 bits.
    const MODE_SHIFT: u32 = 33;

    const PC_SLOT: Option<usize> = Some(PC as usize);

    const NARROW: bool = true;

    const FLAG_GROUPS: usize = 2;

    const STANDARD: &'static Assignment = &Assignment::STANDARD_OF_A32;

    fn can_run(state: &State) -> bool {
        state.it() == 0 && !state.is_big_endian()
    }

    fn read(words: &mut Words<'_>, place: u64, it: &mut It) -> Option<Instruction> {
        Instruction::read(words, place, it).ok()
    }

    const HALVES: bool = true;
    const HAS_FACTS: bool = true;

    const DECODED: bool = true;

    #[inline(always)]
    fn of_decoded(op: &Op, place: u64, it: &mut It) -> Option<Instruction> {
        let item = Instruction::of(op, place);
        *it = It::of_next(op);
        Some(item)
    }

    fn item_length(item: &Instruction) -> u64 {
        item.length.into()
    }

    fn place(items: &[Instruction], _: u64, i: usize) -> u64 {
        items[i].place
    }

    fn count_before(items: &[Instruction], _: u64, at: u64) -> Option<usize> {
        items.iter().position(|item| item.place == at && item.it == 0).filter(|&i| i > 0)
    }

    fn is_barrier(item: &Instruction) -> bool {
        item.action == Action::Barrier && item.condition >= ALWAYS
    }

    fn fences(item: &Instruction) -> bool {
        matches!(item.action, Action::Barrier | Action::StoreExclusive { .. }) && item.condition >= ALWAYS
    }

    fn computes(item: &Instruction) -> bool {
        let is_simple = matches!(item.action, Action::Data { .. } | Action::Extend { .. } | Action::Nop);
        is_simple && item.condition >= ALWAYS && !item.ends && matches!(Kind::of(item.word), Kind::General)
    }

    fn binds(item: &Instruction) -> bool {
        item.next_it != 0
    }

    const GATHERS_FLAGS: bool = true;

    fn computes_alone(item: &Instruction) -> Option<Accesses> {
        let is_simple = matches!(
            item.action,
            Action::Data { .. }
                | Action::MoveTop
                | Action::Multiply { .. }
                | Action::MultiplyLong { .. }
                | Action::Extend { .. }
                | Action::Insert { .. }
                | Action::Extract { .. }
                | Action::LeadingZeros
                | Action::Reverse
                | Action::ReverseHalves
                | Action::ReverseSigned
                | Action::ReverseBits
        );
        // Not in an IT block.
        let is_plain = item.condition >= ALWAYS && item.it == 0 && item.next_it == 0 && !item.ends;
        let found = is_simple && is_plain && matches!(Kind::of(item.word), Kind::General);
        found.then(|| Self::accesses(item)).filter(|accesses| !accesses.unknown)
    }

    fn context(item: &Instruction) -> u8 {
        item.it
    }

    fn settle(state: &mut State) {
        float::settle(state);
    }

    fn set_context(state: &mut State, context: u8) {
        state.set_it(context);
    }

    fn class(item: &Instruction) -> Class {
        let conditional = item.condition < ALWAYS;
        let kind = Kind::of(item.word);
        let reads = groups_of_condition(item.condition) | read_flags(item, &kind);
        let writes = if conditional { 0 } else { written_flags(item, &kind) };
        let faults = matches!(kind, Kind::Transfer(_))
            || matches!(
                item.action,
                Action::Access { .. }
                    | Action::Multiple { .. }
                    | Action::LoadExclusive { .. }
                    | Action::StoreExclusive { .. }
            );
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let vectors = bit(!matches!(kind, Kind::General), VECTORS);
        Class(reads | writes | bit(faults, FAULTS) | bit(item.ends, ENDS) | vectors)
    }

    fn end_of(item: &Instruction, _: u64) -> Option<End> {
        if !item.ends || leaves_on_condition(item) {
            return None;
        }
        if item.next_it != 0 {
            return Some(End::Look);
        }
        let target = u64::from(item.imm);
        let always = item.condition >= ALWAYS;
        Some(match item.action {
            Action::Branch if always => End::Jump(target),
            Action::Branch => End::Branch(target),
            Action::CompareBranch { .. } if always => End::Branch(target),
            Action::BranchRegister if always && item.rm == PC => End::Jump(pc_value(item.place)),
            _ if !always => End::Look,
            Action::BranchLink | Action::BranchLinkRegister => call_end(item).unwrap_or(End::Look),
            Action::BranchRegister => indirect_end(item).unwrap_or(End::Look),
            Action::Multiple { .. }
            | Action::Access { .. }
            | Action::Data { .. }
            | Action::TableBranch { .. } => indirect_end(item).unwrap_or(End::Look),
            Action::Call => End::Syscall,
            Action::Other if is_write_fpscr(item.word) => End::SetMode,
            _ => End::Look,
        })
    }

    fn accessed(item: &Instruction, state: &State) -> Option<u64> {
        if let Kind::Transfer(transfer) = Kind::of(item.word) {
            return Some(transfer.address(state.gpr[usize::from(transfer.base)] as u32).into());
        }
        let base = state.gpr[usize::from(item.rn)] as u32;
        let address = match item.action {
            Action::Access { mode: Mode::After, .. } => base,
            Action::Access { register: false, .. } => base.wrapping_add(item.imm),
            Action::Access { .. } => {
                let (value, amount) = (state.gpr[usize::from(item.rm)] as u32, item.imm);
                let offset = match item.extra & 7 {
                    0 => value.unbounded_shl(amount),
                    1 => value.unbounded_shr(amount),
                    2 => (value as i32 >> amount.min(31)) as u32,
                    3 => value.rotate_right(amount),
                    _ => (state.nzcv >> 29 & 1) << 31 | value >> 1,
                };
                if item.extra & 8 != 0 { base.wrapping_sub(offset) } else { base.wrapping_add(offset) }
            }
            Action::Multiple { .. } => {
                let length = 4 * item.imm.count_ones();
                let (up, before) = (item.extra & 1 != 0, item.extra & 2 != 0);
                let start = if up { base } else { base.wrapping_sub(length) };
                if up == before { start.wrapping_add(4) } else { start }
            }
            Action::LoadExclusive { .. } | Action::StoreExclusive { .. } => base.wrapping_add(item.imm),
            _ => return None,
        };
        Some(address.into())
    }

    fn accesses(item: &Instruction) -> Accesses {
        let of = |register: u8| if register >= 32 || register == PC { NO } else { register };
        let [d, n, m, a] = [item.rd, item.rn, item.rm, item.ra].map(of);
        let always = item.condition >= ALWAYS;
        let write = |accesses: Accesses, register: u8| {
            if always {
                Accesses { write: register, ..accesses }
            } else {
                Accesses { also: accesses.also | mask(register), ..accesses }
            }
        };
        match item.action {
            Action::Data { operation, form, .. } => {
                let n = if matches!(operation, 13 | 15) { NO } else { n };
                let reads = match form {
                    Form::Immediate => [n, NO, NO],
                    Form::Plain | Form::Shifted => [n, m, NO],
                    Form::ShiftedByRegister => [n, m, a],
                };
                let accesses = Accesses { reads, ..NONE };
                if matches!(operation, 8..=11) { accesses } else { write(accesses, d) }
            }
            Action::MoveTop | Action::Insert { .. } => Accesses { reads: [d, n, NO], also: mask(d), ..NONE },
            Action::Multiply { kind, .. } => {
                write(Accesses { reads: [n, m, if kind == 0 { NO } else { a }], ..NONE }, d)
            }
            Action::Extend { adds } => {
                write(Accesses { reads: [m, if adds { n } else { NO }, NO], ..NONE }, d)
            }
            Action::Extract { .. } => write(Accesses { reads: [n, NO, NO], ..NONE }, d),
            Action::LeadingZeros
            | Action::Reverse
            | Action::ReverseHalves
            | Action::ReverseSigned
            | Action::ReverseBits => write(Accesses { reads: [m, NO, NO], ..NONE }, d),
            Action::Access { transfer, mode, register } => {
                let m = if register { m } else { NO };
                let back = if mode == Mode::Offset { 0 } else { mask(n) };
                match transfer {
                    Transfer::Load(_) | Transfer::LoadSigned(_) => {
                        write(Accesses { reads: [n, m, NO], also: back, ..NONE }, d)
                    }
                    Transfer::Store(_) => Accesses { reads: [n, m, d], also: back, ..NONE },
                    _ => UNKNOWN,
                }
            }
            Action::MultiplyLong { .. }
            | Action::MultiplyHalvesLong
            | Action::DualLong { .. }
            | Action::MultiplyAddTwice => Accesses { reads: [n, m, NO], also: mask(d) | mask(a), ..NONE },
            Action::MultiplyHalves { adds }
            | Action::MultiplyWordHalf { adds }
            | Action::Dual { adds, .. }
            | Action::Differences { adds } => {
                write(Accesses { reads: [n, m, if adds { a } else { NO }], ..NONE }, d)
            }
            Action::MostSignificant { kind } => {
                write(Accesses { reads: [n, m, if kind == 0 { NO } else { a }], ..NONE }, d)
            }
            Action::Saturate { .. } | Action::SaturateHalves { .. } => {
                write(Accesses { reads: [n, NO, NO], ..NONE }, d)
            }
            Action::Parallel { .. }
            | Action::Select
            | Action::SaturatingSum { .. }
            | Action::Pack
            | Action::Divide { .. }
            | Action::Castagnoli { .. } => write(Accesses { reads: [n, m, NO], ..NONE }, d),
            Action::ThreadPointer => write(NONE, d),
            Action::Nop | Action::Barrier => NONE,
            Action::Other => accesses_of_vectors(item),
            _ => UNKNOWN,
        }
    }

    fn count_uses(item: &Instruction, weight: u32, uses: &mut Uses) {
        if let Action::Multiple { .. } = item.action {
            for n in (0..15).filter(|n| item.imm >> n & 1 == 1) {
                uses.pointer(place(n).into(), weight);
            }
            return uses.pointer(item.rn.into(), weight);
        }
        match Kind::of(item.word) {
            Kind::General => {}
            Kind::Float(arithmetic) => {
                arithmetic.each_operand(|operand| uses.operand(operand, weight));
            }
            Kind::Vector(vector) => {
                vector.each_operand(|operand| uses.operand(operand, weight));
            }
            Kind::Transfer(transfer) => {
                transfer.each_operand(|operand| uses.operand(operand, weight));
            }
        }
        let accesses = Self::accesses(item);
        for register in accesses.reads.into_iter().chain([accesses.write]) {
            if register != NO {
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
        unreachable!("32-bit Arm changes code by a system call");
    }
}
