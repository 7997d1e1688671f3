//! An order, made of a command that is about to run.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crossdock_oci::layer::{Timestamps, export_tar};
use crossdock_oci::store::Owners;
use crossdock_platform::Platform;
use rustix::fs::FileType;

use crate::away::order::{Files, Meta, Order, OrderMount, OrderMountKind, Package};
use crate::command::execute::Command;
use crate::command::mounts::{Bound, Prepared, PreparedMount};
use crate::devices::Device;
use crate::error::ErrorKind;
use crate::solver::engine::Engine;
use crate::solver::layer::{Layer, Packed};

/// Whether a command may be executed elsewhere: it has no rights, secrets, devices or directories of this
/// machine.
pub(crate) fn may_leave(
    engine: &Engine<'_>,
    (is_insecure, devices): (bool, &[Device]),
    mounts: &[PreparedMount],
) -> bool {
    let is_of_here =
        |mount: &PreparedMount| matches!(mount.what, Prepared::Secret { .. } | Prepared::Agent { .. });
    !is_insecure
        && devices.is_empty()
        && engine.settings.steps.mounts.is_empty()
        && engine.settings.steps.devices.is_empty()
        && !mounts.iter().any(is_of_here)
}

/// The order of a command with its files. Waits until the layers that were made here are packed.
pub(crate) fn package(
    engine: &Engine<'_>,
    command: &Command<'_>,
    platform: &Platform,
    lower: &[Layer],
    mounts: &[PreparedMount],
) -> Result<Package, ErrorKind> {
    let settings = engine.settings;
    // A worker of the platform's own CPU needs no emulator.
    let emulator = match engine.emulators(platform) {
        Err(error) => Err(error.to_string()),
        Ok(emulators) => match emulators.iter().find(|emulator| !emulator.is_builtin()) {
            None => Ok(emulators.first().map(|emulator| emulator.path.clone())),
            Some(other) => Err(format!("{} is not sent to other machines, crossdock-emu is", other.name())),
        },
    };
    let mut foreign: Vec<Platform> = settings.platforms.iter().filter(|p| !p.is_native()).cloned().collect();
    if !platform.is_native() && !foreign.contains(platform) {
        foreign.push(platform.clone());
    }
    let mut files = Packing { engine, directory: engine.temporary()?, files: Vec::new() };
    let mounts = mounts.iter().map(|mount| files.mount(mount)).collect::<Result<Vec<_>, _>>()?;
    let steps = &settings.steps;
    let order = Order {
        args: command.args.to_vec(),
        env: command.env.to_vec(),
        cwd: command.cwd.to_string(),
        user: command.user.to_string(),
        network: command.network,
        platform: platform.clone(),
        emulated: foreign,
        lower: packed(lower)?,
        mounts,
        hostname: settings.hostname.clone(),
        add_hosts: settings.add_hosts.clone(),
        shm_size: settings.shm_size,
        limits: settings.limits.clone(),
        security: steps.security,
        groups: steps.groups.clone(),
        resolv_conf: steps.resolv_conf.clone(),
        source_date_epoch: settings.source_date_epoch,
        loses_owners: engine.env.store.owners() == Owners::Ignore,
        layers: engine.env.layers,
    };
    Ok(Package { order, files: files.files, directory: files.directory, emulator })
}

/// The archives of layers, once they are made here or known to be elsewhere.
fn packed(layers: &[Layer]) -> Result<Vec<Packed>, ErrorKind> {
    let failed = |e| ErrorKind::io("pack a layer below the step", io::Error::other(e));
    layers.iter().map(|layer| layer.announced().map_err(failed)).collect()
}

/// Files of an order in the making.
struct Packing<'a, 'e> {
    engine: &'a Engine<'e>,
    directory: crossdock_oci::store::TemporaryDirectory,
    files: Vec<PathBuf>,
}

impl Packing<'_, '_> {
    fn mount(&mut self, mount: &PreparedMount) -> Result<OrderMount, ErrorKind> {
        let what = match &mount.what {
            Prepared::Bind { source, writable } => {
                OrderMountKind::Bind { source: self.files_of(source)?, writable: *writable }
            }
            Prepared::Cache { id, sharing, mode, owner, initial } => OrderMountKind::Cache {
                id: id.clone(),
                sharing: *sharing,
                mode: *mode,
                owner: *owner,
                initial: initial.as_ref().map(|initial| self.files_of(initial)).transpose()?,
            },
            Prepared::Tmpfs { size, mode } => OrderMountKind::Tmpfs { size: *size, mode: *mode },
            Prepared::File { content, mode, owner } => {
                OrderMountKind::File { content: content.clone(), mode: *mode, owner: *owner }
            }
            Prepared::Secret { .. } | Prepared::Agent { .. } => {
                unreachable!("a command with secrets or agents stays here")
            }
        };
        Ok(OrderMount { target: mount.target.clone(), read_only: mount.read_only, what })
    }

    fn files_of(&mut self, bound: &Bound) -> Result<Files, ErrorKind> {
        if let Some((layers, path)) = &bound.layers {
            return Ok(Files::Layers { layers: packed(layers)?, path: path.clone() });
        }
        let failed = |e: io::Error| ErrorKind::io("pack the files of a mount", e);
        let stat = rustix::fs::fstat(&bound.open).map_err(|e| failed(e.into()))?;
        let latest = self.engine.settings.source_date_epoch;
        let meta = Meta {
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            time: latest.map_or(stat.st_mtime, |latest| latest.min(stat.st_mtime)),
        };
        let itself = PathBuf::from(format!("/proc/self/fd/{}", bound.open.as_raw_fd()));
        let (number, path) = (self.files.len(), self.directory.path().join(self.files.len().to_string()));
        let mut file = File::create_new(&path).map_err(failed)?;
        self.files.push(path);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let timestamps = latest.map_or(Timestamps::Keep, Timestamps::Clamp);
                let mut writer = BufWriter::with_capacity(256 << 10, file);
                export_tar(&[itself], timestamps, &mut writer)?;
                writer.flush().map_err(failed)?;
                Ok(Files::Directory { file: number, meta })
            }
            FileType::RegularFile => {
                File::open(itself).and_then(|mut from| io::copy(&mut from, &mut file)).map_err(failed)?;
                Ok(Files::File { file: number, meta })
            }
            _ => Err(failed(io::Error::other("it is a device, FIFO or socket"))),
        }
    }
}
