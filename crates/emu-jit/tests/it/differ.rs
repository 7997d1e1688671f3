//! Random instructions with random state, translated and interpreted, compared bit for bit.
//!
//! `CROSSDOCK_DIFFER_CASES` sets the number of cases per chapter, `CROSSDOCK_DIFFER_SEED` the seed,
//! `CROSSDOCK_DIFFER_NAME` restricts the instructions to mnemonics that match exactly.

use crate::cases::{BATCH, DATA_SIZE, Layout, RECORD, Record, batch, field, ours};
use crate::host::{LOG, engine};
use crossdock_emu_guest::a64::{Class, Interpreter, Row, TABLE};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

/// Batches share the log of changes and change the code at their addresses.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn differ(class: Class, slot: u64) {
    differ_where(class, slot, false);
}

/// `wary`: floating-point instructions are translated like those that often signal invalid operations.
fn differ_where(class: Class, slot: u64, wary: bool) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let variable = |name: &str| std::env::var(name).ok();
    let total: usize =
        variable("CROSSDOCK_DIFFER_CASES").map_or(10_000, |n| n.parse().expect("a number of cases"));
    let mut seed: u64 = variable("CROSSDOCK_DIFFER_SEED").map_or(1, |n| n.parse().expect("a seed"));
    let only = variable("CROSSDOCK_DIFFER_NAME");
    let rows: Vec<&Row> = TABLE
        .iter()
        .filter(|row| row.class == class && only.as_ref().is_none_or(|only| only == row.name()))
        .collect();
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut data_differs = String::new();
    let mut idle = BTreeMap::new();
    let mut done = 0;
    let mut engine = engine();
    engine.translate_after(0);
    engine.be_wary(wary);
    while done < total && !rows.is_empty() {
        let layout = Layout { base: 0x10_0000_0000 * (slot + 1), cases: BATCH.min(total - done) };
        let in_turn = only.is_some() || total > 4 * rows.len();
        let cases = batch(&layout, &rows, in_turn, seed, &mut idle);
        let mut interpreter = Interpreter::new(&LOG);
        let interpreted =
            ours(&layout, &cases, seed, |state, host| interpreter.run(state, host, &AtomicU32::new(0), 1000));
        LOG.invalidate(layout.base..layout.base + 0x3000_0000);
        let translated =
            ours(&layout, &cases, seed, |state, host| engine.run(state, host, &AtomicU32::new(0)));
        for (i, case) in cases.iter().enumerate() {
            let at = i * RECORD;
            let (ours, theirs) =
                (Record::from_bytes(&translated[at..]), Record::from_bytes(&interpreted[at..]));
            let ours = with_flushing_flags(ours, &theirs);
            if ours == theirs || only_tininess_differs(&ours, &theirs) {
                continue;
            }
            let word = case.words[0];
            let entry = failures.entry(case.name()).or_default();
            entry.0 += 1;
            if entry.0 <= 2 {
                let [n, m, d, a] =
                    [(9, 5), (20, 16), (4, 0), (14, 10)].map(|(h, l)| field(word, h, l) as usize);
                entry.1 += &format!(
                    " seed {seed} case {i} words {:08x?} nzcv {:08x} fpcr {:08x} fpsr {:08x}\n  before: vn {:032x} vm {:032x}\n          vd {:032x} va {:032x}\n          xn {:x} xm {:x}\n{}",
                    case.words,
                    case.before.nzcv,
                    case.before.fpcr,
                    case.before.fpsr,
                    case.before.v[n],
                    case.before.v[m],
                    case.before.v[d],
                    case.before.v[a],
                    case.before.x.get(n).unwrap_or(&case.before.sp),
                    case.before.x.get(m).unwrap_or(&0),
                    ours.differences(&theirs, "interpreter"),
                );
            }
        }
        let at = cases.len() * RECORD;
        assert_eq!(translated.len(), at + DATA_SIZE as usize);
        if let Some(i) = (at..translated.len()).find(|&i| translated[i] != interpreted[i]) {
            data_differs += &format!("seed {seed}: data differ at {:#x}\n", i - at);
        }
        done += cases.len();
        seed = seed.wrapping_add(1);
    }
    println!("{class:?}: {done} cases over {} rows; no case for {idle:?}", rows.len());
    let report: String =
        failures.iter().map(|(name, (count, text))| format!("{name}: {count} differ\n{text}")).collect();
    assert!(report.is_empty() && data_differs.is_empty(), "\n{report}{data_differs}");
}

/// FPSR bits.
const UFC: u32 = 8;
const IXC: u32 = 16;
const IDC: u32 = 128;

/// `ours` with the flags that the translator does not determine if only FPCR.FZ is set: that an operand was
/// flushed (IDC), and that a flushed result is not inexact.
fn with_flushing_flags(mut ours: Record, theirs: &Record) -> Record {
    if ours.fpcr == 1 << 24 {
        ours.fpsr |= theirs.fpsr & IDC;
        if ours.fpsr & UFC != 0 {
            ours.fpsr = ours.fpsr & !IXC | theirs.fpsr & IXC;
        }
    }
    ours
}

/// Whether only UFC differs, for a result that was rounded up to the smallest normal number: the guest tests
/// the size before rounding, the host after it. The translator accepts that.
fn only_tininess_differs(ours: &Record, theirs: &Record) -> bool {
    let smallest = |v: &u128| {
        let double = |lane: u64| lane << 1 == 1 << 53;
        let single = |lane: u32| lane << 1 == 1 << 24;
        double(*v as u64) || double((*v >> 64) as u64) || (0..4).any(|i| single((*v >> (32 * i)) as u32))
    };
    let mut same = ours.clone();
    same.fpsr |= UFC;
    ours.fpsr & UFC == 0 && same == *theirs && theirs.v.iter().any(smallest)
}

#[test]
fn integer_instructions() {
    differ(Class::Integer, 0);
}

#[test]
fn branches() {
    differ(Class::Branch, 1);
}

#[test]
fn system_instructions() {
    differ(Class::System, 2);
}

#[test]
fn loads_and_stores() {
    differ(Class::LoadStore, 3);
}

#[test]
fn scalar_floating_point() {
    differ(Class::Float, 4);
}

#[test]
fn vector_instructions() {
    differ(Class::Simd, 6);
}

#[test]
fn wary_scalar_floating_point() {
    differ_where(Class::Float, 8, true);
}

#[test]
fn wary_vector_instructions() {
    differ_where(Class::Simd, 10, true);
}

#[test]
fn cryptography() {
    differ(Class::Crypto, 7);
}
