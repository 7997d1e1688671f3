//! Programs that the tasks need, and how to run them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").to_path_buf()
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // /proc/self/status needs neither a crate nor unsafe code.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.and_then(|line| line.split_whitespace().nth(1)) == Some("0")
}

/// Whether a program is in PATH or in the administrator's directories, or is a file at an absolute path.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(extra).any(|directory| directory.join(program).is_file())
}

/// Ensures that programs are installed: `(program, Debian package)`. Root installs them; other users get a
/// message that says what to install.
pub fn require(programs: &[(&str, &str)]) -> Result<()> {
    let mut missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!(
            "missing programs; install them: sudo apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    println!("installing {}", missing.join(" "));
    // Without recommended packages: qemu-user-static would register handlers for the whole machine.
    let install = |update: bool| -> Result<bool> {
        if update {
            Command::new("apt-get")
                .args(["update", "-q"])
                .stdout(Stdio::null())
                .status()
                .context("run apt-get")?;
        }
        let status = Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .args(&missing)
            .stdout(Stdio::null())
            .status()
            .context("run apt-get")?;
        Ok(status.success())
    };
    if !install(false)? && !install(true)? {
        bail!("apt-get install {} failed", missing.join(" "));
    }
    Ok(())
}

/// Runs a command; an error names it.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output, trimmed.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, .. } =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(String::from_utf8_lossy(&stdout).trim().to_string())
}

/// Runs cargo in the checkout.
pub fn cargo(args: &[&str]) -> Result<()> {
    println!("cargo {}", args.join(" "));
    run(cargo_command().args(args))
}

/// Cargo in the checkout, as if it were not started by cargo.
pub fn cargo_command() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Build scripts that read the variables cargo has set for us would see a change, and everything would be
    // rebuilt.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    command.current_dir(checkout());
    command
}

/// The same command, in which SIGHUP, SIGINT and SIGQUIT are not ignored (env of coreutils 8.31).
pub fn with_default_signals(command: &Command) -> Command {
    let mut outer = Command::new("env");
    outer.arg("--default-signal=HUP,INT,QUIT");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    outer.arg(command.get_program()).args(command.get_args());
    outer
}

/// Builds the release executables and returns the path of crossdock; crossdock-emu is beside it, where
/// crossdock looks for it.
pub fn build_release() -> Result<PathBuf> {
    cargo(&["build", "--release", "--package", "crossdock", "--package", "crossdock-emu"])?;
    Ok(executable("crossdock"))
}

/// Builds a package in release mode and returns the path of its executable, which has the same name.
pub fn release(package: &str) -> Result<PathBuf> {
    cargo(&["build", "--release", "--package", package])?;
    Ok(executable(package))
}

fn executable(name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
    target.join("x86_64-unknown-linux-gnu/release").join(name)
}

/// Waits until a registry that was started has written its address to `file`.
pub fn address_of(registry: &mut Child, file: &Path) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(address) = std::fs::read_to_string(file)
            && !address.is_empty()
        {
            return Ok(address.trim().to_string());
        }
        if let Some(status) = registry.try_wait()? {
            bail!("the registry ended: {status}");
        }
        if Instant::now() > deadline {
            let _ = registry.kill();
            bail!("the registry does not answer");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
