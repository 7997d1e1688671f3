//! Floating-point arithmetic to the letter of the manual's pseudo-code (J1.3, shared/functions/float): every
//! rounding mode, NaN rules, flushing to zero, and cumulative flags.
//!
//! Values are bit patterns in the low bits of a `u64`. Where the host's arithmetic gives the same result and
//! no flag can change, it is used instead: round to nearest, no mode bits, and the inexact flag set already,
//! as it is after the first few operations of most programs.

mod arithmetic;
mod arm;
mod compare;
mod convert;
mod environment;
mod format;
mod host;
mod round;
mod unpack;

pub(crate) use arm::{reciprocal, root};
pub(crate) use compare::Order;
pub(crate) use environment::{Fpu, QC, Rounding};
pub(crate) use format::{Double, Format, Half, Single};
pub(crate) use host::HostFormat;
