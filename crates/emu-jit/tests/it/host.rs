//! What an engine gets from the operating system's side: memory for code, a return stack, a handler of
//! faults.

use crossdock_emu_guest::a64::A64;
use crossdock_emu_guest::a64::Invalidations;
use crossdock_emu_guest::memory;
use crossdock_emu_jit::image::format::Image;
use crossdock_emu_jit::{Isa, Jit, ReturnStack, Runner, System, resume_after_fault};
use std::sync::OnceLock;

pub(crate) static LOG: Invalidations = Invalidations::new();

/// Bytes of memory for code.
pub(crate) const ARENA: usize = 4 << 20;

/// New memory of `size` bytes.
fn map(size: usize, protection: i32) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
    assert_ne!(mapped, libc::MAP_FAILED, "no memory: {}", std::io::Error::last_os_error());
    mapped.cast()
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const PAGE_FAULT: i64 = 14;
    // SAFETY: the kernel passes a siginfo_t and a ucontext_t to a handler with SA_SIGINFO.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let [pc, rbp, eflags] =
            [libc::REG_RIP, libc::REG_RBP, libc::REG_EFL].map(|register| registers[register as usize] as u64);
        let is_page_fault = registers[libc::REG_TRAPNO as usize] == PAGE_FAULT;
        let is_write = registers[libc::REG_ERR as usize] & 2 != 0;
        let page_fault = is_page_fault.then(|| ((*info).si_addr() as u64, is_write));
        let next = memory::resume_after_fault(pc as usize)
            .map(|next| next as u64)
            .or_else(|| resume_after_fault(pc, rbp, eflags, page_fault).map(|(next, _)| next));
        match next {
            Some(next) => registers[libc::REG_RIP as usize] = next as i64,
            None => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// The process's code.
pub(crate) fn jit() -> &'static Jit {
    jit_of::<A64>()
}

/// Sets the base of GS of the calling thread, as the emulator does.
fn point_gs(address: u64) -> bool {
    const ARCH_SET_GS: i32 = 0x1001;
    // SAFETY: nothing else in the tests uses GS.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, address) == 0 }
}

/// The process's code, for a guest: the same one in each call.
pub(crate) fn jit_of<I: Isa>() -> &'static Jit {
    static JIT: OnceLock<Jit> = OnceLock::new();
    JIT.get_or_init(|| {
        // SAFETY: an all-zero sigaction is valid; the handler keeps to what a signal handler may do; the
        // arena is ours.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE] {
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
            // Small, so that the tests fill it more than once.
            let size = ARENA;
            let arena = map(size, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
            Jit::of::<I>(
                arena,
                size as u32,
                &LOG,
                System { wait: std::thread::yield_now, ready: |_| u64::MAX, point_gs, placed: None },
            )
            .expect("this CPU has AVX2, BMI2 and FMA")
        }
    })
}

/// An engine for the calling thread, which gets a signal stack.
pub(crate) fn engine() -> Runner<A64> {
    engine_of()
}

/// An engine for the calling thread, which gets a signal stack.
pub(crate) fn engine_of<I: Isa>() -> Runner<I> {
    const SIZE: usize = 64 << 10;
    let read_write = libc::PROT_READ | libc::PROT_WRITE;
    let low = map(2 * SIZE, read_write);
    // SAFETY: both mappings are ours; the lower half of the first becomes the guard.
    unsafe {
        assert_eq!(libc::mprotect(low.cast(), SIZE, libc::PROT_NONE), 0);
        let stack = libc::stack_t { ss_sp: map(SIZE, read_write).cast(), ss_flags: 0, ss_size: SIZE };
        assert_eq!(libc::sigaltstack(&stack, std::ptr::null_mut()), 0);
        let stack = ReturnStack { low: low as u64 + SIZE as u64, high: low as u64 + 2 * SIZE as u64 };
        Runner::new(&LOG, Some(jit_of::<I>()), stack)
    }
}

/// Puts an image of code at `base` where the process's code lies, and attaches it.
pub fn attach(bytes: &[u8], version: &[u8; 32], base: u64) {
    let at = jit().image_room(bytes.len() as u64).expect("there is room");
    // SAFETY: nothing else is there; the arena is writable and executable, and stays.
    let image = unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
        std::slice::from_raw_parts(at as *const u8, bytes.len())
    };
    let image = Image::open(image, version).expect("an image");
    // SAFETY: the image was made of the code at `base`.
    unsafe { jit().attach(at, image, base) };
}
