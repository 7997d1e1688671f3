//! Files of /proc that would show the emulator or the host's CPU: this process's exe, maps, auxv and cmdline;
//! cpuinfo.

use crate::exec;
use crate::program;
use crate::region;
use crate::sys::nr;
use crate::syscall;
use crate::task;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use crossdock_emu_guest::a64::features;

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
        && process != format!("{}", task::process_id()).as_bytes()
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
    if !number.first()?.is_ascii_digit() || !exec::is_emulator(&[path, b"\0"].concat()) {
        return None;
    }
    let auxiliary = read_all(&[directory, b"/auxv\0"].concat());
    let (pairs, _) = auxiliary.as_chunks::<16>();
    let word = |pair: &[u8; 16], at: usize| pair[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let headers = pairs.iter().find(|pair| word(pair, 0) == AT_PHDR).map(|pair| word(pair, 8))?;
    let maps = read_all(&[directory, b"/maps\0"].concat());
    let maps = String::from_utf8_lossy(&maps);
    let mut files = maps.lines().filter_map(mapped_file);
    let (_, _, _, name) = files.find(|file| (file.0..file.1).contains(&headers))?;
    Some([name.as_bytes(), b"\0"].concat())
}

/// The program's path, with NUL.
pub fn exe_path() -> Vec<u8> {
    [&program::get().file, &b"\0"[..]].concat()
}

/// Start of the link of a file of mappings that [`open`] has created.
pub(crate) const MAPS_LINK: &[u8] = b"/memfd:maps ";

/// Opens a file in memory with the content of `file`; EINVAL for the exe link.
pub fn open(file: File, flags: u64) -> Result<i64, i64> {
    const O_CLOEXEC: u64 = 0o2_000_000;
    let content = match file {
        File::Exe => return Err(crate::sys::errno::EINVAL),
        File::Maps => maps(),
        File::Auxv => program::get().auxiliary.iter().flat_map(|word| word.to_le_bytes()).collect(),
        File::Cmdline => {
            program::get().arguments.iter().flat_map(|text| [text, &b"\0"[..]].concat()).collect()
        }
        File::Cpuinfo => cpuinfo(),
    };
    let close_on_exec = u64::from(flags & O_CLOEXEC != 0);
    // SAFETY: the name ends with NUL; writes read the vector.
    unsafe {
        let name = if file == File::Maps { c"maps" } else { c"proc" };
        let descriptor = syscall!(nr::MEMFD_CREATE, name.as_ptr(), close_on_exec);
        if descriptor < 0 {
            return Err(descriptor);
        }
        let mut done = 0;
        while done < content.len() {
            match syscall!(nr::WRITE, descriptor, content[done..].as_ptr(), content.len() - done) {
                count if count > 0 => done += count as usize,
                _ => break,
            }
        }
        syscall!(nr::LSEEK, descriptor, 0, 0);
        Ok(descriptor)
    }
}

fn read_all(path: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let Ok(descriptor) = exec::open(exec::AT_FDCWD, path, 0) else { return content };
    let mut piece = [0u8; 4096];
    loop {
        // SAFETY: the kernel writes into the array.
        let count = unsafe { syscall!(nr::READ, descriptor, piece.as_mut_ptr(), piece.len()) };
        if count <= 0 {
            break;
        }
        content.extend_from_slice(&piece[..count as usize]);
    }
    // SAFETY: our own descriptor.
    unsafe { syscall!(nr::CLOSE, descriptor) };
    content
}

/// A line of maps: start, end, and the rest.
fn parse(line: &str) -> Option<(u64, u64, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, rest))
}

/// The kernel's name for a mapping without a file; empty if it has none.
pub(crate) fn name_of(start: u64, end: u64) -> &'static str {
    let stack = &program::get().stack;
    let heap = crate::memory::range();
    if start >= stack.start && end <= stack.end {
        "[stack]"
    } else if start >= heap.start && end <= heap.end && start < end {
        "[heap]"
    } else if start == program::trampoline() {
        "[vdso]"
    } else {
        ""
    }
}

