//! The arithmetic as a guest's instructions use it: by the host where that cannot be told apart, else in
//! integers.

use super::compare::{Comparison, NanOperands, Order};
use super::environment::{Environment, Exact, Flags, Rounding};
use super::format::{Format, plain};
use super::host::{HostFormat, normal};

/// A guest's control and status registers.
pub(crate) trait Control: Copy {
    /// The modes.
    fn environment(self) -> Environment;

    /// Whether the host's arithmetic may stand in where operands are zero or normal and the result is normal:
    /// the guest rounds to nearest, ties to even, and its inexact flag is set, so that nobody can tell
    /// whether the result was exact. The answer must cost next to nothing.
    fn host_agrees(self) -> bool;
}

/// Modes of their own, such as those of half precision, always go without the host's arithmetic.
impl Control for Environment {
    fn environment(self) -> Environment {
        self
    }

    fn host_agrees(self) -> bool {
        false
    }
}

/// A guest's arithmetic, with the flags that it has raised.
pub(crate) struct Fpu<C> {
    control: C,
    pub(super) exact: Exact,
}

/// Runs `operation` out of line: the code that calls it is the host's arithmetic, and stays small.
#[cold]
#[inline(never)]
fn out_of_line<C: Control>(control: C, operation: impl FnOnce(&mut Exact) -> u64) -> (u64, Flags) {
    let mut exact = Exact::new(control.environment());
    let result = operation(&mut exact);
    (result, exact.flags)
}

impl<C: Control> Fpu<C> {
    /// Arithmetic with the modes of `control`, and no flag raised yet.
    #[inline(always)]
    pub(crate) fn new(control: C) -> Fpu<C> {
        Fpu { control, exact: Exact::new(control.environment()) }
    }

    /// The flags raised since [`Fpu::new`]. Inexactness is missing where [`Control::host_agrees`].
    #[inline(always)]
    pub(crate) fn flags(&self) -> Flags {
        self.exact.flags
    }

    /// The rounding mode of the environment.
    #[inline(always)]
    pub(crate) fn rounding(&self) -> Rounding {
        self.exact.rounding()
    }

    #[inline(always)]
    fn out_of_line(&mut self, operation: impl FnOnce(&mut Exact) -> u64) -> u64 {
        let (result, flags) = out_of_line(self.control, operation);
        self.exact.raise(flags);
        result
    }

    /// Addition.
    #[inline(always)]
    pub(crate) fn add<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.control.host_agrees() && plain::<F>(a) && plain::<F>(b) {
            let sum = F::add(a, b);
            if normal::<F>(sum) {
                return sum;
            }
        }
        self.out_of_line(move |exact| exact.add::<F>(a, b))
    }

    /// Subtraction.
    #[inline(always)]
    pub(crate) fn sub<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.control.host_agrees() && plain::<F>(a) && plain::<F>(b) {
            let difference = F::sub(a, b);
            if normal::<F>(difference) {
                return difference;
            }
        }
        self.out_of_line(move |exact| exact.sub::<F>(a, b))
    }

    /// Multiplication.
    #[inline(always)]
    pub(crate) fn mul<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.control.host_agrees() && plain::<F>(a) && plain::<F>(b) {
            let product = F::mul(a, b);
            if normal::<F>(product) {
                return product;
            }
        }
        self.out_of_line(move |exact| exact.mul::<F>(a, b))
    }

    /// Division.
    #[inline(always)]
    pub(crate) fn div<F: HostFormat>(&mut self, a: u64, b: u64) -> u64 {
        if self.control.host_agrees() && plain::<F>(a) && plain::<F>(b) {
            let quotient = F::div(a, b);
            if normal::<F>(quotient) {
                return quotient;
            }
        }
        self.out_of_line(move |exact| exact.div::<F>(a, b))
    }

    /// Square root.
    #[inline(always)]
    pub(crate) fn sqrt<F: HostFormat>(&mut self, a: u64) -> u64 {
        if self.control.host_agrees() && normal::<F>(a) && a & F::SIGN == 0 {
            let root = F::sqrt(a);
            if normal::<F>(root) {
                return root;
            }
        }
        self.out_of_line(move |exact| exact.sqrt::<F>(a))
    }

    /// `addend + a * b`, rounded once.
    #[inline(always)]
    pub(crate) fn mul_add<F: HostFormat>(&mut self, addend: u64, a: u64, b: u64) -> u64 {
        if self.control.host_agrees()
            && plain::<F>(a)
            && plain::<F>(b)
            && plain::<F>(addend)
            && let Some(sum) = F::mul_add(a, b, addend)
            && normal::<F>(sum)
        {
            return sum;
        }
        self.out_of_line(move |exact| exact.mul_add::<F>(addend, a, b))
    }

    /// [`Exact::compare`].
    #[inline(always)]
    pub(crate) fn compare<F: Format>(&mut self, a: u64, b: u64, comparison: Comparison) -> Order {
        self.exact.compare::<F>(a, b, comparison)
    }

    /// [`Exact::max`].
    #[inline(always)]
    pub(crate) fn max<F: Format>(&mut self, a: u64, b: u64, nans: NanOperands) -> u64 {
        self.exact.max::<F>(a, b, nans)
    }

    /// [`Exact::min`].
    #[inline(always)]
    pub(crate) fn min<F: Format>(&mut self, a: u64, b: u64, nans: NanOperands) -> u64 {
        self.exact.min::<F>(a, b, nans)
    }

    /// [`Exact::round_int`].
    #[inline(always)]
    pub(crate) fn round_int<F: Format>(&mut self, a: u64, rounding: Rounding, exact: bool) -> u64 {
        self.exact.round_int::<F>(a, rounding, exact)
    }

    /// [`Exact::fixed_of`].
    #[inline(always)]
    pub(crate) fn fixed_of<F: Format>(
        &mut self,
        a: u64,
        fbits: u32,
        unsigned: bool,
        rounding: Rounding,
        width: u32,
    ) -> u64 {
        self.exact.fixed_of::<F>(a, fbits, unsigned, rounding, width)
    }

    /// [`Exact::float_of`].
    #[inline(always)]
    pub(crate) fn float_of<F: Format>(&mut self, value: u64, fbits: u32, unsigned: bool) -> u64 {
        self.exact.float_of::<F>(value, fbits, unsigned)
    }

    /// [`Exact::convert`].
    #[inline(always)]
    pub(crate) fn convert<F: Format, T: Format>(&mut self, a: u64, rounding: Rounding) -> u64 {
        self.exact.convert::<F, T>(a, rounding)
    }
}
