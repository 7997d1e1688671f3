//! The encodings of floating point and Advanced SIMD as data, in A32's form (manual F4.1.8 to F4.1.12).

use super::system;
use super::table::Class::Float;
use super::table::{Build, Row, row};

/// All encodings, the more specific ones first.
#[rustfmt::skip]
pub(super) const ROWS: &[(Row, Build)] = &[
    row("cccc 1110 0000 xxxx xxxx 1011 xxxx xxxx", "?", Float, system::undefined),
];
