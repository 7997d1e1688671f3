//! Mounts of commands and containers, from the client's messages (moby/buildkit, solver/pb/ops.proto).

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::pb;
use crossdock_builder::mount::{Mount, MountKind};
use crossdock_dockerfile::mount::Sharing;

/// A mount; `tree` finds the tree that it shows, or begins with.
///
/// # Errors
///
/// Something is missing or unknown; what `tree` says.
pub fn mount<T>(mount: &pb::Mount, tree: impl FnOnce(&pb::Mount) -> Result<T>) -> Result<Mount<T>> {
    let kind = match pb::MountType::try_from(mount.mount_type) {
        Ok(pb::MountType::Bind) => MountKind::Bind {
            input: tree(mount)?,
            selector: mount.selector.clone(),
            output: usize::try_from(mount.output).ok(),
        },
        Ok(pb::MountType::Cache) => {
            let cache = mount.cache_opt.clone().unwrap_or_default();
            let sharing = match pb::CacheSharingOpt::try_from(cache.sharing) {
                Ok(pb::CacheSharingOpt::Shared) => Sharing::Shared,
                Ok(pb::CacheSharingOpt::Private) => Sharing::Private,
                Ok(pb::CacheSharingOpt::Locked) => Sharing::Locked,
                Err(_) => bail!("unknown sharing mode {} of a cache", cache.sharing),
            };
            let (initial, selector) = (tree(mount)?, mount.selector.clone());
            MountKind::Cache { id: cache.id, sharing, initial, selector }
        }
        Ok(pb::MountType::Tmpfs) => {
            let size = mount.tmpfs_opt.map_or(0, |tmpfs| tmpfs.size);
            MountKind::Tmpfs { size: u64::try_from(size).ok().filter(|size| *size > 0) }
        }
        Ok(pb::MountType::Secret) => {
            let secret = mount.secret_opt.clone().context("a secret mount names no secret")?;
            MountKind::Secret {
                id: secret.id,
                is_optional: secret.optional,
                mode: secret.mode,
                owner: (secret.uid, secret.gid),
            }
        }
        Ok(pb::MountType::Ssh) => {
            let agent = mount.ssh_opt.clone().context("an SSH mount names no agent")?;
            MountKind::Agent {
                id: if agent.id.is_empty() { "default".to_string() } else { agent.id },
                is_optional: agent.optional,
                mode: agent.mode,
                owner: (agent.uid, agent.gid),
            }
        }
        Err(_) => bail!("unknown kind {} of the mount {}", mount.mount_type, mount.dest),
    };
    Ok(Mount { target: mount.dest.clone(), read_only: mount.readonly, kind })
}
