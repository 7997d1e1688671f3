//! execve: programs of the guest run in the emulator again, without any help from binfmt_misc.
//!
//! The new process gets the emulator's own executable by descriptor, and as arguments [`MARK`], the
//! descriptor of the program's file, options, the path and the guest's arguments; see [`passed`].

use crate::elf::{self, Elf};
use crate::guest;
use crate::options::{self, Options};
use crate::own_executable;
use crate::proc;
use crate::region;
use crate::seccomp;
use crate::signal::deliver::prepare_exec;
use crate::sys::file::{self, AT_FDCWD, Fd, Status, open};
use crate::sys::process::execute;
use crate::sys::{self, Errno, errno};
use crate::sysroot;
use crate::thread::Thread;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// argv\[1\] of an emulator that another emulator has started.
pub const MARK: &str = "--guest-exec";
const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const O_NOFOLLOW: u64 = 0o400_000;
/// How a file is executed.
enum Kind {
    /// By us; the path in execve's first argument stays AT_EXECFN. `raises`: whether the file gives other
    /// rights than the caller's.
    Guest { file: Fd, arguments: Vec<Vec<u8>>, raises: bool },
    /// By the kernel.
    Native,
}

/// execve(2) and execveat(2), for a guest whose pointers have `word` bytes.
pub fn execveat(
    thread: &Thread,
    word: u64,
    directory: i32,
    path: u64,
    argv: u64,
    envp: u64,
    flags: u64,
) -> Result<i64, Errno> {
    let mut copies = [Vec::new(), Vec::new()];
    let [arguments, environment] = &mut copies;
    let vectors = Vectors {
        guest_argv: argv,
        word,
        argv: for_host(thread, argv, word, arguments)?,
        envp: for_host(thread, envp, word, environment)?,
    };
    execute_file(thread, directory, path, &vectors, flags)
}

/// The arguments and the environment of a program to execute.
struct Vectors {
    /// The guest's array of arguments, of pointers with `word` bytes.
    guest_argv: u64,
    word: u64,
    /// The arrays in the host's form.
    argv: u64,
    envp: u64,
}

/// An array of pointers that the host can read: the guest's own, or a copy if its pointers are shorter or may
/// have tags.
fn for_host(thread: &Thread, array: u64, word: u64, copy: &mut Vec<u64>) -> Result<u64, Errno> {
    if word == 8 && !thread.has_other_addresses() || array == 0 {
        return Ok(array);
    }
    *copy = read_pointers(thread, array, word)?;
    copy.push(0);
    Ok(copy.as_ptr() as u64)
}

fn execute_file(
    thread: &Thread,
    directory: i32,
    path: u64,
    vectors: &Vectors,
    flags: u64,
) -> Result<i64, Errno> {
    let given = guest::read_path(path)?;
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(errno::EINVAL);
    }
    let mut elsewhere = false;
    let (name, file) = if given == b"\0" {
        if flags & AT_EMPTY_PATH == 0 {
            return Err(errno::ENOENT);
        }
        let reopened = format!("/proc/self/fd/{directory}\0");
        let name = format!("/dev/fd/{directory}\0").into_bytes();
        (name, open(AT_FDCWD, reopened.as_bytes(), 0)?)
    } else {
        let own = proc::followed_exe(&given);
        let in_sysroot = sysroot::lookup(&given, flags & AT_SYMLINK_NOFOLLOW == 0);
        elsewhere = own.is_some() || in_sysroot.is_some();
        let real = own.as_deref().or(in_sysroot.as_deref()).unwrap_or(&given);
        let nofollow = if flags & AT_SYMLINK_NOFOLLOW != 0 { O_NOFOLLOW } else { 0 };
        let file = match open(directory, real, nofollow) {
            // The file may be executed but not read: for a handler of binfmt_misc, the kernel can open it.
            Err(errno::EACCES) if own.is_none() => {
                return Err(match run_native(thread, directory, path, vectors, flags) {
                    errno::ENOEXEC => errno::EACCES,
                    other => other,
                });
            }
            result => result?,
        };
        let name = match given[0] {
            b'/' => given.clone(),
            _ if directory == AT_FDCWD => given.clone(),
            _ => [format!("/dev/fd/{directory}/").as_bytes(), &given].concat(),
        };
        (name, file)
    };
    // Read after the file is opened, as in the kernel since 6.9.
    let pointers = read_pointers(thread, vectors.guest_argv, vectors.word)?;
    match examine(file, &name)? {
        Kind::Native => Err(run_native(thread, directory, path, vectors, flags)),
        Kind::Guest { file, arguments, raises } => {
            // Only the kernel can give the file's rights, through a binfmt_misc handler with flag C. If we
            // can reach our executable neither through /proc nor by its path, such a handler may still find
            // it.
            let out_of_reach = own_executable::descriptor() < 0;
            let mut result = errno::ENOEXEC;
            // If the kernel executed the file, the task's system call filters would be lost.
            let is_filtered = seccomp::mode(thread) != 0;
            if (raises && !elsewhere || out_of_reach) && !is_filtered {
                result = run_native(thread, directory, path, vectors, flags);
            }
            if result == errno::ENOEXEC && !out_of_reach {
                result = run_guest(thread, &file, &name, &arguments, &pointers, vectors.envp);
            }
            Err(result)
        }
    }
}

