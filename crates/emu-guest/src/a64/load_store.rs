//! Loads and stores of general and vector registers (manual C3.2, C4.1.94): single, pair, exclusive, ordered,
//! atomic, and whole structures.
//!
//! Every instruction makes all its loads before it writes a register, and all its stores before it writes the
//! base back: a fault changes no register.

use super::fields::op;
use super::integer::extend;
use crate::exit::{Flow, Leave, Step};
use crate::memory::untagged;
use crate::op::sign_extend;
use crate::op::{Handler, Host, Op, bits};
use crate::state::State;
use core::sync::atomic::{Ordering, fence};

/// Addressing modes of an immediate offset.
const OFFSET: u8 = 0;
const PRE: u8 = 1;
const POST: u8 = 2;

/// How a loaded value fills the register.
const UNSIGNED: u8 = 0;
const SIGNED_64: u8 = 1;
const SIGNED_32: u8 = 2;

impl State {
    /// Loads a vector register's worth of `1 << size` bytes, `size` 0 to 4.
    #[inline(always)]
    fn load_vector(&mut self, host: &Host, address: u64, size: u8) -> Result<u128, Leave> {
        if size == 4 { self.load128(host, address) } else { self.load(host, address, size).map(u128::from) }
    }

    #[inline(always)]
    fn store_vector(&mut self, host: &Host, address: u64, size: u8, value: u128) -> Result<(), Leave> {
        if size == 4 {
            self.store128(host, address, value)
        } else {
            self.store(host, address, size, value as u64)
        }
    }
}

#[inline(always)]
fn sign<const SIZE: u8, const EXTENSION: u8>(value: u64) -> u64 {
    let width = 8 << SIZE;
    match EXTENSION {
        SIGNED_64 => sign_extend(value, width),
        SIGNED_32 => sign_extend(value, width) & 0xffff_ffff,
        _ => value,
    }
}

#[inline(always)]
fn address<const MODE: u8>(s: &State, op: &Op) -> u64 {
    let base = s.gpr[op.rn as usize];
    if MODE == POST { base } else { base.wrapping_add(op.imm) }
}

#[inline(always)]
fn write_back<const MODE: u8>(s: &mut State, op: &Op) {
    if MODE != OFFSET {
        s.gpr[op.rn as usize] = s.gpr[op.rn as usize].wrapping_add(op.imm);
    }
}

/// Address of a register offset: base plus extended and shifted index; `imm` is the shift, `ra` the
/// extension.
#[inline(always)]
fn register_address(s: &State, op: &Op) -> u64 {
    let index = extend(s.gpr[op.rm as usize], u32::from(op.ra)) << op.imm;
    s.gpr[op.rn as usize].wrapping_add(index)
}

fn load_immediate<const SIZE: u8, const EXTENSION: u8, const MODE: u8>(
    s: &mut State,
    host: &Host,
    op: &Op,
) -> Step {
    let value = sign::<SIZE, EXTENSION>(s.load(host, address::<MODE>(s, op), SIZE)?);
    write_back::<MODE>(s, op);
    s.gpr[op.rd as usize] = value;
    Ok(Flow::Next)
}

fn store_immediate<const SIZE: u8, const MODE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    s.store(host, address::<MODE>(s, op), SIZE, s.gpr[op.rd as usize])?;
    write_back::<MODE>(s, op);
    Ok(Flow::Next)
}

fn load_register<const SIZE: u8, const EXTENSION: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let value = s.load(host, register_address(s, op), SIZE)?;
    s.gpr[op.rd as usize] = sign::<SIZE, EXTENSION>(value);
    Ok(Flow::Next)
}

fn store_register<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    s.store(host, register_address(s, op), SIZE, s.gpr[op.rd as usize])?;
    Ok(Flow::Next)
}

fn load_literal<const SIZE: u8, const EXTENSION: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    s.gpr[op.rd as usize] = sign::<SIZE, EXTENSION>(s.load(host, op.imm, SIZE)?);
    Ok(Flow::Next)
}

