//! `crossdock-register`: the program of the image in `examples/binfmt`. It registers our emulators with the
//! kernel of the machine on which a privileged container runs, for people who stay with docker or podman.
//!
//! Its options are those of `tonistiigi/binfmt` and, for scripts that call them, of
//! `multiarch/qemu-user-static`. The kernel opens the emulator when it is registered (flag F), so it stays
//! registered when the container has ended, until the machine is started anew.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use crossdock_platform::Platform;
use crossdock_sandbox::architecture::{ARCHITECTURES, Architecture};
use crossdock_sandbox::binfmt::Host;
use crossdock_sandbox::emulator::{self, BUILTIN_ARCHITECTURES, Choice};
use crossdock_sandbox::registration::{Entry, Flags};

/// Registers crossdock's emulators for programs of other CPUs on the machine. Without options it shows what
/// is registered.
#[derive(Parser)]
#[command(name = "crossdock-register", version)]
struct Args {
    /// Register emulators: all, or architectures such as arm64,arm
    #[arg(long, value_name = "all|ARCH,...", value_delimiter = ',')]
    install: Vec<String>,
    /// Remove handlers: all for ours, architectures, or names of handlers such as qemu-aarch64 or qemu-*
    #[arg(long, value_name = "all|ARCH,...|NAME", value_delimiter = ',')]
    uninstall: Vec<String>,
    /// First remove every other handler for what is registered; alone, the same as --reset --install all
    #[arg(long)]
    reset: bool,
    /// Whether the emulator stays registered when the container ends (flag F)
    #[arg(short, long, value_name = "yes|no", num_args = 0..=1, default_value = "yes", default_missing_value = "yes")]
    persistent: String,
    /// Whether setuid programs get the rights of their owner (flag C)
    #[arg(short, long, value_name = "yes|no", num_args = 0..=1, default_value = "yes", default_missing_value = "yes")]
    credential: String,
    /// Where binfmt_misc is, or is mounted
    #[arg(long, value_name = "DIR", default_value = "/proc/sys/fs/binfmt_misc")]
    mount: PathBuf,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let yes = |option: &str, text: &str| match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => bail!("--{option} {text}: it is yes or no"),
    };
    let (stays, credentials) = (yes("persistent", &args.persistent)?, yes("credential", &args.credential)?);
    let alone = args.reset && args.install.is_empty() && args.uninstall.is_empty();
    let install = if alone { vec!["all".to_string()] } else { args.install };
    let install = chosen(&install)?;
    let host = Host::at(&args.mount, "/etc/binfmt.d");
    mount(&host, &args.mount, !install.is_empty() || !args.uninstall.is_empty())?;
    for name in &args.uninstall {
        uninstall(&host, name)?;
    }
    for architecture in install {
        if args.reset {
            for entry in entries(&host)?.iter().filter(|entry| entry.serves(architecture)) {
                host.remove(&entry.name)?;
            }
        }
        let emulator = emulator::find(architecture.name, &Choice::Builtin)?;
        let flags = Flags { fix_binary: stays, credentials, ..emulator.flags() };
        host.install(architecture.name, &emulator.path, flags)?;
        eprintln!("registered {} for {}", emulator.path.display(), architecture.name);
    }
    show(&host)
}

/// The architectures that the words name.
fn chosen(words: &[String]) -> Result<Vec<&'static Architecture>> {
    let ours = BUILTIN_ARCHITECTURES.iter().filter_map(|name| Architecture::named(name));
    let mut chosen: Vec<&Architecture> = Vec::new();
    for word in words {
        if word == "all" {
            chosen.extend(ours.clone());
            continue;
        }
        // Also "linux/arm64", "aarch64" and "arm/v7".
        let name = word.strip_prefix("linux/").unwrap_or(word).split('/').next().unwrap_or_default();
        let found = ours.clone().find(|known| known.name == name || known.qemu == name);
        chosen.push(found.with_context(|| {
            format!(
                "--install {word}: this image has emulators for {} only; take tonistiigi/binfmt for others",
                BUILTIN_ARCHITECTURES.join(", ")
            )
        })?);
    }
    chosen.dedup();
    Ok(chosen)
}

