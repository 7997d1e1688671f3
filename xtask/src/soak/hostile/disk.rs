//! Disks of every size that fill up: the error says so, existing data stays whole, and with room the command
//! succeeds.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::world::{HANG, Server, World, finished};
use crate::tools::run;

/// Room in KiB for the case of one seed: small steps where little fits, then wider ones up to where
/// everything fits.
fn room_kib(seed: u64) -> u64 {
    let step = seed.saturating_sub(1);
    if step < 16 { step * 40 } else { 640 + (step - 16) * (step - 16) * 20 }
}

/// Runs in its own mount namespace.
pub fn disk(world: &World, seed: u64) -> Result<()> {
    let disk = world.directory.join("disk");
    std::fs::create_dir_all(&disk)?;
    let room = room_kib(seed);
    let mut faults = Vec::new();
    for command in ["build", "pull", "load", "save", "push", "tag"] {
        if let Err(error) = fill(world, &disk, command, room) {
            faults.push(format!("{command} in {room} KiB: {error:#}"));
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}

/// Runs a command on a disk with a store, an image in it, and `room_kib` of free room.
fn fill(world: &World, disk: &Path, command: &str, room_kib: u64) -> Result<()> {
    let path = disk.to_str().context("the path is not UTF-8")?;
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=200m", "tmpfs", path]))?;
    let result = on_disk(world, disk, command, room_kib);
    run(Command::new("umount").args(["--lazy", path]))?;
    result
}

fn on_disk(world: &World, disk: &Path, command: &str, room_kib: u64) -> Result<()> {
    let store = disk.join("store");
    let small = |args: &[&str]| {
        let mut command = world.command(args);
        finished(command.env("CROSSDOCK_ROOT", &store).stdin(Stdio::null()), HANG)
    };
    let text = |name: &str| disk.join(name).display().to_string();
    good(small(&["pull", "-q", &world.name("base:1")])?)?;
    good(small(&["tag", &world.name("base:1"), "base"])?)?;
    if matches!(command, "save" | "tag") {
        good(small(&["pull", "-q", &world.name("keep:1")])?)?;
    }
    let id = good(small(&["inspect", "--format", "{{.Id}}", "base"])?)?;
    let server = match command {
        "push" => Some(Server::start(&world.crossdock, &world.directory, "disk/registry")?),
        _ => None,
    };
    let (archive, keep) = (world.file("app.docker.tar"), world.name("keep:1"));
    let saved = text("saved.tar");
    let target = server.as_ref().map_or_else(String::new, |server| format!("{}/keep:1", server.address));
    let args: Vec<&str> = match command {
        "build" => vec!["build", "-q", "-t", "new", "--build-arg", "N=1", "CONTEXT"],
        "pull" => vec!["pull", "-q", &keep],
        "load" => vec!["load", "-q", "-i", &archive],
        "save" => vec!["save", "-o", &saved, &keep],
        "push" => vec!["push", "-q", "base", &target],
        _ => vec!["tag", &keep, "new"],
    };
    let context = world.file("context");
    let args: Vec<&str> = args.into_iter().map(|arg| if arg == "CONTEXT" { &context } else { arg }).collect();
    resize(disk, used_kib(disk)? + room_kib)?;
    let output = small(&args)?;
    let error = String::from_utf8_lossy(&output.stderr).trim().to_string();
    if !output.status.success() {
        // If the registry's disk is full, the error only has the registry's answer.
        let says_so = error.contains("o space left") && (error.contains(path_of(disk)?) || command == "push");
        if output.status.code() != Some(1) || !says_so {
            bail!("{}: {error}", output.status);
        }
        if command == "save" && Path::new(&saved).exists() {
            bail!("half an archive is left");
        }
    }
    // Making room works on a full disk. A command that reads blobs may need some bytes, for the lease that
    // protects them from a prune.
    good(small(&["rmi", &world.name("base:1")])?).context("on the full disk")?;
    good(small(&["system", "prune", "--force"])?).context("on the full disk")?;
    let list = small(&["images"])?;
    if !list.status.success() && !String::from_utf8_lossy(&list.stderr).contains("no space left") {
        bail!("images on the full disk: {}", String::from_utf8_lossy(&list.stderr).trim());
    }
    resize(disk, 200 * 1024)?;
    if good(small(&["inspect", "--format", "{{.Id}}", "base"])?)? != id {
        bail!("the image base has changed");
    }
    good(small(&args)?).context("with room")?;
    if good(small(&["run", "--rm", "--network", "none", "base", "echo", "whole"])?)? != "whole" {
        bail!("the image base does not run");
    }
    good(small(&["save", "--format", "oci", "-o", &text("check.tar"), "base"])?)?;
    good(small(&["system", "prune", "--all", "--force"])?)?;
    for directory in ["tmp", "ingest", "leases", "corrupt"] {
        let left = super::world::names(&store.join(directory))?;
        if !left.is_empty() {
            bail!("after system prune, {directory} has {left:?}");
        }
    }
    Ok(())
}

fn path_of(disk: &Path) -> Result<&str> {
    disk.to_str().context("the path is not UTF-8")
}

fn good(output: std::process::Output) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr).trim().to_string();
    if !output.status.success() || error.contains("panicked") {
        bail!("{}: {error}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn resize(disk: &Path, kib: u64) -> Result<()> {
    run(Command::new("mount").args(["-o", &format!("remount,size={kib}k")]).arg(disk))
}

fn used_kib(disk: &Path) -> Result<u64> {
    let stat =
        rustix::fs::statvfs(disk).with_context(|| format!("ask for the room of {}", disk.display()))?;
    Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize / 1024)
}
