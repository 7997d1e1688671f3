//! `crossdock-emu`: runs a Linux program of another CPU. By hand, from binfmt_misc, in a sandbox.
//!
//! Neither the C library's start-up code nor Rust's runs, see `entry.rs`. Rust's would ignore SIGPIPE and
//! handle SIGSEGV.
#![no_main]

use crossdock_emu::command_line::{Ending, Wanted};
use crossdock_emu_linux::images::compile::{self, Sources};
use crossdock_emu_linux::start::give_up;
use crossdock_emu_linux::sys::file::{self, AT_FDCWD};
use crossdock_emu_linux::sys::{Errno, complain, errno, exit_group, process};
use crossdock_emu_linux::{Heap, Invocation, exec, options, start, take_region};
use std::ffi::{CStr, c_char};

mod entry;

#[global_allocator]
static HEAP: Heap = Heap;

const AT_EXECFD: u64 = 2;
const AT_FLAGS: u64 = 8;
const AT_SECURE: u64 = 23;
const AT_FLAGS_PRESERVE_ARGV0: u64 = 1;

/// The strings of a null-terminated array.
///
/// # Safety
///
/// `array` is a null-terminated array as the kernel passes it.
unsafe fn strings(mut array: *const *const c_char) -> Vec<Vec<u8>> {
    let mut list = Vec::new();
    // SAFETY: the array ends with a null pointer, its strings with NUL.
    unsafe {
        while !(*array).is_null() {
            list.push(CStr::from_ptr(*array).to_bytes().to_vec());
            array = array.add(1);
        }
    }
    list
}

/// The auxiliary vector, which follows the environment.
///
/// # Safety
///
/// `environment` is the array on the process's initial stack.
unsafe fn auxiliary(mut environment: *const *const c_char) -> Vec<(u64, u64)> {
    let mut list = Vec::new();
    // SAFETY: the kernel's layout: environment, null, pairs that end with a zero.
    unsafe {
        while !(*environment).is_null() {
            environment = environment.add(1);
        }
        let mut pair = environment.add(1).cast::<[u64; 2]>();
        while (*pair)[0] != 0 {
            list.push(((*pair)[0], (*pair)[1]));
            pair = pair.add(1);
        }
    }
    list
}

/// With the bottom-up layout of addresses (personality ADDR_COMPAT_LAYOUT) the executable lies below later
/// mappings: starts over with the usual layout. Returns if the layout is the usual one. The vectors are those
/// of the kernel.
fn again_without_compatible_layout(arguments: *const *const c_char, environment: *const *const c_char) {
    const ADDR_COMPAT_LAYOUT: u64 = 0x020_0000;
    let now = process::personality();
    if now & ADDR_COMPAT_LAYOUT != 0 {
        process::set_personality(now & !ADDR_COMPAT_LAYOUT);
        let path = c"/proc/self/exe".as_ptr() as u64;
        process::execute(AT_FDCWD, path, arguments as u64, environment as u64, 0);
    }
}

/// The Rust start of the program, which [`entry`] calls.
///
/// # Safety
///
/// Called once, with the stack as the kernel set it up: the number of arguments, arguments, null,
/// environment, null, auxiliary vector.
#[unsafe(no_mangle)]
unsafe extern "C" fn crossdock_emu_main(stack: *const *const c_char) -> ! {
    // SAFETY: the kernel's layout.
    let (arguments, environment) = unsafe { (stack.add(1), stack.add(2 + stack.cast::<usize>().read())) };
    if !take_region() {
        again_without_compatible_layout(arguments, environment);
        give_up(
            "crossdock-emu: no room for the emulator in the address space (see ulimit -v and ulimit -s)\n",
            127,
        );
    }
    entry::prepare_for_panics();
    // SAFETY: the vectors of the kernel.
    let (arguments, environment, auxiliary) =
        unsafe { (strings(arguments), strings(environment), auxiliary(environment)) };
    let value = |kind| auxiliary.iter().find(|pair| pair.0 == kind).map(|pair| pair.1);

    // A program with other rights than its caller's ignores the caller's environment.
    let heeded = if value(AT_SECURE).unwrap_or(0) == 0 { &environment[..] } else { &[] };
    let is_secure = value(AT_SECURE).unwrap_or(0) != 0;
    let asked = invocation(arguments, heeded, is_secure, value(AT_FLAGS), value(AT_EXECFD));
    let (wanted, mut invocation) = match asked {
        Ok(both) => both,
        Err(Ending::Print(text)) => print(&text),
        Err(Ending::Refuse(text)) => give_up(&text, 127),
    };
    invocation.stack = wanted.stack;
    invocation.environment = environment;
    invocation.auxiliary = auxiliary;
    wanted.change(&mut invocation.environment);
    let path = String::from_utf8_lossy(&invocation.path).into_owned();
    let error = start(invocation);
    complain(&format!("crossdock-emu: {path}: {}\n", describe(error, &path)));
    exit_group(if error == errno::ENOENT { 127 } else { 126 })
}

