//! execve: programs of the guest run in the emulator again, without any help from binfmt_misc.
//!
//! The new process gets the emulator's own executable by descriptor, and as arguments [`MARK`], the
//! descriptor of the program's file, options, the path and the guest's arguments; see [`passed`].

use crate::elf::{self, Elf};
use crate::guest;
use crate::options::{self, Options};
use crate::program;
use crate::seccomp;
use crate::signal;
use crate::sys::{errno, nr};
use crate::syscall;
use crate::sysroot;
use crate::task::Task;
use alloc::vec::Vec;

/// argv\[1\] of an emulator that another emulator has started.
pub const MARK: &str = "--guest-exec";
/// The current directory, for `*at` calls.
pub const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_EACCESS: u64 = 0x200;
const O_CLOEXEC: u64 = 0o2_000_000;
const O_NOFOLLOW: u64 = 0o400_000;
const F_SETFD: u64 = 2;
const FD_CLOEXEC: u64 = 1;
const F_DUPFD_CLOEXEC: u64 = 1030;

/// Opens a file for reading; `path` ends with NUL.
pub(crate) fn open(directory: i32, path: &[u8], flags: u64) -> Result<i32, i64> {
    // SAFETY: the path ends with NUL.
    match unsafe { syscall!(nr::OPENAT, directory, path.as_ptr(), O_CLOEXEC | flags, 0) } {
        descriptor if descriptor >= 0 => Ok(descriptor as i32),
        error => Err(error),
    }
}

fn close(descriptor: i32) {
    // SAFETY: only for descriptors of ours.
    unsafe { syscall!(nr::CLOSE, descriptor) };
}

/// Opens the emulator's executable at a high descriptor number, unless its descriptor was passed on.
pub(crate) fn open_own_executable(passed: Option<i32>, auxiliary: &[(u64, u64)]) {
    const AT_EXECFN: u64 = 31;
    if let Some(own) = passed {
        // SAFETY: the descriptor that the previous emulator left open for us.
        unsafe { syscall!(nr::FCNTL, own, F_SETFD, FD_CLOEXEC) };
        program::set_descriptor(own);
        return;
    }
    let mut found = open(AT_FDCWD, b"/proc/self/exe\0", 0).unwrap_or(-1);
    if found < 0
        && let Some(&(_, name)) = auxiliary.iter().find(|pair| pair.0 == AT_EXECFN)
    {
        // SAFETY: the kernel's string; without /proc it is the only path to our executable. Under
        // binfmt_misc, it names the guest's program.
        found = unsafe { syscall!(nr::OPENAT, AT_FDCWD, name, O_CLOEXEC, 0) as i32 };
        if found >= 0 && !is_own_executable(found) {
            close(found);
            found = -1;
        }
    }
    if found >= 0 {
        program::set_descriptor(found);
        move_descriptor();
    }
}

/// Whether a path, with NUL, leads to the emulator's executable.
pub(crate) fn is_emulator(path: &[u8]) -> bool {
    let (mut ours, mut theirs) = ([0u64; 18], [0u64; 18]);
    // SAFETY: a struct stat has 18 words, of which the first two are device and inode; the path ends with
    // NUL.
    unsafe {
        syscall!(nr::FSTAT, program::descriptor(), ours.as_mut_ptr()) == 0
            && syscall!(nr::NEWFSTATAT, AT_FDCWD, path.as_ptr(), theirs.as_mut_ptr(), 0) == 0
            && ours[..2] == theirs[..2]
    }
}

/// Whether a file begins with the same bytes as the emulator in memory: headers, and the build id after them.
fn is_own_executable(descriptor: i32) -> bool {
    let mut start = [0; 2048];
    let length = elf::read_at(descriptor, &mut start, 0).unwrap_or(0);
    // SAFETY: the first page of the executable is mapped, from its ELF header on, and never written.
    let own = unsafe { core::slice::from_raw_parts(crate::region::executable() as *const u8, start.len()) };
    length == start.len() && start == own
}

