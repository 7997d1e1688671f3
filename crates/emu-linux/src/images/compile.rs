//! Makes images of what processes have reported: a process of its own, which believes no report.
//!
//! A report says which file was run, and where blocks begin in it. The file is opened anew, must be the one
//! that the report means, and is read here: so a process can only make others run more of their own files'
//! code from images.

use super::file::{self as files, FileId};
use super::report::Report;
use super::store::{self, Entry};
use crate::arch::Abi;
use crate::arch::known::{ForAbi, with_abi};
use crate::arch::machine::{self, Machine};
use crate::changes::CHANGES;
use crate::elf::Elf;
use crate::executable;
use crate::own_executable;
use crate::sys::file::{self, AT_FDCWD, Fd};
use crate::sys::memory::{self, MAP_FIXED_NOREPLACE, PAGE, PROT_READ_WRITE, map_new};
use crate::sys::process;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use crossdock_emu_guest::Host;
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_jit::image::compile::{Request, compile};
use crossdock_emu_jit::image::format::{self, Identity, Image, Profile};
use crossdock_emu_jit::{Features, Isa};

/// The option by which the emulator starts this process.
pub const OPTION: &str = "--compile-images";

/// Most bytes of all images in a folder; the oldest go first.
pub const FOLDER_MAX: u64 = 512 << 20;

const O_DIRECTORY: u64 = 0o200_000;
const O_NOFOLLOW: u64 = 0o400_000;
const O_NONBLOCK: u64 = 0o4000;
const O_PATH: u64 = 0o10_000_000;

/// How often the folder is looked at, and how many times without a report before the process ends.
const WAIT: u64 = 20_000_000;
const IDLE_MAX: u32 = 10;

/// The end of a report's name while it is handled for the first time. If this process is killed meanwhile,
/// the next one tries once more.
const AGAIN: &str = ".again";

/// In a sandbox's folder: the emulator, then layers and the folders of their images, each ended by NUL.
const SOURCES: &str = "sources";

/// Sandboxes whose reports are handled together.
const TOGETHER: usize = 16;

/// A file that may change is left alone for so many seconds after its last change: it may still be written.
const QUIET: u64 = 2;

/// Where files of guests are looked for.
pub enum Sources {
    /// Where their paths lead, in the user's own root. Reports are in the folder with images.
    Paths,
    /// In the layers of a store, of which nothing changes. Reports are in this folder in the folder with
    /// images, in a folder for each sandbox that has ended (`crossdock_sandbox::images`).
    Layers(String),
}

/// Reports that belong together.
struct Place {
    /// The folder that they are in.
    folder: String,
    /// The layers that their files are in, each with the folder for its images; empty where paths lead.
    layers: Vec<Layer>,
}

/// A layer, and the folder for its images.
type Layer = (String, String);

