//! The loop of a thread: runs guest code and handles each exit from it.

use crate::calls;
use crate::executable;
use crate::guest;
use crate::options;
use crate::proc;
use crate::program;
use crate::region;
use crate::signal::{self, fault_info, number};
use crate::sys::{self, nr};
use crate::syscall;
use crate::task::{self, CHANGES, Task};
use crate::vdso;
use alloc::format;
use alloc::string::String;
use crossdock_emu_guest::a64::{self, Exit, Host};
use crossdock_emu_guest::memory::{Access, Fault};

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRALN: i32 = 1;
const ILL_ILLOPC: i32 = 1;
const TRAP_BRKPT: i32 = 1;

/// Exit status where `--check` finds a difference: EX_SOFTWARE.
const CHECK_FAILED: i32 = 70;

/// Nanoseconds since the start of the host, for CNTVCT_EL0.
fn counter() -> u64 {
    const CLOCK_MONOTONIC: u64 = 1;
    let time = vdso::clock_gettime(CLOCK_MONOTONIC).unwrap_or_else(|| {
        let mut time = [0u64; 2];
        // SAFETY: the kernel fills the array.
        unsafe { syscall!(nr::CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr()) };
        time
    });
    time[0] * 1_000_000_000 + time[1]
}

/// Runs the thread to its end.
pub fn run(task: &mut Task) -> ! {
    let host = Host { memory: guest::memory(), counter, executable: executable::find };
    // SAFETY: valid while the thread lives; a vfork child's parent does not run.
    let engine = unsafe { &mut *task.engine };
    let (trace, check) = (options::get().trace_blocks, options::get().check);
    let mut places = proc::Places::NONE;
    loop {
        let exit = if trace && !interrupted(task) {
            sys::complain(&format!("{} {}\n", task::thread_id(), places.place(task.state.pc)));
            engine.interpret_block(&mut task.state, &host, &task.shared.interrupt)
        } else if check {
            match engine.check(&mut task.state, &host, &task.shared.interrupt) {
                Ok(exit) => exit,
                Err(differences) => {
                    let place = proc::place(task.state.pc);
                    sys::complain(&format!("crossdock-emu: --check: near {place}: {differences}\n"));
                    sys::exit_group(CHECK_FAILED)
                }
            }
        } else {
            engine.run(&mut task.state, &host, &task.shared.interrupt)
        };
        match exit {
            Exit::Syscall(_) => calls::answer(task),
            Exit::Interrupted => signal::deliver(task),
            Exit::Fault(fault) => raise_fault(task, fault),
            Exit::CodeModified { address } => CHANGES.invalidate(address..address + 64),
            Exit::Undefined(_) => {
                let info = fault_info(number::ILL, ILL_ILLOPC, task.state.pc);
                signal::raise(task, number::ILL, &info);
            }
            Exit::Breakpoint(_) => {
                let info = fault_info(number::TRAP, TRAP_BRKPT, task.state.pc);
                signal::raise(task, number::TRAP, &info);
            }
            Exit::Unaligned { address } => raise_unaligned(task, address),
            Exit::UnalignedPc => raise_unaligned_register(task, task.state.pc, PC_ALIGNMENT),
            Exit::UnalignedSp => raise_unaligned_register(task, task.state.sp(), SP_ALIGNMENT),
            Exit::Budget => {}
        }
    }
}

/// Exception classes of ESR_EL1 (manual D24.2.41).
const PC_ALIGNMENT: u64 = 0x22;
const SP_ALIGNMENT: u64 = 0x26;

/// Raises SIGBUS because PC or SP is not aligned. No address has faulted: the frame's fault_address is 0, and
/// the siginfo has the register.
fn raise_unaligned_register(task: &mut Task, register: u64, class: u64) {
    task.fault_address = 0;
    task.syndrome = class << 26 | 1 << 25;
    signal::raise(task, number::BUS, &fault_info(number::BUS, BUS_ADRALN, register));
}

fn raise_unaligned(task: &mut Task, address: u64) {
    task.fault_address = address;
    // Data abort from a lower level, alignment.
    task.syndrome = 0x24 << 26 | 1 << 25 | 0x21;
    signal::raise(task, number::BUS, &fault_info(number::BUS, BUS_ADRALN, address));
}

fn raise_fault(task: &mut Task, fault: Fault) {
    let (signal, code, address) = if fault.host_signal {
        // SAFETY: the handler wrote the siginfo before the access returned, on this thread.
        let info = unsafe { *task.shared.fault.get() };
        // Memory above the guest's limit is mapped by us, and unmapped for the guest.
        let code = if info[0] as u32 == number::SEGV && info[2] >= region::limit() {
            SEGV_MAPERR
        } else {
            info[1] as i32
        };
        (info[0] as u32, code, info[2])
    } else if fault.access == Access::Execute && proc::mapping(fault.address).is_some() {
        (number::SEGV, SEGV_ACCERR, fault.address)
    } else {
        (number::SEGV, SEGV_MAPERR, fault.address)
    };
    // ESR_EL1 (manual D17.2.37): class, length, write, and translation or permission fault of level 3.
    let class = if fault.access == Access::Execute { 0x20 } else { 0x24 };
    let write = u64::from(fault.access == Access::Write) << 6;
    let status = if code == SEGV_MAPERR { 7 } else { 15 };
    task.syndrome = class << 26 | 1 << 25 | write | status;
    task.fault_address = address;
    signal::raise(task, signal, &fault_info(signal, code, address));
}

/// Reports the instruction that the thread dies of.
pub(crate) fn explain_undefined(task: &Task) {
    let pc = task.state.pc;
    let word = guest::read32(pc).unwrap_or(0);
    let program = program::get();
    let name = match (a64::refused(word), a64::classify(word)) {
        (_, Some(row)) => format!("{} with reserved fields", row.name()),
        (Some(row), None) if row.name().is_empty() => row.feature().into(),
        (Some(row), None) => format!("{}, {}", row.name(), row.feature()),
        (None, None) => "unallocated".into(),
    };
    let [a, b, c, d] = word.to_le_bytes();
    sys::complain(&format!(
        "crossdock-emu: {}: this CPU has no instruction {word:#010x} ({name}; bytes {a:02x} {b:02x} {c:02x} {d:02x}) at {}\n",
        String::from_utf8_lossy(&program.file),
        proc::place(pc),
    ));
}

/// Whether a signal waits for delivery.
pub(crate) fn interrupted(task: &Task) -> bool {
    task.shared.interrupted()
}
