//! Advanced SIMD: loads and stores of structures (manual F4.1.11, F6.1, VLD1 to VLD4 and VST1 to VST4).
//!
//! A load makes all its accesses before it writes a register. An address needs no alignment but the one that
//! the instruction asks for (`:64`); the elements need none, since Linux leaves SCTLR.A clear.

use super::fields::Word;
use super::structure::{Elements, Structure};
use crate::exit::{Flow, Leave, Step};
use crate::lanes::{broadcast, lane, low};
use crate::op::{Handler, Host, Op};
use crate::state::State;

/// What an instruction transfers.
#[derive(Clone, Copy)]
struct Transfer {
    /// Log2 of the bytes of an element.
    size: u32,
    /// Elements of a structure, 1 to 4.
    count: u32,
    /// Registers for each element of a structure, 1 to 4.
    registers: u32,
    /// From the register of an element to that of the next one, 1 or 2.
    spacing: u32,
    /// Log2 of the alignment of the address.
    alignment: u32,
    /// The lane, of single structures.
    index: u32,
}

impl Transfer {
    fn pack(self) -> u32 {
        let low = self.size | self.count << 2 | self.registers << 5 | self.spacing << 8;
        low | self.alignment << 10 | self.index << 13
    }

    #[inline(always)]
    fn of(op: &Op) -> Transfer {
        let imm = op.imm32();
        Transfer {
            size: imm & 3,
            count: imm >> 2 & 7,
            registers: imm >> 5 & 7,
            spacing: imm >> 8 & 3,
            alignment: imm >> 10 & 7,
            index: imm >> 13 & 7,
        }
    }

    /// The instruction; `None` if a register is after D31, or the base is PC.
    fn op(self, word: &Word<'_>, run: Handler) -> Option<Op> {
        let last = u32::from(word.double('d')) + (self.count - 1) * self.spacing + self.registers - 1;
        let reserved = last > 31 || word.names_pc("n");
        let op = Op { rd: word.double('d'), ..word.op(run) };
        (!reserved).then(|| op.with_extra(word.field('m')).with_imm(self.pack()))
    }

    /// The register of element `i` of a structure, for lanes in the `r`th register of it.
    #[inline(always)]
    fn register(self, op: &Op, i: u32, r: u32) -> u8 {
        op.rd + (i * self.spacing + r) as u8
    }
}

impl State {
    #[inline(always)]
    fn load_element(&mut self, host: &Host, address: u32, size: u32) -> Result<u64, Leave> {
        let value = self.load(host, u64::from(address), size as u8)?;
        Ok(if self.is_big_endian() { value.swap_bytes() >> (64 - (8 << size)) } else { value })
    }

    #[inline(always)]
    fn store_element(&mut self, host: &Host, address: u32, size: u32, value: u64) -> Result<(), Leave> {
        let value = if self.is_big_endian() { value.swap_bytes() >> (64 - (8 << size)) } else { value };
        self.store(host, u64::from(address), size as u8, value)
    }
}

/// The address, if it is aligned.
#[inline(always)]
fn address(s: &mut State, op: &Op, transfer: Transfer) -> Result<u32, Leave> {
    let address = s.gpr[op.rn as usize] as u32;
    s.aligned(u64::from(address), 1 << transfer.alignment)?;
    Ok(address)
}

/// Moves the base by the bytes of the transfer (`m` is 13) or by Rm; `m` of 15 says that it stays.
#[inline(always)]
fn write_back(s: &mut State, op: &Op, address: u32, bytes: u32) -> Step {
    let by = match op.extra() {
        15 => return Ok(Flow::Next),
        13 => bytes,
        _ => s.gpr[op.rm as usize] as u32,
    };
    s.gpr[op.rn as usize] = u64::from(address.wrapping_add(by));
    Ok(Flow::Next)
}

fn load_multiple(s: &mut State, host: &Host, op: &Op) -> Step {
    let transfer = Transfer::of(op);
    let start = address(s, op, transfer)?;
    // Elements of a doubleword are consecutive in memory.
    let size = if transfer.count == 1 && !s.is_big_endian() { 3 } else { transfer.size };
    let mut values = [[0u64; 4]; 4];
    let mut at = start;
    for r in 0..transfer.registers {
        for e in 0..8 >> size {
            for value in &mut values[..transfer.count as usize] {
                value[r as usize] |= s.load_element(host, at, size)? << (e * (8 << size));
                at = at.wrapping_add(1 << size);
            }
        }
    }
    for r in 0..transfer.registers {
        for i in 0..transfer.count {
            s.set_vector(transfer.register(op, i, r), false, u128::from(values[i as usize][r as usize]));
        }
    }
    write_back(s, op, start, at.wrapping_sub(start))
}

