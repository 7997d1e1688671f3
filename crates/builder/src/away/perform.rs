//! The other end: carries an order out with a store of its own, as a build here would.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossdock_dockerfile::ignore::clean;
use crossdock_oci::layer::{UnpackLimit, extract_tar};
use crossdock_oci::{Descriptor, Digest, Reference, Store};
use crossdock_platform::Platform;
use crossdock_sandbox::idmap::IdMapping;
use crossdock_sandbox::{self as sandbox, Emulator};

use crate::away::order::{Answer, Files, Meta, Order, OrderMountKind};
use crate::command::execute::{Command, execute};
use crate::command::mounts::{Bound, Guards, Kept, Prepared, PreparedMount, open_inside};
use crate::error::ErrorKind;
use crate::event::Events;
use crate::git::GitSource;
use crate::secrets::{Given, Secrets};
use crate::solver::cache::Imported;
use crate::solver::engine::Engine;
use crate::solver::environment::{Environment, Images};
use crate::solver::flights::Shared;
use crate::solver::key::Key;
use crate::solver::layer::Packed;
use crate::solver::settings::{Settings, StepOptions};

/// Where the files of an order are.
pub struct Inputs<'a> {
    /// Blobs of layers, named by the digits of their SHA-256.
    pub layers: &'a Path,
    /// Archives and files, named by their numbers.
    pub files: &'a Path,
    /// The emulator.
    pub emulator: &'a Path,
    /// `NAME=VALUE` of this machine that the command gets, too: its proxies.
    pub env: &'a [String],
}

/// A machine that carries orders out fetches nothing.
struct NoImages;

impl Images for NoImages {
    fn resolve(&self, _: &Reference, _: &Platform, _: bool) -> Result<Descriptor, String> {
        Err("an order has no images".to_string())
    }

    fn download(&self, _: &str, _: &Path) -> Result<Option<i64>, String> {
        Err("an order has no downloads".to_string())
    }

    fn layer(&self, _: &Descriptor) -> Result<(), String> {
        Err("an order has no caches".to_string())
    }

    fn checkout(&self, _: &GitSource, _: bool, _: &Path, _: &dyn Secrets) -> Result<String, String> {
        Err("an order has no repositories".to_string())
    }
}

/// Carries an order out. The layer is then a blob of the store.
pub fn perform(store: &Store, order: &Order, inputs: &Inputs<'_>, events: &dyn Events) -> Answer {
    let is_bare = sandbox::userns::is_bare();
    let emulator = |platform: &Platform| match inputs.emulator.is_file() {
        _ if is_bare => Err("user namespaces are forbidden here, and emulators need one".to_string()),
        true => Ok(Emulator::at(&platform.architecture, inputs.emulator)),
        false => Err("no emulator came with the order".to_string()),
    };
    let environment = Environment {
        store,
        images: &NoImages,
        events,
        imported: &Imported::default(),
        layers: order.layers,
        sink: None,
        secrets: &Given::default(),
        stop: Arc::default(),
        shared: &Shared::default(),
        emulator: &emulator,
        farm: None,
        failed: None,
    };
    let settings = settings(order);
    let engine = Engine::new(&environment, &settings);
    if let Err(reason) = check_ids(order) {
        return Answer::Refused(reason);
    }
    let work = Work { engine: &engine, order, inputs };
    match work.run() {
        Ok(answer) => answer,
        // It may have needed one of the emulators that it could not have.
        Err(ErrorKind::Command { status, .. }) if is_bare && !order.emulated.is_empty() => Answer::Refused(
            format!("the command fails ({status}) on a machine that forbids user namespaces, so emulators"),
        ),
        Err(ErrorKind::Command { status, hint, .. }) => Answer::Failed { status, hint },
        Err(error) => Answer::Refused(error.to_string()),
    }
}