fn load_vector_immediate<const SIZE: u8, const MODE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let value = s.load_vector(host, address::<MODE>(s, op), SIZE)?;
    write_back::<MODE>(s, op);
    s.v[op.rd as usize & 31] = value;
    Ok(Flow::Next)
}

fn store_vector_immediate<const SIZE: u8, const MODE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    s.store_vector(host, address::<MODE>(s, op), SIZE, s.v[op.rd as usize & 31])?;
    write_back::<MODE>(s, op);
    Ok(Flow::Next)
}

fn load_vector_register<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    s.v[op.rd as usize & 31] = s.load_vector(host, register_address(s, op), SIZE)?;
    Ok(Flow::Next)
}

fn store_vector_register<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    s.store_vector(host, register_address(s, op), SIZE, s.v[op.rd as usize & 31])?;
    Ok(Flow::Next)
}

fn load_vector_literal<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    s.v[op.rd as usize & 31] = s.load_vector(host, op.imm, SIZE)?;
    Ok(Flow::Next)
}

/// PRFM: a hint.
fn prefetch(_: &mut State, _: &Host, _: &Op) -> Step {
    Ok(Flow::Next)
}

/// Handler of a single register access with immediate; `vector` is bit 26.
fn single<const MODE: u8>(size: u32, vector: bool, opc: u32) -> Option<Handler> {
    Some(match (vector, size, opc) {
        (false, 0, 0) => store_immediate::<0, MODE>,
        (false, 1, 0) => store_immediate::<1, MODE>,
        (false, 2, 0) => store_immediate::<2, MODE>,
        (false, 3, 0) => store_immediate::<3, MODE>,
        (false, 0, 1) => load_immediate::<0, UNSIGNED, MODE>,
        (false, 1, 1) => load_immediate::<1, UNSIGNED, MODE>,
        (false, 2, 1) => load_immediate::<2, UNSIGNED, MODE>,
        (false, 3, 1) => load_immediate::<3, UNSIGNED, MODE>,
        (false, 0, 2) => load_immediate::<0, SIGNED_64, MODE>,
        (false, 1, 2) => load_immediate::<1, SIGNED_64, MODE>,
        (false, 2, 2) => load_immediate::<2, SIGNED_64, MODE>,
        (false, 3, 2) if MODE == OFFSET => prefetch,
        (false, 0, 3) => load_immediate::<0, SIGNED_32, MODE>,
        (false, 1, 3) => load_immediate::<1, SIGNED_32, MODE>,
        (true, 0, 0) => store_vector_immediate::<0, MODE>,
        (true, 1, 0) => store_vector_immediate::<1, MODE>,
        (true, 2, 0) => store_vector_immediate::<2, MODE>,
        (true, 3, 0) => store_vector_immediate::<3, MODE>,
        (true, 0, 2) => store_vector_immediate::<4, MODE>,
        (true, 0, 1) => load_vector_immediate::<0, MODE>,
        (true, 1, 1) => load_vector_immediate::<1, MODE>,
        (true, 2, 1) => load_vector_immediate::<2, MODE>,
        (true, 3, 1) => load_vector_immediate::<3, MODE>,
        (true, 0, 3) => load_vector_immediate::<4, MODE>,
        _ => return None,
    })
}

/// Fills Rd (Rt): a vector register, or a general one, where 31 is the sink of a load or the zero of a store.
fn transfer(op: Op, vector: bool, load: bool) -> Op {
    if vector {
        op.rd_vector()
    } else if load {
        op
    } else {
        op.rd_source()
    }
}

/// Whether `opc` of a single register access is a load.
fn is_load(opc: u32, vector: bool) -> bool {
    if vector { opc & 1 == 1 } else { opc != 0 }
}