/// The pointers of an array that ends with a null pointer, as the host knows them; a null `array` is an empty
/// one.
fn read_pointers(thread: &Thread, array: u64, word: u64) -> Result<Vec<u64>, Errno> {
    let mut pointers = Vec::new();
    if array == 0 {
        return Ok(pointers);
    }
    loop {
        match guest::read_pointer(array.wrapping_add(word * pointers.len() as u64), word)? {
            0 => return Ok(pointers),
            pointer if thread.has_other_addresses() => pointers.push(region::host_address(pointer)),
            pointer => pointers.push(pointer),
        }
    }
}

/// Lets the kernel execute a file. Returns only on error.
fn run_native(thread: &Thread, directory: i32, path: u64, vectors: &Vectors, flags: u64) -> Errno {
    prepare_exec(thread, false);
    let result = execute(directory, path, vectors.argv, vectors.envp, flags);
    prepare_exec(thread, true);
    result
}

/// Executes the emulator for a program of the guest. Returns only on error.
fn run_guest(thread: &Thread, file: &Fd, name: &[u8], script: &[Vec<u8>], argv: &[u64], envp: u64) -> Errno {
    let own = own_executable::descriptor();
    let (letters, texts) = options::get().encode();
    let filters = match seccomp::save(thread) {
        Ok(filters) => filters,
        Err(error) => return error,
    };
    let passed = filters.as_ref().map_or(String::new(), |filters| format!(".{}", filters.number()));
    let options = format!("{}{passed},{own},{letters}\0", file.number());
    let texts: Vec<Vec<u8>> = texts.iter().map(|text| [text, &b"\0"[..]].concat()).collect();
    let mark = format!("{MARK}\0");
    let mut pointers: Vec<*const u8> =
        alloc::vec![c"crossdock-emu".as_ptr().cast(), mark.as_ptr(), options.as_ptr()];
    pointers.extend(texts.iter().map(|text| text.as_ptr()));
    pointers.push(name.as_ptr());
    pointers.extend(script.iter().map(|text| text.as_ptr()));
    // A script's own argv[0] is replaced by its path.
    let skip = if script.is_empty() { 0 } else { 1 };
    pointers.extend(argv.iter().skip(skip).map(|&pointer| pointer as *const u8));
    pointers.push(core::ptr::null());

    prepare_exec(thread, false);
    own_executable::pass_on(file.number(), true);
    // Passed on, since the guest's root may have no /proc to open the executable again.
    own_executable::pass_on(own, true);
    let empty = c"".as_ptr() as u64;
    let result = execute(own, empty, pointers.as_ptr() as u64, envp, AT_EMPTY_PATH);
    own_executable::pass_on(own, false);
    prepare_exec(thread, true);
    result
}

