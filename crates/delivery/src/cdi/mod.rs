//! Descriptions of this machine's devices: files of the Container Device Interface in `/etc/cdi` and
//! `/var/run/cdi` (CDI, SPEC.md 1.1, "CDI JSON Specification").

mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use crossdock_builder::devices::{Device, DeviceMount, Devices};
use crossdock_dockerfile::values::boolean;
use serde::Deserialize;

use crate::files::chain;
use crate::input::{Kinds, read_whole};

/// Where descriptions lie; those of later directories replace devices of the same name in earlier ones.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The largest description, in bytes.
const SIZE_MAX: u64 = 4 << 20;

/// Annotation: the other name of a device (BuildKit, docs/cdi.md).
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Annotation: whether a device needs no permission.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    devices: Vec<SpecDevice>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpecDevice {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<SpecMount>,
    hooks: Vec<Hook>,
    additional_gids: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

/// Kind, numbers and owner are those of the node on this machine.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpecMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    r#type: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hook {
    hook_name: String,
    path: String,
}

/// Reads the descriptions in these directories. What cannot be read is noted, and told to whoever wants a
/// device that is not there.
pub fn devices(directories: &[PathBuf]) -> Devices {
    let mut all: BTreeMap<(String, String), Device> = BTreeMap::new();
    let mut unread = Vec::new();
    for directory in directories {
        let mut files: Vec<PathBuf> = match std::fs::read_dir(directory) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    unread.push(format!("{}: {error}", directory.display()));
                }
                continue;
            }
        };
        let is_description =
            |path: &PathBuf| path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml");
        files.retain(is_description);
        files.sort();
        for file in files {
            match described(&file) {
                Ok(devices) => all.extend(
                    devices.into_iter().map(|device| ((device.kind.clone(), device.name.clone()), device)),
                ),
                Err(error) => unread.push(format!("{}: {}", file.display(), chain(&error))),
            }
        }
    }
    Devices { all: all.into_values().collect(), allowed: Vec::new(), unread }
}

/// The devices of one file.
fn described(file: &Path) -> Result<Vec<Device>> {
    let text = read_whole(file, SIZE_MAX, Kinds::Regular)?;
    let text = String::from_utf8(text).context("it is no UTF-8 text")?;
    let value = yaml::read(&text).map_err(anyhow::Error::msg)?;
    let spec: Spec = serde_json::from_value(value)?;
    let is_version = |text: &str| text.split('.').all(|part| part.parse::<u32>().is_ok());
    ensure!(is_version(&spec.cdi_version), "cdiVersion: {}: it is no version", spec.cdi_version);
    ensure!(spec.kind.contains('/'), "kind: {}: it has the form VENDOR/CLASS", spec.kind);
    spec.devices.iter().map(|device| one(&spec, device)).collect()
}

fn one(spec: &Spec, described: &SpecDevice) -> Result<Device> {
    let annotation = |name: &str| {
        let value = described.annotations.get(name).or_else(|| spec.annotations.get(name))?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_string))
    };
    let mut device = Device {
        kind: spec.kind.clone(),
        name: described.name.clone(),
        class: annotation(CLASS),
        is_free: annotation(AUTO_ALLOW).and_then(|text| boolean(&text)) == Some(true),
        ..Device::default()
    };
    for edits in [&spec.container_edits, &described.container_edits] {
        add(&mut device, edits).with_context(|| format!("the device {}", described.name))?;
    }
    Ok(device)
}

fn add(device: &mut Device, edits: &Edits) -> Result<()> {
    for variable in &edits.env {
        ensure!(variable.contains('='), "env: {variable}: the form is NAME=VALUE");
        device.env.push(variable.clone());
    }
    for node in &edits.device_nodes {
        let source = node.host_path.clone().unwrap_or_else(|| node.path.clone());
        // A device cgroup, which would limit this, is for the machine's root alone.
        let limit = node.permissions.as_deref().filter(|text| !(text.contains('r') && text.contains('w')));
        if let Some(permissions) = limit {
            let node = node.path.display();
            device.left_out.push(format!(
                "the limit \"{permissions}\" of {node}: you have the rights that the file gives you"
            ));
        }
        device.mounts.push(mount(source, node.path.clone(), false, true)?);
    }
    for mounted in &edits.mounts {
        let is_bind = mounted.r#type.as_deref().is_none_or(|kind| kind.is_empty() || kind == "bind");
        ensure!(
            is_bind,
            "mounts: type {} is not known, only bind",
            mounted.r#type.as_deref().unwrap_or_default()
        );
        let read_only = mounted.options.iter().any(|option| option == "ro");
        let SpecMount { host_path, container_path, .. } = mounted.clone();
        device.mounts.push(mount(host_path, container_path, read_only, false)?);
    }
    let hooks = edits.hooks.iter().map(|hook| format!("the hook {} ({})", hook.hook_name, hook.path));
    device.left_out.extend(hooks);
    if !edits.additional_gids.is_empty() {
        let groups: Vec<String> = edits.additional_gids.iter().map(ToString::to_string).collect();
        device.left_out.push(format!("the groups {}: the command has those of its user", groups.join(", ")));
    }
    if edits.intel_rdt.is_some() {
        device.left_out.push("intelRdt".to_string());
    }
    if !edits.net_devices.is_empty() {
        device.left_out.push("netDevices".to_string());
    }
    Ok(())
}

