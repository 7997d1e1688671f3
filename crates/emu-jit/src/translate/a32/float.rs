//! Floating point of single and double precision (manual F4.1.8): which instructions have lowerings, and the
//! lowerings. FPSCR must ask for what the host does: rounding to nearest, NaNs that propagate; subnormal
//! numbers may be flushed. What the host computes otherwise is left to the interpreter
//! ([`crate::translate::vectors::scalar`]).

use super::{ALWAYS, Translator};
use crate::flag_form::slot_of_nzcv;
use crate::layout::{FPCR, FPSR, Slot, X0, X1, general, slot};
use crate::mxcsr;
use crate::translate::condition::{Condition, Flags};
use crate::translate::flags::wants_swap;
use crate::translate::operands::{half, quarter};
use crate::translate::vectors::immediate::expand_immediate;
use crate::translate::vectors::scalar::scalar_size;
use crate::translate::{Cold, Isa, READS, READS_CV, WRITES_CV};
use crossdock_emu_guest::State;
use crossdock_emu_guest::a32::registers::{FLOAT_FLAGS, place};
use crossdock_emu_guest::a32::{A32, Instruction};
use crossdock_emu_x64::{Alu, Cc, Reg, Rm, Shift, Size};

/// VMRS APSR_nzcv, FPSCR, without its condition.
const READ_FLAGS: u32 = 0x0ef1_fa10;

/// Whether an instruction may read or write FPSCR: VMRS, VMSR, and VCMP of any precision.
fn uses_fpscr(word: u32) -> bool {
    word & 0x0fe0_0f10 == 0x0ee0_0a10 || word & 0x0fbe_0c50 == 0x0eb4_0840
}

/// Whether FPSCR's flags may be other ones behind an instruction, or have another form.
pub(super) fn changes_float_flags(word: u32) -> bool {
    uses_fpscr(word) && word & 0x0fff_ffff != READ_FLAGS
}

/// What an instruction of VFP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// `d = n op m` by the host's opcode.
    Two(u8),
    /// `d = -(n * m)`.
    MultiplyNegated,
    /// `d = ±d ± n * m`, with two roundings.
    Accumulate {
        negates: bool,
        subtracts: bool,
    },
    /// The same, rounded once.
    Fused {
        negates: bool,
        subtracts: bool,
    },
    /// The greater or smaller number; a number wins over a quiet NaN.
    Extreme {
        max: bool,
    },
    /// `d = m`, its square root, its absolute value, its negative.
    Move,
    SquareRoot,
    Absolute,
    Negative,
    /// `d` = the number that 8 bits stand for.
    Immediate(u8),
    /// `d` = `n` if the condition holds, else `m`.
    Select(u8),
    /// `d` = `m`, rounded to an integral number by the host's mode; without one, to nearest with ties away.
    Round(Option<u8>),
    /// `d` compared with `m`, or with zero; quiet NaNs are invalid if `signals`.
    Compare {
        zero: bool,
        signals: bool,
    },
    /// FPSCR's flags become the CPU's.
    ReadFlags,
    /// General register `m` becomes FPSCR.
    ReadControl,
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
    /// S register `d` = `m` rounded to an integer; the mode is A64's, or none as above.
    ToInteger {
        signed: bool,
        mode: Option<u8>,
    },
    /// `d` = the number of 32 bits with so many fraction bits in its lowest bits.
    FromFixed {
        signed: bool,
        fraction: u8,
    },
    /// `d`, of the other precision, `= m`.
    Widen,
    Narrow,
}

/// An instruction of VFP. Registers are numbered as D or S registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arithmetic {
    pub(super) operation: Operation,
    double: bool,
    d: u8,
    n: u8,
    m: u8,
}

/// The fields of a word.
#[derive(Clone, Copy)]
struct Fields(u32);

