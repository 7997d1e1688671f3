//! What identifies a guest file, and the build of the emulator.

use crate::region;
use crate::sys::file::{self, RawStatus};
use alloc::vec::Vec;
use core::ops::Range;
use sha2::{Digest, Sha256};

/// A guest file, as its status tells it from others: device, inode, size, time of the last change of the
/// content (seconds, nanoseconds), and of the last change of the inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) [u64; 7]);

impl FileId {
    /// The identity of an open file; `None` for what may change unseen: what is no regular file, or has no
    /// name any more.
    pub(crate) fn of(descriptor: i32) -> Option<FileId> {
        FileId::of_status(&file::raw_status(descriptor).ok()?)
    }

    pub(crate) fn of_status(status: &RawStatus) -> Option<FileId> {
        const SIZE_MAX: u64 = 1 << 31;
        let is_stable = status.is_regular() && status.links() > 0 && (1..SIZE_MAX).contains(&status.size());
        let ([modified, modified_ns], [changed, changed_ns]) = (status.modified(), status.changed());
        is_stable.then_some(FileId([
            status.device(),
            status.inode(),
            status.size(),
            modified,
            modified_ns,
            changed,
            changed_ns,
        ]))
    }

    /// The file as one of the layers of a store, which all have the same device.
    pub(crate) fn in_layers(mut self) -> FileId {
        self.0[0] = 0;
        self
    }

    /// All but the device, whose number may be another for each mount of the same file.
    pub(crate) fn without_device(&self) -> [u64; 6] {
        let [_, rest @ ..] = self.0;
        rest
    }

    /// When the inode was last changed: seconds and nanoseconds.
    pub(crate) fn changed(&self) -> [u64; 2] {
        [self.0[5], self.0[6]]
    }

    /// The identity as bytes.
    pub(crate) fn bytes(&self) -> [u8; 56] {
        let mut bytes = [0; 56];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *place = word.to_le_bytes();
        }
        bytes
    }
}

/// What makes translations differ for the same guest code: the build of the emulator (its build id), the
/// guest, and what the host's CPU has. `None` if the executable has no build id.
pub(crate) fn version(guest: u16, features: u32) -> Option<[u8; 32]> {
    let mut version = [0; 32];
    let id = build_id(region::executable_start())?;
    let length = id.len().min(20);
    version[..length].copy_from_slice(&id[..length]);
    version[24..26].copy_from_slice(&guest.to_le_bytes());
    version[28..].copy_from_slice(&features.to_le_bytes());
    Some(version)
}

/// The guest's machine and the features in a version.
pub(crate) fn of_version(version: &[u8; 32]) -> (u16, u32) {
    let features = [version[28], version[29], version[30], version[31]];
    (u16::from_le_bytes([version[24], version[25]]), u32::from_le_bytes(features))
}

/// NT_GNU_BUILD_ID in the notes of an executable for x86-64, of which these are the first bytes.
fn build_id(start: &[u8]) -> Option<&[u8]> {
    const PT_NOTE: u32 = 4;
    const NT_GNU_BUILD_ID: u32 = 3;
    const HEADER: usize = 56;
    let dword = |at: usize| start.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (headers, count) = (dword(32)? as usize, dword(56)? & 0xffff);
    for header in (0..count as usize).map(|n| headers + n * HEADER).filter(|&at| dword(at) == Some(PT_NOTE)) {
        let Some((at, length)) = dword(header + 8).zip(dword(header + 32)) else { continue };
        let (mut at, end) = (at as usize, (at + length) as usize);
        while at + 12 <= end {
            let (Some(name), Some(content), Some(kind)) = (dword(at), dword(at + 4), dword(at + 8)) else {
                break;
            };
            let content_at = at + 12 + (name as usize).next_multiple_of(4);
            if kind == NT_GNU_BUILD_ID && start.get(at + 12..at + 16) == Some(b"GNU\0") {
                return start.get(content_at..content_at + content as usize);
            }
            at = content_at + (content as usize).next_multiple_of(4);
        }
    }
    None
}

/// The bytes of a part of a file; `None` if the file has fewer.
pub(crate) fn read(descriptor: i32, part: &Range<u32>) -> Option<Vec<u8>> {
    let mut bytes = alloc::vec![0; part.len()];
    let length = file::read_at(descriptor, &mut bytes, part.start.into()).ok()?;
    (length == bytes.len()).then_some(bytes)
}

/// A digest of a file's code: of its bytes and of where they lie.
pub(crate) fn digest(text: &Range<u32>, bytes: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(text.start.to_le_bytes());
    digest.update(text.end.to_le_bytes());
    digest.update(bytes);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_is_found_in_the_notes() {
        let mut file = alloc::vec![0u8; 0x200];
        file[32] = 64;
        file[56] = 2;
        let header = 64 + HEADER_LENGTH;
        file[header] = 4;
        (file[header + 8], file[header + 32]) = (0xf0, 0x34);
        let note = [4u32, 2, 1, u32::from_le_bytes(*b"GNU\0"), 7, 4, 20, 3, u32::from_le_bytes(*b"GNU\0")];
        for (i, word) in note.iter().enumerate() {
            file[0xf0 + 4 * i..0xf4 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        file[0xf0 + 36..0xf0 + 56].fill(9);
        assert_eq!(build_id(&file), Some(&[9u8; 20][..]));
        assert_eq!(build_id(&file[..0x100]), None);
        assert_eq!(build_id(&[]), None);
    }

    const HEADER_LENGTH: usize = 56;
}
