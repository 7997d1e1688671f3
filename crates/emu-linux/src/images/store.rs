//! The folder with images.
//!
//! ```text
//! FOLDER/layers/LAYER/VERSION/    as below, for the files of one layer of a store
//! FOLDER/VERSION/                 a hash of the emulator's build, the guest, the host's features
//!     DEVICE-INODE-HASH           which image a guest file has, see [`Entry`]
//!     DIGEST-CHECKSUM.image       an image: of the guest's code with this digest
//! FOLDER/reports/                 what processes ran that no image had
//! FOLDER/lock                     held by the process that makes images
//! ```
//!
//! Files appear by rename and never change. Whoever opens one believes it only if it belongs to the caller or
//! to root, and nobody else may write to it.

use super::file::FileId;
use crate::options;
use crate::sys::file::{self, AT_FDCWD, Fd, RawStatus};
use crate::sys::{self, Errno};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use crossdock_emu_jit::image::format;

/// What a sandbox mounts: folders 0, 1, ... with images of its layers, read-only, and one for reports, gone
/// with the sandbox.
const OF_SANDBOX: &str = "/dev/.crossdock/images";
const REPORTS_OF_SANDBOX: &str = "/dev/.crossdock/reports";
/// Where there is a sandbox, the environment of a guest does not choose a folder.
const SANDBOX: &str = "/dev/.crossdock";

/// Where a process finds images.
pub(crate) struct Places {
    /// The folders with images, in the order in which they are asked.
    pub(crate) images: Vec<String>,
    /// The folder for reports.
    pub(crate) reports: String,
    /// Whether the files of guests are the layers of a store, so that their device does not count.
    pub(crate) is_sandbox: bool,
}

const O_NOFOLLOW: u64 = 0o400_000;

/// The places of this process: those of the sandbox, or the folder that the user names; `None` if there is
/// none.
pub(crate) fn places() -> Option<Places> {
    let options = options::get();
    if options.interpret || options.trace_blocks {
        return None;
    }
    if is_trusted_folder(SANDBOX) {
        if !is_trusted_folder(OF_SANDBOX) {
            return None;
        }
        let folders = (0..).map(|number| format!("{OF_SANDBOX}/{number}"));
        let images = folders.take_while(|folder| is_trusted_folder(folder)).collect();
        return Some(Places { images, reports: String::from(REPORTS_OF_SANDBOX), is_sandbox: true });
    }
    if options.cache.is_empty() {
        return None;
    }
    let images = String::from_utf8(options.cache.clone()).ok()?;
    let reports = format!("{images}/{REPORTS}");
    is_trusted_folder(&images).then(|| Places { images: vec![images], reports, is_sandbox: false })
}

/// The name of the folder with those of layers.
pub(crate) const LAYERS: &str = "layers";
/// The folder with reports that sandboxes have left.
pub(crate) const PENDING: &str = "pending";

/// The name of the folder for reports in a user's folder.
pub(crate) const REPORTS: &str = "reports";

/// Whether a folder is there, and what is in it can be believed.
pub(crate) fn is_trusted_folder(path: &str) -> bool {
    const S_IFMT: u32 = 0o170_000;
    const S_IFDIR: u32 = 0o040_000;
    file::status_of(format!("{path}\0").as_bytes())
        .is_ok_and(|status| status.mode & S_IFMT == S_IFDIR && is_of_trusted(status.user, status.mode))
}

/// Whether only the caller or root may change a file.
pub(crate) fn is_trusted(status: &RawStatus) -> bool {
    is_of_trusted(status.user(), status.mode())
}

/// [`is_trusted`], of a file's owner and mode.
fn is_of_trusted(owner: u32, mode: u32) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    (owner == 0 || owner == sys::process::effective_ids().0) && mode & OTHERS_WRITE == 0
}

/// A hash for names of files that others do not choose.
pub(crate) fn name_of(bytes: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// The folder of a version.
pub(crate) fn folder_of(folder: &str, version: &[u8; 32]) -> String {
    format!("{folder}/{}", name_of(version))
}

/// Which image a guest file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The guest file.
    pub(crate) file: FileId,
    /// The digest of its code.
    pub(crate) text: [u8; 32],
    /// The image's checksum, which is a part of its name.
    pub(crate) checksum: u64,
    /// The image's size and time of its last change: as long as it has these, nobody has written to it.
    pub(crate) image: [u64; 3],
}

const MAGIC: &[u8; 8] = b"CDEMUIDX";
const LENGTH: usize = 8 + 56 + 32 + 8 + 24 + 8;