impl Fields {
    fn is(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Four bits.
    fn four(self, low: u32) -> u8 {
        (self.0 >> low & 15) as u8
    }

    /// An S register of four bits and one.
    fn single(self, low: u32, high: u32) -> u8 {
        self.four(low) << 1 | u8::from(self.is(high))
    }

    /// The number of a D or S register.
    fn register(self, double: bool, low: u32, high: u32) -> u8 {
        if double { self.four(low) | u8::from(self.is(high)) << 4 } else { self.single(low, high) }
    }
}

impl Arithmetic {
    /// The instruction of a word in A32's encoding, if it may have a lowering.
    pub(super) fn of(word: u32) -> Option<Arithmetic> {
        let fields = Fields(word);
        if word & 0x0fff_ffff == READ_FLAGS && word >> 28 != 15 {
            return Some(Arithmetic { operation: Operation::ReadFlags, double: false, d: 0, n: 0, m: 0 });
        }
        if word >> 24 & 15 == 14 && !fields.is(4) && word >> 9 & 7 == 5 {
            return if word >> 28 == 15 { Self::always(fields) } else { Self::computing(fields) };
        }
        if word >> 28 == 15 { None } else { Self::moving(fields) }
    }

    /// VMOV of a general register and a single, of two and a double.
    fn moving(fields: Fields) -> Option<Arithmetic> {
        let word = fields.0;
        if word & 0x0fff_0fff == 0x0ef1_0a10 && fields.four(12) != 15 {
            let m = fields.four(12);
            return Some(Arithmetic { operation: Operation::ReadControl, double: false, d: 0, n: 0, m });
        }
        if word & 0x0fe0_0f7f == 0x0e00_0a10 && fields.four(12) != 15 {
            let operation = if fields.is(20) { Operation::ToGeneral } else { Operation::FromGeneral };
            let n = fields.single(16, 7);
            return Some(Arithmetic { operation, double: false, d: 0, n, m: fields.four(12) });
        }
        if word & 0x0fe0_0fd0 == 0x0c40_0b10 && fields.four(12) != 15 && fields.four(16) != 15 {
            let operation = if fields.is(20) { Operation::ToPair } else { Operation::FromPair };
            let (m, n) = (fields.four(12), fields.four(16));
            let is_known = !(fields.is(20) && m == n);
            let d = fields.register(true, 0, 5);
            return is_known.then_some(Arithmetic { operation, double: true, d, n, m });
        }
        None
    }

    /// The instructions without a condition.
    fn always(fields: Fields) -> Option<Arithmetic> {
        let word = fields.0;
        let double = fields.is(8);
        let (low, directed) = (word >> 16 & 15, [None, Some(0), Some(1), Some(2)]);
        let mut d = fields.register(double, 12, 22);
        let operation = match (word >> 20 & 11, fields.is(6)) {
            (0..=3, false) => {
                // EQ, VS, GE, GT.
                Operation::Select([0, 6, 10, 12][(word >> 20 & 3) as usize])
            }
            (8, min) => Operation::Extreme { max: !min },
            // For the host, up is 2 and down is 1; bit 3 raises no inexactness.
            (11, true) if low >> 2 == 2 && !fields.is(7) => {
                Operation::Round([None, Some(8), Some(8 | 2), Some(8 | 1)][(low & 3) as usize])
            }
            (11, true) if low >> 2 == 3 => {
                d = fields.single(12, 22);
                Operation::ToInteger { signed: fields.is(7), mode: directed[(low & 3) as usize] }
            }
            _ => return None,
        };
        Some(Arithmetic {
            operation,
            double,
            d,
            n: fields.register(double, 16, 7),
            m: fields.register(double, 0, 5),
        })
    }

