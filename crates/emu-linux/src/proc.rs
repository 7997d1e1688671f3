//! Files of /proc that would show the emulator or the host's CPU: this process's exe, maps, auxv and cmdline;
//! cpuinfo.

use crate::arch::Abi;
use crate::maps;
use crate::memory;
use crate::own_executable;
use crate::program;
use crate::region;
use crate::sys::file::{in_memory, read_all};
use crate::sys::{self, Errno, errno};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A file of /proc that the emulator answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The link to the program.
    Exe,
    /// Mappings.
    Maps,
    /// The auxiliary vector.
    Auxv,
    /// Arguments.
    Cmdline,
    /// CPUs.
    Cpuinfo,
}

/// The file that a path names.
pub fn file(path: &[u8]) -> Option<File> {
    let path = path.strip_suffix(&[0]).unwrap_or(path).strip_prefix(b"/proc/")?;
    if path == b"cpuinfo" {
        return Some(File::Cpuinfo);
    }
    let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
    let process = parts.next()?;
    if process != b"self"
        && process != b"thread-self"
        && process != format!("{}", sys::process_id()).as_bytes()
    {
        return None;
    }
    let mut name = parts.next()?;
    if name == b"task" {
        parts.next()?;
        name = parts.next()?;
    }
    let file = match name {
        b"exe" => File::Exe,
        b"maps" => File::Maps,
        b"auxv" if !program::get().described => File::Auxv,
        b"cmdline" if !program::get().described => File::Cmdline,
        _ => return None,
    };
    parts.next().is_none().then_some(file)
}

/// Whether a path is this process's link to its program.
pub fn is_own_exe(path: &[u8]) -> bool {
    file(path) == Some(File::Exe)
}

/// The program's path, with NUL, if `path` is the exe link of this process or of another that an emulator
/// runs.
pub fn followed_exe(path: &[u8]) -> Option<Vec<u8>> {
    if is_own_exe(path) { Some(exe_path()) } else { exe_of_other(path) }
}

/// [`followed_exe`] for other processes: the file mapped at the address that their auxiliary vector gives for
/// the program headers.
fn exe_of_other(path: &[u8]) -> Option<Vec<u8>> {
    const AT_PHDR: u64 = 3;
    let path = path.strip_suffix(&[0]).unwrap_or(path);
    let directory = path.strip_suffix(b"/exe")?;
    let number = directory.strip_prefix(b"/proc/")?;
    if !number.first()?.is_ascii_digit() || !own_executable::is_emulator(&[path, b"\0"].concat()) {
        return None;
    }
    let auxiliary = read_all(&[directory, b"/auxv\0"].concat());
    // The words of a 32-bit program, taken for longer ones, are larger than any AT_ number.
    const LARGEST: u64 = 255;
    let words = |size: usize| auxiliary.chunks_exact(size).map(little_endian).collect::<Vec<_>>();
    let mut list = words(8);
    if list.first().is_some_and(|&kind| kind > LARGEST) {
        list = words(4);
    }
    let (pairs, _) = list.as_chunks::<2>();
    let [_, headers] = *pairs.iter().find(|pair| pair[0] == AT_PHDR)?;
    let maps = read_all(&[directory, b"/maps\0"].concat());
    let maps = String::from_utf8_lossy(&maps);
    let mut files = maps.lines().filter_map(maps::mapped_file);
    let (_, _, _, name) = files.find(|file| (file.0..file.1).contains(&headers))?;
    Some([name.as_bytes(), b"\0"].concat())
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// The program's path, with NUL.
pub fn exe_path() -> Vec<u8> {
    [&program::file(), &b"\0"[..]].concat()
}

/// Start of the link of a file of mappings that [`open`] has created.
pub(crate) const MAPS_LINK: &[u8] = b"/memfd:maps ";

/// Opens a file in memory with the content of `file`; EINVAL for the exe link.
pub fn open<A: Abi>(file: File, flags: u64) -> Result<i64, Errno> {
    const O_CLOEXEC: u64 = 0o2_000_000;
    let content = match file {
        File::Exe => return Err(errno::EINVAL),
        File::Maps => guest_maps(),
        File::Auxv => {
            let size = A::MACHINE.word() as usize;
            program::get()
                .auxiliary
                .iter()
                .flat_map(|word| word.to_le_bytes().into_iter().take(size))
                .collect()
        }
        File::Cmdline => {
            program::get().arguments.iter().flat_map(|text| [text, &b"\0"[..]].concat()).collect()
        }
        File::Cpuinfo => A::cpuinfo(sys::process::cpus()),
    };
    let close_on_exec = u64::from(flags & O_CLOEXEC != 0);
    let name = if file == File::Maps { c"maps" } else { c"proc" };
    in_memory(name, close_on_exec, &content).map(|file| i64::from(file.into_number()))
}

/// The kernel's name for a mapping without a file; empty if it has none.
pub(crate) fn name_of(start: u64, end: u64) -> &'static str {
    let stack = &program::get().stack;
    let heap = memory::range();
    if start >= stack.start && end <= stack.end {
        "[stack]"
    } else if start >= heap.start && end <= heap.end && start < end {
        "[heap]"
    } else if program::is_trampoline(start) {
        "[vdso]"
    } else {
        ""
    }
}

/// The mappings of the guest: without the emulator's, and with the kernel's names for stack, heap and vDSO.
fn guest_maps() -> Vec<u8> {
    let host = maps::host();
    let host = String::from_utf8_lossy(&host);
    let heap = memory::range();
    let mut text = String::new();
    for line in host.lines() {
        let Some((start, end, _)) = maps::parse(line) else { continue };
        if end > region::limit() || line.ends_with("[heap]") && !(heap.start..heap.end).contains(&start) {
            continue;
        }
        // The kernel itself may know the stack (PR_SET_MM_MAP).
        let name = if line.ends_with(']') { "" } else { name_of(start, end) };
        if region::is_stack_high() && (name == "[stack]" || line.ends_with("[stack]")) {
            let (start, end) = (start | region::ALIAS, end | region::ALIAS);
            text.push_str(&format!("{start:x}-{end:x}{}", &line[line.find(' ').unwrap_or(0)..]));
        } else {
            text.push_str(line);
        }
        if !name.is_empty() {
            while text.len() - text.rfind('\n').map_or(0, |at| at + 1) < 73 {
                text.push(' ');
            }
            text.push_str(name);
        }
        text.push('\n');
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_files() {
        assert_eq!(file(b"/proc/self/exe\0"), Some(File::Exe));
        assert_eq!(file(b"/proc/self/task/1/maps"), Some(File::Maps));
        assert_eq!(file(b"/proc/cpuinfo"), Some(File::Cpuinfo));
        assert_eq!(file(format!("/proc/{}/cmdline", sys::process_id()).as_bytes()), Some(File::Cmdline));
        assert_eq!(file(b"/proc/self/exe/x"), None);
        assert_eq!(file(b"/proc/1/maps").is_some(), sys::process_id() == 1);
    }
}
