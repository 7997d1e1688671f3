//! The table of floating point and Advanced SIMD against Arm's own list of A32 and T32 encodings: what is
//! implemented, what is refused on purpose.

use crossdock_emu_guest::a32::{Set, Support, classify, float_of_thumb, is_float};
use std::collections::BTreeMap;

/// One encoding of Arm's list.
struct Encoding {
    path: &'static str,
    name: &'static str,
    mask: u32,
    value: u32,
}

macro_rules! encodings {
    ($($set:ident $(:: $part:ident)+,)*) => {
        const ENCODINGS: &[Encoding] = &[$(Encoding {
            path: stringify!($set $(:: $part)+),
            name: aarchmrs_instructions::$set$(::$part)+::NAME,
            mask: aarchmrs_instructions::$set$(::$part)+::OPCODE_MASK,
            value: aarchmrs_instructions::$set$(::$part)+::OPCODE,
        }),*];
    };
}
include!("encodings_arm_list.rs");

/// Refused encodings, by the start of the name, and the reason.
const REFUSED: &[(&str, &str)] = &[];

/// Mnemonics of the list that are special cases of another one in the table.
const ALIASES: &[(&str, &str)] = &[
    ("VMOVL", "VSHLL"),
    ("VSELEQ", "VSEL"),
    ("VSELGE", "VSEL"),
    ("VSELGT", "VSEL"),
    ("VSELVS", "VSEL"),
    ("FLDMDBX", "VLDMDB"),
    ("FLDMIAX", "VLDM"),
    ("FSTMDBX", "VSTMDB"),
    ("FSTMIAX", "VSTM"),
];

impl Encoding {
    fn mnemonic(&self) -> &'static str {
        let name = self.name.split('_').next().unwrap_or(self.name);
        ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
    }

    fn refused(&self) -> Option<&'static str> {
        REFUSED.iter().find(|(name, _)| self.name.starts_with(name)).map(|(_, reason)| *reason)
    }

    /// The word in A32's form; `None` if it belongs to another table.
    fn in_table(&self, word: u32) -> Option<u32> {
        if self.path.starts_with("T32") { float_of_thumb(word) } else { is_float(word).then_some(word) }
    }

    /// Words of the encoding, whose other bits are all zero, all one, or random.
    fn words(&self) -> impl Iterator<Item = u32> + '_ {
        (0u64..256).filter_map(move |i| {
            let fill = match i {
                0 => 0,
                1 => u32::MAX,
                _ => {
                    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                        .rotate_left(29)
                        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                        >> 32) as u32
                }
            };
            let mut word = self.value | fill & !self.mask;
            // Encodings with a condition have no fifteenth.
            if self.mask >> 28 == 0 {
                word = word & 0x0fff_ffff | 0xe000_0000;
            }
            self.in_table(word)
        })
    }
}

#[test]
fn every_encoding_is_implemented_or_refused_on_purpose() {
    let (mut implemented, mut missing) = (BTreeMap::<&str, usize>::new(), Vec::new());
    let mut refused = BTreeMap::<&str, usize>::new();
    for encoding in ENCODINGS {
        let found = encoding.words().any(|word| {
            Support::of(Set::Float, word, false) == Support::Implemented
                && classify(Set::Float, word).is_some_and(|row| row.name() == encoding.mnemonic())
        });
        match (found, encoding.refused()) {
            (true, None) => *implemented.entry(&encoding.path[..3]).or_default() += 1,
            (false, Some(reason)) => *refused.entry(reason).or_default() += 1,
            (true, Some(reason)) => panic!("{} is implemented and refused: {reason}", encoding.path),
            (false, None) => missing.push(encoding.path),
        }
    }
    println!("implemented: {implemented:?}; refused: {refused:?}; {} missing", missing.len());
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
}

#[test]
fn every_row_is_reachable_and_belongs_to_the_table() {
    for row in Set::Float.rows() {
        let reached = (0u32..4096).any(|i| {
            let word = row.value | i.wrapping_mul(0x9e37_79b9) & !row.mask;
            is_float(word) && classify(Set::Float, word).is_some_and(|found| std::ptr::eq(found, row))
        });
        assert!(reached, "{} {:08x}/{:08x} is shadowed by rows before it", row.name(), row.value, row.mask);
    }
}
