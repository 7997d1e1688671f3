//! What a process ran that no image had: written at its end, for [`super::compile`].

use super::file::FileId;
use super::mapped::{self, Mapping};
use super::store;
use crate::maps;
use crate::options;
use crate::sys;
use crate::sys::file::{self, AT_FDCWD, Fd};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use crossdock_emu_jit::image::format::{self, Profile};

/// Most bytes of a report.
const LENGTH_MAX: usize = 4 << 20;
/// Reports of the same file at a time; a process writes none if its place is taken.
const PLACES: u32 = 4;
/// Fewer blocks than this, of all files, are not worth a report.
const FEW: usize = 8;

const MAGIC: &[u8; 8] = b"CDEMURPT";
const HEADER: usize = 8 + 32 + 56 + 16;

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The emulator's version, guest and features.
    pub(crate) version: [u8; 32],
    /// The guest file.
    pub(crate) file: FileId,
    /// Its path in the guest, without NUL.
    pub(crate) path: Vec<u8>,
    /// Blocks that ran.
    pub(crate) profile: Profile,
}

impl Report {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version);
        bytes.extend(self.file.bytes());
        let (hot, cold) = (&self.profile.hot, &self.profile.cold);
        let length = HEADER + self.path.len() + 4 * (hot.len() + cold.len()) + 8;
        for number in [length, self.path.len(), hot.len(), cold.len()] {
            bytes.extend((number as u32).to_le_bytes());
        }
        bytes.extend(&self.path);
        bytes.extend(hot.iter().chain(cold).flat_map(|place| place.to_le_bytes()));
        let sum = format::checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Report> {
        let dword = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let [length, path, hot, cold] = [0, 4, 8, 12].map(|at| dword(HEADER - 16 + at));
        let (path, hot, cold) = (path? as usize, hot? as usize, cold? as usize);
        let needed = HEADER + path + 4 * (hot.checked_add(cold)?) + 8;
        if bytes.get(..8)? != MAGIC || length? as usize != bytes.len() || needed != bytes.len() {
            return None;
        }
        let (content, sum) = bytes.split_at(bytes.len() - 8);
        if format::checksum(content).to_le_bytes() != sum {
            return None;
        }
        let mut version = [0; 32];
        version.copy_from_slice(&bytes[8..40]);
        let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let file = FileId(core::array::from_fn(|i| word(40 + 8 * i)));
        let places = HEADER + path;
        let numbers = |range: Range<usize>| {
            let places = bytes[range].as_chunks::<4>().0.iter();
            places.map(|&place| u32::from_le_bytes(place)).collect::<Vec<u32>>()
        };
        let profile = Profile {
            hot: numbers(places..places + 4 * hot),
            cold: numbers(places + 4 * hot..places + 4 * (hot + cold)),
        };
        Some(Report { version, file, path: bytes[HEADER..HEADER + path].to_vec(), profile })
    }

    /// Reads a report from an open file, which may be anything.
    pub(crate) fn read(file: &Fd) -> Option<Report> {
        let status = file::raw_status(file.number()).ok().filter(|status| status.is_regular())?;
        let length = usize::try_from(status.size()).ok().filter(|&length| length <= LENGTH_MAX)?;
        let mut bytes = alloc::vec![0; length];
        let read = file::read_at(file.number(), &mut bytes, 0).ok()?;
        Report::from_bytes(&bytes[..read])
    }
}

/// What a process knows about the code that it has run.
pub(crate) trait Ran {
    /// How many blocks have been decoded, as far as no image had them.
    fn decoded(&self) -> usize;
    /// The blocks in a range of addresses, by their offsets from `base`.
    fn profile(&self, range: &Range<u64>, base: u64) -> Profile;
}

/// Reports what no image had. Returns the user's folder if anything was reported there.
pub(crate) fn write(ran: &impl Ran) -> Option<String> {
    if options::get().check {
        // The interpreter has decoded all blocks.
        return None;
    }
    let mut images = mapped::hold();
    if ran.decoded() < images.reported() + FEW {
        return None;
    }
    let places = images.places()?;
    // In a sandbox, where nobody looks at reports before its end, programs that ran about as much tell about
    // the same: one report of them is enough.
    let place = if places.is_sandbox { ran.decoded().ilog2() } else { sys::process_id() % PLACES };
    let (mut reported, mut files) = (false, None);
    for mapping in images.mappings() {
        let is_empty = |profile: &Profile| profile.hot.is_empty() && profile.cold.is_empty();
        // Somebody else may have reported just now: that is quicker to see than what there is to report.
        let folder = &places.reports;
        let name = format!("{folder}/{}-{place}\0", store::entry_name(&mapping.file));
        let Some(new) = create(folder, &name, places.is_sandbox) else { continue };
        let profile = unknown(ran, mapping);
        if is_empty(&profile) {
            // In a sandbox the empty file tells others that there was nothing to report of late.
            if !places.is_sandbox {
                let _ = file::remove(name.as_bytes());
            }
            continue;
        }
        let files: &Vec<(Range<u64>, String)> = files.get_or_insert_with(maps::files);
        let Some((_, path)) = files.iter().find(|(range, _)| range.contains(&mapping.range.start)) else {
            let _ = file::remove(name.as_bytes());
            continue;
        };
        let path = path.clone().into_bytes();
        let report = Report { version: *images.version(), file: mapping.file, path, profile };
        if file::write_all(new.number(), &report.bytes()).is_err() {
            let _ = file::remove(name.as_bytes());
        }
        reported = true;
    }
    let folder = (reported && !places.is_sandbox).then(|| places.images.first().cloned().unwrap_or_default());
    // The process goes on if it executes a program that is not there.
    images.set_reported(ran.decoded());
    folder
}

/// Makes the file of a report; `None` if its place is taken.
fn create(folder: &str, name: &str, is_sandbox: bool) -> Option<Fd> {
    const O_WRONLY_CREAT_EXCL: u64 = 0o1 | 0o100 | 0o200;
    let open = || file::open_mode(AT_FDCWD, name.as_bytes(), O_WRONLY_CREAT_EXCL, 0o600);
    match open() {
        Err(sys::errno::ENOENT) if !is_sandbox => {
            let _ = file::make_folder(format!("{folder}\0").as_bytes(), 0o755);
            open().ok()
        }
        result => result.ok(),
    }
}

/// The blocks of a mapping that ran and that nobody has reported before.
fn unknown(ran: &impl Ran, mapping: &Mapping) -> Profile {
    let mut profile = ran.profile(&mapping.range, mapping.base);
    let known = mapping.known.map(|image| image.profile()).unwrap_or_default();
    let mut all: Vec<u32> = known.hot.into_iter().chain(known.cold).collect();
    all.sort_unstable();
    let is_new = |place: &u32| all.binary_search(place).is_err();
    profile.hot.retain(is_new);
    profile.cold.retain(is_new);
    profile.cold.sort_unstable();
    profile.cold.dedup();
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_back_and_no_other_bytes_do() {
        let profile = Profile { hot: alloc::vec![4, 8], cold: alloc::vec![12] };
        let file = FileId([1, 2, 3, 4, 5, 6, 7]);
        let report = Report { version: [3; 32], file, path: b"/bin/x".to_vec(), profile };
        let bytes = report.bytes();
        assert_eq!(Report::from_bytes(&bytes), Some(report));
        for end in 0..bytes.len() {
            assert_eq!(Report::from_bytes(&bytes[..end]), None, "{end} bytes");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            assert_eq!(Report::from_bytes(&damaged), None, "byte {at}");
        }
    }
}
