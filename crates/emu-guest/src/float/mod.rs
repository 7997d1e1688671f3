//! Floating-point arithmetic that the guests share.

mod host;
mod softfloat;

pub(crate) use softfloat::{Double, Format, Fpu, Half, Order, QC, Rounding, Single, reciprocal, root};
