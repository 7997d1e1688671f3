//! Random instructions with random state, here and under `qemu-aarch64-static`, compared bit for bit.
//!
//! One generated static program holds a driver, thousands of cases, and a record of registers for each. For
//! each case it loads the record, runs the instruction and stores the registers back; then it writes all
//! records to its standard output. The same image is mapped at the same addresses in this process, and the
//! interpreter runs the same cases.
//!
//! `CROSSDOCK_DIFFER_CASES` sets the number of cases per chapter, `CROSSDOCK_DIFFER_SEED` the seed,
//! `CROSSDOCK_DIFFER_NAME` restricts the instructions to mnemonics that match exactly.

use crate::cases::{
    BATCH, Case, DATA_SIZE, Layout, PRIVATE_SIZE, RECORD, Record, batch, code, data, field, ours, records,
};
use crossdock_emu_guest::a64::{Class, Interpreter, Invalidations, Row, TABLE};
use crossdock_emu_guest::memory;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::AtomicU32;

/// A static ELF executable of three segments.
fn elf(layout: &Layout, cases: &[Case], seed: u64) -> Vec<u8> {
    let code: Vec<u8> = code(layout, cases, false).iter().flat_map(|word| word.to_le_bytes()).collect();
    let segments = [
        (layout.base, 5u32, code, 0),
        (layout.records(), 6, records(cases), 0),
        (layout.data(), 6, data(seed), PRIVATE_SIZE),
    ];
    let mut file = vec![0u8; 4096];
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &183u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &layout.base.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &3u16.to_le_bytes());
    let mut offset = 4096u64;
    for (i, (address, flags, bytes, extra)) in segments.iter().enumerate() {
        let at = 64 + i * 56;
        put(at, &1u32.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (j, value) in [offset, *address, *address, bytes.len() as u64, bytes.len() as u64 + extra, 4096]
            .iter()
            .enumerate()
        {
            put(at + 8 + j * 8, &value.to_le_bytes());
        }
        offset += (bytes.len() as u64).next_multiple_of(4096);
    }
    for (_, _, bytes, _) in &segments {
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(4096), 0);
    }
    file
}

/// Runs the program under QEMU. Returns the records, then the data.
fn qemu(layout: &Layout, cases: &[Case], seed: u64, cpu: &str) -> Vec<u8> {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("crossdock-differ-{}-{:x}", std::process::id(), layout.base));
    let mut file = std::fs::File::create(&path).expect("the temporary directory is writable");
    file.write_all(&elf(layout, cases, seed)).expect("the temporary directory has room");
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).expect("our own file");
    drop(file);
    let output = Command::new("qemu-aarch64-static")
        .args(["-cpu", cpu])
        .arg(&path)
        .output()
        .expect("install qemu-user-static to run the differ");
    std::fs::remove_file(&path).expect("our own file");
    let expected = cases.len() * RECORD + DATA_SIZE as usize;
    assert_eq!(
        output.stdout.len(),
        expected,
        "qemu stopped: {:?} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

extern "C" fn on_fault(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a ucontext_t to a handler with SA_SIGINFO; sigaction takes a valid structure.
    unsafe {
        let context = context.cast::<libc::ucontext_t>();
        let pc = &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize];
        match memory::resume_after_fault(*pc as usize) {
            Some(resume) => *pc = resume as i64,
            None => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

pub(crate) fn install_fault_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: an all-zero sigaction is valid; the handler keeps to what a signal handler may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
            assert_eq!(libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()), 0);
        }
    });
}

/// Runs `cases` of `class`; `slot` gives tests that run at the same time different addresses.
fn differ(class: Class, slot: u64, cpu: &str, rows: impl Fn(&Row) -> bool) {
    let variable = |name: &str| std::env::var(name).ok();
    let total: usize =
        variable("CROSSDOCK_DIFFER_CASES").map_or(2000, |n| n.parse().expect("a number of cases"));
    let mut seed: u64 = variable("CROSSDOCK_DIFFER_SEED").map_or(1, |n| n.parse().expect("a seed"));
    let only = variable("CROSSDOCK_DIFFER_NAME");
    let rows: Vec<&Row> = TABLE
        .iter()
        .filter(|row| row.class == class && rows(row) && only.as_ref().is_none_or(|only| only == row.name()))
        .collect();
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut done, mut data_differs) = (0, String::new());
    let mut idle: BTreeMap<&str, usize> = BTreeMap::new();
    while done < total && !rows.is_empty() {
        let layout = Layout { base: 0x10_0000_0000 * (slot + 1), cases: BATCH.min(total - done) };
        let in_turn = only.is_some() || total > 4 * rows.len();
        let cases = batch(&layout, &rows, in_turn, seed, &mut idle);
        let theirs = qemu(&layout, &cases, seed, cpu);
        install_fault_handler();
        let log = Invalidations::new();
        let mut interpreter = Interpreter::new(&log);
        let ours =
            ours(&layout, &cases, seed, |state, host| interpreter.run(state, host, &AtomicU32::new(0), 1000));
        for (i, case) in cases.iter().enumerate() {
            let at = i * RECORD;
            let (ours, theirs) = (Record::from_bytes(&ours[at..]), Record::from_bytes(&theirs[at..]));
            if ours != theirs {
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
                        ours.differences(&theirs, "qemu"),
                    );
                }
            }
        }
        let at = cases.len() * RECORD;
        if let Some(i) = (at..ours.len()).find(|&i| ours[i] != theirs[i]) {
            data_differs += &format!(
                "seed {seed}: data differ at {:#x}: {:02x?} {:02x?}\n",
                i - at,
                &ours[i..(i + 16).min(ours.len())],
                &theirs[i..(i + 16).min(ours.len())]
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

const CPU: &str = "cortex-a76";

#[test]
fn integer_instructions_do_what_qemu_does() {
    differ(Class::Integer, 0, CPU, |_| true);
}

#[test]
fn branches_do_what_qemu_does() {
    differ(Class::Branch, 1, CPU, |_| true);
}

#[test]
fn system_instructions_do_what_qemu_does() {
    differ(Class::System, 2, CPU, |_| true);
}

#[test]
fn loads_and_stores_do_what_qemu_does() {
    differ(Class::LoadStore, 3, CPU, |_| true);
}

#[test]
fn scalar_floating_point_does_what_qemu_does() {
    differ(Class::Float, 4, CPU, |row| row.name() != "FJCVTZS");
}

#[test]
fn javascript_conversion_does_what_qemu_does() {
    differ(Class::Float, 5, "max,pauth=off,sve=off,sme=off", |row| row.name() == "FJCVTZS");
}

#[test]
fn vector_instructions_do_what_qemu_does() {
    differ(Class::Simd, 6, CPU, |_| true);
}

#[test]
fn cryptography_does_what_qemu_does() {
    differ(Class::Crypto, 7, CPU, |_| true);
}
