//! VFP's registers (manual E1.3.1), and what its formats have to do with them and with FPSCR.
//!
//! D(2n) and D(2n+1) are the halves of vector register n, and S(n) is a quarter of vector register n/4. A
//! write leaves the rest of the vector register as it is.

use super::fields::Word;
use super::registers::{AHP, FZ, FZ16, RMODE};
use crate::a64::{Control as FpControl, cumulative};
use crate::float::{Control, Double, Environment, Flags, Fpu, HalfOperand, HostFormat, Single};
use crate::op::{Handler, Op};
use crate::state::State;

impl State {
    /// S(n).
    #[inline(always)]
    pub(crate) fn s(&self, n: u8) -> u32 {
        (self.v[n as usize / 4 & 31] >> (32 * (n & 3))) as u32
    }

    /// Sets S(n).
    #[inline(always)]
    pub(crate) fn set_s(&mut self, n: u8, value: u32) {
        let (vector, shift) = (&mut self.v[n as usize / 4 & 31], 32 * (n & 3));
        *vector = *vector & !(0xffff_ffff << shift) | u128::from(value) << shift;
    }

    /// D(n).
    #[inline(always)]
    pub(crate) fn d(&self, n: u8) -> u64 {
        (self.v[n as usize / 2 & 31] >> (64 * (n & 1))) as u64
    }

    /// Sets D(n).
    #[inline(always)]
    pub(crate) fn set_d(&mut self, n: u8, value: u64) {
        let (vector, shift) = (&mut self.v[n as usize / 2 & 31], 64 * (n & 1));
        *vector = *vector & !(u128::from(u64::MAX) << shift) | u128::from(value) << shift;
    }
}

/// A format that VFP computes in.
pub(super) trait Element: HostFormat {
    /// What the modes of FPSCR are to arithmetic in this format.
    type Control: Control;

    /// The value of a register.
    fn get(s: &State, n: u8) -> u64;

    /// Sets a register.
    fn set(s: &mut State, n: u8, value: u64);

    /// FPSCR's modes `fpcr` for arithmetic in this format.
    fn control(s: &State, fpcr: u32) -> Self::Control;

    /// The flags that FPSCR accumulates.
    fn accumulated(flags: Flags) -> u32 {
        cumulative(flags)
    }

    /// Arithmetic with FPSCR's modes. The flags go to FPSCR.
    #[inline(always)]
    fn with_fpu<T>(s: &mut State, compute: impl FnOnce(&mut Fpu<Self::Control>) -> T) -> T {
        Self::compute(s, s.fpcr, compute)
    }

    /// Arithmetic with FPSCR's modes, but rounding to nearest.
    #[inline(always)]
    fn to_nearest<T>(s: &mut State, compute: impl FnOnce(&mut Fpu<Self::Control>) -> T) -> T {
        Self::compute(s, s.fpcr & !RMODE, compute)
    }

    #[inline(always)]
    fn compute<T>(s: &mut State, fpcr: u32, compute: impl FnOnce(&mut Fpu<Self::Control>) -> T) -> T {
        let mut fpu = Fpu::new(Self::control(s, fpcr));
        let result = compute(&mut fpu);
        s.fpsr |= Self::accumulated(fpu.flags());
        result
    }
}

impl Element for Single {
    type Control = FpControl;

    #[inline(always)]
    fn get(s: &State, n: u8) -> u64 {
        u64::from(s.s(n))
    }

    #[inline(always)]
    fn set(s: &mut State, n: u8, value: u64) {
        s.set_s(n, value as u32);
    }

    #[inline(always)]
    fn control(s: &State, fpcr: u32) -> FpControl {
        FpControl { fpcr, fpsr: s.fpsr }
    }
}

impl Element for Double {
    type Control = FpControl;

    #[inline(always)]
    fn get(s: &State, n: u8) -> u64 {
        s.d(n)
    }

    #[inline(always)]
    fn set(s: &mut State, n: u8, value: u64) {
        s.set_d(n, value);
    }

    #[inline(always)]
    fn control(s: &State, fpcr: u32) -> FpControl {
        FpControl { fpcr, fpsr: s.fpsr }
    }
}

/// FEAT_FP16: operands are the low half of a singleword, results are zero-extended to one. FZ16 takes the
/// place of FZ, and AHP has no effect.
impl Element for HalfOperand {
    type Control = Environment;

    fn get(s: &State, n: u8) -> u64 {
        u64::from(s.s(n) & 0xffff)
    }

    fn set(s: &mut State, n: u8, value: u64) {
        s.set_s(n, value as u32);
    }

    fn control(s: &State, fpcr: u32) -> Environment {
        let flush = if fpcr & FZ16 != 0 { FZ } else { 0 };
        FpControl { fpcr: fpcr & !(FZ | AHP) | flush, fpsr: s.fpsr }.environment()
    }

    /// Flushing by FZ16 does not raise the flag for subnormal operands (manual, FPUnpackBase).
    fn accumulated(flags: Flags) -> u32 {
        cumulative(flags.without(Flags::INPUT_DENORMAL))
    }
}

impl Word<'_> {
    /// The number of the singleword register of the letters `d` and `D`, `n` and `N`, or `m` and `M`.
    pub(super) fn single(&self, letter: char) -> u8 {
        (self.field(letter) << 1 | self.field(letter.to_ascii_uppercase())) as u8
    }

    /// The number of the doubleword register of these letters.
    pub(super) fn double(&self, letter: char) -> u8 {
        (self.field(letter.to_ascii_uppercase()) << 4 | self.field(letter)) as u8
    }

    /// The instruction with the singleword registers `d`, `n` and `m`.
    pub(super) fn singles(&self, run: Handler) -> Op {
        let [rd, rn, rm] = ['d', 'n', 'm'].map(|letter| self.single(letter));
        Op { rd, rn, rm, ..self.op(run) }
    }

    /// The instruction with the doubleword registers `d`, `n` and `m`.
    pub(super) fn doubles(&self, run: Handler) -> Op {
        let [rd, rn, rm] = ['d', 'n', 'm'].map(|letter| self.double(letter));
        Op { rd, rn, rm, ..self.op(run) }
    }

    /// The instruction with the registers `d`, `n` and `m` of the size in bits 9 to 8.
    pub(super) fn sized(&self, run: Handler) -> Op {
        if self.has_doubles() { self.doubles(run) } else { self.singles(run) }
    }

    /// Whether bits 9 to 8 say that the elements are doublewords.
    pub(super) fn has_doubles(&self) -> bool {
        self.code >> 8 & 3 == 3
    }
}

/// Picks the handler of the format in field `z`, of two bits.
macro_rules! by_size {
    ($word:expr, $handler:ident $(, $parameter:expr)*) => {
        match $word.field('z') {
            1 => $handler::<HalfOperand $(, $parameter)*>,
            2 => $handler::<Single $(, $parameter)*>,
            3 => $handler::<Double $(, $parameter)*>,
            _ => return None,
        }
    };
}

pub(super) use by_size;