    /// The instructions with a condition that compute.
    fn computing(fields: Fields) -> Option<Arithmetic> {
        let (word, double) = (fields.0, fields.is(8));
        let operation = match (word >> 20 & 11, fields.is(6)) {
            (0, subtracts) => Operation::Accumulate { negates: false, subtracts },
            // VNMLS, VNMLA.
            (1, subtracts) => Operation::Accumulate { negates: true, subtracts },
            (2, false) => Operation::Two(0x59),
            (2, true) => Operation::MultiplyNegated,
            (3, false) => Operation::Two(0x58),
            (3, true) => Operation::Two(0x5c),
            (8, false) => Operation::Two(0x5e),
            (9, subtracts) => Operation::Fused { negates: true, subtracts },
            (10, subtracts) => Operation::Fused { negates: false, subtracts },
            (11, false) if !fields.is(7) && !fields.is(5) => {
                Operation::Immediate(fields.four(16) << 4 | fields.four(0))
            }
            (11, true) => return Self::one_operand(fields),
            _ => return None,
        };
        Some(Arithmetic {
            operation,
            double,
            d: fields.register(double, 12, 22),
            n: fields.register(double, 16, 7),
            m: fields.register(double, 0, 5),
        })
    }

    fn one_operand(fields: Fields) -> Option<Arithmetic> {
        let (word, double) = (fields.0, fields.is(8));
        let (mut d, mut m) = (fields.register(double, 12, 22), fields.register(double, 0, 5));
        let operation = match (word >> 16 & 15, fields.is(7)) {
            (0, false) => Operation::Move,
            (0, true) => Operation::Absolute,
            (1, false) => Operation::Negative,
            (1, true) => Operation::SquareRoot,
            (4, signals) => Operation::Compare { zero: false, signals },
            (5, signals) if word & 0x2f == 0 => Operation::Compare { zero: true, signals },
            // VRINTR, VRINTZ, VRINTX.
            (6, false) => Operation::Round(Some(8)),
            (6, true) => Operation::Round(Some(8 | 3)),
            (7, false) => Operation::Round(Some(0)),
            (7, true) => {
                d = fields.register(!double, 12, 22);
                if double { Operation::Narrow } else { Operation::Widen }
            }
            (8, signed) => {
                m = fields.single(0, 5);
                Operation::FromInteger { signed }
            }
            (low @ (12 | 13), to_zero) => {
                d = fields.single(12, 22);
                Operation::ToInteger { signed: low == 13, mode: Some(if to_zero { 3 } else { 0 }) }
            }
            // Of 32 bits.
            (low @ (10 | 11), true) => {
                let fraction = 32 - (fields.four(0) << 1 | u8::from(fields.is(5)));
                Operation::FromFixed { signed: low == 10, fraction }
            }
            _ => return None,
        };
        Some(Arithmetic { operation, double, d, n: 0, m })
    }

    /// Whether the host's modes of floating point, or its exceptions, matter.
    pub(super) fn computes(&self) -> bool {
        use Operation::{
            Absolute, FromGeneral, FromPair, Immediate, Move, Negative, ReadControl, ReadFlags, Select,
            ToGeneral, ToPair,
        };
        !matches!(
            self.operation,
            Absolute
                | FromGeneral
                | FromPair
                | Immediate(_)
                | Move
                | Negative
                | ReadControl
                | ReadFlags
                | Select(_)
                | ToGeneral
                | ToPair
        )
    }

    /// Whether its code surely leaves EFLAGS as they are.
    pub(super) fn keeps_host_flags(&self) -> bool {
        use Operation::{ReadControl, ReadFlags, Select};
        !self.computes() && !matches!(self.operation, ReadControl | ReadFlags | Select(_))
    }

    /// The general registers that it reads and writes, as indexes in the state, if there are any.
    pub(super) fn general_registers(&self) -> Option<(bool, [Option<u8>; 2])> {
        let (n, m) = (Some(place(self.n.into())), Some(place(self.m.into())));
        match self.operation {
            Operation::FromGeneral => Some((false, [m, None])),
            Operation::ToGeneral | Operation::ReadControl => Some((true, [m, None])),
            Operation::FromPair => Some((false, [m, n])),
            Operation::ToPair => Some((true, [m, n])),
            _ => None,
        }
    }

