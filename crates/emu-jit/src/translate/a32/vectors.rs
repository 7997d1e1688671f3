//! Loads and stores of S, D and vector registers (manual F4.1.8, F4.1.11): VLDR, VSTR, VLDM, VSTM, and VLD1
//! and VST1 of whole registers.

use super::{PC, Translator, at, pc_value};
use crate::layout::vector;
use crossdock_emu_guest::a32::registers::place;
use crossdock_emu_x64::{Cc, Map, Prefix, Reg, Size};

/// A load or store of registers side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    loads: bool,
    /// Whether the registers are D registers; if not, S registers.
    double: bool,
    /// The first register, and how many.
    first: u8,
    count: u8,
    /// The base register, as an index in the state.
    pub(super) base: u8,
    /// Bytes from the base to the lowest address.
    offset: u32,
    /// What the base becomes.
    back: Back,
    /// What the address must be a multiple of.
    alignment: u8,
}

/// What the base becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    Stays,
    Moves(u32),
    /// Moves by a register.
    By(u8),
}

impl Transfer {
    /// The transfer of a word in A32's encoding, if it is one.
    pub(super) fn of(word: u32) -> Option<Transfer> {
        let is = |bit: u32| word >> bit & 1 == 1;
        if word >> 24 == 0xf4 {
            return Transfer::of_structure(word);
        }
        if word >> 28 == 15 || word >> 25 & 7 != 6 || word >> 9 & 7 != 5 {
            return None;
        }
        let (p, u, w, loads, double) = (is(24), is(23), is(21), is(20), is(8));
        let (base, imm) = (word >> 16 & 15, word & 255);
        let low = (word >> 12 & 15) as u8;
        let first = if double { low | u8::from(is(22)) << 4 } else { low << 1 | u8::from(is(22)) };
        let offset = if u { 4 * imm } else { (4 * imm).wrapping_neg() };
        let transfer = |count: u32, offset, back| Transfer {
            loads,
            double,
            first,
            count: count as u8,
            base: place(base),
            offset,
            back,
            alignment: 4,
        };
        match (p, u, w) {
            // VLDR, VSTR.
            (true, _, false) => Some(transfer(1, offset, Back::Stays)),
            // VLDM, VSTM; not the old forms of odd length.
            (false, true, _) | (true, false, true) if base != 15 && imm != 0 && !(double && imm & 1 == 1) => {
                let back = if w { Back::Moves(offset) } else { Back::Stays };
                let count = if double { imm / 2 } else { imm };
                let is_known = count <= 16 && u32::from(first) + count <= 32;
                is_known.then(|| transfer(count, if p { offset } else { 0 }, back))
            }
            _ => None,
        }
    }

    /// VLD1 and VST1 of one to four whole registers.
    fn of_structure(word: u32) -> Option<Transfer> {
        let count = match word >> 8 & 15 {
            _ if word >> 23 & 1 == 1 => return None,
            0b0111 => 1,
            0b1010 => 2,
            0b0110 => 3,
            0b0010 => 4,
            _ => return None,
        };
        let (base, m) = (word >> 16 & 15, word & 15);
        let first = (word >> 12 & 15 | word >> 22 << 4 & 16) as u8;
        let alignment = [1, 8, 16, 32][(word >> 4 & 3) as usize];
        let is_known = base != 15 && u32::from(first) + count <= 32;
        is_known.then(|| Transfer {
            loads: word >> 21 & 1 == 1,
            double: true,
            first,
            count: count as u8,
            base: place(base),
            offset: 0,
            back: match m {
                15 => Back::Stays,
                13 => Back::Moves(8 * count),
                m => Back::By(place(m)),
            },
            alignment,
        })
    }

    /// The lowest address.
    pub(super) fn address(&self, base: u32) -> u32 {
        base.wrapping_add(self.offset)
    }
}

impl Translator<'_> {
    /// Loads or stores the registers. An address that is not aligned is left to the interpreter.
    pub(super) fn transfer_vectors(&mut self, transfer: &Transfer) {
        self.clobber();
        if transfer.base == PC {
            self.a.mov_imm(
                Reg::RDX,
                (pc_value(self.pc) & !3).wrapping_add(transfer.offset.into()) & 0xffff_ffff,
            );
        } else {
            let base = self.held(transfer.base, Reg::RDX);
            self.a.lea(Size::D, Reg::RDX, at(base, transfer.offset));
        }
        let back = self.a.label();
        if transfer.alignment > 1 {
            let slow = self.slow_path(back);
            self.a.test_imm8(Reg::RDX, transfer.alignment - 1);
            self.a.jump_if(Cc::Ne, slow);
        }
        self.mark();
        for i in 0..transfer.count {
            let register = transfer.first + i;
            let (size, step) = if transfer.double { (Size::Q, 8) } else { (Size::D, 4) };
            let mem = at(Reg::RDX, step * u32::from(i));
            if transfer.loads {
                self.guest_access();
                self.a.mov(size, Reg::RAX, mem);
                self.put_lane(transfer.double, register, Reg::RAX);
            } else {
                self.get_lane(transfer.double, register, Reg::RAX);
                self.guest_access();
                self.a.mov_to(size, mem, Reg::RAX);
            }
        }
        match transfer.back {
            Back::Stays => {}
            Back::Moves(bytes) => {
                let base = self.held(transfer.base, Reg::RDX);
                self.a.lea(Size::D, Reg::RDX, at(base, bytes));
                self.put(transfer.base, Reg::RDX);
            }
            Back::By(register) => {
                let base = self.held(transfer.base, Reg::RDX);
                let by = self.held(register, Reg::RCX);
                self.a.lea(Size::D, Reg::RDX, crossdock_emu_x64::Mem { base, index: Some((by, 0)), disp: 0 });
                self.put(transfer.base, Reg::RDX);
            }
        }
        self.a.bind(back);
    }

    /// D register `n`, or S register `n`, becomes `reg`.
    pub(super) fn put_lane(&mut self, double: bool, n: u8, reg: Reg) {
        let (v, lane) = lane_of(double, n);
        self.zeros.from_32 &= !(1 << v);
        self.zeros.from_64 &= !(1 << v);
        match self.vector_host(v) {
            Some(x) => {
                // VPINSRD, VPINSRQ.
                self.a.vex(Prefix::P66, Map::M0F3A, double, 0x22, x.0, x.0, reg);
                self.a.byte(lane);
            }
            None => {
                let size = if double { Size::Q } else { Size::D };
                self.a.mov_to(size, vector(v).plus(lane_bytes(double, lane)), reg);
            }
        }
    }

    /// `reg` = D register `n`, or S register `n`.
    pub(super) fn get_lane(&mut self, double: bool, n: u8, reg: Reg) {
        let (v, lane) = lane_of(double, n);
        match self.vector_host(v) {
            Some(x) => {
                // VPEXTRD, VPEXTRQ.
                self.a.vex(Prefix::P66, Map::M0F3A, double, 0x16, x.0, 0, reg);
                self.a.byte(lane);
            }
            None => {
                let size = if double { Size::Q } else { Size::D };
                self.a.mov(size, reg, vector(v).plus(lane_bytes(double, lane)));
            }
        }
    }
}

/// The vector register and the lane of a D or S register.
pub(super) fn lane_of(double: bool, n: u8) -> (u8, u8) {
    if double { (n / 2, n % 2) } else { (n / 4, n % 4) }
}

/// Where a lane begins.
pub(super) fn lane_bytes(double: bool, lane: u8) -> i32 {
    i32::from(lane) * if double { 8 } else { 4 }
}
