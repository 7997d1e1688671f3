//! Floating-point arithmetic of single and double precision (manual F4.1.8), where FPSCR asks for what the
//! host does: rounding to nearest, no flushing, NaNs that propagate. Invalid operations are signalled by the
//! host and left to the interpreter.

use super::vectors::{lane_bytes, lane_of};
use super::{ALWAYS, Translator};
use crate::flag_form::slot_of_nzcv;
use crate::layout::{Slot, X0, X1, general, slot, vector};
use crate::translate::condition::Flags;
use crossdock_emu_guest::a32::Instruction;
use crossdock_emu_guest::a32::registers::{FLOAT_FLAGS, place};
use crossdock_emu_x64::{Alu, Cc, Reg, Rm, Shift, Size, Xmm};

/// VMRS APSR_nzcv, FPSCR, without its condition.
const READ_FLAGS: u32 = 0x0ef1_fa10;

/// What an instruction of VFP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// `d = n op m` by the host's opcode.
    Two(u8),
    /// `d = d + n * m`, or `d - n * m`, with two roundings.
    Accumulate {
        subtracts: bool,
    },
    /// `d = m`, its square root, its absolute value, its negative.
    Move,
    SquareRoot,
    Absolute,
    Negative,
    /// `d` compared with `m`, or with zero; quiet NaNs are invalid if `signals`.
    Compare {
        zero: bool,
        signals: bool,
    },
    /// FPSCR's flags become the CPU's.
    ReadFlags,
    /// S register `n` becomes general register `m`, or the other way round.
    FromGeneral,
    ToGeneral,
    /// D register `d` becomes general registers `m` and `n`, or the other way round.
    FromPair,
    ToPair,
    /// `d` = the integer in S register `m`.
    FromInteger {
        signed: bool,
    },
    /// `d`, of the other precision, `= m`.
    Widen,
    Narrow,
}

/// An instruction of VFP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arithmetic {
    pub(super) operation: Operation,
    double: bool,
    d: u8,
    n: u8,
    m: u8,
}

