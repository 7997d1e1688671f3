//! Random RV64 instructions with random state, here and under `qemu-riscv64-static`, compared bit for bit:
//! the twin of `differ.rs`, with the same environment variables. `CROSSDOCK_DIFFER_QEMU` names a newer QEMU,
//! which has more extensions; those that the installed one does not have are compared with that only.
//! `CROSSDOCK_DIFFER_SPIKE` names Spike, the model of RISC-V's architecture, which takes QEMU's place then.

use crate::cases::Random;
use crate::cases_riscv::{
    BATCH, Case, DATA_SIZE, Kind, Layout, RECORD, Record, STACK_SIZE, case, code, data, ours, records,
};
use crate::differ::install_fault_handler;
use crate::spike;
use crossdock_emu_guest::Invalidations;
use crossdock_emu_guest::rv64::{Extension, Interpreter, TABLE};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::AtomicU32;

/// A segment of a program: address, flags, content, zeroes behind it.
type Segment = (u64, u32, Vec<u8>, u64);

/// The program's segments; the last is what a machine without an operating system starts with.
fn segments(layout: &Layout, cases: &[Case], seed: u64) -> Vec<Segment> {
    vec![
        (layout.base, 5, code(layout, cases, false), 0),
        (layout.records(), 6, records(layout, cases), 0),
        (layout.data(), 6, data(seed), STACK_SIZE),
        (layout.boot(), 7, spike::boot(layout), 0),
    ]
}

/// A static ELF executable.
fn elf(layout: &Layout, segments: &[Segment], entry: u64) -> Vec<u8> {
    let mut file = vec![0u8; 4096];
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &243u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    // Compressed instructions, doubles in registers.
    put(48, &5u32.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &(segments.len() as u16).to_le_bytes());
    let mut offset = 4096u64;
    for (i, (address, flags, bytes, extra)) in segments.iter().enumerate() {
        let at = 64 + i * 56;
        put(at, &1u32.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        let length = bytes.len() as u64;
        for (j, value) in [offset, *address, *address, length, length + extra, 4096].iter().enumerate() {
            put(at + 8 + j * 8, &value.to_le_bytes());
        }
        offset += length.next_multiple_of(4096);
    }
    for (_, _, bytes, _) in segments {
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(4096), 0);
    }
    let headers = spike::add_symbols(&mut file, layout);
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(40, &headers.to_le_bytes());
    for (at, value) in [(58, 64u16), (60, 4), (62, 3)] {
        put(at, &value.to_le_bytes());
    }
    file
}

/// Who runs the program beside us.
enum Other {
    /// QEMU 7.2, which Debian 12 has.
    Installed,
    /// A newer one, which has all extensions.
    Newer(String),
    Spike(String),
}

impl Other {
    fn chosen() -> Other {
        let variable = |name: &str| std::env::var(name).ok();
        let newer = || variable("CROSSDOCK_DIFFER_QEMU").map(Other::Newer);
        variable("CROSSDOCK_DIFFER_SPIKE").map(Other::Spike).or_else(newer).unwrap_or(Other::Installed)
    }

    fn name(&self) -> &str {
        if matches!(self, Other::Spike(_)) { "spike" } else { "qemu" }
    }

    /// Whether it has all extensions.
    fn is_new(&self) -> bool {
        !matches!(self, Other::Installed)
    }

    /// Whether it is to do what we do.
    fn can_be_compared(&self, case: &Case) -> bool {
        match self {
            Other::Installed => !differs_in_old(case),
            Other::Newer(_) => true,
            Other::Spike(_) => !may_differ_in_spike(case),
        }
    }