/// The mappings of the guest: without the emulator's, and with the kernel's names for stack, heap and vDSO.
fn maps() -> Vec<u8> {
    let host = read_all(b"/proc/self/maps\0");
    let host = String::from_utf8_lossy(&host);
    let heap = crate::memory::range();
    let mut text = String::new();
    for line in host.lines() {
        let Some((start, end, _)) = parse(line) else { continue };
        if end > region::limit() || line.ends_with("[heap]") && !(heap.start..heap.end).contains(&start) {
            continue;
        }
        let name = if line.ends_with(']') { "" } else { name_of(start, end) };
        text.push_str(line);
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

/// A mapping of this process.
pub(crate) struct Mapping {
    pub(crate) range: Range<u64>,
    pub(crate) is_executable: bool,
}

/// The mapping around an address. Without /proc, every page counts as an executable mapping.
pub(crate) fn mapping(address: u64) -> Option<Mapping> {
    let maps = read_all(b"/proc/self/maps\0");
    if maps.is_empty() {
        let start = address & !0xfff;
        return Some(Mapping { range: start..start + 0x1000, is_executable: true });
    }
    let maps = String::from_utf8_lossy(&maps);
    let mut found = maps.lines().filter_map(|line| {
        let (start, end, rest) = parse(line)?;
        Some(Mapping { range: start..end, is_executable: rest.as_bytes().get(2) == Some(&b'x') })
    });
    found.find(|mapping| mapping.range.contains(&address))
}

/// The guest's mappings.
pub(crate) fn mappings() -> Vec<Range<u64>> {
    let maps = read_all(b"/proc/self/maps\0");
    let maps = String::from_utf8_lossy(&maps);
    let all = maps.lines().filter_map(parse).map(|(start, end, _)| start..end);
    all.filter(|range| range.end <= region::limit()).collect()
}

/// The mapped files, as of the last look-up.
#[derive(Debug)]
pub struct Places {
    /// Start, end, offset, name.
    files: Vec<(u64, u64, u64, String)>,
    /// Head of the log of code changes at that time.
    head: u64,
}

impl Places {
    /// Nothing is known yet.
    pub const NONE: Places = Places { files: Vec::new(), head: u64::MAX };

    /// [`place`], without reading /proc each time.
    pub fn place(&mut self, address: u64) -> String {
        let head = task::CHANGES.head();
        let known = |files: &[(u64, u64, u64, String)]| {
            files.iter().find(|file| (file.0..file.1).contains(&address)).map(|(start, _, offset, name)| {
                format!("{address:#x} ({name}+{:#x})", address - start + offset)
            })
        };
        if self.head == head
            && let Some(text) = known(&self.files)
        {
            return text;
        }
        let maps = read_all(b"/proc/self/maps\0");
        let maps = String::from_utf8_lossy(&maps);
        self.head = head;
        self.files = maps.lines().filter_map(mapped_file).collect();
        known(&self.files).unwrap_or_else(|| format!("{address:#x}"))
    }
}

/// Start, end, offset and name from a line of maps, if it is a file's.
fn mapped_file(line: &str) -> Option<(u64, u64, u64, String)> {
    let (start, end, rest) = parse(line)?;
    let offset = u64::from_str_radix(rest.split(' ').nth(1)?, 16).ok()?;
    // No field before the name has a slash.
    Some((start, end, offset, rest[rest.find('/')?..].into()))
}

/// The file mapped at an address, and the offset in it.
pub fn file_at(address: u64) -> Option<(Vec<u8>, u64)> {
    let host = read_all(b"/proc/self/maps\0");
    let host = String::from_utf8_lossy(&host);
    let mut files = host.lines().filter_map(mapped_file);
    let (start, _, offset, name) = files.find(|file| (file.0..file.1).contains(&address))?;
    Some((name.into_bytes(), address - start + offset))
}

/// An address as text, with its file and the offset in it if a file is mapped there.
pub fn place(address: u64) -> String {
    match file_at(address) {
        Some((file, offset)) => format!("{address:#x} ({}+{offset:#x})", String::from_utf8_lossy(&file)),
        None => format!("{address:#x}"),
    }
}

fn cpuinfo() -> Vec<u8> {
    let mut set = [0u64; 128];
    // SAFETY: the kernel writes into the array. sched_getaffinity.
    let length = unsafe { syscall!(204, 0, core::mem::size_of_val(&set), set.as_mut_ptr()) };
    let count = if length > 0 { set.iter().map(|word| word.count_ones()).sum() } else { 1 };
    let midr = features::MIDR_EL1;
    let mut text = String::new();
    for number in 0..count {
        text.push_str(&format!(
            "processor\t: {number}\nBogoMIPS\t: 100.00\nFeatures\t: {}\nCPU implementer\t: {:#04x}\n\
             CPU architecture: 8\nCPU variant\t: {:#x}\nCPU part\t: {:#05x}\nCPU revision\t: {}\n\n",
            features::CPUINFO_FEATURES,
            midr >> 24 & 0xff,
            midr >> 20 & 0xf,
            midr >> 4 & 0xfff,
            midr & 0xf
        ));
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
        assert_eq!(file(format!("/proc/{}/cmdline", task::process_id()).as_bytes()), Some(File::Cmdline));
        assert_eq!(file(b"/proc/self/exe/x"), None);
        assert_eq!(file(b"/proc/1/maps").is_some(), task::process_id() == 1);
    }

    #[test]
    fn reads_lines_of_maps() {
        let line = "1000-2000 r-xp 00003000 08:01 1        /x y";
        assert_eq!(mapped_file(line), Some((0x1000, 0x2000, 0x3000, "/x y".into())));
        assert_eq!(mapped_file("1000-2000 r-xp 00000000 00:00 0 "), None);
        assert_eq!(parse("1000-2000 r-xp 0 0:0 1 /x"), Some((0x1000, 0x2000, "r-xp 0 0:0 1 /x")));
    }
}
