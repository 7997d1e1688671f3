//! Loads and stores (manual, RV32I and RV64I, "Load and Store Instructions"; F, D, Zfh; Zicboz, Zicbom).
//! Accesses need not be aligned.

use crate::exit::{Flow, Leave, Step};
use crate::memory::{Access, Fault, untagged};
use crate::op::{Handler, Host, Op, sign_extend};
use crate::state::State;

/// Bytes of a cache block, for CBO.ZERO and its kin, and hwprobe.
pub const BLOCK: u64 = 64;

/// The address of an access: rs1 plus the immediate. All bits count, unlike on Arm.
#[inline(always)]
pub(super) fn address(s: &mut State, op: &Op, access: Access) -> Result<u64, Leave> {
    let address = s.gpr[usize::from(op.rn)].wrapping_add(op.imm);
    if untagged(address) == address {
        Ok(address)
    } else {
        s.fault(Fault { address, access, host_signal: false })
    }
}

fn load<const SIZE: u8, const SIGNED: bool>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Read)?;
    let value = s.load(host, address, SIZE)?;
    s.gpr[usize::from(op.rd)] = if SIGNED { sign_extend(value, 8 << SIZE) } else { value };
    Ok(Flow::Next)
}

/// LB and its kin.
pub(super) fn loads(size: u8, signed: bool) -> Handler {
    match (size, signed) {
        (0, true) => load::<0, true>,
        (1, true) => load::<1, true>,
        (2, true) => load::<2, true>,
        (0, false) => load::<0, false>,
        (1, false) => load::<1, false>,
        (2, false) => load::<2, false>,
        _ => load::<3, false>,
    }
}

fn store<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Write)?;
    s.store(host, address, SIZE, s.gpr[usize::from(op.rm)])?;
    Ok(Flow::Next)
}

/// SB and its kin.
pub(super) fn stores(size: u8) -> Handler {
    match size {
        0 => store::<0>,
        1 => store::<1>,
        2 => store::<2>,
        _ => store::<3>,
    }
}

/// A value narrower than the register has ones above it.
fn load_float<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Read)?;
    let value = s.load(host, address, SIZE)?;
    s.set_half(op.rd, if SIZE == 3 { value } else { value | u64::MAX << (8 << SIZE & 63) });
    Ok(Flow::Next)
}

/// FLH, FLW, FLD.
pub(super) fn loads_of_floats(size: u8) -> Handler {
    match size {
        1 => load_float::<1>,
        2 => load_float::<2>,
        _ => load_float::<3>,
    }
}

fn store_float<const SIZE: u8>(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Write)?;
    s.store(host, address, SIZE, s.half(op.rm))?;
    Ok(Flow::Next)
}

/// FSH, FSW, FSD.
pub(super) fn stores_of_floats(size: u8) -> Handler {
    match size {
        1 => store_float::<1>,
        2 => store_float::<2>,
        _ => store_float::<3>,
    }
}

/// CBO.ZERO.
pub(super) fn zero_block(s: &mut State, host: &Host, op: &Op) -> Step {
    let start = address(s, op, Access::Write)? & !(BLOCK - 1);
    for offset in (0..BLOCK).step_by(16) {
        s.store128(host, start + offset, 0)?;
    }
    Ok(Flow::Next)
}

/// CBO.CLEAN, CBO.FLUSH: the host's caches are coherent, but the address must be valid.
pub(super) fn touch_block(s: &mut State, host: &Host, op: &Op) -> Step {
    let address = address(s, op, Access::Read)? & !(BLOCK - 1);
    s.load(host, address, 0)?;
    Ok(Flow::Next)
}
