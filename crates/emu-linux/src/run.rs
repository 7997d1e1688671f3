//! The loop of a thread: runs guest code and handles each exit from it.

use crate::arch::{Abi, Exception, Exit};
use crate::calls;
use crate::changes::CHANGES;
use crate::maps;
use crate::options;
use crate::region;
use crate::signal::deliver::{deliver, raise};
use crate::signal::fault_info;
use crate::signal::number::SEGV;
use crate::sys;
use crate::task::Task;
use crate::thread::Trap;
use alloc::format;
use crossdock_emu_guest::memory::{Access, Fault};

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;

/// Exit status where `--check` finds a difference: EX_SOFTWARE.
const CHECK_FAILED: i32 = 70;

/// Runs the thread to its end.
pub fn run<A: Abi>(task: &mut Task<A>) -> ! {
    let options = options::get();
    if options.trace_blocks || options.check {
        run_and_watch(task, options.trace_blocks, options.check);
    }
    loop {
        let (engine, state, interrupt) = task.parts();
        let exit = engine.run(state, interrupt);
        handle(task, exit);
    }
}

/// `--trace blocks` and `--check`: runs the thread block by block.
fn run_and_watch<A: Abi>(task: &mut Task<A>, trace: bool, check: bool) -> ! {
    let mut places = maps::Places::NONE;
    loop {
        let is_interrupted = task.thread.shared.interrupted();
        let (engine, state, interrupt) = task.parts();
        let exit = if trace && !is_interrupted {
            sys::complain(&format!("{} {}\n", sys::thread_id(), places.place(A::pc(state))));
            engine.run_block(state, interrupt)
        } else if check {
            engine.check(state, interrupt).unwrap_or_else(|differences| {
                let place = maps::place(A::pc(state));
                sys::complain(&format!("crossdock-emu: --check: near {place}: {differences}\n"));
                sys::exit_group(CHECK_FAILED)
            })
        } else {
            engine.run(state, interrupt)
        };
        handle(task, exit);
    }
}

#[inline(always)]
fn handle<A: Abi>(task: &mut Task<A>, exit: Exit) {
    match exit {
        Exit::Call => calls::answer(task),
        Exit::Interrupted => deliver(task),
        Exit::Fault(fault) => raise_fault(task, fault),
        Exit::CodeModified(range) => CHANGES.invalidate(range),
        Exit::Exception(exception) => raise_exception(task, exception),
        Exit::Nothing => {}
    }
}

fn raise_exception<A: Abi>(task: &mut Task<A>, exception: Exception) {
    let Exception { signal, code, address, trap } = exception;
    task.thread.trap = trap.unwrap_or(task.thread.trap);
    raise(task, signal, &fault_info(signal, code, address));
}

fn raise_fault<A: Abi>(task: &mut Task<A>, fault: Fault) {
    let (signal, code, address) = if fault.host_signal {
        let info = task.thread.shared.last_fault();
        // Memory above the guest's limit is mapped by us, and unmapped for the guest.
        let code =
            if info[0] as u32 == SEGV && info[2] >= region::limit() { SEGV_MAPERR } else { info[1] as i32 };
        (info[0] as u32, code, info[2])
    } else if fault.access == Access::Execute && maps::mapping(fault.address).is_some() {
        (SEGV, SEGV_ACCERR, fault.address)
    } else {
        (SEGV, SEGV_MAPERR, fault.address)
    };
    let syndrome = A::fault_syndrome(fault.access, code != SEGV_MAPERR);
    task.thread.trap = Trap { address, syndrome };
    raise(task, signal, &fault_info(signal, code, address));
}
