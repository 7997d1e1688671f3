//! Data processing with immediates, registers and shifted registers (manual F4.1.2, F3.1.3).

use super::action::{Action, Form};
use super::fields::{Jump, Word};
use super::registers::{PC, SINK, ZERO, place};
use super::shift::{self, Carry, LSL, decode_immediate};
use crate::condition::{C, N, V, Z};
use crate::exit::{Flow, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// The operations, numbered as in bits 24 to 21 of A32's encodings; ORN is T32's own.
pub(crate) const AND: u8 = 0;
pub(crate) const EOR: u8 = 1;
pub(crate) const SUB: u8 = 2;
pub(crate) const RSB: u8 = 3;
pub(crate) const ADD: u8 = 4;
pub(crate) const ADC: u8 = 5;
pub(crate) const SBC: u8 = 6;
pub(crate) const RSC: u8 = 7;
pub(crate) const TST: u8 = 8;
pub(crate) const TEQ: u8 = 9;
pub(crate) const CMP: u8 = 10;
pub(crate) const CMN: u8 = 11;
pub(crate) const ORR: u8 = 12;
pub(crate) const MOV: u8 = 13;
pub(crate) const BIC: u8 = 14;
pub(crate) const MVN: u8 = 15;
pub(crate) const ORN: u8 = 16;

/// Where the second operand comes from.
const IMMEDIATE: u8 = 0;
const PLAIN: u8 = 1;
const SHIFTED: u8 = 2;
const SHIFTED_BY_REGISTER: u8 = 3;

/// For immediates, [`Op::extra`]: the carry flag becomes the highest bit.
const CARRY_HIGH: u32 = 1;

/// The second operand and the carry out of its shifter.
#[inline(always)]
fn operand<const KIND: u8>(s: &State, op: &Op) -> (u32, bool) {
    let carry = s.nzcv & C != 0;
    let m = s.gpr[op.rm as usize] as u32;
    match KIND {
        IMMEDIATE => {
            let value = op.imm32();
            (value, if op.extra() == CARRY_HIGH { value >> 31 == 1 } else { carry })
        }
        PLAIN => (m, carry),
        SHIFTED => shift::shift(m, op.extra(), op.imm32(), carry),
        _ => shift::shift(m, op.extra(), s.gpr[op.ra as usize] as u32 & 255, carry),
    }
}

/// AddWithCarry of the manual: the sum and its flags.
#[inline(always)]
pub(crate) fn add_with_carry(a: u32, b: u32, carry: bool) -> (u32, u32) {
    let wide = u64::from(a) + u64::from(b) + u64::from(carry);
    let sum = wide as u32;
    let overflow = (a ^ sum) & (b ^ sum);
    let flags = sum & N | u32::from(sum == 0) * Z | (wide >> 32) as u32 * C | (overflow >> 31) * V;
    (sum, flags)
}

fn data<const OPERATION: u8, const SETS: bool, const KIND: u8>(s: &mut State, _: &Host, op: &Op) -> Step {
    let (b, shifter_carry) = operand::<KIND>(s, op);
    let a = s.gpr[op.rn as usize] as u32;
    let carry = s.nzcv & C != 0;
    let arithmetic = match OPERATION {
        SUB | CMP => Some(add_with_carry(a, !b, true)),
        RSB => Some(add_with_carry(!a, b, true)),
        ADD | CMN => Some(add_with_carry(a, b, false)),
        ADC => Some(add_with_carry(a, b, carry)),
        SBC => Some(add_with_carry(a, !b, carry)),
        RSC => Some(add_with_carry(!a, b, carry)),
        _ => None,
    };
    let (result, flags) = match arithmetic {
        Some((result, flags)) => (result, flags),
        None => {
            let result = match OPERATION {
                AND | TST => a & b,
                EOR | TEQ => a ^ b,
                ORR => a | b,
                MOV => b,
                BIC => a & !b,
                MVN => !b,
                _ => a | !b,
            };
            let logical = result & N | u32::from(result == 0) * Z | u32::from(shifter_carry) * C;
            (result, logical | s.nzcv & V)
        }
    };
    if SETS {
        s.nzcv = flags;
    }
    if !matches!(OPERATION, TST | TEQ | CMP | CMN) {
        s.gpr[op.rd as usize] = u64::from(result);
    }
    Ok(Flow::Next)
}

macro_rules! by_kind {
    ($operation:ident, $sets:literal) => {
        [
            data::<$operation, $sets, IMMEDIATE>,
            data::<$operation, $sets, PLAIN>,
            data::<$operation, $sets, SHIFTED>,
            data::<$operation, $sets, SHIFTED_BY_REGISTER>,
        ]
    };
}
macro_rules! by_operation {
    ($sets:literal) => {
        [
            by_kind!(AND, $sets),
            by_kind!(EOR, $sets),
            by_kind!(SUB, $sets),
            by_kind!(RSB, $sets),
            by_kind!(ADD, $sets),
            by_kind!(ADC, $sets),
            by_kind!(SBC, $sets),
            by_kind!(RSC, $sets),
            by_kind!(TST, $sets),
            by_kind!(TEQ, $sets),
            by_kind!(CMP, $sets),
            by_kind!(CMN, $sets),
            by_kind!(ORR, $sets),
            by_kind!(MOV, $sets),
            by_kind!(BIC, $sets),
            by_kind!(MVN, $sets),
            by_kind!(ORN, $sets),
        ]
    };
}

/// By operation and kind of operand: the handlers that set no flags, and those that do.
static HANDLERS: [[[Handler; 4]; 17]; 2] = [by_operation!(false), by_operation!(true)];

fn handler(operation: u8, sets: bool, kind: u8) -> Handler {
    HANDLERS[usize::from(sets)][usize::from(operation)][usize::from(kind)]
}

/// An instruction of this operation.
fn data_op(word: &Word<'_>, operation: u8, sets: bool, kind: u8) -> Op {
    let form = match kind {
        IMMEDIATE => Form::Immediate,
        PLAIN => Form::Plain,
        SHIFTED => Form::Shifted,
        _ => Form::ShiftedByRegister,
    };
    let action = Action::Data { operation, sets, form };
    word.op(handler(operation, sets, kind)).acting(action.pack())
}

/// ADR: a MOV of an address. Its first operand, which MOV does not read, tells it from a MOV of a constant.
fn address_op(word: &Word<'_>, address: u32) -> Op {
    Op { rn: ZERO, ..data_op(word, MOV, false, IMMEDIATE).with_imm(address) }
}

/// Finishes an instruction with a destination: writes of PC jump. `None` for those that would return from an
/// exception. T32 reserves PC, except in comparisons, which have no destination.
fn finish(word: &Word<'_>, op: Op, sets: bool) -> Option<Op> {
    if op.rd != PC || !word.row.has(b'd') || word.is_thumb() {
        return Some(op);
    }
    if sets { None } else { Some(op.jumping(Jump::Exchange)) }
}

fn immediate_of(word: &Word<'_>, operation: u8, (value, carry): (u32, Carry), sets: bool) -> Option<Op> {
    let extra = if carry == Carry::High { CARRY_HIGH } else { 0 };
    let op = data_op(word, operation, sets, IMMEDIATE).with_imm(value).with_extra(extra);
    finish(word, op, sets)
}

/// A32, with an immediate: operation `o` (of the manual's opc), immediate `i`.
pub(crate) fn arm_immediate(word: &Word<'_>) -> Option<Op> {
    let operation = (word.code >> 21 & 15) as u8;
    immediate_of(word, operation, shift::expand_arm(word.field('i')), word.is('S'))
}

/// A32, with a register shifted by an immediate: kind `y`, amount `i`.
pub(crate) fn arm_register(word: &Word<'_>) -> Option<Op> {
    let operation = (word.code >> 21 & 15) as u8;
    register_of(word, operation, word.field('y'), word.field('i'), word.is('S'))
}

fn register_of(word: &Word<'_>, operation: u8, kind: u32, amount: u32, sets: bool) -> Option<Op> {
    let (kind, amount) = decode_immediate(kind, amount);
    let form = if kind == LSL && amount == 0 { PLAIN } else { SHIFTED };
    let op = data_op(word, operation, sets, form).with_imm(amount).with_extra(kind);
    finish(word, op, sets)
}

/// A32, with a register shifted by a register: kind `y`.
pub(crate) fn arm_register_shifted(word: &Word<'_>) -> Option<Op> {
    if word.names_pc("dnms") {
        return None;
    }
    let operation = (word.code >> 21 & 15) as u8;
    Some(data_op(word, operation, word.is('S'), SHIFTED_BY_REGISTER).with_extra(word.field('y')))
}

/// The operation of A32's comparisons: bits 24 to 21.
fn comparison(word: &Word<'_>) -> u8 {
    (word.code >> 21 & 15) as u8
}

/// A32: TST, TEQ, CMP, CMN with an immediate `i`.
pub(crate) fn arm_compare_immediate(word: &Word<'_>) -> Option<Op> {
    immediate_of(word, comparison(word), shift::expand_arm(word.field('i')), true)
}

/// A32: TST, TEQ, CMP, CMN with a register shifted by an immediate.
pub(crate) fn arm_compare_register(word: &Word<'_>) -> Option<Op> {
    register_of(word, comparison(word), word.field('y'), word.field('i'), true)
}

/// A32: TST, TEQ, CMP, CMN with a register shifted by a register.
pub(crate) fn arm_compare_shifted(word: &Word<'_>) -> Option<Op> {
    if word.names_pc("nms") {
        return None;
    }
    Some(data_op(word, comparison(word), true, SHIFTED_BY_REGISTER).with_extra(word.field('y')))
}

/// The operation of T32's 32-bit encodings by bits 24 to 21, with the registers that make it another one.
fn thumb_operation(word: &Word<'_>) -> Option<u8> {
    let (d, n) = (word.field('d'), word.field('n'));
    Some(match (word.code >> 21 & 15, word.is('S')) {
        (0, true) if d == 15 => TST,
        (0, _) => AND,
        (1, _) => BIC,
        (2, _) if n == 15 => MOV,
        (2, _) => ORR,
        (3, _) if n == 15 => MVN,
        (3, _) => ORN,
        (4, true) if d == 15 => TEQ,
        (4, _) => EOR,
        (8, true) if d == 15 => CMN,
        (8, _) => ADD,
        (10, _) => ADC,
        (11, _) => SBC,
        (13, true) if d == 15 => CMP,
        (13, _) => SUB,
        (14, _) => RSB,
        _ => return None,
    })
}

/// Whether T32 reserves PC where the instruction names it.
fn thumb_reserves(word: &Word<'_>, operation: u8) -> bool {
    let compares = matches!(operation, TST | TEQ | CMP | CMN);
    let has_n = !matches!(operation, MOV | MVN);
    !compares && word.names_pc("d") || has_n && word.names_pc("n") || word.names_pc("m")
}

/// T32, with a modified immediate: bits `i`, `j`, `k`.
pub(crate) fn thumb_immediate(word: &Word<'_>) -> Option<Op> {
    let operation = thumb_operation(word)?;
    let imm = word.field('i') << 11 | word.field('j') << 8 | word.field('k');
    if thumb_reserves(word, operation) {
        return None;
    }
    let op = immediate_of(word, operation, shift::expand_thumb(imm)?, word.is('S'));
    without_destination(op, operation)
}

/// T32, with a register shifted by an immediate: amount `j`:`k`, kind `y`.
pub(crate) fn thumb_register(word: &Word<'_>) -> Option<Op> {
    let operation = thumb_operation(word)?;
    let amount = word.field('j') << 2 | word.field('k');
    if thumb_reserves(word, operation) {
        return None;
    }
    without_destination(register_of(word, operation, word.field('y'), amount, word.is('S')), operation)
}

/// Comparisons in T32 have 15 for a destination.
fn without_destination(op: Option<Op>, operation: u8) -> Option<Op> {
    let compares = matches!(operation, TST | TEQ | CMP | CMN);
    op.map(|op| if compares { Op { rd: SINK, ..op } } else { op })
}

/// T32, 32 bits: LSL, LSR, ASR, ROR by a register; kind `y`.
pub(crate) fn thumb_shift(word: &Word<'_>) -> Option<Op> {
    if word.names_pc("dnm") {
        return None;
    }
    let op = data_op(word, MOV, word.is('S'), SHIFTED_BY_REGISTER).with_extra(word.field('y'));
    // The value is in `n`, the amount in `m`.
    Some(Op { rm: op.rn, ra: op.rm, rn: op.rn, ..op })
}

/// MOVW (A32, T32): immediate `h`:`i`:`j`:`k`.
pub(crate) fn move_wide(word: &Word<'_>) -> Option<Op> {
    let imm = wide_immediate(word);
    reserved_destination(word, data_op(word, MOV, false, IMMEDIATE).with_imm(imm))
}

/// The immediate of MOVW and MOVT: 4 bits `h`, then 12 bits `i` (A32) or 1, 3 and 8 bits `i`, `j`, `k` (T32).
fn wide_immediate(word: &Word<'_>) -> u32 {
    let low = if word.is_thumb() {
        word.field('i') << 11 | word.field('j') << 8 | word.field('k')
    } else {
        word.field('i')
    };
    word.field('h') << 12 | low
}

/// The instruction, unless its destination is PC.
pub(crate) fn reserved_destination(word: &Word<'_>, op: Op) -> Option<Op> {
    (!word.names_pc("d")).then_some(op)
}

fn move_top(s: &mut State, _: &Host, op: &Op) -> Step {
    let low = s.gpr[op.rd as usize] & 0xffff;
    s.gpr[op.rd as usize] = low | u64::from(op.imm32()) << 16;
    Ok(Flow::Next)
}

/// MOVT.
pub(crate) fn move_top_of(word: &Word<'_>) -> Option<Op> {
    reserved_destination(
        word,
        word.op(move_top).acting(Action::MoveTop.pack()).with_imm(wide_immediate(word)),
    )
}

/// T32: ADDW, SUBW with 12 bits `i`, `j`, `k`; with PC as the first operand ADR.
pub(crate) fn thumb_add_wide(word: &Word<'_>) -> Option<Op> {
    let subtracts = word.code >> 23 & 1 == 1;
    let imm = word.field('i') << 11 | word.field('j') << 8 | word.field('k');
    if word.names_pc("n") {
        let address = if subtracts {
            word.literal_base().wrapping_sub(imm)
        } else {
            word.literal_base().wrapping_add(imm)
        };
        return reserved_destination(word, address_op(word, address));
    }
    if word.names_pc("d") {
        return None;
    }
    Some(data_op(word, if subtracts { SUB } else { ADD }, false, IMMEDIATE).with_imm(imm))
}

/// Whether an instruction of 16 bits sets flags: outside of IT blocks.
fn sets_flags(word: &Word<'_>) -> bool {
    !word.is_in_it()
}

/// T32, 16 bits: shift by an immediate; kind `y`, amount `i`.
pub(crate) fn thumb16_shift(word: &Word<'_>) -> Option<Op> {
    register_of(word, MOV, word.field('y'), word.field('i'), sets_flags(word))
}

/// T32, 16 bits: ADD, SUB with registers.
pub(crate) fn thumb16_add_register(word: &Word<'_>) -> Option<Op> {
    let operation = if word.code >> 9 & 1 == 1 { SUB } else { ADD };
    Some(data_op(word, operation, sets_flags(word), PLAIN))
}

/// T32, 16 bits: ADD, SUB with an immediate `i` of 3 bits.
pub(crate) fn thumb16_add_immediate(word: &Word<'_>) -> Option<Op> {
    let operation = if word.code >> 9 & 1 == 1 { SUB } else { ADD };
    Some(data_op(word, operation, sets_flags(word), IMMEDIATE).with_imm(word.field('i')))
}

/// T32, 16 bits: MOV, CMP, ADD, SUB with an immediate `i` of 8 bits and one register.
pub(crate) fn thumb16_immediate(word: &Word<'_>) -> Option<Op> {
    let operation = [MOV, CMP, ADD, SUB][(word.code >> 11 & 3) as usize];
    let sets = operation == CMP || sets_flags(word);
    let op = data_op(word, operation, sets, IMMEDIATE).with_imm(word.field('i'));
    Some(Op { rn: op.rd, ..op })
}

/// T32, 16 bits: two registers, operation in bits 9 to 6.
pub(crate) fn thumb16_register(word: &Word<'_>) -> Option<Op> {
    let code = word.code >> 6 & 15;
    let sets = sets_flags(word);
    let op = |operation, sets| {
        let op = data_op(word, operation, sets, PLAIN);
        Op { rn: op.rd, ..op }
    };
    Some(match code {
        2 | 3 | 4 | 7 => {
            let kind = match code {
                7 => shift::ROR,
                kind => kind - 2,
            };
            let op = data_op(word, MOV, sets, SHIFTED_BY_REGISTER).with_extra(kind);
            // The amount is in `m`, the value in the destination.
            Op { ra: op.rm, rm: op.rd, ..op }
        }
        // RSB from 0.
        9 => {
            let op = data_op(word, RSB, sets, IMMEDIATE);
            Op { rn: op.rm, ..op }
        }
        8 => op(TST, true),
        10 => op(CMP, true),
        11 => op(CMN, true),
        0 => op(AND, sets),
        1 => op(EOR, sets),
        5 => op(ADC, sets),
        6 => op(SBC, sets),
        12 => op(ORR, sets),
        14 => op(BIC, sets),
        15 => op(MVN, sets),
        _ => return None,
    })
}

/// T32, 16 bits: ADD, CMP, MOV with any registers; the destination is `h`:`d`.
pub(crate) fn thumb16_high(word: &Word<'_>) -> Option<Op> {
    let d = word.field('h') << 3 | word.field('d');
    let (operation, sets) = match word.code >> 8 & 3 {
        0 => (ADD, false),
        1 => (CMP, true),
        _ => (MOV, false),
    };
    let op = Op { rd: place(d), rn: place(d), ..data_op(word, operation, sets, PLAIN) };
    if operation == CMP {
        return (d != 15 && !word.names_pc("m")).then_some(op);
    }
    if d != 15 {
        return Some(op);
    }
    let reserved = word.is_inside_it() || operation == ADD && word.names_pc("m");
    (!reserved).then(|| op.jumping(Jump::Same))
}

/// T32, 16 bits: ADD with PC or SP and an immediate `i` of 8 bits, in words.
pub(crate) fn thumb16_add_pc_sp(word: &Word<'_>) -> Option<Op> {
    let imm = word.field('i') << 2;
    if word.code >> 11 & 1 == 0 {
        let address = word.literal_base().wrapping_add(imm);
        return Some(address_op(word, address));
    }
    Some(Op { rn: place(13), ..data_op(word, ADD, false, IMMEDIATE).with_imm(imm) })
}

/// T32, 16 bits: ADD, SUB of an immediate `i` of 7 bits, in words, to SP.
pub(crate) fn thumb16_adjust_sp(word: &Word<'_>) -> Option<Op> {
    let operation = if word.code >> 7 & 1 == 1 { SUB } else { ADD };
    let op = data_op(word, operation, false, IMMEDIATE).with_imm(word.field('i') << 2);
    Some(Op { rd: place(13), rn: place(13), ..op })
}

#[cfg(test)]
mod tests {
    use crate::a32::{Set, Support};

    #[test]
    fn comparisons_of_thumb_are_instructions() {
        // CMP ip, #27; TST r0, #1; CMN r1, #1; TEQ r2, r3; CMP r8, r9, LSL #1.
        for word in [0xf1bc_0f1b, 0xf010_0f01, 0xf111_0f01, 0xea92_0f03, 0xebb8_0f49] {
            assert_eq!(Support::of(Set::Thumb32, word, false), Support::Implemented, "{word:#x}");
        }
        // ADD pc, r1, #1 is none.
        assert_eq!(Support::of(Set::Thumb32, 0xf101_0f01, false), Support::Reserved);
    }
}
