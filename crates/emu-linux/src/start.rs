//! Starts a program: maps its file, fills its stack, sets its registers.

use crate::arch::Abi;
use crate::arch::known::{ForAbi, with_abi};
use crate::elf::{Elf, Mapped};
use crate::executable;
use crate::guest;
use crate::memory;
use crate::own_executable;
use crate::program::{self, Program};
use crate::region;
use crate::run;
use crate::seccomp;
use crate::shared;
use crate::signal::Actions;
use crate::signal::deliver;
use crate::sys::file::{self, AT_FDCWD, Fd};
use crate::sys::memory::{MAP_NORESERVE, PAGE, PROT_NONE, PROT_READ_WRITE, PROT_READ_WRITE_EXECUTE, map_new};
use crate::sys::{self, Errno, errno};
use crate::sysroot;
use crate::task::Task;
use crate::thread::Thread;
use crate::vdso;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use crossdock_emu_guest::State;

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
pub fn start(invocation: Invocation) -> Errno {
    let elf = match Elf::read(invocation.descriptor) {
        Ok(elf) => elf,
        Err(error) => return error,
    };
    with_abi(elf.machine, Start { invocation, elf }).unwrap_or(errno::ENOEXEC)
}

/// A program to start in the ABI of its machine.
struct Start {
    invocation: Invocation,
    elf: Elf,
}

impl ForAbi for Start {
    type Output = Errno;

    fn with<A: Abi>(self) -> Errno {
        match prepare::<A>(self.invocation, &self.elf) {
            Ok(task) => run::run(task),
            Err(error) => error,
        }
    }
}