/// Moves the descriptor of the executable to another high number, so that its present one is free for the
/// guest.
///
/// Not above 1023: at each fork, the kernel copies the table of descriptors up to the highest in use.
pub(crate) fn move_descriptor() {
    let old = program::descriptor();
    for lowest in [960, 200, 50, 0] {
        // SAFETY: our own descriptor.
        let new = unsafe { syscall!(nr::FCNTL, old, F_DUPFD_CLOEXEC, lowest) };
        if new >= 0 {
            program::set_descriptor(new as i32);
            close(old);
            return;
        }
    }
}

/// The link of a descriptor in /proc/self/fd.
pub(crate) fn link_of(descriptor: i32) -> Option<Vec<u8>> {
    let path = alloc::format!("/proc/self/fd/{descriptor}\0");
    let mut target = alloc::vec![0u8; guest::PATH_MAX];
    // SAFETY: the kernel writes into the vector.
    let length =
        unsafe { syscall!(nr::READLINKAT, AT_FDCWD, path.as_ptr(), target.as_mut_ptr(), target.len()) };
    (length > 0).then(|| {
        target.truncate(length as usize);
        target
    })
}

/// How a file is executed.
enum Kind {
    /// By us; the path in execve's first argument stays AT_EXECFN. `raises`: whether the file gives other
    /// rights than the caller's.
    Guest { descriptor: i32, arguments: Vec<Vec<u8>>, raises: bool },
    /// By the kernel.
    Native,
}

/// execve(2) and execveat(2).
pub fn execveat(
    task: &mut Task,
    directory: i32,
    path: u64,
    argv: u64,
    envp: u64,
    flags: u64,
) -> Result<i64, i64> {
    let given = guest::read_path(path)?;
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(errno::EINVAL);
    }
    let mut elsewhere = false;
    let (name, descriptor) = if given == b"\0" {
        if flags & AT_EMPTY_PATH == 0 {
            return Err(errno::ENOENT);
        }
        let reopened = alloc::format!("/proc/self/fd/{directory}\0");
        let name = alloc::format!("/dev/fd/{directory}\0").into_bytes();
        (name, open(AT_FDCWD, reopened.as_bytes(), 0)?)
    } else {
        let own = crate::proc::followed_exe(&given);
        let in_sysroot = sysroot::lookup(&given, flags & AT_SYMLINK_NOFOLLOW == 0);
        elsewhere = own.is_some() || in_sysroot.is_some();
        let real = own.as_deref().or(in_sysroot.as_deref()).unwrap_or(&given);
        let nofollow = if flags & AT_SYMLINK_NOFOLLOW != 0 { O_NOFOLLOW } else { 0 };
        let descriptor = match open(directory, real, nofollow) {
            // The file may be executed but not read: for a handler of binfmt_misc, the kernel can open it.
            Err(errno::EACCES) if own.is_none() => {
                return Err(match run_native(task, directory, path, argv, envp, flags) {
                    errno::ENOEXEC => errno::EACCES,
                    other => other,
                });
            }
            result => result?,
        };
        let name = match given[0] {
            b'/' => given.clone(),
            _ if directory == AT_FDCWD => given.clone(),
            _ => [alloc::format!("/dev/fd/{directory}/").as_bytes(), &given].concat(),
        };
        (name, descriptor)
    };
    // Read after the file is opened, as in the kernel since 6.9.
    let pointers = read_pointers(argv).inspect_err(|_| close(descriptor))?;
    match examine(descriptor, &name)? {
        Kind::Native => Err(run_native(task, directory, path, argv, envp, flags)),
        Kind::Guest { descriptor, arguments, raises } => {
            // Only the kernel can give the file's rights, through a binfmt_misc handler with flag C. If we
            // can reach our executable neither through /proc nor by its path, such a handler may still find
            // it.
            let out_of_reach = program::descriptor() < 0;
            let mut result = errno::ENOEXEC;
            // If the kernel executed the file, the task's system call filters would be lost.
            let is_filtered = seccomp::mode(task) != 0;
            if (raises && !elsewhere || out_of_reach) && !is_filtered {
                result = run_native(task, directory, path, argv, envp, flags);
            }
            if result == errno::ENOEXEC && !out_of_reach {
                result = run_guest(task, descriptor, &name, &arguments, &pointers, envp);
            }
            close(descriptor);
            Err(result)
        }
    }
}

