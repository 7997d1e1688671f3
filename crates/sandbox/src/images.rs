//! Translations that our emulator has made before, for the programs of a container: see
//! `docs/dev/code-cache.md`.
//!
//! Each layer of a store has a folder of its own. The container sees those of its layers, read-only, and has
//! a folder of its own for reports of what was run. Processes outside of the container, started here, make
//! translations of what is reported: of files in the container's layers, which they read themselves.

#![expect(clippy::disallowed_methods, reason = "folders of the host, and one of the monitor's own")]

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::container;
use crate::error::{Doing, Failure};
use crate::mounts::{clone_tree, set_read_only};
use crate::spec::{Images, Root};

/// Bytes that a container's reports may take.
const REPORTS_SIZE: u64 = 4 << 20;

/// Most layers whose translations a container sees.
const LAYERS_MAX: usize = 64;

/// How often the reports of a container that still runs are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Most processes that are started for a container.
const PROCESSES_MAX: u32 = 200;

/// The monitor's side.
pub struct Compiler {
    emulator: PathBuf,
    folder: PathBuf,
    /// Layers and their folders.
    layers: Vec<(PathBuf, PathBuf)>,
    reports: OwnedFd,
    process: Option<Child>,
    started: u32,
    next: Instant,
}

/// Prepares the mounts. Also returns who makes images of reports, if there is anybody.
///
/// Errors: what is missing is no reason not to start the container, but a mount that fails is.
pub fn prepare(images: &Images, root: &Root) -> Result<(container::Images, Option<Compiler>), Failure> {
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
    let compiler = match &images.emulator {
        Some(emulator) if !layers.is_empty() => Some(Compiler {
            emulator: emulator.clone(),
            folder: images.folder.clone(),
            layers,
            reports: reports.try_clone().failing(|| "keep the folder for reports".into())?,
            process: None,
            started: 0,
            next: Instant::now() + PERIOD,
        }),
        _ => None,
    };
    Ok((container::Images { top, layers: trees, reports }, compiler))
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

impl Compiler {
    /// When [`Compiler::look`] is to be called next.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Starts a process if there are reports and the last one has ended. Waits for nothing.
    pub fn look(&mut self) {
        self.next = Instant::now() + PERIOD;
        let is_running = self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if !is_running {
            self.start();
        }
    }

    /// The container has ended: starts a process for the last reports.
    pub fn finish(mut self) {
        self.start();
    }

    fn start(&mut self) {
        let reports = format!("/proc/self/fd/{}", self.reports.as_raw_fd());
        let is_empty = fs::read_dir(&reports).map_or(true, |mut entries| entries.next().is_none());
        if is_empty || self.started == PROCESSES_MAX {
            return;
        }
        self.started += 1;
        let mut command = Command::new(&self.emulator);
        command.arg("--compile-images").arg(&self.folder).arg(&reports);
        for (layer, folder) in &self.layers {
            command.arg(layer).arg(folder);
        }
        command.env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The monitor has one thread: nothing else is executed meanwhile.
        if fcntl_setfd(&self.reports, FdFlags::empty()).is_ok() {
            self.process = command.spawn().ok();
            let _ = fcntl_setfd(&self.reports, FdFlags::CLOEXEC);
        }
    }
}
