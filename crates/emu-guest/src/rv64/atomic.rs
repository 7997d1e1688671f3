//! Atomic accesses (manual: A, Zacas, Zabha).
//!
//! The host's locked instructions order all accesses, so aq and rl need nothing. A reservation is the
//! address, the size and the value that was loaded; SC compares memory with the value. A reservation ends
//! with SC, and with every signal.

use super::action::Atomic;
use super::load_store::address;
use crate::exit::{Flow, Step};
use crate::memory::{Access, Fault};
use crate::op::{Handler, Host, Op, sign_extend};
use crate::state::State;

fn load_reserved<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Read)?;
    s.aligned(address, 1 << SIZE)?;
    let value = s.load(host, address, SIZE)?;
    (s.exclusive_address, s.exclusive_size, s.exclusive_value) = (address, 1 << SIZE, value.into());
    s.gpr[usize::from(op.rd)] = sign_extend(value, 8 << SIZE);
    Ok(Flow::Next)
}

/// LR.W, LR.D.
pub(super) fn loads_reserved(size: u8) -> Handler {
    if size == 2 { load_reserved::<2> } else { load_reserved::<3> }
}

fn store_conditional<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Write)?;
    s.aligned(address, 1 << SIZE)?;
    let mut failed = 1;
    if s.exclusive_size == 1 << SIZE && s.exclusive_address == address {
        let (expected, new) = (s.exclusive_value as u64, s.gpr[usize::from(op.rm)]);
        match host.memory.compare_swap(address, SIZE, expected, new) {
            Ok(seen) => failed = u64::from(seen != expected),
            Err(fault) => return s.fault(fault),
        }
    }
    s.exclusive_size = 0;
    s.gpr[usize::from(op.rd)] = failed;
    Ok(Flow::Next)
}

/// SC.W, SC.D.
pub(super) fn stores_conditional(size: u8) -> Handler {
    if size == 2 { store_conditional::<2> } else { store_conditional::<3> }
}

/// The new value of memory, of which all `width` bits count.
#[inline(always)]
fn combine(operation: Atomic, width: u32, old: u64, operand: u64) -> u64 {
    let signed = |value: u64| sign_extend(value, width) as i64;
    let unsigned = |value: u64| value & u64::MAX >> (64 - width);
    match operation {
        Atomic::Swap => operand,
        Atomic::Add => old.wrapping_add(operand),
        Atomic::Xor => old ^ operand,
        Atomic::And => old & operand,
        Atomic::Or => old | operand,
        Atomic::Min => signed(old).min(signed(operand)) as u64,
        Atomic::Max => signed(old).max(signed(operand)) as u64,
        Atomic::Minu => unsigned(old).min(unsigned(operand)),
        Atomic::Maxu => unsigned(old).max(unsigned(operand)),
    }
}

#[inline(always)]
fn modify<const SIZE: u8>(s: &mut State, host: &Host, op: &Op, operation: Atomic) -> Step {
    let (address, operand) = (address(s, op, Access::Write)?, s.gpr[usize::from(op.rm)]);
    s.aligned(address, 1 << SIZE)?;
    let old = match operation {
        Atomic::Swap => host.memory.swap(address, SIZE, operand),
        Atomic::Add => host.memory.fetch_add(address, SIZE, operand),
        _ => modify_by(host, address, SIZE, |old| combine(operation, 8 << SIZE, old, operand)),
    };
    match old {
        Ok(old) => s.gpr[usize::from(op.rd)] = sign_extend(old, 8 << SIZE),
        Err(fault) => return s.fault(fault),
    }
    Ok(Flow::Next)
}

/// Replaces a value in memory by what `new` makes of it; returns the old value.
#[inline(always)]
fn modify_by(host: &Host, address: u64, size: u8, new: impl Fn(u64) -> u64) -> Result<u64, Fault> {
    // The first access says that memory is written, as on a CPU.
    let mut old = host.memory.fetch_add(address, size, 0)?;
    loop {
        let seen = host.memory.compare_swap(address, size, old, new(old))?;
        if seen == old {
            return Ok(old);
        }
        old = seen;
    }
}

macro_rules! operations {
    ($operation:expr, $size:literal, $($name:ident)*) => {
        match $operation {
            $(Atomic::$name => {
                fn run(s: &mut State, host: &Host, op: &Op) -> Step {
                    modify::<$size>(s, host, op, Atomic::$name)
                }
                run as Handler
            })*
        }
    };
}

/// AMOSWAP.W and its kin.
pub(super) fn operations(operation: Atomic, size: u8) -> Handler {
    match size {
        0 => operations!(operation, 0, Swap Add Xor And Or Min Max Minu Maxu),
        1 => operations!(operation, 1, Swap Add Xor And Or Min Max Minu Maxu),
        2 => operations!(operation, 2, Swap Add Xor And Or Min Max Minu Maxu),
        _ => operations!(operation, 3, Swap Add Xor And Or Min Max Minu Maxu),
    }
}

fn compare_swap<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Write)?;
    s.aligned(address, 1 << SIZE)?;
    let expected = s.gpr[usize::from(op.ra)] & u64::MAX >> (64 - (8 << SIZE));
    match host.memory.compare_swap(address, SIZE, expected, s.gpr[usize::from(op.rm)]) {
        Ok(seen) => s.gpr[usize::from(op.rd)] = sign_extend(seen, 8 << SIZE),
        Err(fault) => return s.fault(fault),
    }
    Ok(Flow::Next)
}

/// AMOCAS.Q: pairs of registers, each with an even number; the pair of x0 is zero, and stays.
fn compare_swap_pair(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Write)?;
    s.aligned(address, 16)?;
    let (d, m) = (op.bits(11, 7), op.bits(24, 20));
    let pair = |s: &State, n: u32| match n {
        0 => 0,
        n => u128::from(s.rv64_x(n)) | u128::from(s.rv64_x(n + 1)) << 64,
    };
    match host.memory.compare_swap128(address, pair(s, d), pair(s, m)) {
        Ok(seen) if d != 0 => {
            s.set_rv64_x(d, seen as u64);
            s.set_rv64_x(d + 1, (seen >> 64) as u64);
        }
        Ok(_) => {}
        Err(fault) => return s.fault(fault),
    }
    Ok(Flow::Next)
}

/// AMOCAS.
pub(super) fn compares(size: u8) -> Handler {
    match size {
        0 => compare_swap::<0>,
        1 => compare_swap::<1>,
        2 => compare_swap::<2>,
        3 => compare_swap::<3>,
        _ => compare_swap_pair,
    }
}