impl Arithmetic {
    /// The instruction of a word in A32's encoding, if it has a lowering.
    pub(super) fn of(word: u32) -> Option<Arithmetic> {
        let is = |bit: u32| word >> bit & 1 == 1;
        if word >> 28 == 15 {
            return None;
        }
        if word & 0x0fff_ffff == READ_FLAGS {
            return Some(Arithmetic { operation: Operation::ReadFlags, double: false, d: 0, n: 0, m: 0 });
        }
        let general = |low: u32| (word >> low & 15) as u8;
        // VMOV of a general register and a single, of two and a double.
        if word & 0x0fe0_0f7f == 0x0e00_0a10 && general(12) != 15 {
            let operation = if is(20) { Operation::ToGeneral } else { Operation::FromGeneral };
            let n = general(16) << 1 | u8::from(is(7));
            return Some(Arithmetic { operation, double: false, d: 0, n, m: general(12) });
        }
        if word & 0x0fe0_0fd0 == 0x0c40_0b10 && general(12) != 15 && general(16) != 15 {
            let operation = if is(20) { Operation::ToPair } else { Operation::FromPair };
            let d = general(0) | u8::from(is(5)) << 4;
            let is_known = !(is(20) && general(12) == general(16));
            return is_known.then(|| Arithmetic {
                operation,
                double: true,
                d,
                n: general(16),
                m: general(12),
            });
        }
        if word >> 24 & 15 != 14 || is(4) || word >> 9 & 7 != 5 {
            return None;
        }
        let double = is(8);
        let register = |low: u32, high: u32| {
            let (four, one) = ((word >> low & 15) as u8, u8::from(is(high)));
            if double { one << 4 | four } else { four << 1 | one }
        };
        let operation = match (word >> 20 & 11, is(6)) {
            (0, false) => Operation::Accumulate { subtracts: false },
            (0, true) => Operation::Accumulate { subtracts: true },
            (2, false) => Operation::Two(0x59),
            (3, false) => Operation::Two(0x58),
            (3, true) => Operation::Two(0x5c),
            (8, false) => Operation::Two(0x5e),
            (11, true) => match (word >> 16 & 15, is(7)) {
                (0, false) => Operation::Move,
                (0, true) => Operation::Absolute,
                (1, false) => Operation::Negative,
                (1, true) => Operation::SquareRoot,
                (4, signals) => Operation::Compare { zero: false, signals },
                (5, signals) if word & 0x2f == 0 => Operation::Compare { zero: true, signals },
                (7, true) => {
                    let operation = if double { Operation::Narrow } else { Operation::Widen };
                    // The result is of the other precision.
                    let (four, one) = (general(12), u8::from(is(22)));
                    let d = if double { four << 1 | one } else { one << 4 | four };
                    return Some(Arithmetic { operation, double, d, n: 0, m: register(0, 5) });
                }
                (8, signed) => {
                    let m = general(0) << 1 | u8::from(is(5));
                    let operation = Operation::FromInteger { signed };
                    return Some(Arithmetic { operation, double, d: register(12, 22), n: 0, m });
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(Arithmetic { operation, double, d: register(12, 22), n: register(16, 7), m: register(0, 5) })
    }

    /// Whether it reads or writes general registers.
    pub(super) fn uses_general(&self) -> bool {
        use Operation::{FromGeneral, FromPair, ToGeneral, ToPair};
        matches!(self.operation, FromGeneral | ToGeneral | FromPair | ToPair)
    }

    /// Whether it writes all of the CPU's flags.
    pub(super) fn writes_flags(&self) -> bool {
        self.operation == Operation::ReadFlags
    }
}

impl Translator<'_> {
    /// Lowers the instruction. Returns how many are done; `None` if it is to be left to the interpreter.
    pub(super) fn arithmetic_float(&mut self, item: &Instruction, it: &Arithmetic) -> Option<usize> {
        let Arithmetic { operation, double, d, n, m } = *it;
        match operation {
            Operation::ReadFlags => {
                self.read_flags();
                return Some(1);
            }
            Operation::Move => {
                let value = self.float_register(double, m, X0);
                self.put_float(double, d, value);
                return Some(1);
            }
            Operation::FromGeneral => {
                let value = self.held(place(m.into()), Reg::RAX);
                self.put_lane(false, n, value);
                return Some(1);
            }
            Operation::ToGeneral => {
                self.get_lane(false, n, Reg::RAX);
                self.put(place(m.into()), Reg::RAX);
                return Some(1);
            }
            Operation::FromPair => {
                self.clobber();
                self.fetch(place(n.into()), Reg::RCX);
                self.a.shift_imm(Shift::Shl, Size::Q, Reg::RCX, 32);
                self.fetch(place(m.into()), Reg::RAX);
                self.a.alu(Alu::Or, Size::Q, Reg::RAX, Reg::RCX);
                self.put_lane(true, d, Reg::RAX);
                return Some(1);
            }
            Operation::ToPair => {
                self.get_lane(true, d, Reg::RAX);
                self.a.rorx(Size::Q, Reg::RCX, Reg::RAX, 32);
                self.a.mov(Size::D, Reg::RAX, Reg::RAX);
                self.a.mov(Size::D, Reg::RCX, Reg::RCX);
                self.put(place(m.into()), Reg::RAX);
                self.put(place(n.into()), Reg::RCX);
                return Some(1);
            }
            _ => {}
        }
        if self.mode != 0 || self.wary_at.contains(self.pc) {
            return None;
        }
        match operation {
            Operation::Two(opcode) => {
                self.host_float();
                let a = self.float_register(double, n, X0);
                let b = self.float_source(double, m, X1);
                self.a.vscalar(double, opcode, X0, a, b);
                self.put_float(double, d, X0);
            }
            Operation::Accumulate { subtracts } => {
                self.host_float();
                let a = self.float_register(double, n, X0);
                let b = self.float_source(double, m, X1);
                self.a.vscalar(double, 0x59, X1, a, b);
                if subtracts {
                    let sign = self.constant(if double { 1 << 63 } else { 1 << 31 });
                    self.a.vp(0xef, X1, X1, sign);
                }
                let addend = self.float_register(double, d, X0);
                self.a.vscalar(double, 0x58, X0, addend, X1);
                self.put_float(double, d, X0);
            }
            Operation::SquareRoot => {
                self.host_float();
                let value = self.float_register(double, m, X0);
                self.a.vscalar(double, 0x51, X0, value, value);
                self.put_float(double, d, X0);
            }
            Operation::Absolute | Operation::Negative => {
                let value = self.float_register(double, m, X0);
                let sign: u128 = if double { 1 << 63 } else { 1 << 31 };
                let negates = operation == Operation::Negative;
                let mask = self.constant(if negates { sign } else { !sign });
                self.a.vp(if negates { 0xef } else { 0xdb }, X0, value, mask);
                self.put_float(double, d, X0);
            }
            Operation::Compare { zero, signals } => return Some(self.compare(item, it, zero, signals)),
            Operation::FromInteger { signed } => {
                self.host_float();
                self.get_lane(false, m, Reg::RAX);
                let size = if signed { Size::D } else { Size::Q };
                self.a.vp(0xef, X0, X0, X0);
                self.a.vconvert(double, size, 0x2a, X0.0, X0.0, Reg::RAX);
                self.put_float(double, d, X0);
            }
            Operation::Widen | Operation::Narrow => {
                self.host_float();
                let value = self.float_register(double, m, X0);
                self.a.vscalar(double, 0x5a, X0, value, value);
                self.put_float(!double, d, X0);
            }
            _ => {}
        }
        Some(1)
    }

    /// VCMP and VCMPE, with the VMRS that nearly always follows.
    fn compare(&mut self, item: &Instruction, it: &Arithmetic, zero: bool, signals: bool) -> usize {
        let Arithmetic { double, d, m, .. } = *it;
        let read = self.items.get(1).is_some_and(|next| {
            next.word & 0x0fff_ffff == READ_FLAGS && next.condition >= ALWAYS && item.condition >= ALWAYS
        });
        if !read {
            self.clobber();
        }
        self.host_float();
        let a = self.float_register(double, d, X0);
        let b = if zero {
            self.a.vp(0xef, X1, X1, X1);
            X1.into()
        } else {
            self.float_source(double, m, X1)
        };
        if signals {
            self.a.vcomis(double, a, b)
        } else {
            self.a.vucomis(double, a, b)
        }
        // NZCV of greater, less, equal, unordered. MOV and CMOV keep EFLAGS.
        self.a.mov_imm(Reg::RAX, 0x2000_0000);
        for (cc, nzcv) in [(Cc::B, 0x8000_0000), (Cc::E, 0x6000_0000), (Cc::P, 0x3000_0000)] {
            self.a.mov_imm(Reg::RCX, nzcv);
            self.a.cmov(cc, Size::D, Reg::RAX, Reg::RCX);
        }
        self.a.mov_to(Size::Q, general(FLOAT_FLAGS), Reg::RAX);
        if read {
            self.flags = Flags::Compare { swapped: false, saved: false };
            return 2;
        }
        1
    }

    /// VMRS APSR_nzcv, FPSCR.
    fn read_flags(&mut self) {
        // Bits of the slot's form: N 15, Z 14, the complement of C 8, V 0.
        self.a.mov(Size::D, Reg::RAX, general(FLOAT_FLAGS));
        self.a.mov(Size::D, Reg::RCX, Reg::RAX);
        self.a.mov(Size::D, Reg::RDX, Reg::RAX);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RCX, 16);
        self.a.alu_imm(Alu::And, Size::D, Reg::RCX, 0xc000);
        self.a.not(Size::D, Reg::RDX);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RDX, 21);
        self.a.alu_imm(Alu::And, Size::D, Reg::RDX, slot_of_nzcv(0) as i32);
        self.a.alu(Alu::Or, Size::D, Reg::RCX, Reg::RDX);
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RAX, 28);
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, 1);
        self.a.alu(Alu::Or, Size::D, Reg::RAX, Reg::RCX);
        self.a.store16(slot(Slot::Flags), Reg::RAX);
        self.flags = Flags::Memory;
    }

    /// A register with the value in its lowest lane: the guest's own, or `scratch`.
    fn float_register(&mut self, double: bool, n: u8, scratch: Xmm) -> Xmm {
        let (v, lane) = lane_of(double, n);
        match self.vector_host(v) {
            Some(x) if lane == 0 => x,
            Some(x) if double => {
                // VUNPCKHPD
                self.a.vp(0x15, scratch, x, x);
                scratch
            }
            Some(x) => {
                self.a.vpshufd(scratch, x, lane);
                scratch
            }
            None => {
                let from = vector(v).plus(lane_bytes(double, lane));
                if double {
                    self.a.vmovq(scratch, from)
                } else {
                    self.a.vmov_from(Size::D, scratch, from)
                }
                scratch
            }
        }
    }

    /// The same, or the value in memory.
    fn float_source(&mut self, double: bool, n: u8, scratch: Xmm) -> Rm {
        let (v, lane) = lane_of(double, n);
        match self.vector_host(v) {
            None => vector(v).plus(lane_bytes(double, lane)).into(),
            Some(_) => self.float_register(double, n, scratch).into(),
        }
    }

    /// A D or S register becomes the lowest lane of `from`; the others of its vector register stay.
    fn put_float(&mut self, double: bool, n: u8, from: Xmm) {
        let (v, lane) = lane_of(double, n);
        self.zeros.from_32 &= !(1 << v);
        self.zeros.from_64 &= !(1 << v);
        match self.vector_host(v) {
            // VMOVSD, VMOVSS.
            Some(x) if lane == 0 && x != from => self.a.vscalar(double, 0x10, x, x, from),
            Some(_) if lane == 0 => {}
            // VUNPCKLPD
            Some(x) if double => self.a.vp(0x14, x, x, from),
            // VINSERTPS
            Some(x) => self.a.vp3a(0x21, x, x, from, lane << 4),
            None => {
                let to = vector(v).plus(lane_bytes(double, lane));
                if double { self.a.vstore_q(to, from) } else { self.a.vmov_to(Size::D, to, from) }
            }
        }
    }
}
