//! The tables of RV64 against the list of all encodings of the ratified extensions: what is implemented, what
//! is refused by name, and that nothing is missing.
//!
//! `encodings_riscv.txt` has a line per encoding: the mnemonic, its mask and its value. Aliases, instructions
//! that are defined to be illegal, and what only RV32 has are left out; bits for the order of atomic
//! operations are no part of a mask.

use crate::cases::Random;
use crossdock_emu_guest::rv64::{Extension, Support, TABLE, classify, name, refused};
use std::collections::BTreeMap;

/// Encodings of the list.
struct Encoding {
    name: &'static str,
    mask: u32,
    value: u32,
}

fn encodings() -> Vec<Encoding> {
    let number = |text: &str| u32::from_str_radix(text, 16).expect("a number");
    include_str!("encodings_riscv.txt")
        .lines()
        .map(|line| {
            let mut fields = line.split(' ');
            let mut next = || fields.next().expect("three fields");
            Encoding { name: next(), mask: number(next()), value: number(next()) }
        })
        .collect()
}

impl Encoding {
    fn has(&self, word: u32) -> bool {
        word & self.mask == self.value
    }

    /// Whether all words of this encoding are words of the other one, which has more.
    fn is_part_of(&self, other: &Encoding) -> bool {
        self.mask != other.mask && self.mask & other.mask == other.mask && other.has(self.value)
    }

    /// A word of the encoding, with operands at random.
    fn word(&self, random: &mut Random) -> u32 {
        let bits = if self.value & 3 == 3 { u32::MAX } else { 0xffff };
        self.value | random.next() as u32 & !self.mask & bits
    }
}

#[test]
fn every_encoding_is_implemented_or_refused_by_name() {
    let mut random = Random(7);
    let mut missing = Vec::new();
    let (mut implemented, mut by_reason) = (0, BTreeMap::<String, usize>::new());
    let encodings = encodings();
    for encoding in &encodings {
        let mut found = [0; 4];
        for _ in 0..256 {
            let word = encoding.word(&mut random);
            if encodings.iter().any(|other| other.is_part_of(encoding) && other.has(word)) {
                continue;
            }
            let place = match Support::of(word) {
                Support::Implemented => 0,
                Support::Reserved => 1,
                Support::Refused => 2,
                Support::Absent => 3,
            };
            found[place] += 1;
        }
        match found {
            [(1..), _, 0, 0] => implemented += 1,
            [0, 0, (1..), 0] => {
                let row = refused(encoding.word(&mut random)).expect("it is refused");
                *by_reason.entry(row.extension().to_string()).or_default() += 1;
            }
            _ => missing.push(format!("{} {:08x}: {found:?}", encoding.name, encoding.value)),
        }
    }
    println!("{} encodings, {implemented} implemented", encodings.len());
    for (reason, count) in &by_reason {
        println!("  {count:4} refused: {reason}");
    }
    assert!(
        missing.is_empty(),
        "{} are missing or only partly there:\n{}",
        missing.len(),
        missing.join("\n")
    );
    assert!(implemented > 900, "{implemented}");
}

#[test]
fn every_row_is_in_the_list() {
    let mut random = Random(8);
    let encodings = encodings();
    let mut unknown = Vec::new();
    for row in TABLE {
        // The list has no word with other fields than zero, which the manual tells CPUs to ignore.
        let fields = if row.name() == "FENCE.I" { 0 } else { u32::MAX };
        let is_listed = (0..200).any(|_| {
            let word = row.value | random.next() as u32 & !row.mask & fields;
            encodings.iter().any(|encoding| encoding.has(word))
        });
        if !is_listed {
            unknown.push(row.name());
        }
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_mnemonics_are_those_of_the_list() {
    let mut random = Random(9);
    let mut differ = Vec::new();
    let encodings = encodings();
    for encoding in &encodings {
        let word = encoding.word(&mut random);
        let Some(row) = classify(word).filter(|_| Support::of(word) == Support::Implemented) else {
            continue;
        };
        // Rows of vectors stand for several mnemonics of the list, and short ones name them. Hints, and what
        // may be an operation that does nothing, have the names of what they are otherwise.
        let is_scalar = row.extension != Extension::V;
        let is_named =
            |other: &Encoding| other.has(word) && other.name.to_uppercase().starts_with(name(word));
        if is_scalar && !encodings.iter().any(is_named) {
            differ.push(format!("{} {}", name(word), encoding.name));
        }
    }
    assert!(differ.is_empty(), "{differ:?}");
}
