//! Random A32 and T32 instructions with random state, translated and interpreted, compared bit for bit: the
//! twin of the differ of A64, with the same environment variables.

use crate::cases::Random;
use crate::cases_arm::{BATCH, Case, Layout, case, ours};
use crate::host::{LOG, engine_of};
use crossdock_emu_guest::a32::{A32, Class, Interpreter, Row, Set};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

/// Batches share the log of changes and change the code at their addresses.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn differ(class: Class, slot: u64) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let variable = |name: &str| std::env::var(name).ok();
    let total: usize =
        variable("CROSSDOCK_DIFFER_CASES").map_or(10_000, |n| n.parse().expect("a number of cases"));
    let mut seed: u64 = variable("CROSSDOCK_DIFFER_SEED").map_or(1, |n| n.parse().expect("a seed"));
    let only = variable("CROSSDOCK_DIFFER_NAME");
    let rows: Vec<(Set, &Row)> = [Set::Arm, Set::Thumb16, Set::Thumb32, Set::Float]
        .into_iter()
        .flat_map(|set| set.rows().iter().map(move |row| (set, row)))
        .filter(|(_, row)| row.class == class && only.as_ref().is_none_or(|only| only == row.name()))
        .collect();
    assert!(!rows.is_empty() || only.is_some(), "{class:?} has no rows");
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut data_differs = String::new();
    let mut engine = engine_of::<A32>();
    engine.translate_after(0);
    let mut done = 0;
    while done < total && !rows.is_empty() {
        let layout = Layout { base: 0x1000_0000 + 0x0400_0000 * slot, cases: BATCH.min(total - done) };
        let cases = batch(&layout, &rows, seed);
        let mut interpreter = Interpreter::new(&LOG);
        let (interpreted, their_data) =
            ours(&layout, &cases, seed, |state, host| interpreter.run(state, host, &AtomicU32::new(0), 1000));
        LOG.invalidate(layout.base..layout.base + 0x0300_0000);
        let (translated, our_data) =
            ours(&layout, &cases, seed, |state, host| engine.run(state, host, &AtomicU32::new(0)));
        LOG.invalidate(layout.base..layout.base + 0x0300_0000);
        for (i, case) in cases.iter().enumerate().filter(|&(i, _)| translated[i] != interpreted[i]) {
            let entry = failures.entry(case.name()).or_default();
            entry.0 += 1;
            if entry.0 <= 2 {
                let before = &case.before;
                entry.1 += &format!(
                    " seed {seed} case {i} word {:08x} it {:?} then {:08x?} apsr {:08x}\n  before: r {:08x?}\n{}",
                    case.word,
                    case.it,
                    case.second,
                    before.apsr,
                    before.r,
                    translated[i].differences(&interpreted[i]).replace("qemu", "interpreted"),
                );
            }
        }
        if let Some(i) = (0..our_data.len()).find(|&i| our_data[i] != their_data[i]) {
            data_differs += &format!("seed {seed}: data differ at {i:#x}\n");
        }
        done += cases.len();
        seed = seed.wrapping_add(1);
    }
    println!("{class:?}: {done} cases over {} rows", rows.len());
    let report: String =
        failures.iter().map(|(name, (count, text))| format!("{name}: {count} differ\n{text}")).collect();
    assert!(report.is_empty() && data_differs.is_empty(), "\n{report}{data_differs}");
}

/// A batch of cases of `rows`, which take turns.
fn batch(layout: &Layout, rows: &[(Set, &Row)], seed: u64) -> Vec<Case> {
    let mut random = Random(seed);
    let mut cases = Vec::new();
    let mut turn = seed as usize * BATCH;
    while cases.len() < layout.cases {
        let (set, row) = rows[turn % rows.len()];
        turn += 1;
        cases.extend((0..50).find_map(|_| case(&mut random, set, row, layout, cases.len())));
        assert!(turn < (seed as usize + 100) * BATCH, "no row of the class has a predictable case");
    }
    cases
}

#[test]
fn data_processing() {
    differ(Class::Data, 0);
}

#[test]
fn multiplications() {
    differ(Class::Multiply, 1);
}

#[test]
fn media_instructions() {
    differ(Class::Media, 2);
}

#[test]
fn branches() {
    differ(Class::Branch, 3);
}

#[test]
fn system_instructions() {
    differ(Class::System, 4);
}

#[test]
fn loads_and_stores() {
    differ(Class::LoadStore, 5);
}

#[test]
fn exclusive_accesses() {
    differ(Class::Exclusive, 6);
}

#[test]
fn floating_point() {
    differ(Class::Float, 7);
}

#[test]
fn vector_instructions() {
    differ(Class::Simd, 8);
}

#[test]
fn cryptography() {
    differ(Class::Crypto, 9);
}
