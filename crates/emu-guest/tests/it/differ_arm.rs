//! Random A32 and T32 instructions with random state, here and under `qemu-arm-static`, compared bit for bit:
//! the twin of `differ.rs`, with the same environment variables.

use crate::cases::Random;
use crate::cases_arm::{
    BATCH, Case, DATA_SIZE, Layout, RECORD, Record, START, case, code, data, ours, records,
};
use crate::differ::install_fault_handler;
use crossdock_emu_guest::Invalidations;
use crossdock_emu_guest::a32::{Class, Interpreter, Row, Set};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::AtomicU32;

/// A static ELF executable of three segments, all of them writable: the driver keeps variables beside its
/// code.
fn elf(layout: &Layout, cases: &[Case], seed: u64) -> Vec<u8> {
    let mut program = vec![0; 0xf80];
    program.extend(code(layout, cases, false));
    let segments = [
        (layout.base, 7u32, program, 0),
        (layout.records(), 6, records(layout, cases), 0),
        (layout.data(), 6, data(seed), 0x2_0000),
    ];
    let mut file = vec![0u8; 4096];
    file[..16].copy_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &40u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &((layout.base + START) as u32).to_le_bytes());
    put(28, &52u32.to_le_bytes());
    // EABI version 5.
    put(36, &0x0500_0000u32.to_le_bytes());
    put(40, &52u16.to_le_bytes());
    put(42, &32u16.to_le_bytes());
    put(44, &3u16.to_le_bytes());
    let mut offset = 4096u32;
    for (i, (address, flags, bytes, extra)) in segments.iter().enumerate() {
        let at = 52 + i * 32;
        let (address, length) = (*address as u32, bytes.len() as u32);
        let fields = [1, offset, address, address, length, length + extra, *flags, 4096];
        for (j, value) in fields.iter().enumerate() {
            put(at + j * 4, &value.to_le_bytes());
        }
        offset += length.next_multiple_of(4096);
    }
    for (_, _, bytes, _) in &segments {
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(4096), 0);
    }
    file
}

/// Runs the program under QEMU. Returns the records, then the data.
fn qemu(layout: &Layout, cases: &[Case], seed: u64) -> (Vec<Record>, Vec<u8>) {
    let path =
        std::env::temp_dir().join(format!("crossdock-differ-arm-{}-{:x}", std::process::id(), layout.base));
    std::fs::write(&path, elf(layout, cases, seed)).expect("the temporary directory is writable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    let output = Command::new("qemu-arm-static")
        .args(["-cpu", "max"])
        .arg(&path)
        .output()
        .expect("install qemu-user-static to run the differ");
    std::fs::remove_file(&path).expect("our own file");
    let size = cases.len() * RECORD;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout.len(), size + DATA_SIZE as usize, "qemu stopped: {:?} {stderr}", output.status);
    let (records, data) = output.stdout.split_at(size);
    (records.chunks(RECORD).map(Record::from_bytes).collect(), data.to_vec())
}

/// A batch of cases of `rows`, which take turns.
fn batch(layout: &Layout, rows: &[(Set, &Row)], seed: u64, idle: &mut BTreeMap<String, usize>) -> Vec<Case> {
    let mut random = Random(seed);
    let mut cases = Vec::new();
    let mut turn = seed as usize * BATCH;
    let mut failed = 0;
    while cases.len() < layout.cases {
        let (set, row) = rows[turn % rows.len()];
        turn += 1;
        match (0..50).find_map(|_| case(&mut random, set, row, layout, cases.len())) {
            Some(case) => cases.push(case),
            None => {
                *idle.entry(row.name().to_string()).or_default() += 1;
                failed += 1;
                assert!(failed < 10 * rows.len() + 10 * BATCH, "no row of the class has a predictable case");
            }
        }
    }
    cases
}