    /// Whether it writes all of the CPU's flags, and whether it reads them.
    pub(super) fn writes_flags(&self) -> bool {
        self.operation == Operation::ReadFlags
    }

    /// See [`Arithmetic::writes_flags`].
    pub(super) fn reads_flags(&self) -> bool {
        matches!(self.operation, Operation::Select(_))
    }

    /// The part of a vector register that it writes, and those that it reads.
    pub(super) fn roles(&self) -> (Option<u8>, [Option<u8>; 3]) {
        let [d, n, m] = [self.d, self.n, self.m].map(|n| Some(operand(self.double, n)));
        match self.operation {
            Operation::Two(_)
            | Operation::MultiplyNegated
            | Operation::Extreme { .. }
            | Operation::Select(_) => (d, [n, m, None]),
            Operation::Accumulate { .. } | Operation::Fused { .. } => (d, [d, n, m]),
            Operation::Move
            | Operation::SquareRoot
            | Operation::Absolute
            | Operation::Negative
            | Operation::Round(_) => (d, [m, None, None]),
            Operation::Immediate(_) | Operation::FromPair => (d, [None; 3]),
            Operation::Compare { zero, .. } => (None, [d, m.filter(|_| !zero), None]),
            Operation::ToPair => (None, [d, None, None]),
            Operation::FromFixed { .. } => (d, [d, None, None]),
            Operation::ReadFlags | Operation::ReadControl => (None, [None; 3]),
            Operation::FromGeneral => (n, [None; 3]),
            Operation::ToGeneral => (None, [n, None, None]),
            Operation::FromInteger { .. } => (d, [Some(quarter(self.m)), None, None]),
            Operation::ToInteger { .. } | Operation::Narrow => (Some(quarter(self.d)), [m, None, None]),
            Operation::Widen => (Some(half(self.d)), [m, None, None]),
        }
    }

    /// Calls `each` with its operands that are parts of vector registers.
    pub(super) fn each_operand(&self, mut each: impl FnMut(u8)) {
        let [d, n, m] = [self.d, self.n, self.m].map(|n| operand(self.double, n));
        match self.operation {
            Operation::Two(_)
            | Operation::MultiplyNegated
            | Operation::Accumulate { .. }
            | Operation::Fused { .. }
            | Operation::Extreme { .. }
            | Operation::Select(_) => [d, n, m].into_iter().for_each(each),
            Operation::Move
            | Operation::SquareRoot
            | Operation::Absolute
            | Operation::Negative
            | Operation::Round(_)
            | Operation::Compare { zero: false, .. } => [d, m].into_iter().for_each(each),
            Operation::Immediate(_)
            | Operation::Compare { zero: true, .. }
            | Operation::FromPair
            | Operation::ToPair
            | Operation::FromFixed { .. } => each(d),
            Operation::ReadFlags | Operation::ReadControl => {}
            Operation::FromGeneral | Operation::ToGeneral => each(n),
            Operation::FromInteger { .. } => [d, quarter(self.m)].into_iter().for_each(each),
            Operation::ToInteger { .. } => [quarter(self.d), m].into_iter().for_each(each),
            Operation::Widen => [half(self.d), m].into_iter().for_each(each),
            Operation::Narrow => [quarter(self.d), m].into_iter().for_each(each),
        }
    }
}

/// The number of a D or S register as an operand.
fn operand(double: bool, n: u8) -> u8 {
    if double { half(n) } else { quarter(n) }
}

/// FPSCR's flags as code leaves them after a comparison: bits 15 to 8 are LAHF's after UCOMIS.
const AS_COMPARED: u64 = 1;
/// The same, of the operands in reverse order.
const AS_SWAPPED: u64 = 3;

/// Gives FPSCR's flags the form that others know.
pub(super) fn settle(state: &mut State) {
    let word = state.gpr[usize::from(FLOAT_FLAGS)];
    if word & 1 == 0 {
        return;
    }
    let swapped = word & 3 == AS_SWAPPED;
    let form = crate::flag_form::FlagForm::Compare { swapped };
    let flags = crate::flag_form::nzcv_of_slot(form.slot_of(word >> 8, 0));
    state.gpr[usize::from(FLOAT_FLAGS)] = flags.into();
}

impl Translator<'_> {
    /// Whether there is a lowering for the instruction, here.
    pub(super) fn can_compute(&self, it: &Arithmetic) -> bool {
        !it.computes() || self.mode & crate::unit::EXACT == 0
    }

