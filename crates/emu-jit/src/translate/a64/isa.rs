//! A64 as the translator's planner sees it.

use super::facts;
use super::{Translator, bits};
use crate::routines::{A64_TABLE, Table};
use crate::translate::accesses::{Accesses, Uses};
use crate::translate::condition::Condition;
use crate::translate::{Class, End, Isa};
use crossdock_emu_guest::a64::stack_pointer::{ALIGNMENT, may_unalign};
use crossdock_emu_guest::a64::{A64, decode};
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::{Op, State};
use crossdock_emu_x64::Label;

/// Bytes of an instruction.
const LENGTH: u64 = 4;

impl Isa for A64 {
    // Addresses are multiples of 4.
    const MODE_SHIFT: u32 = 0;

    const ROUTINES: Table = A64_TABLE;

    /// The instruction word.
    type Item = u32;

    fn can_run(state: &State) -> bool {
        state.sp().is_multiple_of(ALIGNMENT)
    }

    #[inline(always)]
    fn read(words: &mut Words<'_>, place: u64, (): &mut ()) -> Option<u32> {
        words.word(place).ok()
    }

    #[inline(always)]
    fn item_length(_: &u32) -> u64 {
        LENGTH
    }

    #[inline(always)]
    fn place(_: &[u32], start: u64, i: usize) -> u64 {
        start.wrapping_add(i as u64 * LENGTH)
    }

    fn count_before(_: &[u32], start: u64, at: u64) -> Option<usize> {
        Some(((at - start) / LENGTH) as usize)
    }

    const HAS_FACTS: bool = true;
    const GATHERS_FLAGS: bool = true;

    fn computes_alone(word: &u32) -> Option<Accesses> {
        facts::computes_alone(*word)
    }

    #[inline(always)]
    fn class(word: &u32) -> Class {
        facts::class(*word)
    }

    #[inline(always)]
    fn end_of(word: &u32, place: u64) -> Option<End> {
        facts::end_of(*word, place)
    }

    fn accessed(word: &u32, state: &State) -> Option<u64> {
        facts::accessed(*word, state)
    }

    fn accesses(word: &u32) -> Accesses {
        facts::accesses(*word)
    }

    fn count_uses(word: &u32, weight: u32, uses: &mut Uses) {
        facts::count(*word, weight, uses);
    }

    #[inline(always)]
    fn may_unalign(word: &u32) -> bool {
        may_unalign(*word)
    }

    fn check_stack_pointer(translator: &mut Translator<'_>) {
        translator.check_stack_pointer();
    }

    fn op(word: &u32, place: u64) -> Op {
        decode(*word, place).0
    }

    #[inline(always)]
    fn lower(translator: &mut Translator<'_>) -> usize {
        translator.instruction()
    }

    fn branch_condition(translator: &mut Translator<'_>) -> Condition {
        let word = translator.items[0];
        if bits(word, 31, 24) == 0x54 {
            translator.condition(bits(word, 3, 0))
        } else {
            Condition::One(translator.branch_test(word))
        }
    }

    fn end(translator: &mut Translator<'_>, end: End) {
        let word = translator.items[0];
        match end {
            End::Synchronize => translator.synchronize(),
            End::Invalidate => translator.invalidate(word),
            End::SetMode => translator.set_mode(word),
            End::CallRegister => translator.call_register(word),
            End::JumpRegister => translator.jump_register(word),
            End::Return => translator.return_to(word),
            End::Syscall => translator.syscall(word),
            End::Look => translator.look(),
            End::Next | End::Jump(_) | End::Branch(_) | End::Call(_) => {}
        }
    }

    fn invalidate_marked(translator: &mut Translator<'_>, register: u8, slow: Label, back: Label) {
        translator.invalidate_marked(register, slow, back);
    }
}