/// Reads what to start, from the emulator itself, from binfmt_misc, or from a user's command line.
fn invocation(
    arguments: Vec<Vec<u8>>,
    environment: &[Vec<u8>],
    is_secure: bool,
    flags: Option<u64>,
    descriptor: Option<u64>,
) -> Result<(Wanted, Invocation), Ending> {
    let preserves = flags.unwrap_or(0) & AT_FLAGS_PRESERVE_ARGV0 != 0;
    // Not if the kernel's binfmt_misc has started us: then the words are always a path and arguments.
    let by_us = descriptor.is_none() && !preserves;
    if by_us && arguments.get(1).is_some_and(|mark| mark == exec::MARK.as_bytes()) {
        let Some(passed) = exec::passed(&arguments[2..]) else {
            return Err(Ending::Refuse("crossdock-emu: --guest-exec is for the emulator itself\n".into()));
        };
        // The guest's own shell may have set some variables: `QEMU_STRACE=1 ls`.
        let mut wanted = Wanted::from_environment(environment)?;
        wanted.options = core::mem::take(&mut wanted.options).or(passed.options);
        if is_secure {
            wanted.options.cache.clear();
        }
        settle(&wanted);
        let invocation = Invocation {
            descriptor: passed.descriptor,
            own: Some(passed.own),
            filters: passed.filters,
            path: passed.path,
            arguments: passed.arguments,
            ..Invocation::default()
        };
        return Ok((wanted, invocation));
    }
    if arguments.get(1).is_some_and(|mark| mark == b"--panic") {
        // For the test of panics.
        panic!("asked to, number {}", arguments.len() - 1);
    }
    if by_us && arguments.get(1).is_some_and(|option| option == compile::OPTION.as_bytes()) {
        make_images(&arguments[2..]);
    }
    let mut wanted = Wanted::from_environment(environment)?;
    // Before Linux 5.12, AT_FLAGS does not report flag P; Debian gives an interpreter registered with flag P
    // this name.
    let preserved = preserves || arguments.first().is_some_and(|name| name.ends_with(b"-binfmt-P"));
    let mut rest = arguments.into_iter().skip(1).collect::<Vec<_>>();
    if (preserved || descriptor.is_some()) && !rest.is_empty() {
        // The program's path, then its argv: whole with flag P, else without argv[0].
        wanted.program = vec![rest.remove(0)];
        wanted.name = preserved.then(|| if rest.is_empty() { Vec::new() } else { rest.remove(0) });
        wanted.program.append(&mut rest);
    } else {
        wanted.by_hand(rest)?;
    }
    settle(&wanted);
    let mut program = core::mem::take(&mut wanted.program).into_iter();
    let path = program.next().unwrap_or_default();
    let name = wanted.name.take().unwrap_or_else(|| path.clone());
    let mut invocation = Invocation {
        arguments: core::iter::once(name).chain(program).collect(),
        path,
        ..Invocation::default()
    };
    invocation.path.push(0);
    invocation.descriptor = match descriptor {
        Some(descriptor) => descriptor as i32,
        None => open_program(&mut invocation),
    };
    invocation.path.pop();
    Ok((wanted, invocation))
}

/// Makes images in a folder, and ends the process: of the reports there, or of those that sandboxes have left
/// in a folder in it.
fn make_images(words: &[Vec<u8>]) -> ! {
    let words: Option<Vec<String>> = words.iter().map(|word| String::from_utf8(word.clone()).ok()).collect();
    match words.as_deref() {
        Some([folder]) => {
            compile::be_apart();
            exit_group(compile::run(folder, &Sources::Paths))
        }
        Some([folder, pending]) => exit_group(compile::run(folder, &Sources::Layers(pending.clone()))),
        _ => give_up("crossdock-emu: --compile-images FOLDER is for the emulator itself\n", 127),
    }
}

/// Makes the user's choices those of this process and its children.
fn settle(wanted: &Wanted) {
    options::set(wanted.options.clone());
    if let Some(cpu) = wanted.cpu {
        cpu.choose();
    }
}

/// Opens the program by its path; ends the process if the program cannot be run.
fn open_program(invocation: &mut Invocation) -> i32 {
    match exec::open_program(&invocation.path, &mut invocation.arguments) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            let path = String::from_utf8_lossy(&invocation.path).into_owned();
            let path = path.trim_end_matches('\0');
            give_up(
                &format!("crossdock-emu: {path}: {}\n", describe(error, path)),
                if error == errno::ENOENT { 127 } else { 126 },
            )
        }
    }
}

/// Prints to standard output and ends the process.
fn print(text: &str) -> ! {
    // Nobody is left to report an error to.
    let _ = file::write_all(1, text.as_bytes());
    exit_group(0)
}

fn describe(error: Errno, path: &str) -> String {
    match error {
        errno::ENOENT => "no such file, or its interpreter (ld.so) is missing".into(),
        errno::EACCES => "permission denied".into(),
        errno::ENOEXEC => exec::refusal(path).unwrap_or("no program for arm64, 32-bit Arm or riscv64").into(),
        errno::ELIBBAD => "its interpreter (ld.so) is not for the same CPU".into(),
        errno::ENOMEM => "no room in the address space".into(),
        other => format!("error {}", other.number()),
    }
}