    /// Makes the host compute as FPSCR says.
    pub(super) fn need_fpscr_modes(&mut self) {
        // Where FPSCR flushes, vectors compute likewise.
        if !self.flushes() {
            self.need_modes(mxcsr::SIGNALS);
        }
    }

    /// Whether the code of an instruction at a place never goes to the interpreter and comes back: there the
    /// registers are where they were before.
    pub(super) fn stays(&self, it: &Arithmetic, place: u64) -> bool {
        let is_simple = match it.operation {
            Operation::Two(_)
            | Operation::MultiplyNegated
            | Operation::SquareRoot
            | Operation::FromInteger { .. }
            | Operation::Widen
            | Operation::Narrow => true,
            Operation::ToInteger { signed, mode } => signed && matches!(mode, Some(0 | 3)),
            _ => !it.computes(),
        };
        is_simple && self.can_compute(it) && !(it.computes() && self.wary_at.contains(place))
    }

    /// Lowers the instruction. Returns how many are done.
    pub(super) fn arithmetic_float(&mut self, item: &Instruction, it: &Arithmetic) -> usize {
        if !it.computes() {
            self.move_float(it);
            return 1;
        }
        self.need_fpscr_modes();
        let wary = self.wary_at.contains(self.pc);
        if wary {
            self.begin_wary();
        }
        self.host_float();
        let done = match it.operation {
            Operation::Compare { zero, signals } => self.compare(item, it, zero, signals),
            _ => {
                self.compute(it);
                1
            }
        };
        if wary {
            self.end_wary();
        }
        done
    }

    fn compute(&mut self, it: &Arithmetic) {
        let double = it.double;
        let [d, n, m] = [it.d, it.n, it.m].map(|n| operand(double, n));
        match it.operation {
            Operation::Two(opcode) => self.scalar_arithmetic(double, opcode, d, n, m),
            Operation::MultiplyNegated => self.scalar_multiply_negated(double, d, n, m),
            Operation::Accumulate { negates, subtracts } => {
                self.scalar_accumulate(double, negates, subtracts, [d, n, m]);
            }
            Operation::Fused { negates, subtracts } => {
                self.scalar_fused(double, [negates, subtracts], [d, n, m, d]);
            }
            Operation::Extreme { max } => self.scalar_extreme(double, max, d, n, m),
            Operation::SquareRoot => self.scalar_root(double, d, m),
            Operation::Round(Some(mode)) => self.scalar_round(double, d, m, mode),
            Operation::Round(None) => self.scalar_round_away(double, d, m),
            Operation::FromInteger { signed } => self.float_of_integer(double, signed, d, quarter(it.m)),
            Operation::FromFixed { signed, fraction } => self.float_of_fixed(double, signed, fraction, it.d),
            Operation::ToInteger { signed, mode } => self.integer_of_float(double, signed, mode, it.d, m),
            Operation::Widen => self.scalar_widen(half(it.d), m),
            Operation::Narrow => self.scalar_narrow(quarter(it.d), m),
            _ => {}
        }
    }