/// LDR, STR and relatives, unsigned scaled offset.
pub(crate) fn unsigned_offset(code: u32, _: u64) -> Option<Op> {
    let (size, vector, opc) = (code >> 30, code >> 26 & 1 == 1, bits(code, 23, 22));
    let handler = single::<OFFSET>(size, vector, opc)?;
    let scale = if vector { size | (opc & 2) << 1 } else { size };
    let op = op(handler, code).rn_sp().imm(u64::from(bits(code, 21, 10)) << scale);
    Some(transfer(op, vector, is_load(opc, vector)))
}

/// LDUR, STUR, LDTR, STTR, and LDR, STR with pre- and post-index.
pub(crate) fn unscaled_offset(code: u32, _: u64) -> Option<Op> {
    let (size, vector, opc) = (code >> 30, code >> 26 & 1 == 1, bits(code, 23, 22));
    let handler = match bits(code, 11, 10) {
        0 => single::<OFFSET>(size, vector, opc)?,
        1 => single::<POST>(size, vector, opc)?,
        3 => single::<PRE>(size, vector, opc)?,
        // LDTR, STTR: at EL0 the same as LDUR, STUR, without prefetch and vectors.
        _ if vector || (size, opc) == (3, 2) => return None,
        _ => single::<OFFSET>(size, vector, opc)?,
    };
    let op = op(handler, code).rn_sp().imm(sign_extend(u64::from(bits(code, 20, 12)), 9));
    Some(transfer(op, vector, is_load(opc, vector)))
}

/// LDR, STR and relatives, register offset.
pub(crate) fn register_offset(code: u32, _: u64) -> Option<Op> {
    let (size, vector, opc) = (code >> 30, code >> 26 & 1 == 1, bits(code, 23, 22));
    let option = bits(code, 15, 13);
    if option & 2 == 0 {
        return None;
    }
    let handler: Handler = match (vector, size, opc) {
        (false, 0, 0) => store_register::<0>,
        (false, 1, 0) => store_register::<1>,
        (false, 2, 0) => store_register::<2>,
        (false, 3, 0) => store_register::<3>,
        (false, 0, 1) => load_register::<0, UNSIGNED>,
        (false, 1, 1) => load_register::<1, UNSIGNED>,
        (false, 2, 1) => load_register::<2, UNSIGNED>,
        (false, 3, 1) => load_register::<3, UNSIGNED>,
        (false, 0, 2) => load_register::<0, SIGNED_64>,
        (false, 1, 2) => load_register::<1, SIGNED_64>,
        (false, 2, 2) => load_register::<2, SIGNED_64>,
        (false, 3, 2) => prefetch,
        (false, 0, 3) => load_register::<0, SIGNED_32>,
        (false, 1, 3) => load_register::<1, SIGNED_32>,
        (true, 0, 0) => store_vector_register::<0>,
        (true, 1, 0) => store_vector_register::<1>,
        (true, 2, 0) => store_vector_register::<2>,
        (true, 3, 0) => store_vector_register::<3>,
        (true, 0, 2) => store_vector_register::<4>,
        (true, 0, 1) => load_vector_register::<0>,
        (true, 1, 1) => load_vector_register::<1>,
        (true, 2, 1) => load_vector_register::<2>,
        (true, 3, 1) => load_vector_register::<3>,
        (true, 0, 3) => load_vector_register::<4>,
        _ => return None,
    };
    let scale = if vector { size | (opc & 2) << 1 } else { size };
    let op = op(handler, code).rn_sp().imm(if code >> 12 & 1 == 1 { u64::from(scale) } else { 0 });
    Some(Op { ra: option as u8, ..transfer(op, vector, is_load(opc, vector)) })
}

/// LDR, LDRSW, PRFM (literal).
pub(crate) fn literal(code: u32, pc: u64) -> Option<Op> {
    let handler: Handler = match (code >> 26 & 1, code >> 30) {
        (0, 0) => load_literal::<2, UNSIGNED>,
        (0, 1) => load_literal::<3, UNSIGNED>,
        (0, 2) => load_literal::<2, SIGNED_64>,
        (0, _) => prefetch,
        (_, 0) => load_vector_literal::<2>,
        (_, 1) => load_vector_literal::<3>,
        (_, 2) => load_vector_literal::<4>,
        _ => return None,
    };
    let address = pc.wrapping_add(sign_extend(u64::from(bits(code, 23, 5)), 19) << 2);
    Some(transfer(op(handler, code).imm(address), code >> 26 & 1 == 1, true))
}

