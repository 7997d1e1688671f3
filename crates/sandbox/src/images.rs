//! Translations that our emulator has made before, for the programs of a container: see
//! `docs/dev/code-cache.md`.
//!
//! Each layer of a store has a folder of its own. The container sees those of its layers, read-only, and has
//! a folder of its own for reports of what was run. At its end the monitor keeps the reports in the store. A
//! process outside of all containers, which [`compile_images`] starts when nothing is left to do, makes
//! translations of what is reported: of files in the containers' layers, which it reads itself.

#![expect(clippy::disallowed_methods, reason = "folders of the host, and one of the monitor's own")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, StatxFlags, openat, statx};

use crate::container;
use crate::error::{Doing, Failure};
use crate::mounts::{clone_tree, set_read_only};
use crate::spec::{Images, Root};
use crate::sys;

/// Bytes that a container's reports may take.
const REPORTS_SIZE: u64 = 4 << 20;

/// Most layers whose translations a container sees.
const LAYERS_MAX: usize = 64;

/// Most containers whose reports wait in a store.
const PENDING_MAX: usize = 256;

/// Most reports of a container that are kept.
const KEPT_MAX: usize = 4096;

/// The folder with what waits, in the folder of the store's images. Each folder in it is one container's.
const PENDING: &str = "pending";

/// In such a folder: the emulator, then layers and the folders of their images, each ended by NUL.
const SOURCES: &str = "sources";

/// The reports of a container, as the monitor sees them.
pub struct Reports {
    emulator: PathBuf,
    folder: PathBuf,
    /// Layers and their folders.
    layers: Vec<(PathBuf, PathBuf)>,
    reports: OwnedFd,
}

/// Prepares the mounts. Also returns the place of the reports, if anybody makes images of them.
///
/// Errors: what is missing is no reason not to start the container, but a mount that fails is.
pub fn prepare(images: &Images, root: &Root) -> Result<(container::Images, Option<Reports>), Failure> {
    let reports = container::tmpfs(Some(REPORTS_SIZE), 0o1777, (0, 0), false)?;
    // Nothing of these layers changes while the container runs; its own files may.
    let layers: &[PathBuf] = match root {
        Root::Overlay { lower, .. } | Root::OverlayReadOnly { lower } => lower,
        Root::Directory(_) => &[],
    };
    // The highest first. Layers without a name of their own get no translations.
    let layers = layers.iter().rev().filter_map(|layer| Some((layer.clone(), folder_of(images, layer)?)));
    let layers: Vec<(PathBuf, PathBuf)> = layers.collect();
    let mut trees = Vec::new();
    for (_, folder) in layers.iter().filter(|(_, folder)| folder.is_dir()).take(LAYERS_MAX) {
        let tree = clone_tree(folder, false)?;
        set_read_only(tree.as_fd(), false)?;
        trees.push(tree);
    }
    let top = container::tmpfs(Some(1 << 16), 0o755, (0, 0), false)?;
    let kept = match &images.emulator {
        Some(emulator) if !layers.is_empty() => Some(Reports {
            emulator: emulator.clone(),
            folder: images.folder.clone(),
            layers,
            reports: reports.try_clone().failing(|| "keep the folder for reports".into())?,
        }),
        _ => None,
    };
    Ok((container::Images { top, layers: trees, reports }, kept))
}

/// The folder with translations of a layer's files: known by when the layer was made and by its number, which
/// a layer keeps when it gets another name.
fn folder_of(images: &Images, layer: &Path) -> Option<PathBuf> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let found = statx(CWD, layer, AtFlags::empty(), wanted).ok()?;
    let made = found.stx_btime;
    let has_time = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    let name = format!("{:x}-{:x}.{:x}", found.stx_ino, made.tv_sec, made.tv_nsec);
    has_time.then(|| images.folder.join("layers").join(name))
}

impl Reports {
    /// The container has ended: keeps its reports in the store, for [`compile_images`]. What cannot be kept
    /// is lost.
    pub fn keep(self) {
        let pending = self.folder.join(PENDING);
        // A folder whose name begins with a dot is not complete.
        let Ok(random) = sys::random() else { return };
        let (name, unfinished) = (format!("{random:016x}"), pending.join(format!(".{random:016x}")));
        if !matches!(self.copy(&pending, &unfinished), Ok(true))
            || fs::rename(&unfinished, pending.join(name)).is_err()
        {
            let _ = fs::remove_dir_all(&unfinished);
        }
    }

    /// Returns false if there are no reports, or no room for more.
    fn copy(&self, pending: &Path, to: &Path) -> io::Result<bool> {
        let mut names = Vec::new();
        // The descriptor of the mount cannot be read from.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = openat(&self.reports, ".", flags, Mode::empty())?;
        for entry in Dir::new(listed)?.take(KEPT_MAX) {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
            if name.iter().all(is_plain) && name != SOURCES.as_bytes() {
                names.push(entry.file_name().to_owned());
            }
        }
        if names.is_empty() || fs::read_dir(pending).is_ok_and(|waiting| waiting.count() >= PENDING_MAX) {
            return Ok(false);
        }
        fs::create_dir_all(to)?;
        let mut left = REPORTS_SIZE;
        for name in names {
            // The container's programs made these files, of any kind.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(report) = openat(&self.reports, &name, flags, Mode::empty()).map(File::from) else {
                continue;
            };
            let length = report.metadata().ok().filter(fs::Metadata::is_file).map_or(0, |found| found.len());
            if length == 0 || length > left {
                continue;
            }
            let mut content = Vec::new();
            report.take(length).read_to_end(&mut content)?;
            fs::write(to.join(OsStr::from_bytes(name.to_bytes())), content)?;
            left -= length;
        }
        let layers = self.layers.iter().flat_map(|(layer, folder)| [layer, folder]);
        let mut sources = Vec::new();
        for path in std::iter::once(&self.emulator).chain(layers) {
            sources.extend(path.as_os_str().as_bytes());
            sources.push(0);
        }
        fs::write(to.join(SOURCES), sources)?;
        Ok(true)
    }
}

/// Whether a process that was started here has not ended yet.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Starts a process that makes translations of what containers of the store at `store` have reported, if
/// there is anything, and if the last one has ended. Waits for nothing: the process has the lowest priority
/// and may go on when this one has ended.
pub fn compile_images(store: &Path) {
    let folder = Images::folder(store);
    if !Images::are_wanted() || RUNS.load(Ordering::Relaxed) {
        return;
    }
    let Ok(waiting) = fs::read_dir(folder.join(PENDING)) else { return };
    // An emulator may be gone since.
    let complete = waiting.flatten().filter(|entry| !entry.file_name().as_bytes().starts_with(b"."));
    let started = complete.take(PENDING_MAX).find_map(|entry| {
        let sources = fs::read(entry.path().join(SOURCES)).ok()?;
        let emulator = sources.split(|byte| *byte == 0).next()?;
        let mut command = Command::new(OsStr::from_bytes(emulator));
        command.arg("--compile-images").arg(&folder).arg(PENDING).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C is not for it.
        command.process_group(0).spawn().ok()
    });
    let Some(mut process) = started else { return };
    RUNS.store(true, Ordering::Relaxed);
    // A server lives longer than the process, which must not stay as a zombie.
    std::thread::spawn(move || {
        let _ = process.wait();
        RUNS.store(false, Ordering::Relaxed);
    });
}
