//! buildx: builders. A build needs none here; scripts that create, choose and inspect a builder get a fixed
//! one.

use anyhow::Result;
use clap::Subcommand;

use super::imagetools::{self, ImagetoolsCommand};
use crate::builder::{NAME, platforms};
use crate::output::{print, table};
use crate::session::Session;

/// Commands of `docker buildx` that scripts call before they build. Nothing is created, since builds need no
/// builder.
#[derive(Subcommand)]
pub enum BuildxCommand {
    /// List builders
    Ls {
        /// json, or a template such as '{{.Name}}'
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
    },
    /// Show the builder
    Inspect {
        /// Accepted for buildx
        name: Option<String>,
        /// Accepted for buildx; there is nothing to start
        #[arg(long)]
        bootstrap: bool,
    },
    /// Accepted for buildx
    Create {
        /// Accepted for buildx
        endpoint: Option<String>,
        /// Accepted for buildx
        #[arg(long)]
        name: Option<String>,
        /// Accepted for buildx
        #[arg(long)]
        driver: Option<String>,
        /// Accepted for buildx
        #[arg(long)]
        driver_opt: Vec<String>,
        /// Accepted for buildx
        #[arg(long)]
        platform: Vec<String>,
        /// Accepted for buildx
        #[arg(long)]
        bootstrap: bool,
        /// Accepted for buildx
        #[arg(long = "use")]
        used: bool,
    },
    /// Accepted for buildx
    Use {
        /// Accepted for buildx
        name: String,
        /// Accepted for buildx
        #[arg(long)]
        default: bool,
        /// Accepted for buildx
        #[arg(long)]
        global: bool,
    },
    /// Accepted for buildx
    Rm {
        /// Accepted for buildx
        names: Vec<String>,
        /// Accepted for buildx
        #[arg(short, long)]
        force: bool,
    },
    /// Images of registries
    #[command(subcommand)]
    Imagetools(ImagetoolsCommand),
    /// Accepted for buildx
    Stop {
        /// Accepted for buildx
        name: Option<String>,
    },
}

pub fn buildx(session: &Session, command: BuildxCommand) -> Result<u8> {
    match command {
        BuildxCommand::Imagetools(command) => return imagetools::imagetools(session, command),
        BuildxCommand::Ls { format: Some(format) } if format != "table" => {
            let row = serde_json::json!({
                "Name": NAME, "Driver": "crossdock", "Current": true,
                "Nodes": [{"Name": NAME, "Status": "running", "Platforms": platforms()}],
            });
            match format.as_str() {
                "json" => print(&row.to_string()),
                template => print(&super::listing::filled_json(template, &row)?),
            }
        }
        BuildxCommand::Ls { .. } => {
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
