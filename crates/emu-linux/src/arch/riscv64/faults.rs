//! Faults of RV64 code in Linux's terms (Linux, arch/riscv/kernel/traps.c).

use crate::arch::Exception;
use crate::guest;
use crate::signal::number::{BUS, ILL, TRAP};
use alloc::format;
use alloc::string::String;
use crossdock_emu_guest::{Exit, State, rv64};

const BUS_ADRALN: i32 = 1;
const ILL_ILLOPC: i32 = 1;
const TRAP_BRKPT: i32 = 1;

/// Names the instruction at `pc`: its bits, its name if it belongs to an extension that the CPU does not
/// have, and its bytes.
pub(super) fn undefined_instruction(pc: u64) -> String {
    let mut bytes = [0; 4];
    // An instruction of 16 bits may be the last of its page.
    if guest::read(pc, &mut bytes).is_err() && guest::read(pc, &mut bytes[..2]).is_err() {
        return "an instruction that cannot be read".into();
    }
    let word = u32::from_le_bytes(bytes);
    let (code, length) = if word & 3 == 3 { (word, 4) } else { (word & 0xffff, 2) };
    let name = match rv64::Support::of(code) {
        rv64::Support::Implemented => format!("{} with a value that is reserved", rv64::name(code)),
        rv64::Support::Reserved => format!("{} with reserved fields", rv64::name(code)),
        rv64::Support::Refused => {
            rv64::refused(code).map(|row| format!("{}, {}", row.name(), row.extension())).unwrap_or_default()
        }
        rv64::Support::Absent => "unallocated".into(),
    };
    let bytes: String = bytes[..length].iter().map(|byte| format!(" {byte:02x}")).collect();
    format!("{code:#0width$x} ({name}; bytes{bytes})", width = 2 + 2 * length)
}

/// The signal of an instruction that does not access memory, or may not at this address. The siginfo has the
/// instruction's address in all cases.
#[cold]
pub(super) fn exception(state: &State, why: Exit) -> Exception {
    let (signal, code) = match why {
        Exit::Breakpoint(_) => (TRAP, TRAP_BRKPT),
        Exit::Unaligned { .. } | Exit::UnalignedPc => (BUS, BUS_ADRALN),
        _ => (ILL, ILL_ILLOPC),
    };
    Exception { signal, code, address: state.pc, trap: None }
}