/// Makes images of reports until no more come, if no other process does, and puts them into `folder`.
pub fn run(folder: &str, sources: &Sources) -> i32 {
    const O_RDWR_CREAT: u64 = 0o2 | 0o100;
    process::be_nice();
    if matches!(sources, Sources::Layers(_)) {
        let _ = file::make_folder(format!("{folder}/{}\0", store::LAYERS).as_bytes(), 0o755);
    }
    let lock = format!("{folder}/lock\0");
    let Ok(lock) = file::open_mode(AT_FDCWD, lock.as_bytes(), O_RDWR_CREAT | O_NOFOLLOW, 0o600) else {
        return 1;
    };
    if !file::try_lock(lock.number()) {
        return 0;
    }
    let mut idle = 0;
    while idle < IDLE_MAX {
        let found = match sources {
            Sources::Paths => {
                let reports = format!("{folder}/{}", store::REPORTS);
                compile_all(folder, &[Place { folder: reports, layers: Vec::new() }])
            }
            Sources::Layers(pending) => compile_pending(folder, &format!("{folder}/{pending}")),
        };
        if found {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < IDLE_MAX {
            process::sleep(WAIT);
        }
    }
    prune(folder, FOLDER_MAX);
    0
}

/// Starts a process that makes images, unless there is one. To be called at the end of this process.
pub(crate) fn start(folder: &str) {
    let lock = format!("{folder}/lock\0");
    if let Ok(lock) = file::open(AT_FDCWD, lock.as_bytes(), O_NOFOLLOW)
        && !file::try_lock(lock.number())
    {
        return;
    }
    let own = own_executable::descriptor();
    if own < 0 {
        return;
    }
    let words = [String::from("crossdock-emu\0"), format!("{OPTION}\0"), format!("{folder}\0")];
    let mut arguments: Vec<u64> = words.iter().map(|word| word.as_ptr() as u64).collect();
    arguments.push(0);
    process::start_apart(own, &arguments);
}

/// Lets go of what the process that started this one has left open, and of its terminal.
pub fn be_apart() {
    const O_RDWR: u64 = 2;
    process::close_all();
    // What is opened later is no standard stream.
    for _ in 0..3 {
        let opened = file::open(AT_FDCWD, b"/dev/null\0", O_RDWR);
        let _ = opened.or_else(|_| file::in_memory(c"streams", 0, b"")).map(Fd::into_number);
    }
    process::own_session();
}

/// The folders of versions, also of those of layers.
fn versions(folder: &str) -> Vec<String> {
    let no_version = ["lock", store::REPORTS, store::LAYERS, store::PENDING];
    let own = names(folder).into_iter().filter(|name| !no_version.contains(&name.as_str()));
    let mut all: Vec<String> = own.map(|name| format!("{folder}/{name}")).collect();
    let layers = format!("{folder}/{}", store::LAYERS);
    for layer in names(&layers) {
        let layer = format!("{layers}/{layer}");
        all.extend(names(&layer).into_iter().map(|name| format!("{layer}/{name}")));
    }
    all
}

/// The names in a folder.
fn names(folder: &str) -> Vec<String> {
    match file::open(AT_FDCWD, format!("{folder}\0").as_bytes(), O_DIRECTORY) {
        Ok(open) => {
            file::names(open.number()).into_iter().filter_map(|name| String::from_utf8(name).ok()).collect()
        }
        Err(_) => Vec::new(),
    }
}

/// Handles the reports that sandboxes have left; false if there are none, or if they cannot be removed.
fn compile_pending(folder: &str, pending: &str) -> bool {
    let mut places = Vec::new();
    // A name that begins with a dot is of a folder that is not complete.
    for name in names(pending).into_iter().filter(|name| !name.starts_with('.')).take(TOGETHER) {
        let path = format!("{pending}/{name}");
        let sources = file::read_all(format!("{path}/{SOURCES}\0").as_bytes());
        let words = sources.split(|byte| *byte == 0).skip(1);
        let words = words.map_while(|word| String::from_utf8(word.to_vec()).ok());
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        let layers = words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        places.push(Place { folder: path, layers });
    }
    // Without layers, files would be looked for in the user's root.
    let (of_layers, lost): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| !place.layers.is_empty());
    compile_all(folder, &of_layers);
    // All are removed, so this may not stop at the first one.
    of_layers.iter().chain(&lost).filter(|place| remove_with_files(&place.folder)).count() > 0
}

/// Removes a folder that has only files; false if it stays.
fn remove_with_files(folder: &str) -> bool {
    for name in names(folder) {
        let _ = file::remove(format!("{folder}/{name}\0").as_bytes());
    }
    file::remove_folder(format!("{folder}\0").as_bytes()).is_ok()
}

/// Whether something was left as it is for a minute.
fn is_old(status: &file::RawStatus) -> bool {
    const MINUTE: u64 = 60;
    let [now, _] = process::time(0);
    status.modified()[0] + MINUTE < now
}

/// Handles the reports of some places; false if there are none.
fn compile_all(folder: &str, places: &[Place]) -> bool {
    let mut is_any = false;
    let mut reports: BTreeMap<FileId, (Report, &[Layer])> = BTreeMap::new();
    let mut taken = Vec::new();
    let all = places.iter().flat_map(|place| names(&place.folder).into_iter().map(move |name| (place, name)));
    for (place, name) in all.filter(|(_, name)| name != SOURCES) {
        is_any = true;
        let path = format!("{}/{name}\0", place.folder);
        // No FIFO keeps this process waiting.
        let found = file::open(AT_FDCWD, path.as_bytes(), O_NOFOLLOW | O_NONBLOCK);
        let report = found.ok().and_then(|found| Report::read(&found));
        let again = format!("{}/{name}{AGAIN}\0", place.folder);
        let is_first = !name.ends_with(AGAIN) && report.is_some();
        if is_first && file::rename(path.as_bytes(), again.as_bytes()).is_ok() {
            taken.push(again);
        } else {
            is_any &= file::remove(path.as_bytes()).is_ok();
        }
        let Some(report) = report else { continue };
        match reports.get_mut(&report.file) {
            Some((other, _)) if other.path == report.path && other.version == report.version => {
                other.profile.add(&report.profile);
            }
            Some(_) => {}
            None => drop(reports.insert(report.file, (report, &place.layers))),
        }
    }
    for (report, layers) in reports.into_values() {
        // A report that cannot be used is as good as none.
        let _ = handle(folder, layers, &report);
    }
    for path in taken {
        let _ = file::remove(path.as_bytes());
    }
    is_any
}

