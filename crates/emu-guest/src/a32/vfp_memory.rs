//! VFP's loads and stores (manual F6.1).
//!
//! Addresses are multiples of 4, or of 2 for half precision (manual E2, alignment support); Linux reports
//! others by SIGBUS. Loads of several registers write none before all of them are done, so that they can be
//! run again after a fault.

use super::fields::Word;
use super::registers::{ZERO, place};
use crate::exit::{Flow, Leave, Step};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// Bits of [`Op::extra`]: the registers lie below the base; the base is written back.
const DOWN: u32 = 1;
const WRITE_BACK: u32 = 2;

/// Sizes, as logarithms of their bytes.
const HALF: u8 = 1;
const SINGLE: u8 = 2;
const DOUBLE: u8 = 3;

impl State {
    /// Loads a doubleword from a multiple of 4: of a multiple of 8 it is one access.
    #[inline(always)]
    fn load_double(&mut self, host: &Host, address: u32) -> Result<u64, Leave> {
        if address & 7 == 0 && !self.is_big_endian() {
            return self.load(host, u64::from(address), 3);
        }
        let first = u64::from(self.load32(host, address, 2)?);
        let second = u64::from(self.load32(host, address.wrapping_add(4), 2)?);
        Ok(if self.is_big_endian() { second | first << 32 } else { first | second << 32 })
    }

    /// Stores a doubleword at a multiple of 4.
    #[inline(always)]
    fn store_double(&mut self, host: &Host, address: u32, value: u64) -> Result<(), Leave> {
        if address & 7 == 0 && !self.is_big_endian() {
            return self.store(host, u64::from(address), 3, value);
        }
        let (low, high) = (value as u32, (value >> 32) as u32);
        let (first, second) = if self.is_big_endian() { (high, low) } else { (low, high) };
        self.store32(host, address, 2, first)?;
        self.store32(host, address.wrapping_add(4), 2, second)
    }
}

/// The address of one register, checked.
#[inline(always)]
fn address<const SIZE: u8>(s: &mut State, op: &Op) -> Result<u32, Leave> {
    let address = (s.gpr[op.rn as usize] as u32).wrapping_add(op.imm32());
    s.aligned(u64::from(address), if SIZE == HALF { 2 } else { 4 })?;
    Ok(address)
}

fn load<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address::<SIZE>(s, op)?;
    if SIZE == DOUBLE {
        let value = s.load_double(host, address)?;
        s.set_d(op.rd, value);
    } else {
        let value = s.load32(host, address, SIZE)?;
        s.set_s(op.rd, value);
    }
    Ok(Flow::Next)
}

fn store<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address::<SIZE>(s, op)?;
    if SIZE == DOUBLE {
        s.store_double(host, address, s.d(op.rd))?;
    } else {
        let mask = if SIZE == HALF { 0xffff } else { 0xffff_ffff };
        s.store32(host, address, SIZE, s.s(op.rd) & mask)?;
    }
    Ok(Flow::Next)
}

/// VLDR, VSTR with an immediate `i` in words, or in halfwords for half precision.
pub(super) fn one(word: &Word<'_>) -> Option<Op> {
    let loads = word.code >> 20 & 1 == 1;
    let (run, scale): (Handler, u32) = match (word.field('z'), loads) {
        (1, true) => (load::<HALF>, 1),
        (2, true) => (load::<SINGLE>, 2),
        (3, true) => (load::<DOUBLE>, 2),
        (1, false) => (store::<HALF>, 1),
        (2, false) => (store::<SINGLE>, 2),
        (3, false) => (store::<DOUBLE>, 2),
        _ => return None,
    };
    let imm = word.field('i') << scale;
    let offset = if word.is('U') { imm } else { imm.wrapping_neg() };
    let op = with_base(word, run)?;
    if word.names_pc("n") {
        // T32 has no stores from PC.
        let reserved = word.is_thumb() && !loads;
        let address = word.literal_base().wrapping_add(offset);
        return (!reserved).then(|| Op { rn: ZERO, ..op.with_imm(address) });
    }
    Some(op.with_imm(offset))
}