    /// What needs no arithmetic of the host.
    fn move_float(&mut self, it: &Arithmetic) {
        let Arithmetic { operation, double, n, m, .. } = *it;
        let (d, second) = (operand(double, it.d), operand(double, it.m));
        match operation {
            Operation::ReadFlags => self.read_flags(),
            Operation::ReadControl => self.read_control(place(m.into())),
            Operation::Move => {
                let value = self.vget(second, X0);
                self.vput(d, value);
            }
            Operation::Absolute | Operation::Negative => {
                let value = self.vget(second, X0);
                let sign: u128 = if double { 1 << 63 } else { 1 << 31 };
                let negates = operation == Operation::Negative;
                let mask = self.constant(if negates { sign } else { !sign });
                let t = self.vresult_like(d, second);
                self.a.vp(if negates { 0xef } else { 0xdb }, t, value, mask);
                self.vput(d, t);
            }
            Operation::Immediate(imm8) => {
                let value = expand_immediate(double, imm8.into());
                let t = self.vresult(d);
                self.load_constant(t, value.into());
                self.vput(d, t);
            }
            Operation::Select(condition) => {
                self.select_float(double, condition, d, operand(double, n), second)
            }
            Operation::FromGeneral => {
                let value = self.held(place(m.into()), Reg::RAX);
                self.put_lane(false, n, value);
            }
            Operation::ToGeneral => {
                let t = self.result(place(m.into()), Reg::RAX);
                self.scalar_bits(false, t, quarter(n));
                self.put(place(m.into()), t);
            }
            Operation::FromPair => {
                let t = self.vresult(d);
                self.a.vmov_from(Size::D, t, self.rm(place(m.into())));
                // VPINSRD.
                self.a.vp3a(0x22, t, t, self.rm(place(n.into())), 1);
                self.vput(d, t);
            }
            Operation::ToPair => {
                self.scalar_bits(true, Reg::RAX, d);
                self.a.rorx(Size::Q, Reg::RCX, Reg::RAX, 32);
                for (guest, half) in [(place(m.into()), Reg::RAX), (place(n.into()), Reg::RCX)] {
                    let t = self.result(guest, half);
                    self.a.mov(Size::D, t, half);
                    self.put(guest, t);
                }
            }
            _ => {}
        }
    }

    /// VSEL.
    fn select_float(&mut self, double: bool, condition: u8, d: u8, n: u8, m: u8) {
        let condition = self.condition(condition.into());
        let size = scalar_size(double);
        self.scalar_bits(double, Reg::RAX, n);
        if condition != Condition::Always {
            self.scalar_bits(double, Reg::RCX, m);
            self.unless(condition, size, Reg::RAX, Reg::RCX.into());
        }
        self.a.vmov_from(size, X0, Reg::RAX);
        self.vput(d, X0);
    }

    /// A D or S register becomes `reg`.
    fn put_lane(&mut self, double: bool, n: u8, reg: Reg) {
        self.part_from_bits(operand(double, n), reg);
    }

    /// VCVT of an integer of 32 bits.
    fn float_of_integer(&mut self, double: bool, signed: bool, d: u8, m: u8) {
        if signed && double {
            // VCVTDQ2PD of the lowest two: it raises nothing.
            let from = self.vget(m, X0);
            self.part_renewed(d);
            let t = self.vresult(d);
            self.a.vconvert(false, Size::D, 0xe6, t.0, 0, from);
            return self.vput(d, t);
        } else {
            self.scalar_bits(false, Reg::RAX, m);
            self.a.vp(0xef, X0, X0, X0);
            let size = if signed { Size::D } else { Size::Q };
            self.a.vconvert(double, size, 0x2a, X0.0, X0.0, Reg::RAX);
        }
        self.vput(d, X0);
    }

