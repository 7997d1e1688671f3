//! Starts a program: maps its file, fills its stack, sets its registers.

use crate::abi;
use crate::elf::{Elf, Mapped};
use crate::exec;
use crate::executable;
use crate::guest;
use crate::memory;
use crate::program::{self, Program};
use crate::region::{self, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE};
use crate::run;
use crate::seccomp;
use crate::signal::{self, Actions};
use crate::sys::{self, errno, nr};
use crate::syscall;
use crate::sysroot;
use crate::task::{self, Task};
use crate::vdso;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use crossdock_emu_guest::a64::{State, features};

/// The program to start.
#[derive(Debug, Default)]
pub struct Invocation {
    /// The program's open file; closed once mapped.
    pub descriptor: i32,
    /// The emulator's own file, if the emulator that executed us has left it open.
    pub own: Option<i32>,
    /// A file with the system call filters of the previous program.
    pub filters: Option<i32>,
    /// The path that the program was started by, for AT_EXECFN.
    pub path: Vec<u8>,
    /// Its arguments, with argv\[0\].
    pub arguments: Vec<Vec<u8>>,
    /// Its environment.
    pub environment: Vec<Vec<u8>>,
    /// The host's auxiliary vector, in pairs.
    pub auxiliary: Vec<(u64, u64)>,
    /// Most bytes of the stack, if not RLIMIT_STACK.
    pub stack: Option<u64>,
}

/// Reserves the emulator's part of the address space. Call this first: the heap is in it.
pub fn take_region() -> bool {
    region::init()
}

/// Runs a program in this process. Returns only on error, with the error number.
pub fn start(invocation: Invocation) -> i64 {
    match prepare(invocation) {
        Ok(task) => run::run(task),
        Err(error) => error,
    }
}

fn prepare(invocation: Invocation) -> Result<&'static mut Task, i64> {
    static ACTIONS: Actions = Actions::inherited();
    let shared = task::new_shared()?;
    let task = Box::leak(Box::new(Task::new(shared, State::default(), &ACTIONS)));
    signal::init(task);
    shared.note_ids();
    if let Some(descriptor) = invocation.filters {
        shared.filters.store(seccomp::load(descriptor), Ordering::Relaxed);
    }
    exec::open_own_executable(invocation.own, &invocation.auxiliary);
    let host = |kind: u64| invocation.auxiliary.iter().find(|pair| pair.0 == kind).map_or(0, |pair| pair.1);
    vdso::init(host(33));

    let mut random = [0u64; 4];
    // SAFETY: the kernel fills the array.
    unsafe { syscall!(nr::GETRANDOM, random.as_mut_ptr(), 32, 0) };
    let randomize = region::randomize();
    let random_pages = |value: u64, bits: u32| if randomize { (value & ((1 << bits) - 1)) << 12 } else { 0 };

    let descriptor = invocation.descriptor;
    let elf = Elf::read(descriptor)?;
    let interpreter = elf.interpreter(descriptor)?;
    // At two thirds of the address space, as in the kernel.
    let wanted = if region::is_small() {
        0x55_5555_5000 + random_pages(random[2], region::RANDOM_BITS)
    } else {
        0x5555_5500_0000 + random_pages(random[2], 28)
    };
    let image = elf.map(descriptor, wanted)?;
    let mut entry = image.entry;
    let mut base = 0;
    if let Some(path) = interpreter {
        let path = sysroot::lookup(&path, true).unwrap_or(path);
        let loader = exec::open(exec::AT_FDCWD, &path, 0)?;
        let mapped = Elf::read(loader).map_err(|_| errno::ELIBBAD)?.map(loader, 0)?;
        // SAFETY: our own descriptor.
        unsafe { syscall!(nr::CLOSE, loader) };
        entry = mapped.entry;
        base = mapped.bias;
    }
    memory::set_break(image.end + random_pages(random[3], 13));
    map_trampoline()?;

    let file = exec::link_of(descriptor);
    // SAFETY: our own descriptor; the guest does not see it.
    unsafe { syscall!(nr::CLOSE, descriptor) };
    // For a program executed by descriptor, the kernel takes the file's name (since 6.14).
    let by_descriptor = invocation.path.starts_with(b"/dev/fd/")
        && invocation.path.iter().filter(|&&b| b == b'/').count() == 3;
    set_name(file.as_deref().filter(|_| by_descriptor).unwrap_or(&invocation.path));

    let stack = map_stack(invocation.stack, elf.has_executable_stack())?;
    let Filled { sp, auxiliary, arguments, environment } =
        fill_stack(&stack, &invocation, &elf, &image, base, &random)?;
    let described = describe(&image, sp, arguments, environment, &auxiliary);
    task.state.pc = entry;
    task.state.set_sp(sp);
    program::set(Program {
        file: file.unwrap_or_else(|| without_nul(&invocation.path)),
        arguments: invocation.arguments,
        auxiliary,
        stack,
        described,
    });
    task.own_engine();
    Ok(task)
}

