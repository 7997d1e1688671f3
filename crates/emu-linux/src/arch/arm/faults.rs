//! Faults of A32 and T32 code in Linux's terms.

use crate::arch::Exception;
use crate::guest;
use crate::signal::number::{BUS, ILL, TRAP};
use crate::thread::Trap;
use alloc::format;
use alloc::string::String;
use crossdock_emu_guest::a32::{self, Set};
use crossdock_emu_guest::memory::Access;
use crossdock_emu_guest::{self as machine, State};

const BUS_ADRALN: i32 = 1;
const ILL_ILLOPC: i32 = 1;
const TRAP_BRKPT: i32 = 1;

// The fault status register (Arm Architecture Reference Manual, G8.2.47 DFSR, short descriptors), and Linux's
// bit for a fetch (arch/arm/mm/fault.h).
const ALIGNMENT_FAULT: u64 = 1;
const TRANSLATION_FAULT: u64 = 7;
const PERMISSION_FAULT: u64 = 15;
const WRITE: u64 = 1 << 11;
const FETCH: u64 = 1 << 31;

/// The status of a fault: of a page that is mapped without the right, or not mapped.
pub(super) fn fault_syndrome(access: Access, is_mapped: bool) -> u64 {
    let kind = match access {
        Access::Execute => FETCH,
        Access::Write => WRITE,
        Access::Read => 0,
    };
    kind | if is_mapped { PERMISSION_FAULT } else { TRANSLATION_FAULT }
}

/// Names the instruction at `pc`. Which set it belongs to is not known here.
pub(super) fn undefined_instruction(pc: u64) -> String {
    let word = guest::read32(pc).unwrap_or(0);
    let thumb = word.rotate_left(16);
    let name = a32::name(Set::Arm, word);
    format!("{word:#010x} ({name}; in Thumb {:#06x} {:#06x})", thumb >> 16, thumb & 0xffff)
}

/// Instructions that Linux takes for breakpoints, since debuggers use them (arch/arm/kernel/ptrace.c): A32,
/// T32 of 16 bits, T32 of 32 bits.
fn is_breakpoint(code: u32, is_thumb: bool) -> bool {
    if is_thumb { code == 0xde01 || code == 0xf7f0_a000 } else { code & 0x0fff_ffff == 0x07f0_01f0 }
}

/// The signal of an instruction that does not access memory, or may not at this address.
#[cold]
pub(super) fn exception(state: &State, why: machine::Exit) -> Exception {
    let pc = state.pc & !1;
    let unaligned = |address| {
        let trap = Trap { address, syndrome: ALIGNMENT_FAULT };
        (BUS, BUS_ADRALN, address, Some(trap))
    };
    let (signal, code, address, trap) = match why {
        machine::Exit::Breakpoint(_) => (TRAP, TRAP_BRKPT, pc, None),
        machine::Exit::Undefined(code) if is_breakpoint(code, state.pc & 1 == 1) => {
            (TRAP, TRAP_BRKPT, pc, None)
        }
        machine::Exit::Unaligned { address } => unaligned(address),
        machine::Exit::UnalignedPc => unaligned(pc),
        _ => (ILL, ILL_ILLOPC, pc, None),
    };
    Exception { signal, code, address, trap }
}