/// Refuses to make another layer than a build where the order comes from: with a single id, files of others
/// are this user's, and `chown` does nothing (docs/dev/sandbox.md).
fn check_ids(order: &Order) -> Result<(), String> {
    let mapping = IdMapping::current().map_err(|e| format!("read the ids of this machine's user: {e}"))?;
    match mapping.is_single() && !order.loses_owners {
        true => {
            Err("the user of the worker has a single id, with which files lose their owners; install uidmap \
                     there and give the user ranges in /etc/subuid and /etc/subgid"
                .to_string())
        }
        false => Ok(()),
    }
}

fn settings(order: &Order) -> Settings {
    let mut settings = Settings::for_platform(order.platform.clone());
    settings.platforms = order.emulated.clone();
    settings.add_hosts = order.add_hosts.clone();
    settings.shm_size = order.shm_size;
    settings.limits = order.limits.clone();
    settings.hostname = order.hostname.clone();
    settings.source_date_epoch = order.source_date_epoch;
    settings.steps = StepOptions {
        resolv_conf: order.resolv_conf.clone(),
        security: order.security,
        groups: order.groups.clone(),
        ..StepOptions::default()
    };
    settings
}

struct Work<'a, 'e> {
    engine: &'a Engine<'e>,
    order: &'a Order,
    inputs: &'a Inputs<'a>,
}

impl Work<'_, '_> {
    fn run(&self) -> Result<Answer, ErrorKind> {
        let (engine, order) = (self.engine, self.order);
        let store = engine.env.store;
        let lower = self.unpacked(&order.lower)?;
        let mut kept = Kept::default();
        let mut guards = Guards::default();
        let env: Vec<String> = order.env.iter().chain(self.inputs.env).cloned().collect();
        let command = Command {
            args: &order.args,
            env: &env,
            cwd: &order.cwd,
            user: &order.user,
            network: order.network,
            insecure: false,
            devices: &[],
        };
        let scratch = store.new_scratch()?;
        let mut spec = command.spec(engine, &order.platform, &lower, &scratch)?;
        if sandbox::userns::is_bare() {
            // In a user namespace nobody can make devices.
            let mknod = sandbox::Capabilities::of("MKNOD").expect("a capability of Linux");
            spec.security.capabilities = spec.security.capabilities.without(mknod);
        }
        for mount in &order.mounts {
            let what = self.prepared(&mount.what, &mut kept)?;
            let mount = PreparedMount { what, target: mount.target.clone(), read_only: mount.read_only };
            spec.mounts.extend(guards.mount(engine, &mount)?);
        }
        spec.env.extend(guards.variables.drain(..).map(OsString::from));
        execute(engine, 1, &spec, &order.args, &[0])?;
        drop(guards);
        if scratch.is_empty()? {
            return Ok(Answer::Done { layer: None, size: 0 });
        }
        if let Some(latest) = order.source_date_epoch {
            scratch.clamp_times(latest)?;
        }
        let layer = store.commit_layer(scratch, &order.layers)?;
        // The next step on top of this one most likely comes to this machine, too.
        self.keep(&layer.diff_id)?;
        let packed = Packed { diff_id: layer.diff_id, descriptor: layer.descriptor };
        Ok(Answer::Done { layer: Some(Box::new(packed)), size: layer.size })
    }