fn without_nul(path: &[u8]) -> Vec<u8> {
    path.strip_suffix(&[0]).unwrap_or(path).to_vec()
}

/// PR_SET_NAME: sets the last part of the path, as execve does.
fn set_name(path: &[u8]) {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let mut bytes = [0u8; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name[..length]);
    // SAFETY: 16 bytes that end with NUL.
    unsafe { syscall!(nr::PRCTL, 15, bytes.as_ptr()) };
}

fn map_trampoline() -> Result<(), i64> {
    // SAFETY: a new page.
    let page = unsafe { syscall!(nr::MMAP, 0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, u64::MAX, 0) };
    if page < 0 {
        return Err(page);
    }
    for (index, word) in abi::TRAMPOLINE.iter().enumerate() {
        guest::write32(page as u64 + 4 * index as u64, *word)?;
    }
    // SAFETY: the page just made.
    unsafe { syscall!(nr::MPROTECT, page, 4096, 5) };
    executable::set(page as u64..page as u64 + 4096, true);
    program::set_trampoline(page as u64);
    Ok(())
}

/// Maps the stack, as large as it may grow (RLIMIT_STACK; 1 GiB if there is no limit), above a gap that
/// faults.
fn map_stack(wanted: Option<u64>, is_executable: bool) -> Result<Range<u64>, i64> {
    const GAP: u64 = 1 << 20;
    let mut limit = [0u64; 2];
    // SAFETY: the kernel fills the array.
    unsafe { syscall!(nr::GETRLIMIT, 3, limit.as_mut_ptr()) };
    let length = wanted.unwrap_or(limit[0]).clamp(256 << 10, 1 << 30) & !4095;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new mapping.
    let low = unsafe { syscall!(nr::MMAP, 0, length + GAP, 0, flags, u64::MAX, 0) };
    if low < 0 {
        return Err(low);
    }
    let start = low as u64 + GAP;
    // SAFETY: the mapping just made.
    let result = unsafe { syscall!(nr::MPROTECT, start, length, if is_executable { 7 } else { 3 }) };
    if result < 0 {
        return Err(result);
    }
    executable::set(start..start + length, is_executable);
    Ok(start..start + length)
}

/// The results of [`fill_stack`].
struct Filled {
    sp: u64,
    auxiliary: Vec<u64>,
    /// The strings of the arguments.
    arguments: Range<u64>,
    /// The strings of the environment.
    environment: Range<u64>,
}

