//! buildx: builders. A build needs none here; scripts that create, choose and inspect one find the one that is.

use anyhow::Result;
use crossdock_platform::Platform;
use crossdock_sandbox::emulator::{self, Choice};

use super::{imagetools, print, table};
use crate::args::BuildxCommand;
use crate::session::Session;

/// The name of docker's own builder.
const NAME: &str = "default";

pub fn buildx(session: &Session, command: BuildxCommand) -> Result<u8> {
    match command {
        BuildxCommand::Imagetools(command) => return imagetools::imagetools(session, command),
        BuildxCommand::Ls => {
            let rows = [
                ["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "PLATFORMS"].map(str::to_string).to_vec(),
                vec![format!("{NAME}*"), "crossdock".into(), "running".into(), platforms().join(", ")],
            ];
            table(&rows);
        }
        BuildxCommand::Inspect { name, bootstrap: _ } => {
            print(&format!("Name:      {}", name.as_deref().unwrap_or(NAME)));
            print("Driver:    crossdock");
            print("Status:    running");
            print(&format!("Platforms: {}", platforms().join(", ")));
        }
        BuildxCommand::Create { name, .. } => print(name.as_deref().unwrap_or(NAME)),
        BuildxCommand::Use { .. } | BuildxCommand::Rm { .. } | BuildxCommand::Stop { .. } => {}
    }
    Ok(0)
}

/// Platforms whose programs run here, this machine's first.
fn platforms() -> Vec<String> {
    let mut all = vec![Platform::host()];
    for specifier in ["amd64", "arm64", "arm/v7", "386", "riscv64", "ppc64le", "s390x"] {
        let platform: Platform = format!("linux/{specifier}").parse().expect("a platform");
        let runs =
            emulator::is_native(&platform) || emulator::find(&platform.architecture, &Choice::Auto).is_ok();
        if runs && !all.contains(&platform) {
            all.push(platform);
        }
    }
    all.iter().map(Platform::to_string).collect()
}
