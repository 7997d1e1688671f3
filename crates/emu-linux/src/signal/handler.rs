//! The host's handler of all signals: resumes guest code after a fault, and queues other signals for the
//! thread.

use super::number::{FPE, OURS, SI_KERNEL, bit};
use crate::region;
use crate::shared::{Shared, SigInfo};
use crate::sys::signal::{die, has_child};
use crate::sys::{self};
use crate::text::Text;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crossdock_emu_guest::memory;
use crossdock_emu_jit as jit;

// Offsets in the host's ucontext_t (x86-64, asm/ucontext.h and asm/sigcontext.h), in words.
const CONTEXT_RCX: usize = 5 + 14;
const CONTEXT_RBP: usize = 5 + 10;
const CONTEXT_RIP: usize = 5 + 16;
const CONTEXT_EFLAGS: usize = 5 + 17;
const CONTEXT_ERROR: usize = 5 + 19;
const CONTEXT_TRAP: usize = 5 + 20;
const CONTEXT_CR2: usize = 5 + 22;
const CONTEXT_MASK: usize = 37;

/// x86's vector of page faults.
const PAGE_FAULT: u64 = 14;

/// Where the handler continues after a memory access of the guest, interpreted or translated, faulted at
/// `pc`, and whether the guest gets a signal for the fault.
///
/// # Safety
///
/// `context` is the ucontext_t of the fault.
unsafe fn resume(pc: u64, code: i32, address: u64, context: *const u64) -> Option<(u64, bool)> {
    const WRITE: u64 = 2;
    if let Some(next) = memory::resume_after_fault(pc as usize) {
        // It may be a system call's access.
        return Some((next as u64, false));
    }
    if let Some(next) = sys::leave_call32(pc) {
        return Some((next, false));
    }
    // SAFETY: the caller's promise; the layout is that of the kernel.
    unsafe {
        let is_page_fault = code != SI_KERNEL && *context.add(CONTEXT_TRAP) == PAGE_FAULT;
        let page_fault = is_page_fault.then_some((address, *context.add(CONTEXT_ERROR) & WRITE != 0));
        jit::resume_after_fault(pc, *context.add(CONTEXT_RBP), *context.add(CONTEXT_EFLAGS), page_fault)
    }
}

/// Whether a signal of ours comes from the interrupted instruction. Its code alone does not say: the end of a
/// child, whose signal may be any, has a positive code too.
///
/// # Safety
///
/// `context` is the ucontext_t of the signal.
unsafe fn is_fault(signal: u32, code: i32, address: u64, context: *const u64) -> bool {
    const ALIGNMENT_CHECK: u64 = 17;
    const SIMD_FLOATING_POINT: u64 = 19;
    // SAFETY: the caller's promise; the layout is that of the kernel.
    let (trap, cr2, pc) =
        unsafe { (*context.add(CONTEXT_TRAP), *context.add(CONTEXT_CR2), *context.add(CONTEXT_RIP)) };
    if signal == FPE {
        return code > 0 && trap == SIMD_FLOATING_POINT && address == pc;
    }
    // For a signal from elsewhere, trap and CR2 are those of the thread's last fault.
    code == SI_KERNEL
        || code > 0 && (trap == PAGE_FAULT && cr2 == address || trap == ALIGNMENT_CHECK && address == 0)
}

/// The handler of all signals. Runs on the thread's signal stack with everything blocked.
pub(super) extern "C" fn on_host_signal(signal: u32, info: *const SigInfo, context: *mut u64) {
    let here = 0u8;
    // SAFETY: installed with SA_ONSTACK, and each thread has set its signal stack, in its block.
    let shared = unsafe { Shared::of(&raw const here as u64) };
    // SAFETY: the kernel passes a siginfo and a ucontext of the layout above.
    unsafe {
        let code = (*info)[1] as i32;
        let pc = *context.add(CONTEXT_RIP);
        let address = (*info)[2];
        if OURS & bit(signal) != 0
            && is_fault(signal, code, address, context)
            && !is_childs_end(code, pc, address)
        {
            match resume(pc, code, address, context) {
                Some((next, raises)) => {
                    *shared.fault.get() = *info;
                    *context.add(CONTEXT_RIP) = next;
                    if raises {
                        // For `raise`, which comes next.
                        *context.add(CONTEXT_MASK) = !OURS;
                        shared.blocked_at_fault.store(true, Ordering::Relaxed);
                    }
                    return;
                }
                None => own_fault(signal, pc, address),
            }
        }
        (*shared.info.get())[signal as usize] = *info;
        shared.queued.fetch_or(bit(signal), Ordering::SeqCst);
        shared.interrupt.store(1, Ordering::SeqCst);
        *context.add(CONTEXT_MASK) = !OURS;
        if let Some(next) = sys::leave_call(pc, *context.add(CONTEXT_RCX)) {
            *context.add(CONTEXT_RIP) = next;
        }
        jit::interrupt_soon(pc, *context.add(CONTEXT_RBP));
    }
}

/// Whether a child was created whose end is reported by a signal of [`OURS`].
static TOLD_BY_OURS: AtomicBool = AtomicBool::new(false);

/// Notes that a child whose end is reported by `signal` is about to be created.
pub(crate) fn tells_end(signal: u32) {
    if (1..=64).contains(&signal) && OURS & bit(signal) != 0 {
        TOLD_BY_OURS.store(true, Ordering::SeqCst);
    }
}

/// Whether an apparent fault is the end (or stop) of a child, reported by one of our signals: the child's
/// number stands where a fault has its address (sigaction(2)), and may equal the address of the thread's last
/// fault. Asks the kernel for such a child (waitid(2)); a real fault comes again at once.
fn is_childs_end(code: i32, pc: u64, address: u64) -> bool {
    const CLD_EXITED: i32 = 1;
    const CLD_CONTINUED: i32 = 6;
    const WSTOPPED: u64 = 2;
    const WEXITED: u64 = 4;
    const WCONTINUED: u64 = 8;
    static LAST: AtomicU64 = AtomicU64::new(0);
    if !TOLD_BY_OURS.load(Ordering::SeqCst) || !(CLD_EXITED..=CLD_CONTINUED).contains(&code) {
        return false;
    }
    let this = pc ^ address.rotate_left(48);
    has_child(address as u32, WEXITED | WSTOPPED | WCONTINUED) && LAST.swap(this, Ordering::SeqCst) != this
}

/// Reports a fault of the emulator itself and dies of it.
fn own_fault(signal: u32, pc: u64, address: u64) -> ! {
    let mut text = Text::<200>::new();
    let base = region::executable();
    text.line(format_args!(
        "crossdock-emu: internal fault (signal {signal}) at +{:#x}, address {address:#x}; this is a bug of the emulator\n",
        pc.wrapping_sub(base)
    ));
    sys::complain(text.as_str());
    die(signal)
}