fn prepare<A: Abi>(invocation: Invocation, elf: &Elf) -> Result<&'static mut Task<A>, Errno> {
    static ACTIONS: Actions = Actions::inherited();
    let shared = shared::new()?;
    let thread = Thread::new(shared, &ACTIONS);
    let task = Box::leak(Box::new(Task::<A>::new(thread, State::default(), run::run::<A>)));
    deliver::init(&mut task.thread);
    shared.note_ids();
    if let Some(descriptor) = invocation.filters {
        shared.filters.store(seccomp::load(Fd::from_number(descriptor)), Ordering::Relaxed);
    }
    own_executable::open(invocation.own, &invocation.auxiliary);
    let host = |kind: u64| invocation.auxiliary.iter().find(|pair| pair.0 == kind).map_or(0, |pair| pair.1);
    vdso::init(host(33));

    let random = sys::memory::random::<4>();
    let randomize = region::randomize();
    let random_pages = |value: u64, bits: u32| if randomize { (value & ((1 << bits) - 1)) << 12 } else { 0 };

    let descriptor = invocation.descriptor;
    let interpreter = elf.interpreter(descriptor)?;
    if elf.wants_high_stack(descriptor) {
        region::make_stack_high();
    }
    A::map_helpers()?;
    // 32-bit programs lie low, so that the heap has room (arm, ELF_ET_DYN_BASE); others at two thirds of the
    // address space, as in the kernel.
    let wanted = if region::is_narrow() {
        0x40_0000 + random_pages(random[2], region::NARROW_RANDOM_BITS)
    } else if region::is_small() {
        0x55_5555_5000 + random_pages(random[2], region::RANDOM_BITS)
    } else {
        0x5555_5500_0000 + random_pages(random[2], 28)
    };
    let image = elf.map(descriptor, wanted)?;
    let mut entry = image.entry;
    let mut base = 0;
    if let Some(path) = interpreter {
        let path = sysroot::lookup(&path, true).unwrap_or(path);
        let loader = file::open(AT_FDCWD, &path, 0)?;
        let found = Elf::read(loader.number()).ok().filter(|found| found.machine == elf.machine);
        let mapped = found.ok_or(errno::ELIBBAD)?.map(loader.number(), 0)?;
        entry = mapped.entry;
        base = mapped.bias;
    }
    memory::set_break(image.end + random_pages(random[3], 13));

    // For a program executed by descriptor, the kernel takes the file's name (since 6.14).
    let by_descriptor = invocation.path.starts_with(b"/dev/fd/")
        && invocation.path.iter().filter(|&&b| b == b'/').count() == 3;
    let named = if by_descriptor { file::link_of(descriptor) } else { None };
    drop(Fd::from_number(descriptor));
    set_name(named.as_deref().unwrap_or(&invocation.path));

    let stack = map_stack(invocation.stack, elf.has_executable_stack().unwrap_or(A::STACK_IS_EXECUTABLE))?;
    let Filled { sp, auxiliary, arguments, environment } =
        fill_stack::<A>(&stack, &invocation, elf, &image, base, &random)?;
    let described = describe(&image, sp, arguments, environment, &pack(&auxiliary, A::MACHINE.word()));
    // The strings and vectors keep the host's addresses, which lead to the same memory.
    A::start(&mut task.state, entry, if region::is_stack_high() { sp | region::ALIAS } else { sp });
    program::set(Program {
        path: without_nul(&invocation.path),
        code: image.entry,
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

/// Sets the name of the thread to the last part of the path, as execve does.
fn set_name(path: &[u8]) {
    sys::process::set_name(path.rsplit(|&byte| byte == b'/').next().unwrap_or(path));
}

/// Maps the stack, as large as it may grow (RLIMIT_STACK; at most 1 GiB, or 256 MiB of a 32-bit program),
/// above a gap that faults.
fn map_stack(wanted: Option<u64>, is_executable: bool) -> Result<Range<u64>, Errno> {
    const GAP: u64 = 1 << 20;
    const RLIMIT_STACK: u64 = 3;
    let wanted = wanted.unwrap_or_else(|| sys::process::limits(RLIMIT_STACK)[0]);
    let highest = if region::is_narrow() { 1 << 28 } else { 1 << 30 };
    let length = wanted.clamp(256 << 10, highest) & !(PAGE - 1);
    let start = map_new(0, length + GAP, PROT_NONE, MAP_NORESERVE)? + GAP;
    let rights = if is_executable { PROT_READ_WRITE_EXECUTE } else { PROT_READ_WRITE };
    guest::protect(start, length, rights)?;
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
fn fill_stack<A: Abi>(
    stack: &Range<u64>,
    invocation: &Invocation,
    elf: &Elf,
    image: &Mapped,
    base: u64,
    random: &[u64; 4],
) -> Result<Filled, Errno> {
    let mut at = stack.end - 8;
    let mut push = |bytes: &[u8], ended: bool| -> Result<u64, Errno> {
        let length = bytes.len() as u64 + u64::from(!ended);
        at = at.checked_sub(length).filter(|at| *at > stack.start).ok_or(errno::E2BIG)?;
        guest::write(at, bytes)?;
        if !ended {
            guest::memory().store(at + length - 1, 0, 0).map_err(|_| errno::EFAULT)?;
        }
        Ok(at)
    };
    let name = push(&without_nul(&invocation.path), false)?;
    let mut strings = |list: &[Vec<u8>]| -> Result<Vec<u64>, Errno> {
        // The last string is highest.
        let mut pointers =
            list.iter().rev().map(|text| push(text, false)).collect::<Result<Vec<u64>, Errno>>()?;
        pointers.reverse();
        Ok(pointers)
    };
    let environment = strings(&invocation.environment)?;
    let arguments = strings(&invocation.arguments)?;
    let platform = A::platform().map(|name| push(name.as_bytes(), false)).transpose()?;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random[0].to_le_bytes());
    bytes[8..].copy_from_slice(&random[1].to_le_bytes());
    let random = push(&bytes, true)?;

    let host = |kind: u64| invocation.auxiliary.iter().find(|pair| pair.0 == kind).map_or(0, |pair| pair.1);
    // AT_ numbers of getauxval(3).
    let auxiliary = [
        (6, 4096),
        (17, 100),
        (3, image.headers),
        (4, elf.header_size()),
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
        (31, name),
    ];
    let last = platform.map(|platform| (15, platform)).into_iter().chain([(0, 0)]);
    let mut words = Vec::with_capacity(arguments.len() + environment.len() + 48);
    words.push(arguments.len() as u64);
    words.extend(&arguments);
    words.push(0);
    words.extend(&environment);
    words.push(0);
    let vector: Vec<u64> =
        A::auxiliary().chain(auxiliary).chain(last).flat_map(|(kind, value)| [kind, value]).collect();
    words.extend(&vector);
    let size = A::MACHINE.word();
    let sp = (at - size * words.len() as u64) & !15;
    if sp <= stack.start {
        return Err(errno::E2BIG);
    }
    for (index, word) in (0..).zip(&words) {
        guest::write_pointer(sp + size * index, *word, size)?;
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

/// The auxiliary vector as the words of 8 bytes that the host's kernel keeps. It takes the first even word
/// that is 0 for the end.
fn pack(auxiliary: &[u64], word: u64) -> Vec<u64> {
    if word == 8 {
        return auxiliary.to_vec();
    }
    let pairs = auxiliary.as_chunks::<2>().0.iter().map(|[kind, value]| kind & 0xffff_ffff | value << 32);
    pairs.chain([0; 4]).collect()
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
    let heap = memory::range().start;
    // In the order of the structure: code, data, break, stack, arguments, environment, auxiliary vector, its
    // size, file.
    let no_file = u64::from(u32::MAX) << 32;
    sys::process::describe_memory(&[
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
    ])
}

/// Ends with a message of the emulator.
pub fn give_up(text: &str, status: i32) -> ! {
    sys::complain(text);
    sys::exit_group(status)
}