fn load_pair<const SIZE: u8, const EXTENSION: u8, const MODE: u8>(
    s: &mut State,
    host: &Host,
    op: &Op,
) -> Step {
    let address = address::<MODE>(s, op);
    let first = sign::<SIZE, EXTENSION>(s.load(host, address, SIZE)?);
    let second = sign::<SIZE, EXTENSION>(s.load(host, address.wrapping_add(1 << SIZE), SIZE)?);
    write_back::<MODE>(s, op);
    s.gpr[op.rd as usize] = first;
    s.gpr[op.ra as usize] = second;
    Ok(Flow::Next)
}

fn store_pair<const SIZE: u8, const MODE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address::<MODE>(s, op);
    s.store(host, address, SIZE, s.gpr[op.rd as usize])?;
    s.store(host, address.wrapping_add(1 << SIZE), SIZE, s.gpr[op.ra as usize])?;
    write_back::<MODE>(s, op);
    Ok(Flow::Next)
}

fn load_vector_pair<const SIZE: u8, const MODE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address::<MODE>(s, op);
    let first = s.load_vector(host, address, SIZE)?;
    let second = s.load_vector(host, address.wrapping_add(1 << SIZE), SIZE)?;
    write_back::<MODE>(s, op);
    s.v[op.rd as usize & 31] = first;
    s.v[op.ra as usize & 31] = second;
    Ok(Flow::Next)
}

fn store_vector_pair<const SIZE: u8, const MODE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address::<MODE>(s, op);
    s.store_vector(host, address, SIZE, s.v[op.rd as usize & 31])?;
    s.store_vector(host, address.wrapping_add(1 << SIZE), SIZE, s.v[op.ra as usize & 31])?;
    write_back::<MODE>(s, op);
    Ok(Flow::Next)
}

fn pair_handler<const MODE: u8>(opc: u32, vector: bool, load: bool) -> Option<Handler> {
    Some(match (vector, opc, load) {
        (false, 0, false) => store_pair::<2, MODE>,
        (false, 0, true) => load_pair::<2, UNSIGNED, MODE>,
        (false, 1, true) => load_pair::<2, SIGNED_64, MODE>,
        (false, 2, false) => store_pair::<3, MODE>,
        (false, 2, true) => load_pair::<3, UNSIGNED, MODE>,
        (true, 0, false) => store_vector_pair::<2, MODE>,
        (true, 0, true) => load_vector_pair::<2, MODE>,
        (true, 1, false) => store_vector_pair::<3, MODE>,
        (true, 1, true) => load_vector_pair::<3, MODE>,
        (true, 2, false) => store_vector_pair::<4, MODE>,
        (true, 2, true) => load_vector_pair::<4, MODE>,
        _ => return None,
    })
}

/// LDP, STP, LDPSW, LDNP, STNP.
pub(crate) fn pair(code: u32, _: u64) -> Option<Op> {
    let (opc, vector, load) = (code >> 30, code >> 26 & 1 == 1, code >> 22 & 1 == 1);
    let mode = bits(code, 24, 23);
    if mode == 0 && !vector && opc == 1 {
        return None;
    }
    let handler = match mode {
        1 => pair_handler::<POST>(opc, vector, load)?,
        3 => pair_handler::<PRE>(opc, vector, load)?,
        _ => pair_handler::<OFFSET>(opc, vector, load)?,
    };
    let scale = if vector { 2 + opc } else { 2 + (opc >> 1) };
    let imm = sign_extend(u64::from(bits(code, 21, 15)), 7) << scale;
    let op = transfer(op(handler, code).rn_sp().imm(imm), vector, load);
    let second = bits(code, 14, 10) as u8;
    let ra = match (vector, load) {
        (false, true) if second == 31 => super::SINK as u8,
        (false, false) if second == 31 => super::ZERO as u8,
        _ => second,
    };
    Some(Op { ra, ..op })
}