/// Makes the image that a report asks for. `None` if there is no reason to.
fn handle(folder: &str, layers: &[Layer], report: &Report) -> Option<()> {
    let (number, _) = files::of_version(&report.version);
    let machine = *machine::ALL.iter().find(|machine| machine.machine == number)?;
    with_abi(machine, Handle { folder, layers, report, machine }).flatten()
}

struct Handle<'h> {
    folder: &'h str,
    layers: &'h [Layer],
    report: &'h Report,
    machine: Machine,
}

impl ForAbi for Handle<'_> {
    type Output = Option<()>;

    fn with<A: Abi>(self) -> Option<()> {
        let Handle { folder, report, .. } = self;
        let mut features = Features::of_host();
        features.flag_in_gs = process::point_gs(0);
        let version = files::version(self.machine.machine, features.number())?;
        if version != report.version {
            return None;
        }
        let (guest, folder) = open(self.layers, report, folder)?;
        let id = identity(self.layers, &guest).filter(|id| *id == report.file)?;
        let [now, _] = process::time(0);
        if self.layers.is_empty() && id.changed()[0] + QUIET > now {
            return None;
        }
        let elf = Elf::read(guest.number()).ok().filter(|elf| elf.machine == self.machine)?;
        let text = text(&elf)?;
        let bytes = files::read(guest.number(), &text)?;
        if identity(self.layers, &guest) != Some(id) {
            return None;
        }
        let version_folder = store::folder_of(folder, &version);
        for folder in [folder, &version_folder] {
            let _ = file::make_folder(format!("{folder}\0").as_bytes(), 0o755);
        }
        let folder = &version_folder;
        let digest = files::digest(&text, &bytes);
        let mut profile = Profile::default();
        let old = find(folder, &version, &digest);
        if let Some((_, old)) = &old {
            profile = old.clone();
        }
        let has_more = profile.add(&report.profile);
        let name = match old {
            Some((name, _)) if !has_more => name,
            old => {
                let identity = Identity { version, text: digest, status: id.without_device() };
                let image = make::<A::Isa>(&text, &bytes, &profile, features, identity)?;
                let name = store::image_name(&digest, format::named_checksum(&image));
                store::publish(folder, &name, &image).ok()?;
                if let Some((old, _)) = old.filter(|(old, _)| *old != name) {
                    let _ = file::remove(format!("{folder}/{old}\0").as_bytes());
                }
                name
            }
        };
        let image = file::open(AT_FDCWD, format!("{folder}/{name}\0").as_bytes(), O_NOFOLLOW).ok()?;
        let status = file::raw_status(image.number()).ok()?;
        let mut header = [0; format::HEADER];
        file::read_at(image.number(), &mut header, 0).ok()?;
        let checksum = format::named_checksum(&header);
        let entry = Entry { file: id, text: digest, checksum, image: store::image_stamp(&status) };
        store::publish_entry(folder, &entry).ok()
    }
}

/// A file's identity, as reports have it.
fn identity(layers: &[Layer], file: &Fd) -> Option<FileId> {
    let id = FileId::of(file.number())?;
    Some(if layers.is_empty() { id } else { id.in_layers() })
}

/// Opens the file that a report is about. Also returns the folder for its images, which is `folder` where
/// files are in no layers.
fn open<'s>(layers: &'s [Layer], report: &Report, folder: &'s str) -> Option<(Fd, &'s str)> {
    const RESOLVE_NO_SYMLINKS: u64 = 4;
    const RESOLVE_BENEATH: u64 = 8;
    let path = [&report.path[..], b"\0"].concat();
    if layers.is_empty() {
        return Some((file::open(AT_FDCWD, &path, O_NONBLOCK).ok()?, folder));
    }
    // The kernel's path of a mapping has no links. Files that the sandbox itself has made are in no layer.
    let path = path.strip_prefix(b"/")?;
    layers.iter().find_map(|(layer, folder)| {
        let layer = file::open(AT_FDCWD, format!("{layer}\0").as_bytes(), O_PATH | O_DIRECTORY).ok()?;
        let flags = O_NONBLOCK | O_NOFOLLOW;
        let found =
            file::open_below(layer.number(), path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS).ok()?;
        (identity(layers, &found)? == report.file).then_some((found, folder.as_str()))
    })
}

