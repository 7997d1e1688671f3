//! `-L DIR`: files of a directory hide the host's files of the same path.

use crate::options;
use crate::sys::file::{self, AT_FDCWD};
use alloc::vec::Vec;

const O_PATH: u64 = 0o10_000_000;
const O_NOFOLLOW: u64 = 0o400_000;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// Directories that are always the host's: their files come from the kernel and from running programs.
const HOST: [&[u8]; 5] = [b"/proc", b"/sys", b"/dev", b"/run", b"/tmp"];

/// Makes a directory's path absolute; both paths without NUL.
pub fn absolute(directory: &[u8]) -> Option<Vec<u8>> {
    let path = [directory, b"\0"].concat();
    let descriptor = file::open(AT_FDCWD, &path, O_PATH | 0o200_000).ok()?;
    file::link_of(descriptor.number())
}

/// The path in the sysroot of this process that stands for `path`, if there is one; both paths with NUL.
pub(crate) fn lookup(path: &[u8], follow: bool) -> Option<Vec<u8>> {
    let sysroot = options::get().sysroot.as_slice();
    if sysroot.is_empty() || !is_redirected(path) {
        return None;
    }
    let directory = file::open(AT_FDCWD, &[sysroot, b"\0"].concat(), O_PATH).ok()?;
    let flags = O_PATH | if follow { 0 } else { O_NOFOLLOW };
    let found = file::open_below(directory.number(), path, flags, RESOLVE_IN_ROOT).ok()?;
    let real = file::link_of(found.number());
    real.map(|real| [&real, &b"\0"[..]].concat())
}

/// Whether a path, with NUL, is looked up in a sysroot at all.
fn is_redirected(path: &[u8]) -> bool {
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let below =
        |host: &&[u8]| path.strip_prefix(*host).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    path.first() == Some(&b'/') && path.iter().any(|&byte| byte != b'/') && !HOST.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_paths_stay() {
        for (path, redirected) in [
            (&b"/lib/x\0"[..], true),
            (b"/process\0", true),
            (b"/proc/self/maps\0", false),
            (b"/tmp\0", false),
            (b"//\0", false),
            (b"lib\0", false),
            (b"\0", false),
        ] {
            assert_eq!(is_redirected(path), redirected, "{path:?}");
        }
    }
}