/// LDXR, LDAXR.
fn load_exclusive<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let value = s.load(host, address, SIZE)?;
    reserve(s, address, 1 << SIZE, u128::from(value));
    s.gpr[op.rd as usize] = value;
    Ok(Flow::Next)
}

fn reserve(s: &mut State, address: u64, size: u64, value: u128) {
    s.exclusive_address = untagged(address);
    s.exclusive_size = size;
    s.exclusive_value = value;
}

/// Whether a store-exclusive may try; its caller ends the reservation in any case.
fn take_reservation(s: &mut State, address: u64, size: u64) -> bool {
    s.exclusive_size == size && s.exclusive_address == untagged(address)
}

/// STXR, STLXR. Status goes to Ws (`rm`).
fn store_exclusive<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let stored = if take_reservation(s, address, 1 << SIZE) {
        let expected = s.exclusive_value as u64;
        let value = s.gpr[op.rd as usize];
        let seen =
            host.memory.compare_swap(address, SIZE, expected, value).or_else(|fault| s.fault(fault))?;
        seen == expected
    } else {
        false
    };
    s.exclusive_size = 0;
    s.gpr[op.rm as usize] = u64::from(!stored);
    Ok(Flow::Next)
}

/// LDXP, LDAXP.
fn load_exclusive_pair<const WIDE: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    let size = if WIDE { 16 } else { 8 };
    s.aligned(address, size)?;
    let (first, second) = if WIDE {
        let value = s.load128(host, address)?;
        reserve(s, address, 16, value);
        (value as u64, (value >> 64) as u64)
    } else {
        let value = s.load(host, address, 3)?;
        reserve(s, address, 8, u128::from(value));
        (value & 0xffff_ffff, value >> 32)
    };
    s.gpr[op.rd as usize] = first;
    s.gpr[op.ra as usize] = second;
    Ok(Flow::Next)
}

/// STXP, STLXP.
fn store_exclusive_pair<const WIDE: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    let size = if WIDE { 16 } else { 8 };
    s.aligned(address, size)?;
    let (first, second) = (s.gpr[op.rd as usize], s.gpr[op.ra as usize]);
    let stored = if !take_reservation(s, address, size) {
        false
    } else if WIDE {
        let expected = s.exclusive_value;
        let value = u128::from(first) | u128::from(second) << 64;
        let seen = host.memory.compare_swap128(address, expected, value).or_else(|fault| s.fault(fault))?;
        seen == expected
    } else {
        let expected = s.exclusive_value as u64;
        let value = first & 0xffff_ffff | second << 32;
        let seen = host.memory.compare_swap(address, 3, expected, value).or_else(|fault| s.fault(fault))?;
        seen == expected
    };
    s.exclusive_size = 0;
    s.gpr[op.rm as usize] = u64::from(!stored);
    Ok(Flow::Next)
}

/// LDXR, LDAXR, STXR, STLXR, LDXP, LDAXP, STXP, STLXP.
pub(crate) fn exclusive(code: u32, _: u64) -> Option<Op> {
    let (size, load, pair) = (code >> 30, code >> 22 & 1 == 1, code >> 21 & 1 == 1);
    let handler: Handler = match (pair, load, size) {
        (false, true, 0) => load_exclusive::<0>,
        (false, true, 1) => load_exclusive::<1>,
        (false, true, 2) => load_exclusive::<2>,
        (false, true, _) => load_exclusive::<3>,
        (false, false, 0) => store_exclusive::<0>,
        (false, false, 1) => store_exclusive::<1>,
        (false, false, 2) => store_exclusive::<2>,
        (false, false, _) => store_exclusive::<3>,
        (true, true, 2) => load_exclusive_pair::<false>,
        (true, true, 3) => load_exclusive_pair::<true>,
        (true, false, 2) => store_exclusive_pair::<false>,
        (true, false, 3) => store_exclusive_pair::<true>,
        _ => return None,
    };
    let op = transfer(op(handler, code).rn_sp(), false, load);
    let sink = |register: u32| if register == 31 { super::SINK as u8 } else { register as u8 };
    Some(if load {
        Op { ra: sink(bits(code, 14, 10)), ..op }
    } else {
        Op { rm: sink(bits(code, 20, 16)), ..op }
    })
}

