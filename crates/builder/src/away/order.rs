//! A command as a document, and how its execution ended.

use std::net::IpAddr;
use std::path::PathBuf;

use crossdock_oci::Digest;
use crossdock_oci::store::{LayerOptions, Sharing, TemporaryDirectory};
use crossdock_platform::Platform;
use crossdock_sandbox as sandbox;
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::event::StepId;
use crate::solver::layer::Packed;

/// Everything that a command depends on. It names nothing of the machine that wrote it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The command line.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// The user, as USER has it.
    pub user: String,
    /// The network.
    pub network: sandbox::Network,
    /// The platform of the command's programs.
    pub platform: Platform,
    /// Platforms for which emulators are registered, if the machine needs them.
    pub emulated: Vec<Platform>,
    /// The layers below, the lowest first.
    pub lower: Vec<Packed>,
    /// What is mounted.
    pub mounts: Vec<OrderMount>,
    /// The host name that the command sees; `None` for the usual one.
    pub hostname: Option<String>,
    /// More lines of `/etc/hosts`.
    pub add_hosts: Vec<(String, IpAddr)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Resource limits.
    pub limits: Vec<sandbox::Limit>,
    /// Limits of the command.
    pub security: sandbox::Security,
    /// More groups of the user.
    pub groups: Vec<String>,
    /// Text of `/etc/resolv.conf`; `None` for the machine's.
    pub resolv_conf: Option<String>,
    /// Seconds since 1970 that no time in the layer is later than.
    pub source_date_epoch: Option<i64>,
    /// Whether owners of files are lost, since whoever asks has a single id (docs/dev/sandbox.md).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loses_owners: bool,
    /// How the layer is written.
    pub layers: LayerOptions,
}

/// A mount of an order.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderMount {
    /// Where it is mounted.
    pub target: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// What is mounted.
    pub what: OrderMountKind,
}

/// What a mount of an order shows.
#[derive(Debug, Serialize, Deserialize)]
pub enum OrderMountKind {
    /// Files. Writes are dropped.
    Bind {
        /// The files.
        source: Files,
        /// Whether the command may write.
        writable: bool,
    },
    /// A directory that the machine may keep for later commands.
    Cache {
        /// Its name.
        id: String,
        /// Use by several commands at once.
        sharing: Sharing,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        owner: (u32, u32),
        /// What a new one holds.
        initial: Option<Files>,
    },
    /// Memory.
    Tmpfs {
        /// Its size in bytes.
        size: Option<u64>,
        /// Permission bits of its root.
        #[serde(default = "temporary_mode", skip_serializing_if = "is_temporary_mode")]
        mode: u32,
    },
    /// A file with this content.
    File {
        /// The content.
        content: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: (u32, u32),
    },
}

/// The usual permission bits of temporary files; not written, so that orders stay those of earlier versions.
fn temporary_mode() -> u32 {
    0o1777
}

fn is_temporary_mode(mode: &u32) -> bool {
    *mode == temporary_mode()
}

/// Files of an order.
#[derive(Debug, Serialize, Deserialize)]
pub enum Files {
    /// A path in the root made of layers.
    Layers {
        /// The layers, the lowest first.
        layers: Vec<Packed>,
        /// The path without a slash in front; empty for the root.
        path: String,
    },
    /// A directory, as an archive of what is in it.
    Directory {
        /// Number of the archive among [`Package::files`].
        file: usize,
        /// The directory itself.
        meta: Meta,
    },
    /// A file.
    File {
        /// Number of the content among [`Package::files`].
        file: usize,
        /// The rest of it.
        meta: Meta,
    },
}

/// What a file is besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Permissions.
    pub mode: u32,
    /// User and group id.
    pub owner: (u32, u32),
    /// When it was changed, in seconds since 1970.
    pub time: i64,
}

impl Order {
    /// All layers that the order names, each once.
    pub fn layers(&self) -> Vec<&Packed> {
        let of_mounts = self.mounts.iter().filter_map(|mount| match &mount.what {
            OrderMountKind::Bind { source: files, .. }
            | OrderMountKind::Cache { initial: Some(files), .. } => Some(files),
            _ => None,
        });
        let of_mounts = of_mounts.filter_map(|files| match files {
            Files::Layers { layers, .. } => Some(layers),
            _ => None,
        });
        let mut all: Vec<&Packed> = self.lower.iter().chain(of_mounts.flatten()).collect();
        all.sort_by(|a, b| a.descriptor.digest.cmp(&b.descriptor.digest));
        all.dedup_by(|a, b| a.descriptor.digest == b.descriptor.digest);
        all
    }
}

/// An order with the files that it needs beside the layers.
#[derive(Debug)]
pub struct Package {
    /// The order.
    pub order: Order,
    /// Archives and files, by number.
    pub files: Vec<PathBuf>,
    /// Holds the files.
    pub directory: TemporaryDirectory,
    /// The emulator that foreign platforms of the order need, or why there is none to send.
    pub emulator: Result<Option<PathBuf>, String>,
}

/// How the execution of an order ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The command succeeded.
    Done {
        /// Its layer; `None` if it changed nothing.
        layer: Option<Box<Packed>>,
        /// Length of the uncompressed archive in bytes.
        size: u64,
    },
    /// The command failed.
    Failed {
        /// `exit code: N`, or the signal.
        status: String,
        /// A hint, or nothing.
        hint: String,
    },
    /// The machine could not execute it.
    Refused(String),
}

/// A step that may be executed elsewhere.
pub struct Task<'a> {
    /// Digest of the step's dependencies.
    pub key: &'a Digest,
    /// Number of the step.
    pub step: StepId,
    /// The step, for messages: `[build 2/5] RUN make`.
    pub name: &'a str,
    /// The command line, for errors.
    pub command: &'a str,
    /// The platform of its programs.
    pub platform: &'a Platform,
    /// Whether an earlier result will do.
    pub use_cache: bool,
    /// The time for the record, RFC 3339.
    pub created: String,
    /// See [`crate::Record::renewal`].
    pub renewal: Option<String>,
    /// Makes the package. Waits until the layers below are packed.
    pub package: &'a (dyn Fn() -> Result<Package, ErrorKind> + Sync),
}
