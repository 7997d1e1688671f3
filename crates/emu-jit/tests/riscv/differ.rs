//! Random RV64 instructions with random state, translated and interpreted, compared bit for bit: the twin of
//! the differ of A64, with the same environment variables.

use crate::cases::Random;
use crate::cases_riscv::{BATCH, Case, Kind, Layout, case, ours};
use crate::host::{LOG, engine_of};
use crossdock_emu_guest::rv64::action::Action;
use crossdock_emu_guest::rv64::{Extension, Interpreter, Row, Rv64, TABLE};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, MutexGuard};

/// Batches share the log of changes and change the code at their addresses.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits for the other tests.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Rows whose instructions compute with registers alone.
pub(crate) fn computes(row: &Row) -> bool {
    matches!(
        row.action,
        Action::LoadUpper
            | Action::AddPc
            | Action::Compute(_)
            | Action::ComputeImmediate(_)
            | Action::ComputeWord(_)
            | Action::ComputeWordImmediate(_)
            | Action::Unary(_)
            | Action::Float { .. }
            | Action::ToInteger { .. }
            | Action::FromInteger { .. }
            | Action::Convert { .. }
    )
}

/// `wary`: floating-point instructions are translated like those that often signal invalid operations.
fn differ(what: &str, slot: u64, kinds: &[(String, Kind<'_>)], wary: bool) {
    let _turn = turn();
    let variable = |name: &str| std::env::var(name).ok();
    let total: usize =
        variable("CROSSDOCK_DIFFER_CASES").map_or(10_000, |n| n.parse().expect("a number of cases"));
    let mut seed: u64 = variable("CROSSDOCK_DIFFER_SEED").map_or(1, |n| n.parse().expect("a seed"));
    let only = variable("CROSSDOCK_DIFFER_NAME");
    let kinds: Vec<&(String, Kind<'_>)> =
        kinds.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).collect();
    assert!(!kinds.is_empty() || only.is_some(), "{what} has no rows");
    let followers: Vec<&Row> = TABLE.iter().filter(|row| computes(row)).collect();
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut data_differs = String::new();
    let mut engine = engine_of::<Rv64>();
    engine.translate_after(0);
    engine.be_wary(wary);
    let (mut done, mut turn) = (0, 0);
    while done < total && !kinds.is_empty() {
        let vectors = matches!(kinds[0].1, Kind::Row(row) if row.extension == Extension::V);
        let layout = Layout { base: 0x10_0000_0000 * (slot + 1), cases: BATCH.min(total - done), vectors };
        let mut random = Random(seed);
        let mut cases: Vec<Case> = Vec::new();
        while cases.len() < layout.cases {
            let (_, kind) = kinds[turn % kinds.len()];
            turn += 1;
            cases.extend((0..50).find_map(|_| case(&mut random, *kind, &followers, &layout, cases.len())));
        }
        let mut interpreter = Interpreter::new(&LOG);
        let (interpreted, their_data) =
            ours(&layout, &cases, seed, |state, host| interpreter.run(state, host, &AtomicU32::new(0), 1000));
        LOG.invalidate(layout.base..layout.base + 0x3000_0000);
        let (translated, our_data) =
            ours(&layout, &cases, seed, |state, host| engine.run(state, host, &AtomicU32::new(0)));
        LOG.invalidate(layout.base..layout.base + 0x3000_0000);
        for (i, case) in cases.iter().enumerate().filter(|&(i, _)| translated[i] != interpreted[i]) {
            let entry = failures.entry(case.name()).or_default();
            entry.0 += 1;
            if entry.0 <= 2 {
                let (before, code) = (&case.before, case.codes[0] as usize);
                let [n, m, a] = [code >> 15 & 31, code >> 20 & 31, code >> 27];
                entry.1 += &format!(
                    " seed {seed} case {i} {:08x?} fcsr {:02x} x {:x} {:x} f {:x} {:x} {:x}\n{}",
                    case.codes,
                    before.fcsr,
                    before.x[n],
                    before.x[m],
                    before.f[n],
                    before.f[m],
                    before.f[a],
                    translated[i].differences(&interpreted[i], "interpreted"),
                );
            }
        }
        if let Some(i) = (0..our_data.len()).find(|&i| our_data[i] != their_data[i]) {
            data_differs += &format!("seed {seed}: data differ at {i:#x}\n");
        }
        done += cases.len();
        seed = seed.wrapping_add(1);
    }
    engine.be_wary(false);
    println!("{what}: {done} cases of {} kinds", kinds.len());
    let report: String =
        failures.iter().map(|(name, (count, text))| format!("{name}: {count} differ\n{text}")).collect();
    assert!(report.is_empty() && data_differs.is_empty(), "\n{report}{data_differs}");
}

/// The rows of these extensions.
fn differ_rows(slot: u64, extensions: &[Extension], wary: bool) {
    let kinds: Vec<(String, Kind<'_>)> = TABLE
        .iter()
        .filter(|row| extensions.contains(&row.extension))
        .map(|row| (row.name().to_string(), Kind::Row(row)))
        .collect();
    differ(&format!("{extensions:?}"), slot, &kinds, wary);
}

#[test]
fn integer_instructions() {
    differ_rows(0, &[Extension::I, Extension::M, Extension::Zicsr], false);
}

#[test]
fn atomic_instructions() {
    differ_rows(1, &[Extension::A, Extension::Zacas, Extension::Zabha], false);
}

#[test]
fn bit_manipulation() {
    use Extension::{Zba, Zbb, Zbc, Zbs, Zicbom, Zicboz, Zicond, Zimop};
    differ_rows(2, &[Zba, Zbb, Zbc, Zbs, Zicond, Zicboz, Zicbom, Zimop], false);
}

#[test]
fn floating_point() {
    differ_rows(3, &[Extension::F, Extension::D, Extension::Zfa], false);
}

#[test]
fn wary_floating_point() {
    differ_rows(4, &[Extension::F, Extension::D, Extension::Zfa], true);
}

#[test]
fn half_precision() {
    differ_rows(5, &[Extension::Zfh], false);
}

#[test]
fn vectors() {
    differ_rows(7, &[Extension::V], false);
}

#[test]
fn wary_vectors() {
    differ_rows(8, &[Extension::V], true);
}

#[test]
fn compressed_instructions() {
    let kinds: Vec<(String, Kind<'_>)> = (0..24)
        .map(|n| n / 8 | n % 8 << 13)
        .map(|fixed| (format!("{fixed:04x}"), Kind::Compressed(fixed)))
        .collect();
    differ("compressed instructions", 6, &kinds, false);
}