fn store_multiple(s: &mut State, host: &Host, op: &Op) -> Step {
    let transfer = Transfer::of(op);
    let start = address(s, op, transfer)?;
    let size = if transfer.count == 1 && !s.is_big_endian() { 3 } else { transfer.size };
    let mut at = start;
    for r in 0..transfer.registers {
        for e in 0..8 >> size {
            for i in 0..transfer.count {
                let value = lane(s.vector(transfer.register(op, i, r), false), e, 8 << size);
                s.store_element(host, at, size, value)?;
                at = at.wrapping_add(1 << size);
            }
        }
    }
    write_back(s, op, start, at.wrapping_sub(start))
}

/// The elements of one structure.
#[inline(always)]
fn load_structure(s: &mut State, host: &Host, transfer: Transfer, start: u32) -> Result<[u64; 4], Leave> {
    let mut values = [0; 4];
    for i in 0..transfer.count {
        let at = start.wrapping_add(i << transfer.size);
        values[i as usize] = s.load_element(host, at, transfer.size)?;
    }
    Ok(values)
}

fn load_single(s: &mut State, host: &Host, op: &Op) -> Step {
    let transfer = Transfer::of(op);
    let start = address(s, op, transfer)?;
    let values = load_structure(s, host, transfer, start)?;
    let width = 8 << transfer.size;
    for i in 0..transfer.count {
        let (register, at) = (transfer.register(op, i, 0), transfer.index * width);
        let old = s.d(register) & !(low(width) << at);
        s.set_vector(register, false, u128::from(old | values[i as usize] << at));
    }
    write_back(s, op, start, transfer.count << transfer.size)
}

fn store_single(s: &mut State, host: &Host, op: &Op) -> Step {
    let transfer = Transfer::of(op);
    let start = address(s, op, transfer)?;
    for i in 0..transfer.count {
        let value = lane(s.vector(transfer.register(op, i, 0), false), transfer.index, 8 << transfer.size);
        s.store_element(host, start.wrapping_add(i << transfer.size), transfer.size, value)?;
    }
    write_back(s, op, start, transfer.count << transfer.size)
}

fn load_all_lanes(s: &mut State, host: &Host, op: &Op) -> Step {
    let transfer = Transfer::of(op);
    let start = address(s, op, transfer)?;
    let values = load_structure(s, host, transfer, start)?;
    for i in 0..transfer.count {
        let value = broadcast(values[i as usize], 8 << transfer.size);
        for r in 0..transfer.registers {
            s.set_vector(transfer.register(op, i, r), false, value);
        }
    }
    write_back(s, op, start, transfer.count << transfer.size)
}

/// VLDn of multiple structures: `z` is the size, `a` the alignment.
pub(crate) fn multiple_load(word: &Word<'_>) -> Option<Op> {
    transfer(word, load_multiple)
}

/// VSTn of multiple structures: `z` is the size, `a` the alignment.
pub(crate) fn multiple_store(word: &Word<'_>) -> Option<Op> {
    transfer(word, store_multiple)
}

/// The instruction that transfers what the word names.
fn transfer(word: &Word<'_>, run: Handler) -> Option<Op> {
    let Structure { elements, size, count, registers, spacing, alignment } = Structure::of(word.code)?;
    let index = if let Elements::Lane(lane) = elements { lane } else { 0 };
    Transfer { size, count, registers, spacing, alignment, index }.op(word, run)
}

/// VLDn of a single structure: `z` is the size; `i` holds the lane, the spacing and the alignment.
pub(crate) fn single_load(word: &Word<'_>) -> Option<Op> {
    transfer(word, load_single)
}

/// VSTn of a single structure: `z` is the size; `i` holds the lane, the spacing and the alignment.
pub(crate) fn single_store(word: &Word<'_>) -> Option<Op> {
    transfer(word, store_single)
}

/// VLDn of a single structure to all lanes: `z` is the size, `r` gives registers or spacing, `a` asks for
/// alignment.
pub(crate) fn all_lanes(word: &Word<'_>) -> Option<Op> {
    transfer(word, load_all_lanes)
}
