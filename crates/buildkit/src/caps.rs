//! What this server tells clients that it can do (BuildKit, solver/pb/caps.go and
//! frontend/gateway/pb/caps.go). A capability is listed only if it is there.

use bollard_buildkit_proto::moby::buildkit::v1::apicaps::ApiCap;
use bollard_buildkit_proto::moby::buildkit::v1::types::{BuildkitVersion, CdiDevice, WorkerRecord};
use bollard_buildkit_proto::pb;
use crossdock_builder::devices::Device;

use crate::house::House;

/// Of frontends.
const FRONTEND: [&str; 21] = [
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "return",
    "returnmap",
    "readdir",
    "statfile",
    "importcaches",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "gateway.solve.metadata",
    "frontend.caps",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.exec",
    "gateway.exec.extrahosts",
    "gateway.exec.secretenv",
    "gateway.exec.signals",
];

/// Of definitions and exporters.
const DEFINITIONS: [&str; 64] = [
    "source.image",
    "source.image.resolvemode",
    "source.image.checksum",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.git.subdir",
    "source.git.httpauth",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.checksum",
    "source.http",
    "source.http.checksum",
    "source.http.perm",
    // BuildKit spells it so.
    "soruce.http.uidgid",
    "source.ocilayout",
    "source.buildop.llbfilename",
    "exec.meta.base",
    "exec.meta.cdi",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.rm.wildcard",
    "file.rm.nofollowsymlink",
    "file.copy.includeexcludepatterns",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.modestring",
    "file.symlink.create",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "mergeop",
    "diffop",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "exporter.multiple",
    "gc.freespacefilter",
    "cache.azblob",
    "cache.gha",
    "cache.s3",
];

fn list(ids: &[&str]) -> Vec<ApiCap> {
    let cap = |id: &&str| ApiCap { id: id.to_string(), enabled: true, ..ApiCap::default() };
    ids.iter().map(cap).collect()
}

/// Capabilities of frontends.
pub fn frontend() -> Vec<ApiCap> {
    list(&FRONTEND)
}

/// Capabilities of definitions and exporters.
pub fn definitions() -> Vec<ApiCap> {
    list(&DEFINITIONS)
}

/// The version that clients compare with those of BuildKit: what this API corresponds to.
pub fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "crossdock".to_string(),
        version: concat!("v", env!("CARGO_PKG_VERSION")).to_string(),
        revision: String::new(),
    }
}

/// The annotation of a device that names its class.
const CLASS: &str = "org.mobyproject.buildkit.device.class";

/// A device as clients list it.
fn device(device: &Device) -> CdiDevice {
    let annotations = device.class.iter().map(|class| (CLASS.to_string(), class.clone())).collect();
    CdiDevice { name: device.full_name(), auto_allow: device.is_free, annotations, on_demand: false }
}

/// The only worker.
pub fn worker(house: &House) -> WorkerRecord {
    let platforms = house.desk.platforms().into_iter().map(|platform| pb::Platform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant.unwrap_or_default(),
        ..pb::Platform::default()
    });
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let labels = [
        ("org.mobyproject.buildkit.worker.executor", "crossdock"),
        ("org.mobyproject.buildkit.worker.hostname", host.as_str()),
        ("org.mobyproject.buildkit.worker.network", "host"),
        ("org.mobyproject.buildkit.worker.snapshotter", "crossdock"),
    ];
    WorkerRecord {
        id: house.worker.clone(),
        labels: labels.map(|(name, value)| (name.to_string(), value.to_string())).into(),
        platforms: platforms.collect(),
        cdi_devices: house.desk.devices().all.iter().map(device).collect(),
        buildkit_version: Some(version()),
        ..WorkerRecord::default()
    }
}
