//! Faults of A64 code in Linux's terms.

use crate::arch::Exception;
use crate::guest;
use crate::signal::number::{BUS, ILL, TRAP};
use crate::thread::Trap;
use alloc::format;
use alloc::string::String;
use crossdock_emu_guest::a64::{self, State};
use crossdock_emu_guest::memory::Access;

const BUS_ADRALN: i32 = 1;
const ILL_ILLOPC: i32 = 1;
const TRAP_BRKPT: i32 = 1;

// ESR_EL1 (Arm Architecture Reference Manual, D24.2.41): exception classes, the bit for an instruction of 32
// bits, and status codes of aborts.
const PC_ALIGNMENT: u64 = 0x22;
const SP_ALIGNMENT: u64 = 0x26;
const INSTRUCTION_ABORT: u64 = 0x20;
const DATA_ABORT: u64 = 0x24;
const TRANSLATION_FAULT: u64 = 7;
const PERMISSION_FAULT: u64 = 15;
const ALIGNMENT_FAULT: u64 = 0x21;

const fn syndrome(class: u64, specific: u64) -> u64 {
    class << 26 | 1 << 25 | specific
}

/// The syndrome of a fault: of a page that is mapped without the right, or not mapped, at level 3.
pub(super) fn fault_syndrome(access: Access, is_mapped: bool) -> u64 {
    let class = if access == Access::Execute { INSTRUCTION_ABORT } else { DATA_ABORT };
    let write = u64::from(access == Access::Write) << 6;
    syndrome(class, write | if is_mapped { PERMISSION_FAULT } else { TRANSLATION_FAULT })
}

/// Names the instruction at `pc`: its bits, its name if it belongs to a feature that the CPU does not have,
/// and its bytes.
pub(super) fn undefined_instruction(pc: u64) -> String {
    let word = guest::read32(pc).unwrap_or(0);
    let name = match (a64::refused(word), a64::classify(word)) {
        (_, Some(row)) => format!("{} with reserved fields", row.name()),
        (Some(row), None) if row.name().is_empty() => row.feature().into(),
        (Some(row), None) => format!("{}, {}", row.name(), row.feature()),
        (None, None) => "unallocated".into(),
    };
    let [a, b, c, d] = word.to_le_bytes();
    format!("{word:#010x} ({name}; bytes {a:02x} {b:02x} {c:02x} {d:02x})")
}

/// The signal of an instruction that does not access memory, or may not at this address.
#[cold]
pub(super) fn exception(state: &State, why: a64::Exit) -> Exception {
    // No address has faulted if PC or SP is not aligned: the siginfo has the register.
    let unaligned = |class, register| (BUS, BUS_ADRALN, register, Some((0, syndrome(class, 0))));
    let (signal, code, address, trap) = match why {
        a64::Exit::Breakpoint(_) => (TRAP, TRAP_BRKPT, state.pc, None),
        a64::Exit::Unaligned { address } => {
            (BUS, BUS_ADRALN, address, Some((address, syndrome(DATA_ABORT, ALIGNMENT_FAULT))))
        }
        a64::Exit::UnalignedPc => unaligned(PC_ALIGNMENT, state.pc),
        a64::Exit::UnalignedSp => unaligned(SP_ALIGNMENT, state.sp()),
        _ => (ILL, ILL_ILLOPC, state.pc, None),
    };
    let trap = trap.map(|(address, syndrome)| Trap { address, syndrome });
    Exception { signal, code, address, trap }
}
