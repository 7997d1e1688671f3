//! What clients need to look into a step that failed: a detail of the error, with the names of the files
//! before and after it (BuildKit, solver/errdefs, `Solve`).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::pb;
use crossdock_builder::failed::Failed;
use crossdock_builder::mount::{Mount, MountKind};
use crossdock_builder::solver::cache::StepCache;
use crossdock_builder::{Base, Layer, MadeImage};
use crossdock_dockerfile::mount::Sharing;
use crossdock_sandbox::Network;
use serde_json::{Value, json};

use crate::failure;
use crate::image::Image;
use crate::job::Job;
use crate::results::Solved;

/// The type of the detail.
const SOLVE: &str = "errdefs.Solve";

/// Whether a detail is about files that are there as long as the build runs.
pub fn is_of_build(detail: &Any) -> bool {
    detail.type_url.contains(SOLVE)
}

/// The detail for a command that failed. Its files stay until the build is over.
///
/// # Errors
///
/// The detail cannot be written.
pub fn detail(job: &Job, failed: Failed) -> Result<Any> {
    let hold = |trees: Vec<PathBuf>| {
        let made = MadeImage {
            platform: failed.platform.clone(),
            config: Default::default(),
            layers: trees.into_iter().map(Layer::of_directory).collect(),
            base: Base::default(),
        };
        job.hold(Arc::new(Solved {
            image: Image::unwritten(made),
            steps: StepCache::default(),
            attestations: Vec::new(),
            recorded: None,
            epoch: None,
        }))
    };
    let mut mounts = vec![json!({ "dest": "/" })];
    let mut before = vec![hold(failed.before.clone())];
    let mut after = vec![hold(failed.after())];
    for mount in &failed.mounts {
        let tree = match &mount.kind {
            MountKind::Bind { input, .. } => hold(input.clone()),
            _ => String::new(),
        };
        mounts.push(shown(mount));
        before.push(tree.clone());
        after.push(tree);
    }
    let network = match failed.network {
        Network::None => pb::NetMode::None,
        _ => pb::NetMode::Unset,
    };
    let security = if failed.insecure { pb::SecurityMode::Insecure } else { pb::SecurityMode::Sandbox };
    let platform = &failed.platform;
    let value = json!({
        "inputIDs": before,
        "mountIDs": after,
        "op": {
            "exec": {
                "meta": {
                    "args": failed.args, "env": failed.env, "cwd": failed.cwd, "user": failed.user,
                },
                "mounts": mounts,
                "network": network as i32,
                "security": security as i32,
            },
            "platform": {
                "Architecture": platform.architecture,
                "OS": platform.os,
                "Variant": platform.variant.clone().unwrap_or_default(),
            },
        },
    });
    // The trees of its changes.
    job.keep(failed);
    Ok(failure::detail(SOLVE, &value))
}

/// A mount in the form of protobuf's JSON.
fn shown(mount: &Mount<Vec<PathBuf>>) -> Value {
    let mut value = json!({ "dest": mount.target, "readonly": mount.read_only });
    let kind = match &mount.kind {
        MountKind::Bind { selector, .. } => {
            value["selector"] = json!(selector);
            pb::MountType::Bind
        }
        MountKind::Cache { id, sharing, .. } => {
            let sharing = match sharing {
                Sharing::Shared => pb::CacheSharingOpt::Shared,
                Sharing::Private => pb::CacheSharingOpt::Private,
                Sharing::Locked => pb::CacheSharingOpt::Locked,
            };
            value["cacheOpt"] = json!({ "ID": id, "sharing": sharing as i32 });
            pb::MountType::Cache
        }
        MountKind::Tmpfs { size } => {
            value["TmpfsOpt"] = json!({ "size": size.unwrap_or(0) });
            pb::MountType::Tmpfs
        }
        MountKind::Secret { id, is_optional, mode, owner: (uid, gid) } => {
            value["secretOpt"] =
                json!({ "ID": id, "uid": uid, "gid": gid, "mode": mode, "optional": is_optional });
            pb::MountType::Secret
        }
        MountKind::Agent { id, is_optional, mode, owner: (uid, gid) } => {
            value["SSHOpt"] =
                json!({ "ID": id, "uid": uid, "gid": gid, "mode": mode, "optional": is_optional });
            pb::MountType::Ssh
        }
    };
    value["mountType"] = json!(kind as i32);
    value
}
