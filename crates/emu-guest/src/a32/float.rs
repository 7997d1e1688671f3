//! The encodings of floating point and Advanced SIMD as data, in A32's form (manual F4.1.8 to F4.1.12).

use super::table::{Build, Row};
use super::{neon, vfp};

/// The tables in the order in which they are searched.
const TABLES: &[&[(Row, Build)]] = &[neon::ROWS, vfp::ROWS];

const LENGTH: usize = {
    let (mut length, mut table) = (0, 0);
    while table < TABLES.len() {
        length += TABLES[table].len();
        table += 1;
    }
    length
};

/// All encodings, the more specific ones first.
pub(super) const ROWS: &[(Row, Build)] = &{
    let mut rows = [TABLES[0][0]; LENGTH];
    let (mut table, mut at) = (0, 0);
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            rows[at] = TABLES[table][row];
            at += 1;
            row += 1;
        }
        table += 1;
    }
    rows
};