/// The pointers of an array that ends with a null pointer; a null `array` is an empty one.
fn read_pointers(array: u64) -> Result<Vec<u64>, i64> {
    let mut pointers = Vec::new();
    if array == 0 {
        return Ok(pointers);
    }
    loop {
        match guest::read64(array.wrapping_add(8 * pointers.len() as u64))? {
            0 => return Ok(pointers),
            pointer => pointers.push(pointer),
        }
    }
}

/// Lets the kernel execute a file. Returns only on error.
fn run_native(task: &Task, directory: i32, path: u64, argv: u64, envp: u64, flags: u64) -> i64 {
    signal::prepare_exec(task, false);
    // SAFETY: guest pointers, checked by the kernel; returns only on failure.
    let result = unsafe { syscall!(nr::EXECVEAT, directory, path, argv, envp, flags) };
    signal::prepare_exec(task, true);
    result
}

/// Executes the emulator for a program of the guest. Returns only on error.
fn run_guest(task: &Task, descriptor: i32, name: &[u8], script: &[Vec<u8>], argv: &[u64], envp: u64) -> i64 {
    let own = program::descriptor();
    let (letters, texts) = options::get().encode();
    let filters = match seccomp::save(task) {
        Ok(filters) => filters,
        Err(error) => return error,
    };
    let passed = filters.map_or(alloc::string::String::new(), |filters| alloc::format!(".{filters}"));
    let options = alloc::format!("{descriptor}{passed},{own},{letters}\0");
    let texts: Vec<Vec<u8>> = texts.iter().map(|text| [text, &b"\0"[..]].concat()).collect();
    let mark = alloc::format!("{MARK}\0");
    let mut pointers: Vec<*const u8> =
        alloc::vec![c"crossdock-emu".as_ptr().cast(), mark.as_ptr(), options.as_ptr()];
    pointers.extend(texts.iter().map(|text| text.as_ptr()));
    pointers.push(name.as_ptr());
    pointers.extend(script.iter().map(|text| text.as_ptr()));
    // A script's own argv[0] is replaced by its path.
    let skip = if script.is_empty() { 0 } else { 1 };
    pointers.extend(argv.iter().skip(skip).map(|&pointer| pointer as *const u8));
    pointers.push(core::ptr::null());

    signal::prepare_exec(task, false);
    // SAFETY: strings and arrays end as execve requires; the kernel checks the guest's pointers. The
    // descriptor is ours, and the new program closes it.
    let result = unsafe {
        syscall!(nr::FCNTL, descriptor, F_SETFD, 0);
        // Passed on, since the guest's root may have no /proc to open the executable again.
        syscall!(nr::FCNTL, own, F_SETFD, 0);
        let result = syscall!(nr::EXECVEAT, own, c"".as_ptr(), pointers.as_ptr(), envp, AT_EMPTY_PATH);
        syscall!(nr::FCNTL, own, F_SETFD, FD_CLOEXEC);
        result
    };
    signal::prepare_exec(task, true);
    filters.into_iter().for_each(close);
    result
}