/// LDAR, LDLAR, LDAPR: an ordinary load is ordered enough on x86.
fn load_acquire<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    s.gpr[op.rd as usize] = s.load(host, address, SIZE)?;
    Ok(Flow::Next)
}

/// STLR, STLLR: a later LDAR must not pass it, so a full barrier follows the store.
fn store_release<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    s.store(host, address, SIZE, s.gpr[op.rd as usize])?;
    fence(Ordering::SeqCst);
    Ok(Flow::Next)
}

/// LDAR, LDLAR, LDAPR, STLR, STLLR.
pub(crate) fn ordered(code: u32, _: u64) -> Option<Op> {
    // LDAPR is among the atomics, where bit 22 is clear and bit 23 set.
    let load = code >> 22 & 1 == 1 || bits(code, 29, 27) == 7;
    let handler: Handler = match (load, code >> 30) {
        (true, 0) => load_acquire::<0>,
        (true, 1) => load_acquire::<1>,
        (true, 2) => load_acquire::<2>,
        (true, _) => load_acquire::<3>,
        (false, 0) => store_release::<0>,
        (false, 1) => store_release::<1>,
        (false, 2) => store_release::<2>,
        (false, _) => store_release::<3>,
    };
    Some(transfer(op(handler, code).rn_sp(), false, load))
}

/// CAS and relatives: Rs (`rm`) holds the expected value and takes the old one.
fn compare_and_swap<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let (expected, new) = (s.gpr[op.rm as usize], s.gpr[op.rd as usize]);
    let seen = host.memory.compare_swap(address, SIZE, expected, new).or_else(|fault| s.fault(fault))?;
    s.set_x(op.bits(20, 16) as usize, seen);
    Ok(Flow::Next)
}

/// CAS, CASA, CASAL, CASL and their B and H forms.
pub(crate) fn compare_swap(code: u32, _: u64) -> Option<Op> {
    let handler: Handler = match code >> 30 {
        0 => compare_and_swap::<0>,
        1 => compare_and_swap::<1>,
        2 => compare_and_swap::<2>,
        _ => compare_and_swap::<3>,
    };
    Some(op(handler, code).rn_sp().rd_source())
}

fn compare_and_swap_pair<const WIDE: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, if WIDE { 16 } else { 8 })?;
    let (rs, rt) = (op.bits(20, 16) as usize, op.bits(4, 0) as usize);
    let (e1, e2, n1, n2) = (s.x(rs), s.x(rs + 1), s.x(rt), s.x(rt + 1));
    let (first, second) = if WIDE {
        let expected = u128::from(e1) | u128::from(e2) << 64;
        let new = u128::from(n1) | u128::from(n2) << 64;
        let seen = host.memory.compare_swap128(address, expected, new).or_else(|fault| s.fault(fault))?;
        (seen as u64, (seen >> 64) as u64)
    } else {
        let expected = e1 & 0xffff_ffff | e2 << 32;
        let new = n1 & 0xffff_ffff | n2 << 32;
        let seen = host.memory.compare_swap(address, 3, expected, new).or_else(|fault| s.fault(fault))?;
        (seen & 0xffff_ffff, seen >> 32)
    };
    s.set_x(rs, first);
    s.set_x(rs + 1, second);
    Ok(Flow::Next)
}