    /// VCVT of a number of 32 bits with fraction bits, in place: the division by a power of two is exact.
    fn float_of_fixed(&mut self, double: bool, signed: bool, fraction: u8, d: u8) {
        // The low half of a D register.
        let from = if double { (d < 16).then(|| quarter(2 * d)) } else { Some(quarter(d)) };
        let d = operand(double, d);
        match from {
            Some(from) => self.scalar_bits(false, Reg::RAX, from),
            None => {
                self.scalar_bits(true, Reg::RAX, d);
                self.a.mov(Size::D, Reg::RAX, Reg::RAX);
            }
        }
        self.a.vp(0xef, X0, X0, X0);
        let size = if signed { Size::D } else { Size::Q };
        self.a.vconvert(double, size, 0x2a, X0.0, X0.0, Reg::RAX);
        if fraction != 0 {
            let exponent = if double { 1023 } else { 127 } - u128::from(fraction);
            let scale = self.constant(exponent << if double { 52 } else { 23 });
            self.a.vscalar(double, 0x59, X0, X0, scale);
        }
        self.vput(d, X0);
    }

    /// VCVT, VCVTR, VCVTA and their kin to S register `d`.
    fn integer_of_float(&mut self, double: bool, signed: bool, mode: Option<u8>, d: u8, m: u8) {
        if !self.wary && signed && matches!(mode, Some(0 | 3)) {
            let a = self.vget(m, X0);
            self.convert_in_one(double, false, mode == Some(3), Reg::RAX, a);
            return self.part_from_bits(quarter(d), Reg::RAX);
        }
        let (back, slow) = self.slow_way();
        let a = self.vget(m, X0);
        self.convert_to_rax(double, false, !signed, mode, a, slow);
        self.part_from_bits(quarter(d), Reg::RAX);
        self.a.bind(back);
    }

    /// VCMP and VCMPE, with the VMRS that nearly always follows. FPSCR's flags have the form of
    /// [`AS_COMPARED`] then.
    fn compare(&mut self, item: &Instruction, it: &Arithmetic, zero: bool, signals: bool) -> usize {
        let double = it.double;
        // A pair sets the CPU's flags.
        let reader = if self.wary { None } else { self.reader(item) };
        let read = reader == Some(1);
        if !read {
            self.clobber();
            self.mark();
        }
        let swapped = reader.is_some_and(|i| self.swaps(i + 1));
        if zero {
            self.a.vp(0xef, X1, X1, X1);
        }
        let (d, m) = (operand(double, it.d), operand(double, it.m));
        let (first, second): (_, Rm) = match (swapped, zero) {
            (false, false) => (self.vget(d, X0), self.vscalar_source(m, X1)),
            (false, true) => (self.vget(d, X0), X1.into()),
            (true, false) => (self.vget(m, X1), self.vscalar_source(d, X0)),
            (true, true) => (X1, self.vscalar_source(d, X0)),
        };
        self.a.mov_imm(Reg::RAX, if swapped { AS_SWAPPED } else { AS_COMPARED });
        if signals {
            self.a.vcomis(double, first, second)
        } else {
            self.a.vucomis(double, first, second)
        }
        // Moves keep EFLAGS.
        self.a.lahf();
        self.a.mov_to(Size::D, general(FLOAT_FLAGS), Reg::RAX);
        if read {
            self.flags = Flags::Compare { swapped, saved: false };
            self.compared = Some(swapped);
            return 2;
        }
        self.compared = (!self.wary && item.condition >= ALWAYS).then_some(swapped);
        1
    }

    /// How many instructions behind the current one, a VCMP, its flags become the CPU's, if both always run
    /// and nothing between them may change FPSCR.
    fn reader(&self, item: &Instruction) -> Option<usize> {
        let (place, next) = self.items.iter().enumerate().skip(1).find(|(_, item)| uses_fpscr(item.word))?;
        let reads = next.word & 0x0fff_ffff == READ_FLAGS;
        (reads && next.condition >= ALWAYS && item.condition >= ALWAYS).then_some(place)
    }

