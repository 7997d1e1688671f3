//! Exclusive and ordered loads and stores, and SWP (manual F4.1.2, F3.1.3).

use super::action::Action;
use super::fields::Word;
use super::registers::place;
use crate::exit::{Flow, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;
use core::sync::atomic::{Ordering, fence};

/// A doubleword of two registers, in the order of the current data accesses.
fn join(s: &State, first: u64, second: u64) -> u64 {
    if s.is_big_endian() { (second | first << 32).swap_bytes() } else { first | second << 32 }
}

/// A value of `1 << SIZE` bytes as memory has it, or the other way round.
fn ordered<const SIZE: u8>(s: &State, value: u64) -> u64 {
    if s.is_big_endian() { value.swap_bytes() >> (64 - (8 << SIZE)) } else { value }
}

fn load_exclusive<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let value = s.load(host, address, SIZE)?;
    (s.exclusive_address, s.exclusive_size) = (address, 1 << SIZE);
    s.exclusive_value = u128::from(value);
    if SIZE == 3 {
        let halves = [value & 0xffff_ffff, value >> 32].map(|half| ordered::<2>(s, half));
        [s.gpr[op.rd as usize], s.gpr[op.ra as usize]] = halves;
    } else {
        s.gpr[op.rd as usize] = ordered::<SIZE>(s, value);
    }
    Ok(Flow::Next)
}

/// Ends a store-exclusive, whose result goes to `rm`. Generated code leaves out barriers next to it, so it is
/// one even if memory was not accessed.
fn end_store(s: &mut State, op: &Op, stored: bool) -> Flow {
    if !stored {
        fence(Ordering::SeqCst);
    }
    s.exclusive_size = 0;
    s.gpr[op.rm as usize] = u64::from(!stored);
    Flow::Next
}

fn store_exclusive<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let mut stored = false;
    if s.exclusive_size == 1 << SIZE && s.exclusive_address == address {
        let value = if SIZE == 3 {
            join(s, s.gpr[op.rd as usize], s.gpr[op.ra as usize])
        } else {
            ordered::<SIZE>(s, s.gpr[op.rd as usize])
        };
        let expected = s.exclusive_value as u64;
        let seen =
            host.memory.compare_swap(address, SIZE, expected, value).or_else(|fault| s.fault(fault))?;
        stored = seen == expected;
    }
    Ok(end_store(s, op, stored))
}

fn load_acquire<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let value = s.load32(host, address as u32, SIZE)?;
    s.gpr[op.rd as usize] = u64::from(value);
    Ok(Flow::Next)
}

fn store_release<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    s.store32(host, address as u32, SIZE, s.gpr[op.rd as usize] as u32)?;
    // A later load-acquire must not overtake the store.
    fence(Ordering::SeqCst);
    Ok(Flow::Next)
}

fn swap<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let value = ordered::<SIZE>(s, s.gpr[op.rm as usize] & ((1 << (8 << SIZE)) - 1));
    let old = host.memory.swap(address, SIZE, value).or_else(|fault| s.fault(fault))?;
    s.gpr[op.rd as usize] = ordered::<SIZE>(s, old);
    Ok(Flow::Next)
}

/// SWP, SWPB.
pub(crate) fn swap_of(word: &Word<'_>) -> Option<Op> {
    let n = word.field('n');
    if word.names_pc("tnm") || n == word.field('t') || n == word.field('m') {
        return None;
    }
    Some(word.op(if word.code >> 22 & 1 == 1 { swap::<0> } else { swap::<2> }))
}

/// What an exclusive access transfers: the logarithm of its bytes.
fn load_of(size: u32) -> Handler {
    [load_exclusive::<0>, load_exclusive::<1>, load_exclusive::<2>, load_exclusive::<3>][size as usize]
}

fn store_of(size: u32) -> Handler {
    [store_exclusive::<0>, store_exclusive::<1>, store_exclusive::<2>, store_exclusive::<3>][size as usize]
}

/// A32: LDREX, STREX and their forms; bits 22 to 21 are 0 word, 1 doubleword, 2 byte, 3 halfword. In a store
/// `d` is the result.
pub(crate) fn arm(word: &Word<'_>) -> Option<Op> {
    let size = [2, 3, 0, 1][(word.code >> 21 & 3) as usize];
    exclusive(word, size)
}