/// The instruction with the general register `n` and the register `d` of VFP.
fn with_base(word: &Word<'_>, run: Handler) -> Option<Op> {
    Some(Op { rn: place(word.field('n')), ..word.sized(run) })
}

/// The lowest address, checked, and the base after the instruction.
#[inline(always)]
fn range(s: &mut State, op: &Op) -> Result<(u32, u32), Leave> {
    let base = s.gpr[op.rn as usize] as u32;
    let length = op.imm32();
    let down = op.extra() & DOWN != 0;
    let moved = if down { base.wrapping_sub(length) } else { base.wrapping_add(length) };
    let start = if down { moved } else { base };
    s.aligned(u64::from(start), 4)?;
    Ok((start, moved))
}

fn write_back(s: &mut State, op: &Op, base: u32) {
    if op.extra() & WRITE_BACK != 0 {
        s.gpr[op.rn as usize] = u64::from(base);
    }
}

fn load_singles(s: &mut State, host: &Host, op: &Op) -> Step {
    let (mut address, base) = range(s, op)?;
    let mut values = [0; 32];
    let values = &mut values[..op.imm32() as usize / 4];
    for value in &mut *values {
        *value = s.load32(host, address, 2)?;
        address = address.wrapping_add(4);
    }
    for (n, value) in (op.rd..).zip(values) {
        s.set_s(n, *value);
    }
    write_back(s, op, base);
    Ok(Flow::Next)
}

fn load_doubles(s: &mut State, host: &Host, op: &Op) -> Step {
    let (mut address, base) = range(s, op)?;
    let mut values = [0; 16];
    let values = &mut values[..op.imm32() as usize / 8];
    for value in &mut *values {
        *value = s.load_double(host, address)?;
        address = address.wrapping_add(8);
    }
    for (n, value) in (op.rd..).zip(values) {
        s.set_d(n, *value);
    }
    write_back(s, op, base);
    Ok(Flow::Next)
}

fn store_singles(s: &mut State, host: &Host, op: &Op) -> Step {
    let (mut address, base) = range(s, op)?;
    for n in (op.rd..).take(op.imm32() as usize / 4) {
        s.store32(host, address, 2, s.s(n))?;
        address = address.wrapping_add(4);
    }
    write_back(s, op, base);
    Ok(Flow::Next)
}

fn store_doubles(s: &mut State, host: &Host, op: &Op) -> Step {
    let (mut address, base) = range(s, op)?;
    for n in (op.rd..).take(op.imm32() as usize / 8) {
        s.store_double(host, address, s.d(n))?;
        address = address.wrapping_add(8);
    }
    write_back(s, op, base);
    Ok(Flow::Next)
}

/// VLDM, VSTM, VPUSH, VPOP of `i` words. An odd number of words with doublewords is FLDMX or FSTMX: the last
/// word counts in the base, but is not transferred.
pub(super) fn multiple(word: &Word<'_>) -> Option<Op> {
    let (loads, down) = (word.code >> 20 & 1 == 1, word.code >> 24 & 1 == 1);
    let doubles = word.has_doubles();
    let run: Handler = match (loads, doubles) {
        (true, false) => load_singles,
        (true, true) => load_doubles,
        (false, false) => store_singles,
        (false, true) => store_doubles,
    };
    let writes_back = down || word.is('W');
    let op = with_base(word, run)?;
    let words = word.field('i');
    let count = if doubles { words / 2 } else { words };
    let bad_list = count == 0 || u32::from(op.rd) + count > 32 || doubles && count > 16;
    let bad_base = word.names_pc("n") && (writes_back || word.is_thumb());
    if bad_list || bad_base {
        return None;
    }
    let extra = u32::from(down) * DOWN | u32::from(writes_back) * WRITE_BACK;
    Some(op.with_imm(words * 4).with_extra(extra))
}
