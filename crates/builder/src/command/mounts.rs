//! Mounts of a command: what is known before it runs, and what exists while it runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossdock_dockerfile::ignore::Ignore;
use crossdock_dockerfile::mount::Sharing;
use crossdock_oci::store::{CacheMount, Scratch, Sharing as CacheSharing, TemporaryDirectory};
use crossdock_sandbox as sandbox;
use rustix::fs::{CWD, FileType, OFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::command::agent::AgentSocket;
use crate::command::mount::MountKind;
use crate::error::ErrorKind;
use crate::files::copy::{self, CopyOptions, Placement};
use crate::files::tree::Tree;
use crate::solver::engine::Engine;
use crate::solver::layer::Layer;

/// What a mount needs while the command runs.
pub(crate) enum Prepared {
    Bind {
        source: Bound,
        writable: bool,
    },
    Cache {
        id: String,
        sharing: CacheSharing,
        mode: u32,
        owner: (u32, u32),
        initial: Option<Bound>,
    },
    Tmpfs {
        size: Option<u64>,
        mode: u32,
    },
    File {
        content: Vec<u8>,
        mode: u32,
        owner: (u32, u32),
    },
    Agent {
        id: String,
        is_required: bool,
        mode: u32,
        owner: (u32, u32),
    },
    Secret {
        id: String,
        is_required: bool,
        /// The variable that gets the secret.
        variable: Option<String>,
        /// Whether the secret is a file at the mount's target.
        is_file: bool,
        mode: u32,
        owner: (u32, u32),
    },
}

/// A file or directory, looked up inside its tree. It stays the same until the command runs, even if its path
/// leads elsewhere by then.
#[derive(Clone)]
pub(crate) struct Bound {
    pub open: Arc<OwnedFd>,
    /// If the tree is made of layers: the layers, the lowest first, and the path in it.
    pub layers: Option<(Vec<Layer>, String)>,
}

impl From<OwnedFd> for Bound {
    fn from(open: OwnedFd) -> Bound {
        Bound { open: Arc::new(open), layers: None }
    }
}

/// Opens a path with `base` as the root of all links.
pub(crate) fn open_inside(base: &Path, path: &str) -> Result<Bound, ErrorKind> {
    let opened = Tree::open(base, Ignore::default()).and_then(|tree| tree.open_at(path, OFlags::PATH));
    opened.map(Bound::from).map_err(|e| ErrorKind::io(format!("mount \"/{path}\""), e))
}

impl<T> MountKind<T> {
    /// The mount, if it needs no tree.
    pub(crate) fn without_tree(&self) -> Option<Prepared> {
        match self {
            MountKind::Bind { .. } | MountKind::Cache { .. } => None,
            MountKind::Tmpfs { size } => Some(Prepared::Tmpfs { size: *size, mode: 0o1777 }),
            MountKind::Secret { id, is_optional, mode, owner } => Some(Prepared::Secret {
                id: id.clone(),
                is_required: !is_optional,
                variable: None,
                is_file: true,
                mode: *mode,
                owner: *owner,
            }),
            MountKind::Agent { id, is_optional, mode, owner } => Some(Prepared::Agent {
                id: id.clone(),
                is_required: !is_optional,
                mode: *mode,
                owner: *owner,
            }),
        }
    }
}

/// A mount of a command.
pub(crate) struct PreparedMount {
    pub what: Prepared,
    pub target: String,
    pub read_only: bool,
}

/// Mounts and directories that live as long as the step.
#[derive(Default)]
pub(crate) struct Kept {
    attached: Vec<Attached>,
    pub directories: Vec<TemporaryDirectory>,
}

impl Kept {
    /// Attaches a detached mount, so that paths below it can be opened and mounted; returns where.
    pub fn attach(&mut self, engine: &Engine<'_>, mount: &OwnedFd) -> Result<PathBuf, ErrorKind> {
        let place = engine.temporary()?;
        move_mount(mount, "", CWD, place.path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| ErrorKind::io(format!("mount {}", place.path().display()), e.into()))?;
        let path = place.path().to_path_buf();
        self.attached.push(Attached(place));
        Ok(path)
    }
}

/// A mount at a temporary directory; gone when dropped.
struct Attached(TemporaryDirectory);

impl Drop for Attached {
    fn drop(&mut self) {
        // If this fails, the mount goes with the process's mount namespace.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// Locks and directories that a running command needs.
#[derive(Default)]
pub(crate) struct Guards {
    caches: Vec<CacheMount>,
    scratches: Vec<Scratch>,
    directories: Vec<TemporaryDirectory>,
    agents: Vec<AgentSocket>,
    /// `NAME=VALUE` that mounts add to the environment.
    pub variables: Vec<String>,
}

impl Guards {
    /// The sandbox's mount for a prepared one; `None` if it is optional and there is nothing to mount.
    pub fn mount(
        &mut self,
        engine: &Engine<'_>,
        mount: &PreparedMount,
    ) -> Result<Option<sandbox::Mount>, ErrorKind> {
        let target = PathBuf::from(&mount.target);
        let kind = match &mount.what {
            Prepared::Bind { source, writable: true } => self.writable(engine, source)?,
            Prepared::Bind { source, .. } => {
                sandbox::MountKind::Bind { source: opened(source)?.into(), recursive: true }
            }
            Prepared::Secret { id, is_required, variable, is_file, mode, owner: (uid, gid) } => {
                let found = engine.env.secrets.secret(id).map_err(ErrorKind::Dockerfile)?;
                let Some(secret) = found else {
                    return if *is_required { Err(ErrorKind::MissingSecret(id.clone())) } else { Ok(None) };
                };
                if let Some(variable) = variable {
                    self.variables.push(format!("{variable}={}", String::from_utf8_lossy(&secret.0)));
                }
                if !is_file {
                    return Ok(None);
                }
                sandbox::MountKind::File {
                    content: sandbox::Content(secret.0),
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                }
            }
            Prepared::Agent { id, is_required, mode, owner } => {
                let found = engine.env.secrets.agent(id).map_err(ErrorKind::Dockerfile)?;
                let Some(path) = found else {
                    let message = format!("the SSH agent \"{id}\" is required by a mount: pass --ssh {id}");
                    return if *is_required { Err(ErrorKind::Dockerfile(message)) } else { Ok(None) };
                };
                self.variables.push(format!("SSH_AUTH_SOCK={}", mount.target));
                let failed = |e| ErrorKind::io(format!("lead to the SSH agent {}", path.display()), e);
                let agent = AgentSocket::new(engine.temporary()?, &path, *owner, *mode).map_err(failed)?;
                let source = agent.path().into();
                self.agents.push(agent);
                // A connection does not change the socket's file.
                let kind = sandbox::MountKind::Bind { source, recursive: false };
                return Ok(Some(sandbox::Mount { kind, target, read_only: true }));
            }
            Prepared::Tmpfs { size, mode } => {
                sandbox::MountKind::Tmpfs { size: *size, mode: *mode, owner: (0, 0), executable: true }
            }
            Prepared::File { content, mode, owner: (uid, gid) } => sandbox::MountKind::File {
                content: sandbox::Content(content.clone()),
                mode: *mode,
                uid: *uid,
                gid: *gid,
            },
            Prepared::Cache { id, sharing, mode, owner, initial } => {
                let fill = |path: &Path| fill_cache(path, *mode, *owner, initial.as_ref());
                let cache = engine.env.store.cache_mount(id, *sharing, fill)?;
                let path = cache.path().to_path_buf();
                self.caches.push(cache);
                sandbox::MountKind::Bind { source: path.into(), recursive: false }
            }
        };
        Ok(Some(sandbox::Mount { kind, target, read_only: mount.read_only }))
    }

    /// `rw`: the command may write; its writes are dropped.
    fn writable(&mut self, engine: &Engine<'_>, source: &Bound) -> Result<sandbox::MountKind, ErrorKind> {
        let failed = |e: io::Error| ErrorKind::io("prepare a writable mount", e);
        let stat = rustix::fs::fstat(&source.open).map_err(|e| failed(e.into()))?;
        let itself = PathBuf::from(format!("/proc/self/fd/{}", source.open.as_raw_fd()));
        let mount = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let scratch = engine.env.store.new_scratch()?;
                let upper = sandbox::Upper { upper: scratch.upper(), work: scratch.work(), volatile: false };
                let mount = sandbox::overlay_fd(&[itself], Some(&upper)).map_err(ErrorKind::Overlay)?;
                self.scratches.push(scratch);
                mount
            }
            FileType::RegularFile => {
                let directory = engine.temporary()?;
                let mut copy = File::create_new(directory.path().join("file")).map_err(failed)?;
                File::open(itself).and_then(|mut file| io::copy(&mut file, &mut copy)).map_err(failed)?;
                // A single id cannot give files away.
                let _ = fchown(&copy, Some(stat.st_uid), Some(stat.st_gid));
                let mode = rustix::fs::Mode::from_raw_mode(stat.st_mode);
                rustix::fs::fchmod(&copy, mode).map_err(|e| failed(e.into()))?;
                self.directories.push(directory);
                copy.into()
            }
            _ => {
                let kind = "a device, FIFO or socket cannot be mounted writable: leave out rw".to_string();
                return Err(ErrorKind::Dockerfile(kind));
            }
        };
        Ok(sandbox::MountKind::Bind { source: mount.into(), recursive: false })
    }
}

/// The store's word for how a cache is shared.
pub(crate) fn sharing_of(sharing: Sharing) -> CacheSharing {
    match sharing {
        Sharing::Shared => CacheSharing::Shared,
        Sharing::Private => CacheSharing::Private,
        Sharing::Locked => CacheSharing::Locked,
    }
}

fn opened(source: &Bound) -> Result<OwnedFd, ErrorKind> {
    source.open.try_clone().map_err(|e| ErrorKind::io("keep a mount's source open", e))
}

/// Sets content, owner and mode of a new cache directory.
fn fill_cache(
    path: &Path,
    mode: u32,
    (uid, gid): (u32, u32),
    initial: Option<&Bound>,
) -> Result<(), ErrorKind> {
    let failed = |e: io::Error| ErrorKind::io(format!("prepare the cache {}", path.display()), e);
    if let Some(initial) = initial {
        let source = Tree::new(opened(initial)?);
        let target = Tree::open(path, Ignore::default()).map_err(failed)?;
        let start = source.entry("").map_err(failed)?;
        copy::copy(&source, &start, target.root(), b"", Placement::Exact, &CopyOptions::default())?;
    }
    // A single id cannot give files away; the cache then belongs to the only user there is.
    let _ = chown(path, Some(uid), Some(gid));
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(failed)
}