fn exclusive(word: &Word<'_>, size: u32) -> Option<Op> {
    let loads = word.code >> 20 & 1 == 1;
    let (d, t, n) = (word.field('d'), word.field('t'), word.field('n'));
    let u = if word.is_thumb() { word.field('u') } else { t + 1 };
    let dual = size == 3;
    let reserved = word.names_pc("dtn")
        || word.is_thumb() && dual && u == 15
        || !word.is_thumb() && dual && (t & 1 == 1 || t == 14)
        || loads && dual && t == u
        || !loads && (d == n || d == t || dual && d == u);
    if reserved {
        return None;
    }
    let op = word.op(if loads { load_of(size) } else { store_of(size) });
    let size = size as u8;
    let action = if loads { Action::LoadExclusive { size } } else { Action::StoreExclusive { size } };
    Some(Op { rd: place(t), ra: place(u), rm: place(d), ..op.acting(action.pack()) })
}

/// T32: LDREX, STREX with an offset `i` in words, and their forms with the size in bits 5 to 4.
pub(crate) fn thumb(word: &Word<'_>) -> Option<Op> {
    exclusive(word, word.code >> 4 & 3)
}

fn load_exclusive_offset(s: &mut State, host: &Host, op: &Op) -> Step {
    let base = s.gpr[op.rn as usize];
    let address = base.wrapping_add(u64::from(op.imm32())) & 0xffff_ffff;
    s.aligned(address, 4)?;
    let value = s.load(host, address, 2)?;
    (s.exclusive_address, s.exclusive_size) = (address, 4);
    s.exclusive_value = u128::from(value);
    s.gpr[op.rd as usize] = ordered::<2>(s, value);
    Ok(Flow::Next)
}

fn store_exclusive_offset(s: &mut State, host: &Host, op: &Op) -> Step {
    let base = s.gpr[op.rn as usize];
    let address = base.wrapping_add(u64::from(op.imm32())) & 0xffff_ffff;
    s.aligned(address, 4)?;
    let mut stored = false;
    if s.exclusive_size == 4 && s.exclusive_address == address {
        let (expected, value) = (s.exclusive_value as u64, ordered::<2>(s, s.gpr[op.rd as usize]));
        let seen = host.memory.compare_swap(address, 2, expected, value).or_else(|fault| s.fault(fault))?;
        stored = seen == expected;
    }
    Ok(end_store(s, op, stored))
}

/// T32: LDREX, STREX of a word, with an offset `i` in words.
pub(crate) fn thumb_word(word: &Word<'_>) -> Option<Op> {
    let loads = word.code >> 20 & 1 == 1;
    let (d, t, n) = (word.field('d'), word.field('t'), word.field('n'));
    if word.names_pc("dtn") || !loads && (d == n || d == t) {
        return None;
    }
    let op = word.op(if loads { load_exclusive_offset } else { store_exclusive_offset });
    let action = if loads { Action::LoadExclusive { size: 2 } } else { Action::StoreExclusive { size: 2 } };
    let op = op.acting(action.pack()).with_imm(word.field('i') << 2);
    Some(Op { rd: place(t), rm: place(d), ..op })
}

/// LDA, STL and their forms for bytes and halfwords: bits 22 to 21 in A32, bits 5 to 4 in T32.
pub(crate) fn acquire_release(word: &Word<'_>) -> Option<Op> {
    let size =
        if word.is_thumb() { word.code >> 4 & 3 } else { [2, 3, 0, 1][(word.code >> 21 & 3) as usize] };
    if word.names_pc("tn") {
        return None;
    }
    let loads = word.code >> 20 & 1 == 1;
    let run: Handler = match (loads, size) {
        (true, 0) => load_acquire::<0>,
        (true, 1) => load_acquire::<1>,
        (true, 2) => load_acquire::<2>,
        (false, 0) => store_release::<0>,
        (false, 1) => store_release::<1>,
        (false, 2) => store_release::<2>,
        _ => return None,
    };
    Some(word.op(run))
}
