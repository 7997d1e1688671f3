//! doctor: what this machine can do, and the command that fixes each lack.

use anyhow::Result;
use crossdock_sandbox::doctor::{Health, probe};

use crate::output::print;
use crate::session::Session;

#[derive(clap::Args)]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub fn doctor(session: &Session, args: DoctorArgs) -> Result<u8> {
    let checks = probe(session.root());
    let failed = checks.iter().any(|check| check.status == Health::Fail);
    if args.json {
        print(&serde_json::to_string_pretty(&checks)?);
        return Ok(u8::from(failed));
    }
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in &checks {
        let word = match check.status {
            Health::Ok => "ok  ",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        print(&format!("{word}  {:width$}  {}", check.name, check.what));
        for note in &check.notes {
            print(&format!("      {:width$}  note: {note}", ""));
        }
        if let Some(fix) = &check.fix {
            print(&format!("      {:width$}  fix: {fix}", ""));
        }
    }
    Ok(u8::from(failed))
}