/// The image that there is for code: its name, and the blocks that it was made of.
fn find(folder: &str, version: &[u8; 32], text: &[u8; 32]) -> Option<(String, Profile)> {
    let start = store::text_name(text);
    names(folder).into_iter().filter(|name| name.starts_with(&start)).find_map(|name| {
        let image = file::read_all(format!("{folder}/{name}\0").as_bytes());
        let is_ours = format::is_whole(&image)
            && format::identity(&image).is_some_and(|identity| identity.text == *text);
        let profile = Image::open(&image, version).ok().filter(|_| is_ours)?.profile();
        Some((name, profile))
    })
}

/// Makes the image of a file's code.
fn make<I: Isa>(
    text: &Range<u32>,
    bytes: &[u8],
    profile: &Profile,
    features: Features,
    identity: Identity,
) -> Option<Vec<u8>> {
    // Below 4 GiB, for the addresses of 32-bit guests, which are counted from the file's start.
    const PLACE: u64 = 0x5000_0000;
    let within = u64::from(text.start) % PAGE;
    let length = (within + bytes.len() as u64).next_multiple_of(PAGE);
    let at =
        map_new(PLACE + u64::from(text.start) - within, length, PROT_READ_WRITE, MAP_FIXED_NOREPLACE).ok()?;
    let start = at + within;
    // SAFETY: the memory was just mapped, and is ours until the end of this function.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, bytes.len()) };
    // SAFETY: as above: no access in the window faults.
    let memory = unsafe { Memory::new(start, start + bytes.len() as u64) };
    let host = Host { memory, counter: || 0, executable: executable::find };
    let base = start - u64::from(text.start);
    let request = Request {
        host: &host,
        lines: CHANGES.lines(),
        base,
        text: text.clone(),
        profile,
        features,
        identity,
    };
    let image = compile::<I>(&request);
    // SAFETY: nothing refers to the memory any more.
    let _ = unsafe { memory::unmap(at, length) };
    image
}

/// The code of a guest file: the offsets of its segments that are executable and not writable, as far as they
/// have the same distance between offset and address; from the lowest to the highest.
fn text(elf: &Elf) -> Option<Range<u32>> {
    const PF_X: u32 = 1;
    const PF_W: u32 = 2;
    const PT_LOAD: u32 = 1;
    let mut code = elf.segments.iter().filter(|segment| {
        segment.kind == PT_LOAD && segment.flags & (PF_X | PF_W) == PF_X && segment.file_size > 0
    });
    let first = code.next()?;
    let end = first.offset.checked_add(first.file_size)?;
    Some(u32::try_from(first.offset).ok()?..u32::try_from(end).ok()?)
}

/// Removes the oldest images until at most `most` bytes are left, entries that lead nowhere, and what was
/// begun and never finished.
fn prune(folder: &str, most: u64) {
    let mut images = Vec::new();
    let mut total = 0;
    for version in versions(folder) {
        for name in names(&version) {
            let path = format!("{version}/{name}\0");
            let Ok(found) = file::open(AT_FDCWD, path.as_bytes(), O_NOFOLLOW | O_NONBLOCK) else { continue };
            let Ok(status) = file::raw_status(found.number()) else { continue };
            if !status.is_regular() {
                continue;
            }
            if name.starts_with('.') && is_old(&status) {
                let _ = file::remove(path.as_bytes());
            } else if name.ends_with(".image") {
                images.push((status.modified(), status.size(), path));
                total += status.size();
            }
        }
    }
    images.sort();
    for (_, size, path) in images {
        if total <= most {
            break;
        }
        let _ = file::remove(path.as_bytes());
        total -= size;
    }
    for version in versions(folder) {
        let all = names(&version);
        for name in all.iter().filter(|name| name.contains('-') && !name.ends_with(".image")) {
            let leads =
                store::entry_of_name(&version, name).is_some_and(|entry| all.contains(&entry.image_name()));
            if !leads {
                let _ = file::remove(format!("{version}/{name}\0").as_bytes());
            }
        }
    }
    let pending = format!("{folder}/{}", store::PENDING);
    for name in names(&pending).into_iter().filter(|name| name.starts_with('.')) {
        let path = format!("{pending}/{name}");
        let found = file::open(AT_FDCWD, format!("{path}\0").as_bytes(), O_DIRECTORY | O_NOFOLLOW);
        if found.is_ok_and(|found| file::raw_status(found.number()).is_ok_and(|status| is_old(&status))) {
            remove_with_files(&path);
        }
    }
    // Folders that are empty now. One that a sandbox has mounted stays until the next time.
    let layers = format!("{folder}/{}", store::LAYERS);
    for version in versions(folder).into_iter().filter(|version| version.starts_with(&layers)) {
        let _ = file::remove_folder(format!("{version}\0").as_bytes());
    }
    for layer in names(&layers) {
        let _ = file::remove_folder(format!("{layers}/{layer}\0").as_bytes());
    }
}
