//! The transport `containers-storage:`: images of podman and buildah. Their store is read and written only by
//! their own programs, so podman itself saves and loads an archive (podman-save(1), podman-load(1)).

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Writes an image of podman as a docker archive.
///
/// # Errors
///
/// No podman; what podman says.
pub fn save(name: &str, archive: &Path) -> Result<()> {
    check(name)?;
    let mut command = Command::new("podman");
    command.args(["save", "--quiet", "--format", "docker-archive", "--output"]).arg(archive).arg(name);
    run(command, name)
}

/// Loads a docker archive into podman's store.
///
/// # Errors
///
/// No podman; what podman says.
pub fn load(name: &str, archive: &Path) -> Result<()> {
    check(name)?;
    let mut command = Command::new("podman");
    command.args(["load", "--quiet", "--input"]).arg(archive);
    run(command, name)
}

fn check(name: &str) -> Result<()> {
    if name.starts_with(['-', '[']) {
        bail!("containers-storage:{name}: give the name of an image");
    }
    Ok(())
}

fn run(mut command: Command, name: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!("containers-storage:{name}: podman reads and writes its own store, and cannot be started: install it")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("containers-storage:{name}: podman says: {}", said.trim());
    }
    Ok(())
}