/// Decides how an open file is executed, following `#!` as the kernel does (Linux, fs/binfmt_script.c).
/// Closes the file unless it is the guest's.
fn examine(mut descriptor: i32, name: &[u8]) -> Result<Kind, i64> {
    let mut arguments: Vec<Vec<u8>> = Vec::new();
    let mut name = name.to_vec();
    for _ in 0..6 {
        let kind = look(descriptor);
        match kind {
            Ok(Look::Guest { raises }) => return Ok(Kind::Guest { descriptor, arguments, raises }),
            Ok(Look::Native) => {
                // The kernel follows a script itself.
                close(descriptor);
                return Ok(Kind::Native);
            }
            Ok(Look::Script { interpreter, argument }) => {
                close(descriptor);
                let mut next = alloc::vec![interpreter.clone()];
                next.extend(argument);
                next.push(name);
                // The path that the script was called by replaces its name in the longer list.
                next.extend(arguments.into_iter().skip(1));
                arguments = next;
                name = interpreter;
                let real = sysroot::lookup(&name, true);
                descriptor = open(AT_FDCWD, real.as_deref().unwrap_or(&name), 0)?;
            }
            Err(error) => {
                close(descriptor);
                return Err(error);
            }
        }
    }
    close(descriptor);
    Err(errno::ELOOP)
}

enum Look {
    Guest { raises: bool },
    Native,
    Script { interpreter: Vec<u8>, argument: Option<Vec<u8>> },
}

fn look(descriptor: i32) -> Result<Look, i64> {
    let mut stat = [0u8; 144];
    // SAFETY: a struct stat has 144 bytes; st_mode is at 24.
    let result = unsafe { syscall!(nr::FSTAT, descriptor, stat.as_mut_ptr()) };
    if result < 0 {
        return Err(result);
    }
    const S_IFMT: u32 = 0o170_000;
    const S_IFREG: u32 = 0o100_000;
    let mode = u32::from_le_bytes([stat[24], stat[25], stat[26], stat[27]]);
    if mode & S_IFMT != S_IFREG {
        return Err(errno::EACCES);
    }
    // SAFETY: an empty path.
    let allowed =
        unsafe { syscall!(nr::FACCESSAT2, descriptor, c"".as_ptr(), 1, AT_EMPTY_PATH | AT_EACCESS) };
    if allowed == errno::EACCES || mode & 0o111 == 0 {
        return Err(errno::EACCES);
    }
    let mut start = [0u8; 256];
    let length = elf::read_at(descriptor, &mut start, 0)?;
    let start = &start[..length];
    if elf::is_guest(start) {
        let elf = Elf::read(descriptor)?;
        if let Some(path) = elf.interpreter(descriptor)? {
            let path = sysroot::lookup(&path, true).unwrap_or(path);
            let loader = open(AT_FDCWD, &path, 0)?;
            let found = Elf::read(loader);
            close(loader);
            found.map_err(|_| errno::ELIBBAD)?;
        }
        return Ok(Look::Guest { raises: raises_rights(descriptor, &stat) });
    }
    match start.strip_prefix(b"#!") {
        Some(line) => script_line(line),
        None => Ok(Look::Native),
    }
}

/// Whether executing a file gives other rights than the caller's: by its setuid or setgid bit, or by
/// capabilities, which root has anyway (execve(2), capabilities(7)).
fn raises_rights(descriptor: i32, stat: &[u8; 144]) -> bool {
    const S_ISUID: u32 = 0o4000;
    const S_ISGID_AND_EXECUTABLE: u32 = 0o2010;
    let field = |at: usize| u32::from_le_bytes([stat[at], stat[at + 1], stat[at + 2], stat[at + 3]]);
    let (mode, owner, group) = (field(24), field(28), field(32));
    // SAFETY: no memory is involved; fgetxattr only asks for a length.
    unsafe {
        let user = syscall!(nr::GETEUID);
        mode & S_ISUID != 0 && i64::from(owner) != user
            || mode & S_ISGID_AND_EXECUTABLE == S_ISGID_AND_EXECUTABLE
                && i64::from(group) != syscall!(nr::GETEGID)
            || user != 0 && syscall!(nr::FGETXATTR, descriptor, c"security.capability".as_ptr(), 0, 0) > 0
    }
}

