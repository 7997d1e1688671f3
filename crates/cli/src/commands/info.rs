//! version and info, with docker's templates (docker-version(1), docker-info(1)).

use anyhow::Result;
use crossdock_oci::size::size;
use crossdock_platform::Platform;
use serde_json::{Value, json};

use super::listing::filled_json;
use crate::builder::{NAME, platforms};
use crate::output::print;
use crate::session::Session;

#[derive(clap::Args)]
pub struct VersionArgs {
    /// json, or a template such as '{{.Client.Version}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(clap::Args)]
pub struct InfoArgs {
    /// json, or a template such as '{{.Architecture}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The machine's CPU as uname(2) names it.
fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// # Errors
///
/// A template that cannot be filled.
pub fn version(args: &VersionArgs) -> Result<u8> {
    let Some(format) = &args.format else {
        print(&format!("crossdock {VERSION}"));
        return Ok(0);
    };
    let host = Platform::host();
    let part = json!({
        "Version": VERSION, "Os": host.os, "Arch": host.architecture, "KernelVersion": kernel(),
        "Platform": {"Name": "crossdock"},
    });
    // There is no server: what scripts ask of it, they ask of the same program.
    show(&json!({ "Client": part, "Server": part, "Version": VERSION }), format)
}

/// # Errors
///
/// A template that cannot be filled; errors of the store.
pub fn info(session: &Session, args: &InfoArgs) -> Result<u8> {
    let store = session.store()?;
    let images = store.readable_images()?.0.len();
    let usage = store.disk_usage()?;
    let host = Platform::host();
    let (cpus, root) = (crossdock_oci::cpus(), session.root().display());
    if let Some(format) = &args.format {
        let value = json!({
            "Name": NAME, "ServerVersion": VERSION, "ClientInfo": {"Version": VERSION},
            "Images": images, "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0,
            "ContainersStopped": 0, "Driver": "overlay", "DockerRootDir": root.to_string(),
            "OSType": host.os, "Architecture": machine(), "KernelVersion": kernel(), "NCPU": cpus,
            "Platforms": platforms(), "SecurityOptions": ["name=rootless"], "Warnings": Value::Null,
        });
        return show(&value, format);
    }
    let lines = [
        ("Version", VERSION.to_string()),
        ("Store", root.to_string()),
        ("Images", images.to_string()),
        ("Size of images", size(usage.images.bytes)),
        ("Size of the build cache", size(usage.build_cache.bytes)),
        ("Kernel", kernel()),
        ("Architecture", machine()),
        ("CPUs", cpus.to_string()),
        ("Platforms", platforms().join(", ")),
    ];
    lines.iter().for_each(|(name, value)| print(&format!("{name}: {value}")));
    print("\"crossdock doctor\" says what this machine can do, and how to get what it lacks");
    Ok(0)
}

fn show(value: &Value, format: &str) -> Result<u8> {
    match format {
        "json" => print(&value.to_string()),
        template => print(&filled_json(template, value)?),
    }
    Ok(0)
}
