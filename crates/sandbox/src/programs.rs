//! Programs of this machine: where they are, and whether they need a loader.

#![expect(clippy::disallowed_methods, reason = "files of the host")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Directories that are searched after `PATH`.
const DIRECTORIES: &[&str] =
    &["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/libexec/qemu-binfmt"];

/// Finds an executable in `PATH` or in the usual directories, which an ordinary user's `PATH` may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .chain(DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file())
}

/// Whether an ELF executable needs no dynamic loader (has no `PT_INTERP`).
pub(crate) fn is_static(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(4096).read_to_end(&mut head)?;
    let half = |at: usize| head.get(at..at + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let word = |at: usize| head.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Err(std::io::Error::other("not a 64-bit ELF executable"));
    }
    // Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56. Elf64_Phdr begins with p_type; PT_INTERP
    // is 3.
    let (offset, size, count) = (word(32) as usize, half(54), half(56));
    Ok((0..count).all(|n| word(offset.saturating_add(n * size)) != 3))
}