    /// Whether the next reader of the flags in the block, from the instruction `from` on, wants the operands
    /// of UCOMIS in reverse order.
    fn swaps(&self, from: usize) -> bool {
        for item in self.items[from.min(self.items.len())..].iter().chain(&self.end_item) {
            let class = A32::class(item);
            if class.has(READS | READS_CV) {
                return item.condition < ALWAYS && wants_swap(item.condition.into());
            }
            if class.has(WRITES_CV) {
                break;
            }
        }
        false
    }

    /// VMRS of FPSCR. DZC, OFC, UFC, IXC are ZE, OE, UE, PE of MXCSR too; IOC is set when the host signals
    /// it.
    fn read_control(&mut self, to: u8) {
        self.clobber();
        self.settled_flags();
        self.a.stmxcsr(slot(Slot::Mxcsr));
        self.a.mov(Size::D, Reg::RCX, slot(Slot::Mxcsr));
        self.a.shift_imm(Shift::Shr, Size::D, Reg::RCX, 1);
        self.a.alu_imm(Alu::And, Size::D, Reg::RCX, 0x1e);
        self.a.alu(Alu::Or, Size::D, Reg::RCX, FPSR);
        self.a.alu(Alu::Or, Size::D, Reg::RCX, FPCR);
        self.a.alu(Alu::Or, Size::D, Reg::RAX, Reg::RCX);
        self.put(to, Reg::RAX);
    }

    /// `rax` = FPSCR's flags in the form that others know, which they have from here on. Changes rcx and
    /// EFLAGS.
    fn settled_flags(&mut self) {
        self.a.mov(Size::D, Reg::RAX, general(FLOAT_FLAGS));
        self.a.test_imm8(Reg::RAX, 1);
        let settled = self.a.skip_if(Cc::E);
        self.a.test_imm8(Reg::RAX, (AS_SWAPPED ^ AS_COMPARED) as u8);
        let swapped = self.a.skip_if(Cc::Ne);
        self.a.sahf();
        self.flags_of_comparison(false);
        let done = self.a.skip();
        self.a.land(swapped);
        self.a.sahf();
        self.flags_of_comparison(true);
        self.a.land(done);
        self.a.mov_to(Size::Q, general(FLOAT_FLAGS), Reg::RAX);
        self.a.land(settled);
    }

    /// `rax` = NZCV of EFLAGS after UCOMIS, whose operands are in reverse order if `swapped`. Changes rcx.
    fn flags_of_comparison(&mut self, swapped: bool) {
        let (greater, less) = (0x2000_0000, 0x8000_0000);
        let (above, below) = if swapped { (less, greater) } else { (greater, less) };
        self.a.mov_imm(Reg::RAX, above);
        for (cc, nzcv) in [(Cc::B, below), (Cc::E, 0x6000_0000), (Cc::P, 0x3000_0000)] {
            self.a.mov_imm(Reg::RCX, nzcv);
            self.a.cmov(cc, Size::D, Reg::RAX, Reg::RCX);
        }
    }

    /// VMRS APSR_nzcv, FPSCR.
    fn read_flags(&mut self) {
        self.clobber();
        if let Some(swapped) = self.compared {
            // The interpreter may have run since then.
            self.a.mov(Size::D, Reg::RAX, general(FLOAT_FLAGS));
            self.a.test_imm8(Reg::RAX, 1);
            let back = self.a.label();
            let settled = self.stub(Cold::Compared { swapped, back });
            self.a.jump_if(Cc::E, settled);
            self.a.sahf();
            self.a.bind(back);
            self.flags = Flags::Compare { swapped, saved: false };
            return;
        }
        // Bits of the slot's form: N 15, Z 14, the complement of C 8, V 0.
        self.settled_flags();
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
        self.a.mov_to(Size::D, slot(Slot::Flags), Reg::RAX);
        self.flags = Flags::Memory;
    }
}
