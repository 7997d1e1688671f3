//! Instructions of A32 and T32 may name any of R0 to R13: what decodes with one of them decodes with each. A
//! check for a register that the encoding has not would refuse R0. Before Armv8, T32 reserved R13 often.

use crossdock_emu_guest::a32::{Class, Row, Set, Support};

/// Letters of registers in the tables.
const REGISTERS: &str = "nmdtaus";
/// Words that are tried for a register.
const TRIES: u64 = 400;

/// The fields of one bit (the addressing mode, S, ...) as masks.
fn switches(row: &Row) -> Vec<u32> {
    let letters = ('A'..='Z').chain('a'..='z').filter(|letter| !REGISTERS.contains(*letter));
    let fields = letters.filter_map(|letter| row.field(letter));
    fields.filter(|(_, width)| *width == 1).map(|(low, _)| 1 << low).collect()
}

/// A word of the row with these switches and random other bits.
fn word(row: &Row, switches: &[u32], setting: usize, random: u64) -> u32 {
    let mixed =
        random.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut word = row.value | (mixed >> 32) as u32 & !row.mask;
    for (n, mask) in switches.iter().enumerate() {
        word = if setting >> n & 1 == 1 { word | mask } else { word & !mask };
    }
    // Encodings with a condition have no fifteenth.
    if row.field('c') == Some((28, 4)) { word & 0x0fff_ffff | 0xe000_0000 } else { word }
}

#[test]
fn every_register_but_lr_and_pc_can_be_named() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for set in [Set::Arm, Set::Thumb32] {
        for row in set.rows().iter().filter(|row| row.class != Class::System) {
            let switches = switches(row);
            for letter in REGISTERS.chars() {
                let Some((low, 4)) = row.field(letter) else { continue };
                for setting in 0..1 << switches.len() {
                    let decodes = |register: u32| {
                        (0..TRIES).any(|random| {
                            let word = word(row, &switches, setting, random) & !(15 << low) | register << low;
                            Support::of(set, word, false) == Support::Implemented
                        })
                    };
                    let named: Vec<u32> = (0..14).filter(|&register| decodes(register)).collect();
                    // The first of two registers is even in A32.
                    let is_pair = matches!(set, Set::Arm) && row.name().ends_with("RD") && letter == 't';
                    let all: Vec<u32> = (0..14).filter(|register| !is_pair || register % 2 == 0).collect();
                    checked += named.len();
                    if !named.is_empty() && named != all {
                        wrong.push(format!("{} {letter} {setting:b}: only {named:?}", row.name()));
                    }
                }
            }
        }
    }
    assert!(checked > 10_000, "only {checked} registers were checked");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
