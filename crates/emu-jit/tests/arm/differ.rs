//! Random A32 and T32 instructions with random state, translated and interpreted, compared bit for bit: the
//! twin of the differ of A64, with the same environment variables.

use crate::cases::Random;
use crate::cases_arm::{BATCH, Case, Layout, Record, case, ours};
use crate::host::{LOG, engine_of};
use crossdock_emu_guest::a32::{A32, Class, Interpreter, Row, Set, classify};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, MutexGuard};

/// Batches share the log of changes and change the code at their addresses.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits for the other tests.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn differ(class: Class, slot: u64) {
    differ_where(class, slot, false);
}

/// `wary`: floating-point instructions are translated like those that often signal invalid operations.
fn differ_where(class: Class, slot: u64, wary: bool) {
    let _turn = turn();
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
    engine.be_wary(wary);
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
        let differs = |&(i, case): &(usize, &Case)| {
            let ours = with_flushing_flags(translated[i].clone(), &interpreted[i], case);
            ours != interpreted[i] && !only_tininess_differs(&ours, &interpreted[i])
        };
        for (i, case) in cases.iter().enumerate().filter(differs) {
            let entry = failures.entry(case.name()).or_default();
            entry.0 += 1;
            if entry.0 <= 2 {
                let before = &case.before;
                entry.1 += &format!(
                    " seed {seed} case {i} word {:08x} it {:?} then {:08x?} apsr {:08x} fpscr {:08x}\n  before: r {:08x?}\n d {:016x?}\n{}",
                    case.word,
                    case.it,
                    case.second,
                    before.apsr,
                    before.fpscr,
                    before.r,
                    before.d,
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

/// FPSCR bits.
const UFC: u32 = 8;
const IXC: u32 = 16;
const IDC: u32 = 128;
const FZ: u32 = 1 << 24;

/// `ours` with the flags that the translator does not determine where subnormal numbers are flushed, by FPSCR
/// or by Advanced SIMD: that an operand was flushed (IDC), and that a flushed result is not inexact.
fn with_flushing_flags(mut ours: Record, theirs: &Record, case: &Case) -> Record {
    let is_vector = |(set, word)| classify(set, word).is_some_and(|row| row.class == Class::Simd);
    let vectors = is_vector((case.set, case.word)) || case.second.is_some_and(is_vector);
    if vectors || case.before.fpscr & FZ != 0 {
        ours.fpscr |= theirs.fpscr & IDC;
        if ours.fpscr & UFC != 0 {
            ours.fpscr = ours.fpscr & !IXC | theirs.fpscr & IXC;
        }
    }
    ours
}

/// Whether only UFC differs, for a result that was rounded up to the smallest normal number: the guest tests
/// the size before rounding, the host after it. The translator accepts that.
fn only_tininess_differs(ours: &Record, theirs: &Record) -> bool {
    let smallest = |&d: &u64| {
        let single = |lane: u32| lane << 1 == 1 << 24;
        d << 1 == 1 << 53 || single(d as u32) || single((d >> 32) as u32)
    };
    let mut same = ours.clone();
    same.fpscr |= UFC;
    ours.fpscr & UFC == 0 && same == *theirs && theirs.d.iter().any(smallest)
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
fn wary_floating_point() {
    differ_where(Class::Float, 10, true);
}

#[test]
fn wary_vector_instructions() {
    differ_where(Class::Simd, 11, true);
}

#[test]
fn cryptography() {
    differ(Class::Crypto, 9);
}