/// Splits the line after `#!`: the interpreter, and the rest as one argument.
fn script_line(line: &[u8]) -> Result<Look, i64> {
    let end = line.iter().position(|&byte| byte == b'\n' || byte == 0).unwrap_or(line.len());
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let line = line[..end].trim_ascii();
    if line.is_empty() {
        return Err(errno::ENOEXEC);
    }
    let cut = line.iter().position(blank).unwrap_or(line.len());
    let ended = |text: &[u8]| [text, b"\0"].concat();
    let argument = line[cut..].trim_ascii();
    Ok(Look::Script {
        interpreter: ended(&line[..cut]),
        argument: (!argument.is_empty()).then(|| ended(argument)),
    })
}

/// Opens a program or script that the user runs; a script's arguments become those of its interpreter. `path`
/// ends with NUL.
pub fn open_program(path: &[u8], arguments: &mut Vec<Vec<u8>>) -> Result<i32, i64> {
    match examine(open(AT_FDCWD, path, 0)?, path)? {
        Kind::Native => Err(errno::ENOEXEC),
        Kind::Guest { descriptor, arguments: script, .. } => {
            if !script.is_empty() {
                let without_nul = |mut text: Vec<u8>| {
                    text.pop();
                    text
                };
                let rest = arguments.split_off(1);
                *arguments = script.into_iter().map(without_nul).chain(rest).collect();
            }
            Ok(descriptor)
        }
    }
}

/// What [`execveat`] passes to the emulator it executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The program's file.
    pub descriptor: i32,
    /// The file with the system call filters, if there are any.
    pub filters: Option<i32>,
    /// The emulator's file.
    pub own: i32,
    /// The user's options.
    pub options: Options,
    /// AT_EXECFN.
    pub path: Vec<u8>,
    /// The guest's arguments.
    pub arguments: Vec<Vec<u8>>,
}

/// Reads the arguments after [`MARK`]; takes over the emulator's descriptor.
pub fn passed(arguments: &[Vec<u8>]) -> Option<Passed> {
    let words = core::str::from_utf8(arguments.first()?).ok()?;
    let mut words = words.splitn(3, ',');
    let (descriptor, own, letters) = (words.next()?, words.next()?, words.next()?);
    let (options, taken) = Options::decode(letters, &arguments[1..])?;
    let rest = &arguments[1 + taken..];
    let (descriptor, filters) = match descriptor.split_once('.') {
        Some((descriptor, filters)) => (descriptor, Some(filters.parse().ok()?)),
        None => (descriptor, None),
    };
    Some(Passed {
        descriptor: descriptor.parse().ok()?,
        filters,
        own: own.parse().ok()?,
        options,
        path: rest.first()?.clone(),
        arguments: rest[1..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(line: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        match script_line(line) {
            Ok(Look::Script { interpreter, argument }) => Some((interpreter, argument)),
            _ => None,
        }
    }

    #[test]
    fn script_lines_have_one_argument_at_most() {
        assert_eq!(script(b" /bin/sh\nexit"), Some((b"/bin/sh\0".to_vec(), None)));
        assert_eq!(script(b"/bin/a -b c \n"), Some((b"/bin/a\0".to_vec(), Some(b"-b c\0".to_vec()))));
        assert_eq!(script(b"  \n"), None);
    }

    #[test]
    fn arguments_come_back() {
        let list = [&b"7,960,tL"[..], b"/root", b"/bin/x", b"x", b"y"].map(<[u8]>::to_vec);
        let expected = Passed {
            descriptor: 7,
            filters: None,
            own: 960,
            options: Options { trace_calls: true, sysroot: b"/root".to_vec(), ..Options::NONE },
            path: b"/bin/x".to_vec(),
            arguments: alloc::vec![b"x".to_vec(), b"y".to_vec()],
        };
        assert_eq!(passed(&list), Some(expected));
        assert_eq!(passed(&[b"7.8,9,".to_vec(), b"x".to_vec()]).and_then(|passed| passed.filters), Some(8));
        assert_eq!(passed(&[]), None);
        assert_eq!(passed(&list[..2]), None);
    }
}