impl Entry {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.file.bytes());
        bytes.extend(self.text);
        bytes.extend(self.checksum.to_le_bytes());
        bytes.extend(self.image.iter().flat_map(|word| word.to_le_bytes()));
        let sum = format::checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; LENGTH]) -> Option<Entry> {
        let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        if &bytes[..8] != MAGIC || word(LENGTH - 8) != format::checksum(&bytes[..LENGTH - 8]) {
            return None;
        }
        let mut text = [0; 32];
        text.copy_from_slice(&bytes[64..96]);
        Some(Entry {
            file: FileId(core::array::from_fn(|i| word(8 + 8 * i))),
            text,
            checksum: word(96),
            image: core::array::from_fn(|i| word(104 + 8 * i)),
        })
    }

    /// The name of the image's file.
    pub(crate) fn image_name(&self) -> String {
        image_name(&self.text, self.checksum)
    }
}

/// The part of the names of all images of a file that says of which code they are.
pub(crate) fn text_name(text: &[u8; 32]) -> String {
    let mut name = String::new();
    for byte in &text[..16] {
        name += &format!("{byte:02x}");
    }
    name
}

/// The name of an image.
pub(crate) fn image_name(text: &[u8; 32], checksum: u64) -> String {
    format!("{}-{checksum:016x}.image", text_name(text))
}

/// The name of the entry of a guest file.
pub(crate) fn entry_name(file: &FileId) -> String {
    format!("{:x}-{:x}-{}", file.0[0], file.0[1], name_of(&file.bytes()))
}

/// The entry of a guest file in the folder of a version; the error says why it is none.
pub(crate) fn entry(folder: &str, id: &FileId) -> Result<Entry, &'static str> {
    let path = format!("{folder}/{}\0", entry_name(id));
    let Ok(found) = file::open(AT_FDCWD, path.as_bytes(), O_NOFOLLOW) else { return Err("") };
    if !file::raw_status(found.number()).is_ok_and(|status| status.is_regular() && is_trusted(&status)) {
        return Err("others may write to its entry");
    }
    let mut bytes = [0; LENGTH];
    if file::read_at(found.number(), &mut bytes, 0) != Ok(LENGTH) {
        return Err("its entry is cut off");
    }
    let entry = Entry::from_bytes(&bytes).ok_or("its entry is damaged")?;
    if entry.file != *id { Err("its entry is another file's") } else { Ok(entry) }
}

/// The entry of this name, whatever its file is; `None` if it is damaged.
pub(crate) fn entry_of_name(folder: &str, name: &str) -> Option<Entry> {
    let bytes = file::read_all(format!("{folder}/{name}\0").as_bytes());
    Entry::from_bytes(bytes.as_slice().try_into().ok()?)
}

/// Opens the image of an entry. Also returns whether it is as it was written: if not, its bytes are to be
/// checked.
pub(crate) fn open_image(folder: &str, entry: &Entry) -> Result<(Fd, RawStatus, bool), &'static str> {
    let path = format!("{folder}/{}\0", entry.image_name());
    let Ok(found) = file::open(AT_FDCWD, path.as_bytes(), O_NOFOLLOW) else { return Err("it has gone") };
    let status = file::raw_status(found.number()).map_err(|_| "it has no status")?;
    if !status.is_regular() || !is_trusted(&status) {
        return Err("others may write to it");
    }
    let is_as_written = image_stamp(&status) == entry.image;
    Ok((found, status, is_as_written))
}

/// What [`Entry::image`] holds.
pub(crate) fn image_stamp(status: &RawStatus) -> [u64; 3] {
    let [seconds, nanoseconds] = status.modified();
    [status.size(), seconds, nanoseconds]
}

/// Writes a file of this name and lets it appear whole. Returns its status.
pub(crate) fn publish(folder: &str, name: &str, content: &[u8]) -> Result<RawStatus, Errno> {
    const O_WRONLY_CREAT_EXCL: u64 = 0o1 | 0o100 | 0o200;
    let random = sys::memory::random::<1>()[0];
    let temporary = format!("{folder}/.{random:016x}\0");
    let written = file::open_mode(AT_FDCWD, temporary.as_bytes(), O_WRONLY_CREAT_EXCL | O_NOFOLLOW, 0o644)
        .and_then(|new| {
            file::write_all(new.number(), content)?;
            file::raw_status(new.number())
        })
        .and_then(|status| {
            file::rename(temporary.as_bytes(), format!("{folder}/{name}\0").as_bytes()).map(|()| status)
        });
    if written.is_err() {
        let _ = file::remove(temporary.as_bytes());
    }
    written
}

/// Publishes which image a guest file has.
pub(crate) fn publish_entry(folder: &str, entry: &Entry) -> Result<(), Errno> {
    publish(folder, &entry_name(&entry.file), &entry.bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_no_damaged_one_does() {
        let file = FileId([1, 2, 3, 4, 5, 6, 7]);
        let entry = Entry { file, text: [8; 32], checksum: 9, image: [10, 11, 12] };
        let bytes: [u8; LENGTH] = entry.bytes().try_into().expect("an entry");
        assert_eq!(Entry::from_bytes(&bytes), Some(entry));
        for bit in 0..8 * LENGTH {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::from_bytes(&damaged), None, "bit {bit}");
        }
    }
}