    /// The directories of layers, which are unpacked if they are not here yet.
    fn unpacked(&self, layers: &[Packed]) -> Result<Vec<PathBuf>, ErrorKind> {
        let store = self.engine.env.store;
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let mut paths = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            let path = match store.snapshot(&layer.diff_id, &diff_ids[..i])? {
                Some(path) => path,
                None => {
                    self.take(&layer.descriptor)?;
                    store.unpack(&layer.descriptor, &layer.diff_id, &diff_ids[..i])?.path
                }
            };
            self.keep(&layer.diff_id)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Keeps an unpacked layer for later orders, until a collection finds it unused.
    fn keep(&self, diff_id: &Digest) -> Result<(), ErrorKind> {
        let store = self.engine.env.store;
        let key = Key::new("layer of orders", diff_id).finish();
        if store.cache_get(&key)?.is_none() {
            store.cache_put(&key, b"", &[], std::slice::from_ref(diff_id))?;
        }
        Ok(())
    }

    /// Brings the blob of a layer into the store.
    fn take(&self, layer: &Descriptor) -> Result<(), ErrorKind> {
        let store = self.engine.env.store;
        if store.contains(&layer.digest)? {
            return Ok(());
        }
        let path = self.inputs.layers.join(layer.digest.hex());
        let failed = |e: io::Error| ErrorKind::io(format!("read the layer {}", path.display()), e);
        let mut from = File::open(&path).map_err(failed)?;
        let mut writer = store.blob_writer()?;
        io::copy(&mut from, &mut writer).map_err(failed)?;
        writer.commit(Some(&layer.digest))?;
        Ok(())
    }

    fn prepared(&self, what: &OrderMountKind, kept: &mut Kept) -> Result<Prepared, ErrorKind> {
        Ok(match what {
            OrderMountKind::Bind { source, writable } => {
                Prepared::Bind { source: self.bound(source, kept)?, writable: *writable }
            }
            OrderMountKind::Cache { id, sharing, mode, owner, initial } => Prepared::Cache {
                id: id.clone(),
                sharing: *sharing,
                mode: *mode,
                owner: *owner,
                initial: initial.as_ref().map(|initial| self.bound(initial, kept)).transpose()?,
            },
            OrderMountKind::Tmpfs { size, mode } => Prepared::Tmpfs { size: *size, mode: *mode },
            OrderMountKind::File { content, mode, owner } => {
                Prepared::File { content: content.clone(), mode: *mode, owner: *owner }
            }
        })
    }

    fn bound(&self, files: &Files, kept: &mut Kept) -> Result<Bound, ErrorKind> {
        let store = self.engine.env.store;
        match files {
            Files::Layers { layers, path } => {
                let lower = self.unpacked(layers)?;
                let overlay = sandbox::overlay_fd(&lower, None)?;
                let base = kept.attach(self.engine, &overlay)?;
                open_inside(&base, &clean(&format!("/{path}")).split_off(1))
            }
            Files::Directory { file, meta } => {
                let directory = self.engine.temporary()?;
                let place = directory.path().join("files");
                let doing = |e| ErrorKind::io("unpack the files of a mount", e);
                fs::create_dir(&place).map_err(doing)?;
                let archive = File::open(self.inputs.files.join(file.to_string())).map_err(doing)?;
                // The archive is as long as what is in it.
                extract_tar(archive, &place, store.owners(), "files", &UnpackLimit::bytes(u64::MAX))?;
                set(&place, *meta).map_err(doing)?;
                kept.directories.push(directory);
                open_inside(&place, "")
            }
            Files::File { file, meta } => {
                let directory = self.engine.temporary()?;
                let place = directory.path().join("file");
                let doing = |e| ErrorKind::io("copy the file of a mount", e);
                fs::copy(self.inputs.files.join(file.to_string()), &place).map_err(doing)?;
                set(&place, *meta).map_err(doing)?;
                let bound = open_inside(directory.path(), "file")?;
                kept.directories.push(directory);
                Ok(bound)
            }
        }
    }
}

/// Gives a file what it is besides its content.
fn set(path: &Path, meta: Meta) -> io::Result<()> {
    // A single id cannot give files away.
    let _ = chown(path, Some(meta.owner.0), Some(meta.owner.1));
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode))?;
    let seconds = Duration::from_secs(meta.time.unsigned_abs());
    let time = match meta.time < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        false => SystemTime::UNIX_EPOCH.checked_add(seconds),
    };
    match time {
        Some(time) => File::open(path)?.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time)),
        None => Ok(()),
    }
}
