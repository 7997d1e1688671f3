//! Floating-point arithmetic, exact in every result and flag, for all guests (IEEE 754-2019; Arm's manual,
//! J1.3, shared/functions/float; RISC-V's F and D extensions).
//!
//! An [`Environment`] holds the modes and [`Flags`] the exceptions; neither knows the control registers of a
//! CPU. A guest describes its own by [`Control`], and computes with an [`Fpu`].
//!
//! Values are bit patterns in the low bits of a `u64`. Where the host's arithmetic gives the same result and
//! no flag can change, it is used instead: round to nearest, no mode bits, and the inexact flag set already,
//! as it is after the first few operations of most programs.

#[cfg(test)]
mod against_host;
mod arithmetic;
mod arm;
mod compare;
mod convert;
mod environment;
mod format;
mod fpu;
mod host;
mod round;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use arm::{reciprocal, root};
pub(crate) use compare::{Comparison, NanOperands, Order};
pub(crate) use environment::{Environment, Flags, HalfFormat, NanInteger, NanRule, Rounding, Tininess};
pub(crate) use format::{Brain, Double, Format, Half, HalfOperand, Single};
pub(crate) use fpu::{Control, Fpu};
pub(crate) use host::HostFormat;
