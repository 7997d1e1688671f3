//! The guest's mappings of files with code, and the images attached to them.

use super::file::{self as files, FileId};
use super::store::{self, Entry, Places};
use crate::code;
use crate::lock::{self, Held, Lock};
use crate::options::{self, Log};
use crate::sys;
use crate::sys::file::Fd;
use crate::sys::memory::{
    self, MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PAGE, PROT_READ_WRITE_EXECUTE,
};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use crossdock_emu_jit::Jit;
use crossdock_emu_jit::image::format::{self, Image};

/// A mapping of a file with code.
pub(crate) struct Mapping {
    /// The guest's addresses.
    pub(crate) range: Range<u64>,
    /// The address that the file's offset 0 has.
    pub(crate) base: u64,
    /// The file.
    pub(crate) file: FileId,
    /// Its image, which knows of which blocks it was made.
    pub(crate) known: Option<Image<'static>>,
}

/// The images of this process.
pub(crate) struct Images {
    /// Whether the rest is known.
    is_ready: bool,
    /// The folders of this version.
    folders: Vec<String>,
    /// Where the process finds images.
    places: Option<Places>,
    version: [u8; 32],
    mappings: Vec<Mapping>,
    /// How many blocks need no report.
    reported: usize,
    /// Mappings from before the translator: range, base, file.
    early: Vec<(Range<u64>, u64, FileId)>,
}

static IMAGES: Lock<Images> = lock::new(Images {
    is_ready: false,
    folders: Vec::new(),
    places: None,
    version: [0; 32],
    mappings: Vec::new(),
    reported: 0,
    early: Vec::new(),
});

/// Keeps the list consistent, for a fork.
pub(crate) fn hold() -> Held<'static, Images> {
    IMAGES.lock()
}

/// The guest has mapped a part of a file, from `offset` on, privately, to be executed and not written.
pub(crate) fn add(range: Range<u64>, descriptor: i32, offset: u64) {
    let mut images = IMAGES.lock();
    if images.is_ready && images.places.is_none() {
        return;
    }
    let Some(id) = FileId::of(descriptor) else { return };
    let base = range.start.wrapping_sub(offset);
    images.cut(&range);
    match code::present() {
        Some(jit) if images.is_ready => images.attach(jit, range, base, id),
        _ => images.early.push((range, base, id)),
    }
}

/// The guest has mapped something else there, or changed rights.
pub(crate) fn remove(range: &Range<u64>) {
    IMAGES.lock().cut(range);
}

/// The translator is there: attaches the images of what has been mapped before.
pub(crate) fn begin(jit: &'static Jit, guest: u16) {
    let mut images = IMAGES.lock();
    if core::mem::replace(&mut images.is_ready, true) {
        return;
    }
    let early = core::mem::take(&mut images.early);
    let Some(places) = store::places() else { return };
    let Some(version) = files::version(guest, jit.features()) else { return };
    images.folders = places.images.iter().map(|folder| store::folder_of(folder, &version)).collect();
    if images.folders.len() > 1 {
        // Few layers have images, and each file would be looked for in all.
        images.folders.retain(|folder| store::is_trusted_folder(folder));
    }
    images.version = version;
    images.places = Some(places);
    for (range, base, id) in early {
        images.attach(jit, range, base, id);
    }
}

impl Images {
    /// Takes a range out of the mappings.
    fn cut(&mut self, gone: &Range<u64>) {
        let mut right = Vec::new();
        for mapping in &mut self.mappings {
            let Range { start, end } = mapping.range;
            if end <= gone.start || start >= gone.end {
                continue;
            }
            if gone.end < end {
                right.push(Mapping { range: gone.end..end, ..*mapping });
            }
            mapping.range = start..gone.start.max(start);
        }
        self.mappings.append(&mut right);
        self.mappings.retain(|mapping| !mapping.range.is_empty());
    }