/// Writes strings and vectors, in the kernel's order from the top: file name, environment, arguments,
/// platform, random bytes; below them auxiliary vector, environment, arguments, their count.
fn fill_stack(
    stack: &Range<u64>,
    invocation: &Invocation,
    elf: &Elf,
    image: &Mapped,
    base: u64,
    random: &[u64; 4],
) -> Result<Filled, i64> {
    let mut at = stack.end - 8;
    let mut push = |bytes: &[u8], ended: bool| -> Result<u64, i64> {
        let length = bytes.len() as u64 + u64::from(!ended);
        at = at.checked_sub(length).filter(|at| *at > stack.start).ok_or(errno::E2BIG)?;
        guest::write(at, bytes)?;
        if !ended {
            guest::memory().store(at + length - 1, 0, 0).map_err(|_| errno::EFAULT)?;
        }
        Ok(at)
    };
    let name = push(&without_nul(&invocation.path), false)?;
    let mut strings = |list: &[Vec<u8>]| -> Result<Vec<u64>, i64> {
        // The last string is highest.
        let mut pointers =
            list.iter().rev().map(|text| push(text, false)).collect::<Result<Vec<u64>, i64>>()?;
        pointers.reverse();
        Ok(pointers)
    };
    let environment = strings(&invocation.environment)?;
    let arguments = strings(&invocation.arguments)?;
    let platform = push(abi::MACHINE.as_bytes(), false)?;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random[0].to_le_bytes());
    bytes[8..].copy_from_slice(&random[1].to_le_bytes());
    let random = push(&bytes, true)?;

    let host = |kind: u64| invocation.auxiliary.iter().find(|pair| pair.0 == kind).map_or(0, |pair| pair.1);
    // AT_ numbers of getauxval(3).
    let auxiliary = [
        (16, features::HWCAP),
        (6, 4096),
        (17, 100),
        (3, image.headers),
        (4, 56),
        (5, elf.segments.len() as u64),
        (7, base),
        (8, 0),
        (9, image.entry),
        (11, host(11)),
        (12, host(12)),
        (13, host(13)),
        (14, host(14)),
        (23, host(23)),
        (25, random),
        (26, features::HWCAP2),
        (31, name),
        (15, platform),
        (51, abi::MINSIGSTKSZ_NOW),
        (0, 0),
    ];
    let mut words = Vec::with_capacity(arguments.len() + environment.len() + 48);
    words.push(arguments.len() as u64);
    words.extend(&arguments);
    words.push(0);
    words.extend(&environment);
    words.push(0);
    let vector: Vec<u64> = auxiliary.iter().flat_map(|&(kind, value)| [kind, value]).collect();
    words.extend(&vector);
    let sp = (at - 8 * words.len() as u64) & !15;
    if sp <= stack.start {
        return Err(errno::E2BIG);
    }
    for (index, word) in words.iter().enumerate() {
        guest::write64(sp + 8 * index as u64, *word)?;
    }
    // The strings lie in the order of their vectors, without gaps.
    let environment_start = environment.first().copied().unwrap_or(name);
    Ok(Filled {
        sp,
        auxiliary: vector,
        arguments: arguments.first().copied().unwrap_or(environment_start)..environment_start,
        environment: environment_start..name,
    })
}

/// PR_SET_MM_MAP (prctl(2)): shows other processes the guest's arguments, environment, heap and stack in
/// /proc/PID. Returns whether the kernel accepted that.
fn describe(
    image: &Mapped,
    sp: u64,
    arguments: Range<u64>,
    environment: Range<u64>,
    auxiliary: &[u64],
) -> bool {
    const PR_SET_MM: u64 = 35;
    const PR_SET_MM_MAP: u64 = 14;
    let heap = memory::range().start;
    let no_file = u64::from(u32::MAX) << 32;
    // struct prctl_mm_map: code, data, break, stack, arguments, environment, auxiliary vector, its size,
    // file.
    let map = [
        image.start,
        image.end,
        image.start,
        image.end,
        heap,
        heap,
        sp,
        arguments.start,
        arguments.end,
        environment.start,
        environment.end,
        auxiliary.as_ptr() as u64,
        (8 * auxiliary.len() as u64) | no_file,
    ];
    // SAFETY: the kernel reads the structure and the vector.
    unsafe {
        syscall!(nr::PRCTL, PR_SET_MM, PR_SET_MM_MAP, map.as_ptr(), core::mem::size_of_val(&map), 0) == 0
    }
}

/// Ends with a message of the emulator.
pub fn give_up(text: &str, status: i32) -> ! {
    sys::complain(text);
    sys::exit_group(status)
}
