//! VSETVLI, VSETIVLI, VSETVL, and the CSRs.

use super::element::{Shape, VILL, VLENB};
use crate::exit::{Flow, Step};
use crate::memory::Memory;
use crate::op::{Host, Op};
use crate::state::{State, Vectors};

/// VSETVLI (bit 31 is clear), VSETIVLI (bits 31 and 30 are set), VSETVL.
pub(crate) fn set(s: &mut State, _: &Host, op: &Op) -> Step {
    let (rd, rs1) = (op.bits(11, 7), op.bits(19, 15));
    let immediate = op.bits(31, 30) == 3;
    let vtype = match op.bits(31, 30) {
        0 | 1 => u64::from(op.bits(30, 20)),
        3 => u64::from(op.bits(29, 20)),
        _ => s.rv64_x(op.bits(24, 20)),
    };
    s.vectors.used = true;
    match Shape::of(vtype) {
        Some(shape) => {
            let wanted = match (immediate, rs1, rd) {
                (true, ..) => rs1.into(),
                (false, 0, 0) => s.vectors.vl,
                (false, 0, _) => u64::MAX,
                _ => s.rv64_x(rs1),
            };
            (s.vectors.vl, s.vectors.vtype) = (wanted.min(shape.vlmax()), vtype);
        }
        None => (s.vectors.vl, s.vectors.vtype) = (0, VILL),
    }
    s.vectors.vstart = 0;
    s.set_rv64_x(rd, s.vectors.vl);
    Ok(Flow::Next)
}

impl Vectors {
    /// Makes values that come from outside ones that instructions can leave: a reserved vtype is so in one
    /// way, and vl and vstart number elements of a group.
    pub fn restrict(&mut self) {
        match Shape::of(self.vtype) {
            Some(shape) => self.vl = self.vl.min(shape.vlmax()),
            None => (self.vl, self.vtype) = (0, VILL),
        }
        self.vstart &= 8 * VLENB - 1;
    }
}

/// Whether an instruction of vectors that accesses no memory when vl is zero is one with this vtype: its
/// groups begin and overlap as they may. What depends on vstart and the rounding mode is left out.
pub fn accepts(op: &Op, vtype: u64) -> bool {
    let host = Host { memory: Memory::NOTHING, counter: || 0, executable: |_| None };
    let mut state = State::default();
    state.vectors.vtype = vtype;
    op.execute(&mut state, &host).is_ok()
}

const VSTART: u32 = 0x008;
const VXSAT: u32 = 0x009;
const VXRM: u32 = 0x00a;
const VCSR: u32 = 0x00f;

/// The value of a CSR of vectors; `None` for others.
pub(crate) fn csr(s: &State, csr: u32) -> Option<u64> {
    let v = &s.vectors;
    Some(match csr {
        VSTART => v.vstart,
        VXSAT => u64::from(v.vcsr & 1),
        VXRM => u64::from(v.vcsr >> 1),
        VCSR => v.vcsr.into(),
        0xc20 => v.vl,
        0xc21 => v.vtype,
        0xc22 => VLENB,
        _ => return None,
    })
}

/// Sets a CSR of vectors; false if it cannot be written.
pub(crate) fn set_csr(s: &mut State, csr: u32, value: u64) -> bool {
    let v = &mut s.vectors;
    v.used = true;
    match csr {
        // As many bits as number the elements of 8 bits in 8 registers.
        VSTART => v.vstart = value & (8 * VLENB - 1),
        VXSAT => v.vcsr = v.vcsr & !1 | value as u32 & 1,
        VXRM => v.vcsr = v.vcsr & 1 | (value as u32 & 3) << 1,
        VCSR => v.vcsr = value as u32 & 7,
        _ => return false,
    }
    true
}