    fn attach(&mut self, jit: &'static Jit, range: Range<u64>, base: u64, mut file: FileId) {
        if self.places.as_ref().is_some_and(|places| places.is_sandbox) {
            file = file.in_layers();
        }
        let mut known = None;
        for folder in &self.folders {
            let found = store::entry(folder, &file);
            match found.and_then(|entry| self.map(jit, folder, &range, base, &entry)) {
                Ok(image) => {
                    known = Some(image);
                    break;
                }
                Err("") => {}
                Err(reason) if options::get().log >= Log::Refused => {
                    let name = store::entry_name(&file);
                    sys::complain(&format!("crossdock-emu: the image of {name} is not used: {reason}\n"));
                }
                Err(_) => {}
            }
        }
        self.mappings.push(Mapping { range, base, file, known });
    }

    /// Where the process finds images.
    pub(crate) fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    pub(crate) fn version(&self) -> &[u8; 32] {
        &self.version
    }

    pub(crate) fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// How many of the blocks that the process has decoded have been reported, or are by its parent.
    pub(crate) fn reported(&self) -> usize {
        self.reported
    }

    /// Sets [`Images::reported`].
    pub(crate) fn set_reported(&mut self, decoded: usize) {
        self.reported = decoded;
    }

    /// Maps an image and attaches it.
    fn map(
        &self,
        jit: &'static Jit,
        folder: &str,
        range: &Range<u64>,
        base: u64,
        entry: &Entry,
    ) -> Result<Image<'static>, &'static str> {
        let (image, status, is_as_written) = store::open_image(folder, entry)?;
        let length = status.size();
        let too_long = length < PAGE || length > format::LENGTH_MAX as u64;
        if too_long {
            return Err("it is cut off");
        }
        let at = jit.image_room(length).ok_or("there is no room for it")?;
        map_at(&image, at, length)?;
        let result = self.check(at, length, is_as_written, range, base, entry);
        match result {
            // SAFETY: the image lies there. It was made of this file's code: its entry, which only the maker
            // of images writes, says so.
            Ok(image) => unsafe { jit.attach(at, image, base) },
            Err(_) => give_back(at, length),
        }
        result
    }

    /// The image that has been mapped at `at`, if it is one of the mapped file.
    fn check(
        &self,
        at: u64,
        length: u64,
        is_as_written: bool,
        range: &Range<u64>,
        base: u64,
        entry: &Entry,
    ) -> Result<Image<'static>, &'static str> {
        // SAFETY: the file has just been mapped here, and stays if it is attached. Its words are written
        // before any code of it is run, and its tables never. Nobody else can write to the file.
        let bytes = unsafe { core::slice::from_raw_parts(at as *const u8, length as usize) };
        if !is_as_written && !format::is_whole(bytes) {
            return Err("it is damaged");
        }
        let image = Image::open(bytes, &self.version)?;
        if format::identity(bytes).is_none_or(|identity| identity.text != entry.text) {
            return Err("it is another file's");
        }
        let (start, end) = image.text();
        let (start, end) = (base.wrapping_add(start.into()), base.wrapping_add(end.into()));
        // What is mapped of the file's code, up to the end of a page.
        if start < range.start || end.next_multiple_of(PAGE) > range.end.next_multiple_of(PAGE) {
            return Err("the program maps a part of its file only");
        }
        Ok(image)
    }
}

/// In the child of a fork: its parent reports what has been decoded up to here.
pub(crate) fn forked(decoded: usize) {
    IMAGES.lock().reported = decoded;
}

/// Makes the memory of an image that was not attached empty again.
fn give_back(at: u64, length: u64) {
    let flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: nothing refers to what was mapped there.
    let _ = unsafe { memory::map([at, length, PROT_READ_WRITE_EXECUTE, flags, u64::MAX, 0]) };
}

/// Maps an image over a part of the memory for translated code.
fn map_at(image: &Fd, at: u64, length: u64) -> Result<(), &'static str> {
    let descriptor = image.number() as u64;
    // SAFETY: `Jit::image_room` said that nothing is there.
    let got =
        unsafe { memory::map([at, length, PROT_READ_WRITE_EXECUTE, MAP_PRIVATE | MAP_FIXED, descriptor, 0]) };
    got.map(drop).map_err(|_| "it cannot be mapped")
}