fn mount(source: PathBuf, target: PathBuf, read_only: bool, is_node: bool) -> Result<DeviceMount> {
    for path in [&source, &target] {
        ensure!(path.is_absolute(), "{}: the path is not absolute", path.display());
    }
    Ok(DeviceMount { source, target, read_only, is_node })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> (Devices, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let directories = ["a", "b", "c"].map(|name| directory.path().join(name));
        (devices(&directories), directory)
    }

    const YAML: &str = "cdiVersion: \"0.6.0\"\nkind: vendor.com/gpu\nannotations:\n  org.mobyproject.buildkit.device.autoallow: true\n\
        devices:\n  - name: \"0\"\n    annotations:\n      org.mobyproject.buildkit.device.class: fast\n    containerEdits:\n\
        \x20     env: [GPU=0]\n      deviceNodes:\n        - path: /dev/gpu0\n          hostPath: /dev/null\n          fileMode: 0660\n\
        \x20         permissions: r\n      mounts:\n        - hostPath: /usr/lib/gpu\n          containerPath: /lib/gpu\n          options: [ro, nosuid]\n\
        \x20     hooks:\n        - hookName: createContainer\n          path: /usr/bin/hook\n          args: [hook, x]\n      additionalGids: [44]\n\
        containerEdits:\n  env:\n    - DRIVER=1\n";

    #[test]
    fn a_description_becomes_a_device() {
        let (devices, _directory) = read(&[("a/gpu.yaml", YAML)]);
        assert_eq!(devices.unread, [""; 0]);
        let [device] = &devices.all[..] else { panic!("{devices:?}") };
        assert_eq!(
            (device.full_name().as_str(), device.class.as_deref()),
            ("vendor.com/gpu=0", Some("fast"))
        );
        assert!(device.is_free);
        assert_eq!(device.env, ["DRIVER=1", "GPU=0"]);
        let mount = |source: &str, target: &str, read_only, is_node| DeviceMount {
            source: source.into(),
            target: target.into(),
            read_only,
            is_node,
        };
        let node = mount("/dev/null", "/dev/gpu0", false, true);
        assert_eq!(device.mounts, [node, mount("/usr/lib/gpu", "/lib/gpu", true, false)]);
        let left_out = device.left_out.join("\n");
        for part in ["\"r\" of /dev/gpu0", "createContainer (/usr/bin/hook)", "groups 44"] {
            assert!(left_out.contains(part), "{left_out}");
        }
    }

    #[test]
    fn later_directories_count_and_wrong_files_are_told() {
        let json = |value: &str| {
            format!(
                r#"{{"cdiVersion":"1.0.0","kind":"v.com/c","devices":[{{"name":"d","containerEdits":{{"env":["A={value}"]}}}}]}}"#
            )
        };
        let (devices, _directory) = read(&[
            ("a/1.json", &json("1")),
            ("b/0.json", &json("2")),
            ("b/other.txt", "not read"),
            ("b/bad.yaml", "kind: x\n"),
            ("b/worse.json", "{"),
            ("b/field.yaml", "cdiVersion: 0.6.0\nkind: a/b\nunknown: 1\n"),
            (
                "b/path.yaml",
                "cdiVersion: 0.6.0\nkind: a/b\ndevices: [{name: x, containerEdits: {deviceNodes: [{path: dev/x}]}}]\n",
            ),
        ]);
        assert_eq!(devices.all.len(), 1);
        assert_eq!(devices.all[0].env, ["A=2"]);
        assert_eq!(devices.unread.len(), 4, "{:?}", devices.unread);
        assert!(devices.unread.iter().any(|text| text.contains("field.yaml") && text.contains("unknown")));
    }
}
