//! The differ's program for Spike, the model of RISC-V's architecture: a machine without an operating system.
//! Code of ours starts it, answers its system calls by Spike's host interface (HTIF), and goes on behind a
//! trap where the record says, as the handler of signals does elsewhere.

use crate::cases_riscv::{Layout, TP, TRAP, addi, address, branch, i_type, jal, ld, sd};
use std::path::Path;
use std::process::{Command, Output};

/// Every extension that has rows.
const ISA: &str = "rv64gcv_zicntr_zvl128b_zba_zbb_zbc_zbs_zicond_zfh_zfa_zacas_zabha_zawrs_zicboz_zicbom_zimop_\
    zcmop_zcb_zvfh_zvbb_zvbc_zvkned_zvknhb_zvkg_zvksed_zvksh";

const MSTATUS: i32 = 0x300;
const MTVEC: i32 = 0x305;
const MSCRATCH: i32 = 0x340;
const MEPC: i32 = 0x341;
const MCAUSE: i32 = 0x342;
/// mcause of ECALL in M mode (privileged architecture, table of exception codes).
const ECALL: i32 = 11;
const WRITE: i32 = 64;
const EXIT_GROUP: i32 = 94;
const MRET: u32 = 0x3020_0073;
const FENCE: u32 = 0x0ff0_000f;
const T0: u32 = 5;
const T1: u32 = 6;
const A0: u32 = 10;

/// Bytes of the boot segment: code, then the words that Spike looks at.
const WORDS: u64 = 0x1000;
const SIZE: u64 = 0x2000;
/// Where a system call's number and arguments lie, behind the words of the interface.
const CALL: u64 = WORDS + 128;

/// CSRRW and CSRRS.
fn csr(funct3: u32, rd: u32, number: i32, rs1: u32) -> u32 {
    i_type(0x73, funct3, rd, rs1, number)
}

/// What the machine starts with, and its trap handler.
pub(crate) fn boot(layout: &Layout) -> Vec<u8> {
    const HANDLER: usize = 16;
    let start = layout.boot();
    let mut words: Vec<u32> = Vec::new();
    let at = |words: &Vec<u32>| start + 4 * words.len() as u64;
    words.extend(address(T0, at(&words), start + 4 * HANDLER as u64));
    words.push(csr(1, 0, MTVEC, T0));
    // FS and VS: dirty.
    words.extend([6 << 12 | T0 << 7 | 0x37, addi(T0, T0, 0x600), csr(2, 0, MSTATUS, T0)]);
    words.extend(address(T0, at(&words), layout.base));
    words.push(i_type(0x67, 0, 0, T0, 0));
    words.resize(HANDLER, 0);

    words.extend([
        csr(1, 0, MSCRATCH, T0),
        csr(2, T0, MCAUSE, 0),
        addi(T0, T0, -ECALL),
        branch(0, T0, 0, 20),
    ]);
    words.extend([ld(T0, TP, TRAP), csr(1, 0, MEPC, T0), csr(2, T0, MSCRATCH, 0), MRET]);
    // A system call.
    words.extend([addi(T0, A0 + 7, -EXIT_GROUP), branch(1, T0, 0, 24)]);
    words.extend(address(T1, at(&words), start + WORDS));
    words.extend([addi(T0, 0, 1), sd(T0, T1, 0), jal(0, 0)]);
    words.extend([addi(T0, A0 + 7, -WRITE), addi(T1, A0, 0), addi(A0, 0, 0), branch(1, T0, 0, 4 * 16)]);
    words.extend(address(T0, at(&words), start + CALL));
    words.extend([sd(A0 + 7, T0, 0), sd(T1, T0, 8), sd(A0 + 1, T0, 16), sd(A0 + 2, T0, 24), FENCE]);
    words.extend(address(T1, at(&words), start + WORDS));
    words.extend([sd(T0, T1, 0), ld(A0, T1, 64), branch(0, A0, 0, -4), sd(0, T1, 64), ld(A0, T0, 0), FENCE]);
    words.extend([csr(2, T0, MEPC, 0), addi(T0, T0, 4), csr(1, 0, MEPC, T0), MRET]);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(bytes.len() <= WORDS as usize);
    bytes.resize(SIZE as usize, 0);
    bytes
}

/// The symbols by which Spike finds the interface's words: section headers, to be put at the end of the file,
/// with what they describe before them. Returns the place of the headers (System V ABI, chapter 4).
pub(crate) fn add_symbols(file: &mut Vec<u8>, layout: &Layout) -> u64 {
    let names = b"\0.symtab\0.strtab\0.shstrtab\0tohost\0fromhost\0";
    let strings = file.len() as u64;
    file.extend(names);
    file.resize(file.len().next_multiple_of(8), 0);
    let symbols = file.len() as u64;
    file.extend([0; 24]);
    for (name, value) in [(27u32, layout.boot() + WORDS), (34, layout.boot() + WORDS + 64)] {
        file.extend(name.to_le_bytes());
        // STB_GLOBAL, in an absolute section.
        file.extend([0x10, 0, 0xf1, 0xff]);
        file.extend(value.to_le_bytes());
        file.extend(8u64.to_le_bytes());
    }
    let headers = file.len() as u64;
    file.extend([0; 64]);
    let length = names.len() as u64;
    for (name, kind, offset, size, link, entry) in [
        (1u32, 2u32, symbols, 72u64, 2u32, 24u64),
        (9, 3, strings, length, 0, 0),
        (17, 3, strings, length, 0, 0),
    ] {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend([0; 16]);
        file.extend(offset.to_le_bytes());
        file.extend(size.to_le_bytes());
        file.extend(link.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(8u64.to_le_bytes());
        file.extend(entry.to_le_bytes());
    }
    headers
}

/// Runs a program under Spike, with memory at these places only: `(address, bytes)`. Accesses need alignment
/// if `aligned` says so: without it, Spike's atomic ones do not.
pub(crate) fn run(spike: &str, program: &Path, memory: &[(u64, u64)], aligned: bool) -> Output {
    let regions = memory.iter().map(|(at, size)| format!("{at:#x}:{:#x}", size.next_multiple_of(4096)));
    Command::new(spike)
        .arg(format!("--isa={ISA}{}", if aligned { "" } else { "_zicclsm" }))
        .arg(format!("-m{}", regions.collect::<Vec<_>>().join(",")))
        .arg(program)
        .output()
        .expect("CROSSDOCK_DIFFER_SPIKE names Spike, and the device tree compiler is in PATH")
}