/// Mounts binfmt_misc if it is not mounted.
///
/// # Errors
///
/// With `for_changes`: the container may change nothing that outlives it, with what to do about it.
fn mount(host: &Host, directory: &Path, for_changes: bool) -> Result<()> {
    let is_mounted = host.status()?.mounted;
    if !is_mounted {
        attach(directory)?;
    }
    if !for_changes {
        return Ok(());
    }
    // In a user namespace, one that is mounted here belongs to the namespace, and ends with it.
    let map = std::fs::read_to_string("/proc/self/uid_map").context("read /proc/self/uid_map")?;
    let is_machines = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !is_machines && (!is_mounted || host.is_of_outside()) {
        bail!(
            "this container is root in a user namespace only, so nothing that it registers would outlive it: run it with sudo"
        );
    }
    if !is_mounted && !is_kept(host, directory)? {
        bail!(
            "nothing else on this machine has binfmt_misc mounted, so the kernel would forget the handlers when the container ends; mount it on the machine, and try again: sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"
        );
    }
    Ok(())
}

/// Mounts binfmt_misc.
fn attach(directory: &Path) -> Result<()> {
    // docker and podman give containers a read-only /proc/sys unless they are privileged.
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("binfmt_misc", directory, "binfmt_misc", flags, None) {
        bail!(
            "binfmt_misc cannot be mounted at {}: {error}; run the container as root with --privileged, and load the kernel's module binfmt_misc",
            directory.display()
        );
    }
    Ok(())
}

/// Whether the file system that was just mounted at `directory` is also mounted elsewhere. The kernel removes
/// all handlers with the last mount, which a container cannot see: a handler for files that nobody has tells.
fn is_kept(host: &Host, directory: &Path) -> Result<bool> {
    let name = format!("crossdock-probe-{}", std::process::id());
    let line = format!(":{name}:E::{name}::/bin/false:");
    std::fs::write(directory.join("register"), line).context("register a handler to try out binfmt_misc")?;
    rustix::mount::unmount(directory, rustix::mount::UnmountFlags::empty())
        .with_context(|| format!("unmount {}", directory.display()))?;
    attach(directory)?;
    Ok(host.remove(&name)?)
}

fn entries(host: &Host) -> Result<Vec<Entry>> {
    Ok(host.status()?.entries)
}

/// Removes the handlers that a word names; that there are none is no error.
fn uninstall(host: &Host, word: &str) -> Result<()> {
    let ours = |entry: &Entry| entry.name.starts_with("crossdock-");
    let architecture = ARCHITECTURES.iter().find(|known| known.name == word || known.qemu == word);
    let is_meant = |entry: &Entry| match (word, word.strip_suffix('*'), architecture) {
        ("all", ..) => ours(entry),
        (_, Some(prefix), _) => entry.name.starts_with(prefix),
        (_, None, Some(architecture)) => ours(entry) && entry.serves(architecture),
        _ => entry.name == word,
    };
    for entry in entries(host)?.iter().filter(|entry| is_meant(entry)) {
        host.remove(&entry.name)?;
        eprintln!("removed {}", entry.name);
    }
    Ok(())
}

/// Prints what runs here as JSON, as `tonistiigi/binfmt` does: platforms, and names of handlers.
fn show(host: &Host) -> Result<()> {
    let entries = entries(host)?;
    let is_native = |name: &str| emulator::is_native(&Platform::new("linux", name, None));
    let supported: Vec<String> = ARCHITECTURES
        .iter()
        .filter(|known| is_native(known.name) || entries.iter().any(|entry| entry.serves(known)))
        .flat_map(|known| match known.name {
            "arm" => vec!["linux/arm/v7".to_string(), "linux/arm/v6".to_string()],
            name => vec![format!("linux/{name}")],
        })
        .collect();
    let emulators: Vec<&str> = entries
        .iter()
        .filter(|entry| ARCHITECTURES.iter().any(|known| entry.serves(known)))
        .map(|entry| entry.name.as_str())
        .collect();
    let status = serde_json::json!({"supported": supported, "emulators": emulators});
    println!("{}", serde_json::to_string_pretty(&status)?);
    Ok(())
}
