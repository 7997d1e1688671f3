//! The encodings of floating point and Advanced SIMD as data, in A32's form (manual F4.1.8 to F4.1.12).

use super::neon;
use super::table::{Build, Row};

/// All encodings, the more specific ones first.
pub(super) const ROWS: &[(Row, Build)] = neon::ROWS;
