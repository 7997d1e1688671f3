//! A command that failed as its files and mounts can be had again.

use std::path::PathBuf;

use crossdock_dockerfile::mount::Sharing;
use crossdock_oci::Store;
use crossdock_oci::store::Sharing as CacheSharing;
use crossdock_platform::Platform;

use crate::command::execute::Command;
use crate::command::mount::{Mount, MountKind};
use crate::command::mounts::{Bound, Prepared, PreparedMount};
use crate::failed::Failed;
use crate::solver::layer::trees_of;

/// What is left of a command whose root was made of the layers `before`, with its changes going to `upper`.
pub(crate) fn failed(
    store: &Store,
    command: &Command<'_>,
    platform: &Platform,
    (before, upper): (&[PathBuf], PathBuf),
    mounts: &[PreparedMount],
) -> Failed {
    Failed {
        args: command.args.to_vec(),
        env: command.env.to_vec(),
        cwd: command.cwd.to_string(),
        user: command.user.to_string(),
        network: command.network,
        insecure: command.insecure,
        platform: platform.clone(),
        before: before.to_vec(),
        upper,
        changes: None,
        mounts: mounts.iter().filter_map(|mount| again(store, platform, mount)).collect(),
    }
}

/// The mount for another command; `None` if it cannot be had again.
fn again(store: &Store, platform: &Platform, mount: &PreparedMount) -> Option<Mount<Vec<PathBuf>>> {
    let kind = match &mount.what {
        Prepared::Bind { source, .. } => {
            let (input, selector) = tree_of(store, source)?;
            MountKind::Bind { input, selector, output: None }
        }
        Prepared::Cache { id, sharing, .. } => {
            let sharing = match sharing {
                CacheSharing::Shared => Sharing::Shared,
                CacheSharing::Private => Sharing::Private,
                CacheSharing::Locked => Sharing::Locked,
            };
            let id = id.strip_prefix(&format!("{platform} ")).unwrap_or(id).to_string();
            MountKind::Cache { id, sharing, initial: Vec::new(), selector: String::new() }
        }
        Prepared::Tmpfs { size, .. } => MountKind::Tmpfs { size: *size },
        Prepared::Secret { id, is_required, is_file: true, mode, owner, .. } => {
            MountKind::Secret { id: id.clone(), is_optional: !is_required, mode: *mode, owner: *owner }
        }
        Prepared::Agent { id, is_required, mode, owner } => {
            MountKind::Agent { id: id.clone(), is_optional: !is_required, mode: *mode, owner: *owner }
        }
        // A file is of this command alone, and a variable is no mount.
        Prepared::File { .. } | Prepared::Secret { .. } => return None,
    };
    Some(Mount { target: mount.target.clone(), read_only: mount.read_only, kind })
}

/// The layers of a tree, and the path in it; a directory of this machine is one layer.
fn tree_of(store: &Store, source: &Bound) -> Option<(Vec<PathBuf>, String)> {
    if let Some((layers, path)) = &source.layers {
        return Some((trees_of(store, layers).ok()?, path.clone()));
    }
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&*source.open);
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    path.is_dir().then(|| (vec![path], String::new()))
}
