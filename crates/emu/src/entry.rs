//! The start of the executable; it replaces the C library's.
//!
//! A process of the guest is often short. The C library's start executes CPUID some forty times (a virtual
//! machine traps it), chooses functions by the results, and makes a dozen system calls. We need only the
//! relocations, and memory for the thread-local variables of Rust's std, in which a panic counts. The memory
//! functions that compiled code calls are here, too, since the C library chooses its own at its start.
//! Nothing else of the C library may be called: its indirect functions have no address.

use crossdock_emu_linux::sys::{complain, exit_group, process, signal};
use std::alloc::{Layout, alloc_zeroed};
use std::arch::global_asm;
use std::panic::PanicHookInfo;

global_asm!(include_str!("start.s"));

// The functions that the compiler inserts calls to.
global_asm!(
    include_str!("memory.s"),
    ".irp name,memcpy,memset,memcmp,strlen",
    ".globl \\name",
    ".hidden \\name",
    ".set \\name, crossdock_emu_\\name",
    ".endr",
    ".globl memmove, bcmp",
    ".hidden memmove, bcmp",
    ".set memmove, crossdock_emu_memcpy",
    ".set bcmp, crossdock_emu_memcmp",
);

// What Rust's std and its unwinder would call of the C library to print a panic, to unwind, or to end a
// thread. None of it happens here: `report` ends the process. Without these names the linker would take a
// seventh of the executable from the C library for them: stdio, conversions of characters, its dynamic
// loader. They are weak, for a std that needs more: the C library's own are taken then.
#[cfg(not(test))]
global_asm!(
    "crossdock_emu_no_c_library:",
    "ud2",
    ".macro without names:vararg",
    ".irp name,\\names",
    ".weak \\name",
    ".hidden \\name",
    ".set \\name, crossdock_emu_no_c_library",
    ".endr",
    ".endm",
    "without abort,calloc,free,getenv,malloc,realloc,realpath,syscall",
    "without close,fstat64,getcwd,lseek64,mmap64,munmap,open64,read,readlink,stat64,write,writev",
    "without environ,strerror_r,__errno_location,dl_iterate_phdr,_dl_find_object",
    "without pthread_getspecific,pthread_key_create,pthread_key_delete,pthread_setspecific",
);

/// Gives memory to the thread-local variable in which Rust's std counts panics, and has panics reported
/// without the C library. Must be called when the heap exists and before anything panics. All threads use the
/// first thread's variables.
pub fn prepare_for_panics() {
    const PT_TLS: u32 = 7;
    /// Room above the thread pointer: more than the C library's data there.
    const ABOVE: usize = 4096;
    // SAFETY: the ELF header and the program headers that it points to are mapped; the memory allocated is as
    // large as what is written.
    unsafe {
        let base = &raw const __ehdr_start;
        let headers = base.add(base.add(32).cast::<u64>().read_unaligned() as usize);
        let count = base.add(56).cast::<u16>().read_unaligned() as usize;
        let tls =
            (0..count).map(|n| headers.add(56 * n)).find(|at| at.cast::<u32>().read_unaligned() == PT_TLS);
        let word = |at: *const u8, n: usize| at.cast::<u64>().add(n).read_unaligned() as usize;
        let (image, in_file, in_memory, align) =
            tls.map_or((0, 0, 0, 1), |at| (word(at, 2), word(at, 4), word(at, 5), word(at, 6)));
        // Variables end at the thread pointer, which points to itself (ELF handling for thread-local storage,
        // variant II).
        let below = in_memory.next_multiple_of(align.max(64));
        let Ok(layout) = Layout::from_size_align(below + ABOVE, 4096) else { return };
        let memory = alloc_zeroed(layout);
        if memory.is_null() {
            return;
        }
        let thread = memory.add(below);
        let variables = thread.sub(in_memory.next_multiple_of(align));
        base.add(image).copy_to_nonoverlapping(variables, in_file);
        thread.cast::<*mut u8>().write(thread);
        process::set_thread_pointer(thread as u64);
    }
    std::panic::set_hook(Box::new(report));
}

unsafe extern "C" {
    static __ehdr_start: u8;
}

/// Reports a panic, which is a fault of the emulator itself, with its place, and ends as abort(3) does.
fn report(panic: &PanicHookInfo) {
    const SIGABRT: u32 = 6;
    let place = panic.location().map_or(String::new(), |location| format!(" at {location}"));
    let message = panic.payload_as_str().unwrap_or("");
    complain(&format!("crossdock-emu: panicked{place}: {message}\n"));
    signal::raise(SIGABRT);
    exit_group(134)
}