/// Runs cases of `class`; `slot` gives tests that run at the same time different addresses.
fn differ(class: Class, slot: u64) {
    let variable = |name: &str| std::env::var(name).ok();
    let total: usize =
        variable("CROSSDOCK_DIFFER_CASES").map_or(4000, |n| n.parse().expect("a number of cases"));
    let mut seed: u64 = variable("CROSSDOCK_DIFFER_SEED").map_or(1, |n| n.parse().expect("a seed"));
    let only = variable("CROSSDOCK_DIFFER_NAME");
    let rows: Vec<(Set, &Row)> = [Set::Arm, Set::Thumb16, Set::Thumb32, Set::Float]
        .into_iter()
        .flat_map(|set| set.rows().iter().map(move |row| (set, row)))
        .filter(|(_, row)| row.class == class && only.as_ref().is_none_or(|only| only == row.name()))
        .collect();
    assert!(!rows.is_empty() || only.is_some(), "{class:?} has no rows");
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut done, mut data_differs) = (0, String::new());
    let mut idle = BTreeMap::new();
    while done < total && !rows.is_empty() {
        let layout = Layout { base: 0x1000_0000 + 0x0400_0000 * slot, cases: BATCH.min(total - done) };
        let cases = batch(&layout, &rows, seed, &mut idle);
        let (theirs, their_data) = qemu(&layout, &cases, seed);
        install_fault_handler();
        let log = Invalidations::new();
        let mut interpreter = Interpreter::new(&log);
        let (ours, our_data) =
            ours(&layout, &cases, seed, |state, host| interpreter.run(state, host, &AtomicU32::new(0), 1000));
        for (i, case) in cases.iter().enumerate() {
            if ours[i] != theirs[i] {
                let entry = failures.entry(case.name()).or_default();
                entry.0 += 1;
                if entry.0 <= 2 {
                    let before = &case.before;
                    entry.1 += &format!(
                        " seed {seed} case {i} word {:08x} it {:?} then {:08x?} apsr {:08x} fpscr {:08x}\n  before: r {:08x?}\n{}",
                        case.word,
                        case.it,
                        case.second,
                        before.apsr,
                        before.fpscr,
                        before.r,
                        ours[i].differences(&theirs[i]),
                    );
                }
            }
        }
        if let Some(i) = (0..our_data.len()).find(|&i| our_data[i] != their_data[i]) {
            let end = (i + 16).min(our_data.len());
            data_differs += &format!(
                "seed {seed}: data differ at {i:#x}: {:02x?} {:02x?}\n",
                &our_data[i..end],
                &their_data[i..end]
            );
        }
        done += cases.len();
        seed = seed.wrapping_add(1);
    }
    println!("{class:?}: {done} cases over {} rows; no case for {idle:?}", rows.len());
    let report: String =
        failures.iter().map(|(name, (count, text))| format!("{name}: {count} differ\n{text}")).collect();
    assert!(report.is_empty() && data_differs.is_empty(), "\n{report}{data_differs}");
}

#[test]
fn data_processing_does_what_qemu_does() {
    differ(Class::Data, 0);
}

#[test]
fn multiplications_do_what_qemu_does() {
    differ(Class::Multiply, 1);
}

#[test]
fn media_instructions_do_what_qemu_does() {
    differ(Class::Media, 2);
}

#[test]
fn branches_do_what_qemu_does() {
    differ(Class::Branch, 3);
}

#[test]
fn system_instructions_do_what_qemu_does() {
    differ(Class::System, 4);
}

#[test]
fn loads_and_stores_do_what_qemu_does() {
    differ(Class::LoadStore, 5);
}

#[test]
fn exclusive_accesses_do_what_qemu_does() {
    differ(Class::Exclusive, 6);
}

#[test]
fn vector_instructions_do_what_qemu_does() {
    differ(Class::Simd, 7);
}

#[test]
fn cryptography_does_what_qemu_does() {
    differ(Class::Crypto, 8);
}

#[test]
fn floating_point_does_what_qemu_does() {
    differ(Class::Float, 9);
}
