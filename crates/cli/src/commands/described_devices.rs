//! Devices by name: those that this machine describes by the Container Device Interface (CDI).

use anyhow::{Result, bail};
use crossdock_builder::devices::{Device, DeviceRequest, Devices};
use crossdock_delivery::cdi;

/// Directories with descriptions in place of the usual ones, separated by colons.
const DIRECTORIES: &str = "CROSSDOCK_CDI_DIRS";

/// The devices that this machine describes.
pub fn devices() -> Devices {
    cdi::devices(&match std::env::var_os(DIRECTORIES) {
        Some(list) => std::env::split_paths(&list).collect(),
        None => cdi::DIRECTORIES.map(Into::into).to_vec(),
    })
}

/// Whether a `--device` is the name of a device and no path.
pub fn is_name(text: &str) -> bool {
    !text.starts_with(['/', '.']) && text.contains('/')
}

/// The devices of a `--device VENDOR/CLASS=NAME`: whoever gives it allows them.
///
/// # Errors
///
/// There is no such device.
pub fn named(text: &str) -> Result<Vec<Device>> {
    let devices = Devices { allowed: vec!["*".to_string()], ..devices() };
    match devices.find(&DeviceRequest { name: text.to_string(), is_optional: false }) {
        Ok(found) => Ok(found.into_iter().cloned().collect()),
        Err(reason) => bail!("--device {text}: {reason}"),
    }
}

/// The devices that an option `--allow` lets steps ask for: `device` for all, `device=NAME`.
pub fn allowed(text: &str) -> Option<String> {
    match text.strip_prefix("device")? {
        "" => Some("*".to_string()),
        rest => rest.strip_prefix('=').map(str::to_string),
    }
}