/// CASP, CASPA, CASPAL, CASPL.
pub(crate) fn compare_swap_pair(code: u32, _: u64) -> Option<Op> {
    if code & 1 == 1 || code >> 16 & 1 == 1 {
        return None;
    }
    let handler: Handler =
        if code >> 30 & 1 == 1 { compare_and_swap_pair::<true> } else { compare_and_swap_pair::<false> };
    Some(op(handler, code).rn_sp())
}

/// LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX, LDUMIN, SWP: `imm` is o3:opc.
fn atomic_operation<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = s.gpr[op.rn as usize];
    s.aligned(address, 1 << SIZE)?;
    let operand = s.gpr[op.rm as usize];
    let memory = &host.memory;
    let old = match op.imm {
        0 => memory.fetch_add(address, SIZE, operand),
        8 => memory.swap(address, SIZE, operand),
        _ => memory.load(address, SIZE).and_then(|mut old| {
            loop {
                let new = atomic_result::<SIZE>(op.imm, old, operand);
                let seen = memory.compare_swap(address, SIZE, old, new)?;
                if seen == old {
                    return Ok(old);
                }
                old = seen;
            }
        }),
    };
    let old = old.or_else(|fault| s.fault(fault))?;
    s.gpr[op.rd as usize] = old;
    Ok(Flow::Next)
}

fn atomic_result<const SIZE: u8>(operation: u64, old: u64, operand: u64) -> u64 {
    let width = 8 << SIZE;
    let mask = u64::MAX >> (64 - width);
    let signed = |value: u64| sign_extend(value, width) as i64;
    let operand = operand & mask;
    match operation {
        1 => old & !operand,
        2 => old ^ operand,
        3 => old | operand,
        4 => {
            if signed(operand) > signed(old) {
                operand
            } else {
                old
            }
        }
        5 => {
            if signed(operand) < signed(old) {
                operand
            } else {
                old
            }
        }
        6 => old.max(operand),
        _ => old.min(operand),
    }
}

/// The atomic memory operations of FEAT_LSE.
pub(crate) fn atomic(code: u32, _: u64) -> Option<Op> {
    let handler: Handler = match code >> 30 {
        0 => atomic_operation::<0>,
        1 => atomic_operation::<1>,
        2 => atomic_operation::<2>,
        _ => atomic_operation::<3>,
    };
    Some(op(handler, code).rn_sp().imm(u64::from(bits(code, 15, 12))))
}

/// Number of registers (`rpt` times `selem`) and structure elements of LD1 to ST4 (multiple structures).
fn structure(opcode: u32) -> Option<(u32, u32)> {
    Some(match opcode {
        0 => (1, 4),
        2 => (4, 1),
        4 => (1, 3),
        6 => (3, 1),
        7 => (1, 1),
        8 => (1, 2),
        10 => (2, 1),
        _ => return None,
    })
}

/// Writes the base of a post-indexed structure access back: Rm, or the size of the access where Rm is 31.
fn write_back_structure(s: &mut State, op: &Op, bytes: u64) {
    if op.bit(23) {
        let rm = op.bits(20, 16) as usize;
        let offset = if rm == 31 { bytes } else { s.gpr[rm] };
        s.gpr[op.rn as usize] = s.gpr[op.rn as usize].wrapping_add(offset);
    }
}

