//! `crossdock-emu`: runs a Linux program of another CPU. By hand, from binfmt_misc, in a sandbox.
//!
//! The C library's start-up code runs before `main`; nothing of it is used afterwards. Rust's own start-up is left out:
//! it would ignore SIGPIPE and take SIGSEGV.
#![no_main]

use crossdock_emu_guest::a64::features;
use crossdock_emu_linux::program::Log;
use crossdock_emu_linux::start::give_up;
use crossdock_emu_linux::sys::{complain, errno};
use crossdock_emu_linux::{Heap, Invocation, exec, start, syscall, take_region};
use std::ffi::{CStr, c_char, c_int};

#[global_allocator]
static HEAP: Heap = Heap;

const AT_EXECFD: u64 = 2;
const AT_FLAGS: u64 = 8;
const AT_FLAGS_PRESERVE_ARGV0: u64 = 1;

const USAGE: &str = "\
crossdock-emu runs a Linux program of another CPU (now: arm64)

usage: crossdock-emu [options] program [arguments]

  -0 NAME            argv[0] of the program
  --trace syscalls   print system calls to standard error
  --cpu-features     print what the emulated CPU can do
  --version          print the version

environment:
  CROSSDOCK_EMU_LOG  0: system calls that are not known are not told of
                     1: those that are refused on purpose are, too
";

/// The strings of a null-terminated array.
///
/// # Safety
///
/// `array` is one, as the kernel passes it.
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

/// With the bottom-up layout of addresses (personality ADDR_COMPAT_LAYOUT) the executable lies below mappings to come:
/// starts over with the usual one. Returns where that is not the matter.
///
/// # Safety
///
/// The vectors are those of the kernel.
unsafe fn again_without_compatible_layout(
    arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    const PERSONALITY: u64 = 135;
    const EXECVE: u64 = 59;
    const ADDR_COMPAT_LAYOUT: i64 = 0x020_0000;
    // SAFETY: asks for and sets the personality; executes ourselves with the vectors given.
    unsafe {
        let now = syscall!(PERSONALITY, 0xffff_ffffu32);
        if now > 0 && now & ADDR_COMPAT_LAYOUT != 0 {
            syscall!(PERSONALITY, now & !ADDR_COMPAT_LAYOUT);
            syscall!(EXECVE, c"/proc/self/exe".as_ptr(), arguments, environment);
        }
    }
}

/// What the C library calls.
///
/// # Safety
///
/// Called once, by the C library, with the vectors of the kernel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(
    _count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> c_int {
    if !take_region() {
        // SAFETY: the vectors of the kernel.
        unsafe { again_without_compatible_layout(arguments, environment) };
        give_up(
            "crossdock-emu: no room for the emulator in the address space (see ulimit -v and ulimit -s)\n",
            127,
        );
    }
    // SAFETY: the vectors of the kernel; libc passes `environ` from the initial stack.
    let (arguments, environment, auxiliary) =
        unsafe { (strings(arguments), strings(environment), auxiliary(environment)) };
    let value = |kind| auxiliary.iter().find(|pair| pair.0 == kind).map(|pair| pair.1);

    let mut invocation = Invocation::default();
    if arguments.get(1).is_some_and(|mark| mark == exec::MARK.as_bytes()) {
        match exec::passed(&arguments[2..]) {
            Some(passed) => {
                invocation = Invocation {
                    descriptor: passed.descriptor,
                    own: Some(passed.own),
                    path: passed.path,
                    arguments: passed.arguments,
                    trace: passed.trace,
                    log: passed.log,
                    ..Invocation::default()
                };
            }
            None => give_up("crossdock-emu: --guest-exec is for the emulator itself\n", 127),
        }
    } else {
        by_hand(&mut invocation, arguments, value(AT_FLAGS).unwrap_or(0), value(AT_EXECFD));
    }
    if let Some(value) = environment.iter().find_map(|text| text.strip_prefix(b"CROSSDOCK_EMU_LOG=")) {
        invocation.log = Log::from_setting(value);
    }
    invocation.environment = environment;
    invocation.auxiliary = auxiliary;
    let path = String::from_utf8_lossy(&invocation.path).into_owned();
    let error = start(invocation);
    complain(&format!("crossdock-emu: {path}: {}\n", describe(error)));
    if error == errno::ENOENT { 127 } else { 126 }
}

/// Options by hand, or the arguments that binfmt_misc makes: the program's path, then its argv (flag P) or the rest.
fn by_hand(invocation: &mut Invocation, arguments: Vec<Vec<u8>>, flags: u64, descriptor: Option<u64>) {
    let preserved = flags & AT_FLAGS_PRESERVE_ARGV0 != 0;
    let from_binfmt = preserved || descriptor.is_some();
    let mut rest = arguments.into_iter().skip(1);
    let mut name = None;
    let path = loop {
        let Some(argument) = rest.next() else { give_up(USAGE, 127) };
        if from_binfmt || !argument.starts_with(b"-") {
            break argument;
        }
        match argument.as_slice() {
            b"--version" | b"-version" => {
                print(&format!("crossdock-emu {} (arm64)\n", env!("CARGO_PKG_VERSION")));
            }
            b"--cpu-features" => print(&format!("arm64: {}\n", features::CPUINFO_FEATURES)),
            b"--help" | b"-h" | b"-help" => print(USAGE),
            b"--trace" => match rest.next().as_deref() {
                Some(b"syscalls") => invocation.trace = true,
                _ => give_up("crossdock-emu: --trace knows \"syscalls\"\n", 127),
            },
            b"-strace" => invocation.trace = true,
            b"-0" => name = rest.next(),
            b"--" => match rest.next() {
                Some(path) => break path,
                None => give_up(USAGE, 127),
            },
            other => give_up(
                &format!("crossdock-emu: unknown option {}; see --help\n", String::from_utf8_lossy(other)),
                127,
            ),
        }
    };
    if preserved {
        invocation.arguments = rest.collect();
    } else {
        invocation.arguments = std::iter::once(name.unwrap_or_else(|| path.clone())).chain(rest).collect();
    }
    invocation.path = path;
    invocation.path.push(0);
    invocation.descriptor = match descriptor {
        Some(descriptor) => descriptor as i32,
        None => match exec::open_program(&invocation.path, &mut invocation.arguments) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                let path = String::from_utf8_lossy(&invocation.path).into_owned();
                give_up(
                    &format!("crossdock-emu: {}: {}\n", path.trim_end_matches('\0'), describe(error)),
                    if error == errno::ENOENT { 127 } else { 126 },
                )
            }
        },
    };
    invocation.path.pop();
}

/// Prints to standard output and ends.
fn print(text: &str) -> ! {
    // SAFETY: write only reads the text.
    unsafe { syscall!(1, 1, text.as_ptr(), text.len()) };
    crossdock_emu_linux::sys::exit_group(0)
}

fn describe(error: i64) -> String {
    match error {
        errno::ENOENT => "no such file, or its interpreter (ld.so) is missing".into(),
        errno::EACCES => "permission denied".into(),
        errno::ENOEXEC => "not an arm64 program".into(),
        errno::ELIBBAD => "its interpreter (ld.so) is not an arm64 program".into(),
        errno::ENOMEM => "no room in the address space".into(),
        other => format!("error {}", -other),
    }
}