/// Decides how an open file is executed, following `#!` as the kernel does (Linux, fs/binfmt_script.c).
fn examine(mut file: Fd, name: &[u8]) -> Result<Kind, Errno> {
    let mut arguments: Vec<Vec<u8>> = Vec::new();
    let mut name = name.to_vec();
    for _ in 0..6 {
        match look(file.number())? {
            Look::Guest { raises } => return Ok(Kind::Guest { file, arguments, raises }),
            // The kernel follows a script itself.
            Look::Native => return Ok(Kind::Native),
            Look::Script { interpreter, argument } => {
                let mut next = alloc::vec![interpreter.clone()];
                next.extend(argument);
                next.push(name);
                // The path that the script was called by replaces its name in the longer list.
                next.extend(arguments.into_iter().skip(1));
                arguments = next;
                name = interpreter;
                let real = sysroot::lookup(&name, true);
                file = open(AT_FDCWD, real.as_deref().unwrap_or(&name), 0)?;
            }
        }
    }
    Err(errno::ELOOP)
}

enum Look {
    Guest { raises: bool },
    Native,
    Script { interpreter: Vec<u8>, argument: Option<Vec<u8>> },
}

fn look(descriptor: i32) -> Result<Look, Errno> {
    const S_IFMT: u32 = 0o170_000;
    const S_IFREG: u32 = 0o100_000;
    const X_OK: u64 = 1;
    let status = file::status(descriptor)?;
    if status.mode & S_IFMT != S_IFREG {
        return Err(errno::EACCES);
    }
    if file::may(descriptor, X_OK) == Err(errno::EACCES) || status.mode & 0o111 == 0 {
        return Err(errno::EACCES);
    }
    let mut start = [0u8; elf::START];
    let length = file::read_at(descriptor, &mut start, 0)?;
    let start = &start[..length];
    if elf::machine(start).is_some() {
        let elf = Elf::from_start(descriptor, start)?;
        if let Some(path) = elf.interpreter(descriptor)? {
            let path = sysroot::lookup(&path, true).unwrap_or(path);
            let loader = open(AT_FDCWD, &path, 0)?;
            let found = Elf::read(loader.number());
            if found.map_err(|_| errno::ELIBBAD)?.machine != elf.machine {
                return Err(errno::ELIBBAD);
            }
        }
        return Ok(Look::Guest { raises: raises_rights(descriptor, &status) });
    }
    // The kernel reads 256 bytes (BINPRM_BUF_SIZE).
    match start[..length.min(256)].strip_prefix(b"#!") {
        Some(line) => script_line(line),
        None => Ok(Look::Native),
    }
}

/// Whether executing a file gives other rights than the caller's: by its setuid or setgid bit, or by
/// capabilities, which root has anyway (execve(2), capabilities(7)).
fn raises_rights(descriptor: i32, status: &Status) -> bool {
    const S_ISUID: u32 = 0o4000;
    const S_ISGID_AND_EXECUTABLE: u32 = 0o2010;
    let Status { mode, user, group, .. } = *status;
    let (own_user, own_group) = sys::process::effective_ids();
    mode & S_ISUID != 0 && user != own_user
        || mode & S_ISGID_AND_EXECUTABLE == S_ISGID_AND_EXECUTABLE && group != own_group
        || own_user != 0 && file::has_attribute(descriptor, c"security.capability")
}

/// Splits the line after `#!`: the interpreter, and the rest as one argument.
fn script_line(line: &[u8]) -> Result<Look, Errno> {
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
pub fn open_program(path: &[u8], arguments: &mut Vec<Vec<u8>>) -> Result<i32, Errno> {
    match examine(open(AT_FDCWD, path, 0)?, path)? {
        Kind::Native => Err(errno::ENOEXEC),
        Kind::Guest { file, arguments: script, .. } => {
            if !script.is_empty() {
                let without_nul = |mut text: Vec<u8>| {
                    text.pop();
                    text
                };
                let rest = arguments.split_off(1);
                *arguments = script.into_iter().map(without_nul).chain(rest).collect();
            }
            Ok(file.into_number())
        }
    }
}

/// Why the program at `path` is not run, if it is for a CPU that the emulator knows.
pub fn refusal(path: &str) -> Option<&'static str> {
    let file = open(AT_FDCWD, format!("{path}\0").as_bytes(), 0).ok()?;
    let mut start = [0; 64];
    let length = file::read_at(file.number(), &mut start, 0).ok()?;
    elf::refusal(&start[..length])
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