fn multiple_structures<const LOAD: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let (q, size) = (op.bit(30), op.bits(11, 10));
    let Some((repeats, elements)) = structure(op.bits(15, 12)) else { return s.undefined(op) };
    if size == 3 && !q && elements != 1 {
        return s.undefined(op);
    }
    let (count, register_bytes) = (repeats * elements, if q { 16u64 } else { 8 });
    let base = s.gpr[op.rn as usize];
    let register = |i: u32| (op.code + i) as usize & 31;
    let mut values = [0u128; 4];
    if !LOAD {
        for i in 0..count {
            values[i as usize] = s.v[register(i)];
        }
    }
    if elements == 1 {
        for i in 0..count {
            let address = base.wrapping_add(u64::from(i) * register_bytes);
            let chunk = if q { 4 } else { 3 };
            if LOAD {
                values[i as usize] = s.load_vector(host, address, chunk)?;
            } else {
                s.store_vector(host, address, chunk, values[i as usize])?;
            }
        }
    } else {
        let mut address = base;
        for lane in 0..(register_bytes as u32 >> size) {
            for value in &mut values[..elements as usize] {
                let shift = lane * (8 << size);
                if LOAD {
                    *value |= u128::from(s.load(host, address, size as u8)?) << shift;
                } else {
                    s.store(host, address, size as u8, (*value >> shift) as u64)?;
                }
                address = address.wrapping_add(1 << size);
            }
        }
    }
    if LOAD {
        for i in 0..count {
            s.v[register(i)] = values[i as usize];
        }
    }
    write_back_structure(s, op, register_bytes * u64::from(count));
    Ok(Flow::Next)
}

/// LD1 to LD4, ST1 to ST4 (multiple structures).
pub(crate) fn structures(code: u32, _: u64) -> Option<Op> {
    let (elements, size) = (structure(bits(code, 15, 12))?.1, bits(code, 11, 10));
    if size == 3 && code >> 30 & 1 == 0 && elements != 1 {
        return None;
    }
    let handler: Handler =
        if code >> 22 & 1 == 1 { multiple_structures::<true> } else { multiple_structures::<false> };
    Some(op(handler, code).rn_sp())
}

/// Lane and size of a single structure access; size 4 stands for "replicate" and carries the size in the
/// lane.
fn single_structure_lane(code: u32) -> Option<(u32, u32, bool)> {
    let (q, s, size) = (code >> 30 & 1, code >> 12 & 1, bits(code, 11, 10));
    match bits(code, 15, 14) {
        0 => Some((q << 3 | s << 2 | size, 0, false)),
        1 if size & 1 == 0 => Some((q << 2 | s << 1 | size >> 1, 1, false)),
        2 if size == 0 => Some((q << 1 | s, 2, false)),
        2 if size == 1 && s == 0 => Some((q, 3, false)),
        3 if code >> 22 & 1 == 1 && s == 0 => Some((0, size, true)),
        _ => None,
    }
}

fn one_structure<const LOAD: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let Some((lane, size, replicate)) = single_structure_lane(op.code) else { return s.undefined(op) };
    let elements = (op.bits(13, 13) << 1 | op.bits(21, 21)) + 1;
    let register = |i: u32| (op.code + i) as usize & 31;
    let base = s.gpr[op.rn as usize];
    let (width, shift) = (8 << size, lane * (8 << size));
    let mut values = [0u64; 4];
    for i in 0..elements {
        let address = base.wrapping_add(u64::from(i) << size);
        if LOAD {
            values[i as usize] = s.load(host, address, size as u8)?;
        } else {
            s.store(host, address, size as u8, (s.v[register(i)] >> shift) as u64)?;
        }
    }
    if LOAD {
        for i in 0..elements {
            let value = u128::from(values[i as usize]);
            let old = s.v[register(i)];
            s.v[register(i)] = if replicate {
                let ones = u128::MAX / ((1u128 << width) - 1);
                let all = value.wrapping_mul(ones);
                if op.bit(30) { all } else { all & u128::from(u64::MAX) }
            } else {
                let mask = (u128::MAX >> (128 - width)) << shift;
                old & !mask | value << shift
            };
        }
    }
    write_back_structure(s, op, u64::from(elements) << size);
    Ok(Flow::Next)
}

/// LD1 to LD4, ST1 to ST4 (single structure), LD1R to LD4R.
pub(crate) fn structure_lane(code: u32, _: u64) -> Option<Op> {
    single_structure_lane(code)?;
    let handler: Handler = if code >> 22 & 1 == 1 { one_structure::<true> } else { one_structure::<false> };
    Some(op(handler, code).rn_sp())
}
