//! perform: what a worker of a farm starts to execute a step. The order and its files are in the directory of
//! the action; the layer and the answer are written there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use crossdock_builder::away::order::{Answer, Order};
use crossdock_builder::away::perform::{Inputs, perform as carry_out};
use crossdock_builder::{Event, Events};
use crossdock_oci::Store;
use crossdock_oci::layer::UnpackLimit;
use crossdock_oci::store::{GcOptions, Owners};
use crossdock_platform::Platform;

use crate::session::Session;

/// Exit code of a step that failed.
const STEP_FAILED: u8 = 1;
/// Exit code of a worker that cannot execute the step.
const REFUSED: u8 = 3;
/// Names the directory in which a worker keeps layers and cache mounts between steps.
const CACHE: &str = "CROSSDOCK_FARM_CACHE";
/// Time between two collections of that directory.
const COLLECTION_TIME: Duration = Duration::from_secs(600);
/// What was not used for so long goes, if so much of the disk is free: percent and seconds.
const UNUSED: [(u64, u64); 3] = [(5, 0), (15, 3600), (100, 3 * 24 * 3600)];

#[derive(clap::Args)]
pub struct PerformArgs {
    /// The order
    #[arg(value_name = "FILE", required_unless_present = "serve")]
    pub order: Option<PathBuf>,
    /// Execute what comes over standard input, as an engine for one client
    #[arg(long, conflicts_with = "order")]
    pub serve: bool,
}

/// Writes a step's output where the worker reads it.
struct Lines;

impl Events for Lines {
    fn event(&self, event: Event) {
        let Event::Output { stderr, is_transient, line, .. } = event else { return };
        let end = if is_transient { '\r' } else { '\n' };
        // A worker that no longer reads is no reason to stop.
        let _ = match stderr {
            true => write!(io::stderr(), "{line}{end}"),
            false => write!(io::stdout(), "{line}{end}"),
        };
    }
}

pub fn perform(session: &Session, args: &PerformArgs) -> Result<u8> {
    let Some(path) = &args.order else { return serve().map(|()| 0) };
    let order = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let order: Order = serde_json::from_slice(&order)
        .with_context(|| format!("{} is no order of this version", path.display()))?;
    let absolute = std::path::absolute(path).context("find the directory of the order")?;
    let directory = absolute.parent().context("the order is in no directory")?;
    let owners = if session.single_id() { Owners::Ignore } else { Owners::Keep };
    let store = cache(session)?.with_owners(owners);
    // Who sends the layers has unpacked them already, within limits.
    let store = store.with_unpack_limit(UnpackLimit::bytes(u64::MAX));
    let proxies = proxies();
    let inputs = Inputs {
        layers: &directory.join("layers"),
        files: &directory.join("files"),
        emulator: &directory.join("crossdock-emu"),
        env: &proxies,
    };
    let answer = carry_out(&store, &order, &inputs, &Lines);
    // Some workers want every file that the action names.
    fs::write(directory.join("layer"), b"").context("write the layer")?;
    if let Answer::Done { layer: Some(layer), .. } = &answer {
        let blob = store.blob_path(&layer.descriptor.digest);
        fs::copy(&blob, directory.join("layer")).context("write the layer")?;
    }
    let text = serde_json::to_vec(&answer).expect("an answer has string keys only");
    fs::write(directory.join("result.json"), text).context("write the answer")?;
    crossdock_sandbox::compile_images(store.root());
    collect(&store);
    Ok(match answer {
        Answer::Done { .. } => 0,
        Answer::Failed { .. } => STEP_FAILED,
        Answer::Refused(reason) => {
            crate::output::say(&format!("error: {reason}"));
            REFUSED
        }
    })
}

/// Serves one client, who is at the other end of ssh.
fn serve() -> Result<()> {
    let given = std::env::var_os(CACHE).filter(|value| !value.is_empty()).map(|given| {
        let mut place = given;
        place.push("-engine");
        PathBuf::from(place)
    });
    let own = || places("crossdock-farm-engine").into_iter().find(|place| is_ours(place));
    let directory = given.or_else(own).with_context(|| {
        format!("there is no directory for what a step needs: set HOME, or {CACHE} to a directory")
    })?;
    let options = crossdock_worker::Options {
        jobs: crossdock_oci::cpus(),
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        platform: Platform::host().to_string(),
        directory,
    };
    crossdock_worker::serve(&options).with_context(|| format!("serve from {}", options.directory.display()))
}

/// Where this machine may keep something between steps, the best place first.
fn places(name: &str) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    [Some(PathBuf::from("/var/cache")), own].into_iter().flatten().map(|place| place.join(name)).collect()
}

/// The store that this machine keeps between steps, or the session's, which goes with the action.
fn cache(session: &Session) -> Result<Store> {
    if let Some(given) = std::env::var_os(CACHE).filter(|value| !value.is_empty()) {
        return Store::open(Path::new(&given)).with_context(|| format!("{CACHE}={}", given.display()));
    }
    for place in places("crossdock-farm") {
        if is_ours(&place)
            && let Ok(store) = Store::open(&place)
        {
            return Ok(store);
        }
    }
    Ok(Store::open(session.root())?)
}

/// Makes a directory that only this user writes, or finds it.
fn is_ours(place: &Path) -> bool {
    // `~/.cache` itself may be missing.
    let made = match place.parent().is_some_and(Path::is_dir) {
        true => fs::DirBuilder::new().mode(0o700).create(place),
        false => fs::DirBuilder::new().mode(0o700).recursive(true).create(place),
    };
    if made.is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        return false;
    }
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(place)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == own && meta.mode() & 0o022 == 0)
}

/// The proxies of this machine, as commands expect them.
fn proxies() -> Vec<String> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    let names = names.into_iter().flat_map(|name| [name.to_string(), name.to_lowercase()]);
    names.filter_map(|name| Some(format!("{name}={}", std::env::var(&name).ok()?))).collect()
}

/// Removes what was not used for long, now and then. What cannot be removed stays.
fn collect(store: &Store) {
    let stamp = store.root().join("collected");
    let last = fs::metadata(&stamp).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if last.elapsed().is_ok_and(|elapsed| elapsed < COLLECTION_TIME) || File::create(&stamp).is_err() {
        return;
    }
    let Ok(disk) = rustix::fs::statvfs(store.root()) else { return };
    let free = disk.f_bavail.saturating_mul(100) / disk.f_blocks.max(1);
    let unused_for =
        UNUSED.iter().find(|(percent, _)| free < *percent).map(|(_, seconds)| Duration::from_secs(*seconds));
    let options = GcOptions {
        cache_unused_for: unused_for,
        cache_mounts_unused_for: unused_for,
        partials_unused_for: unused_for,
        ..GcOptions::default()
    };
    let _ = store.gc(&options);
}