    /// Runs the program. Returns the records, then the data.
    fn run(&self, layout: &Layout, cases: &[Case], seed: u64) -> (Vec<Record>, Vec<u8>) {
        let path = std::env::temp_dir().join(format!(
            "crossdock-differ-rv-{}-{:x}",
            std::process::id(),
            layout.base
        ));
        let segments = segments(layout, cases, seed);
        let entry = if matches!(self, Other::Spike(_)) { layout.boot() } else { layout.base };
        std::fs::write(&path, elf(layout, &segments, entry)).expect("the temporary directory is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
        let cpu = match (self.is_new(), layout.vectors) {
            (true, _) => "max,zama16b=off,vlen=128",
            (false, false) => "rv64,Zfh=true",
            (false, true) => "rv64,Zfh=true,v=true,vlen=128,vext_spec=v1.0",
        };
        let qemu = |program: &str| {
            let output = Command::new(program).args(["-cpu", cpu]).arg(&path).output();
            output.expect("install qemu-user-static to run the differ")
        };
        let output = match self {
            Other::Installed => qemu("qemu-riscv64-static"),
            Other::Newer(program) => qemu(program),
            Other::Spike(program) => {
                let memory: Vec<(u64, u64)> =
                    segments.iter().map(|(at, _, bytes, more)| (*at, bytes.len() as u64 + more)).collect();
                spike::run(program, &path, &memory, cases.iter().any(is_atomic))
            }
        };
        std::fs::remove_file(&path).expect("our own file");
        let size = cases.len() * RECORD;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let (name, status) = (self.name(), output.status);
        assert_eq!(output.stdout.len(), size + DATA_SIZE as usize, "{name} stopped: {status:?} {stderr}");
        let (records, data) = output.stdout.split_at(size);
        (records.chunks(RECORD).map(Record::from_bytes).collect(), data.to_vec())
    }
}

/// Whether the QEMU that is installed with Debian 12, 7.2, has an extension.
fn is_old(extension: Extension) -> bool {
    use Extension::*;
    !matches!(extension, Zfa | Zicond | Zacas | Zabha | Zicbom | Zicboz | Zimop | Zawrs)
}

fn is_atomic(case: &Case) -> bool {
    ["AMO", "LR.", "SC."].iter().any(|start| case.name().starts_with(start))
}

/// Whether QEMU 7.2 does something else: its CTZW counts the zeros of 64 bits, and it has no C.MOP.
fn differs_in_old(case: &Case) -> bool {
    matches!(case.name().as_str(), "CTZW" | "C.MOP") || is_newer_vector(case)
}

/// Whether Spike may do something else: VFREDUSUM of no elements makes a NaN canonical there, which the
/// manual allows (vector extension, "Vector Single-Width Floating-Point Reduction Instructions").
fn may_differ_in_spike(case: &Case) -> bool {
    const UNMASKED: u32 = 1 << 25;
    case.name() == "VFREDUSUM" && case.codes[0] & UNMASKED == 0
}

/// Whether an instruction of vectors belongs to Zvbb, Zvbc or Zvk, or computes with floating point, where
/// QEMU 7.2 ends with an assertion (`decode_save_opc`).
fn is_newer_vector(case: &Case) -> bool {
    let name = case.name();
    let floats = ["VF", "VMF"].iter().any(|start| name.starts_with(start)) && name != "VFIRST.M";
    let zvk = ["VAES", "VSHA2", "VSM", "VGHSH", "VGMUL", "VCLMUL"];
    let zvbb = ["VANDN", "VROL", "VROR", "VWSLL", "VBREV", "VREV8", "VCLZ", "VCTZ", "VCPOP.V"];
    floats || zvbb.iter().chain(&zvk).any(|other| name.starts_with(other))
}

/// Runs cases of these kinds; `slot` gives tests that run at the same time different addresses.
fn differ(what: &str, slot: u64, kinds: &[(String, Kind<'_>)]) {
    let variable = |name: &str| std::env::var(name).ok();
    let total: usize =
        variable("CROSSDOCK_DIFFER_CASES").map_or(4000, |n| n.parse().expect("a number of cases"));
    let mut seed: u64 = variable("CROSSDOCK_DIFFER_SEED").map_or(1, |n| n.parse().expect("a seed"));
    let (only, other) = (variable("CROSSDOCK_DIFFER_NAME"), Other::chosen());
    let kinds: Vec<&(String, Kind<'_>)> =
        kinds.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).collect();
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut done, mut data_differs) = (0, String::new());
    let mut turn = 0;
    while done < total && !kinds.is_empty() {
        let vectors = matches!(kinds[0].1, Kind::Row(row) if row.extension == Extension::V);
        let layout = Layout { base: 0x20_0000_0000 * (slot + 1), cases: BATCH.min(total - done), vectors };
        let mut random = Random(seed);
        let (mut cases, mut idle) = (Vec::new(), 0);
        while cases.len() < layout.cases {
            let (_, kind) = kinds[turn % kinds.len()];
            turn += 1;
            let found = (0..50).find_map(|_| case(&mut random, *kind, &[], &layout, cases.len()));
            match found.filter(|case| other.can_be_compared(case)) {
                Some(case) => cases.push(case),
                None => idle += 1,
            }
            assert!(idle < 100 * BATCH, "no row of {what} has a case");
        }
        let (theirs, their_data) = other.run(&layout, &cases, seed);
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
                        ours[i].differences(&theirs[i], other.name()),
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
    println!("{what}: {done} cases of {} kinds", kinds.len());
    let report: String =
        failures.iter().map(|(name, (count, text))| format!("{name}: {count} differ\n{text}")).collect();
    assert!(report.is_empty() && data_differs.is_empty(), "\n{report}{data_differs}");
}

/// The rows of these extensions, as far as QEMU has them.
fn differ_rows(slot: u64, extensions: &[Extension]) {
    let newer = Other::chosen().is_new();
    let kinds: Vec<(String, Kind<'_>)> = TABLE
        .iter()
        .filter(|row| extensions.contains(&row.extension) && (newer || is_old(row.extension)))
        .map(|row| (row.name().to_string(), Kind::Row(row)))
        .collect();
    differ(&format!("{extensions:?}"), slot, &kinds);
}

#[test]
fn integer_instructions_do_what_qemu_does() {
    differ_rows(0, &[Extension::I, Extension::M, Extension::Zicsr]);
}

#[test]
fn atomic_instructions_do_what_qemu_does() {
    differ_rows(1, &[Extension::A, Extension::Zacas, Extension::Zabha]);
}

#[test]
fn bit_manipulation_does_what_qemu_does() {
    use Extension::{Zba, Zbb, Zbc, Zbs, Zicboz, Zicond, Zimop};
    differ_rows(2, &[Zba, Zbb, Zbc, Zbs, Zicond, Zicboz, Zimop]);
}

#[test]
fn floating_point_does_what_qemu_does() {
    differ_rows(3, &[Extension::F, Extension::D, Extension::Zfa]);
}

#[test]
fn half_precision_does_what_qemu_does() {
    differ_rows(4, &[Extension::Zfh]);
}

#[test]
fn vectors_do_what_qemu_does() {
    differ_rows(6, &[Extension::V]);
}

#[test]
fn compressed_instructions_do_what_qemu_does() {
    let newer = Other::chosen().is_new();
    let kinds: Vec<(String, Kind<'_>)> = (0..24)
        .map(|n| (n / 8) | (n % 8) << 13)
        // Zcb is newer.
        .filter(|&fixed| newer || fixed != 0x8000 && fixed != 0x8001)
        .map(|fixed| (format!("{fixed:04x}"), Kind::Compressed(fixed)))
        .collect();
    differ("compressed instructions", 5, &kinds);
}
