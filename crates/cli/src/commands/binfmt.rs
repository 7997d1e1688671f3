//! binfmt: handlers for programs of other CPUs on this machine.

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use crossdock_platform::Platform;
use crossdock_sandbox::Emulator;
use crossdock_sandbox::architecture::{ARCHITECTURES, Architecture};
use crossdock_sandbox::binfmt::Host;
use crossdock_sandbox::emulator::{self, Choice};

use crate::output::{print, table};
use crate::values;

#[derive(Subcommand)]
pub enum BinfmtCommand {
    /// Show the handlers of this machine
    Status,
    /// Register emulators for everybody on this machine; needs root
    Install {
        /// Architectures or platforms [default: all with an emulator]
        platforms: Vec<String>,
        /// auto, builtin, qemu or a path
        #[arg(long, value_name = "EMULATOR", default_value = "auto")]
        emulator: String,
        /// Also after the next boot: write a file for systemd's binfmt.d
        #[arg(long)]
        persist: bool,
        /// In a user namespace: change the machine around it
        #[arg(long)]
        host: bool,
    },
    /// Remove handlers that were registered by "install"; needs root
    Uninstall {
        /// Architectures or platforms
        #[arg(required = true)]
        platforms: Vec<String>,
        /// Also the file for systemd's binfmt.d
        #[arg(long)]
        persist: bool,
        /// In a user namespace: change the machine around it
        #[arg(long)]
        host: bool,
    },
    /// Print the registration of each architecture, and what its flags mean
    Print {
        /// Architectures or platforms [default: all]
        platforms: Vec<String>,
        /// auto, builtin, qemu or a path
        #[arg(long, value_name = "EMULATOR", default_value = "auto")]
        emulator: String,
    },
}

pub fn binfmt(command: BinfmtCommand) -> Result<u8> {
    let host = Host::default();
    match command {
        BinfmtCommand::Status => status(&host),
        BinfmtCommand::Install { platforms, emulator, persist, host: for_host } => {
            let choice = values::emulator_choice(&emulator)?;
            let chosen = chosen(&platforms, &choice)?;
            check(&host, chosen.iter().map(|(_, emulator)| emulator), persist)?;
            check_namespace(&host, for_host)?;
            for (architecture, emulator) in chosen {
                host.install(architecture.name, &emulator.path, emulator.flags())?;
                print(&format!("registered {} for {}", emulator.path.display(), architecture.name));
                if persist {
                    let path = host.persist(architecture.name, &emulator.path, emulator.flags())?;
                    print(&format!("wrote {}, read at every start by systemd", path.display()));
                }
            }
            Ok(0)
        }
        BinfmtCommand::Uninstall { platforms, persist, host: for_host } => {
            check_namespace(&host, for_host)?;
            let mut missing = false;
            for name in &platforms {
                let architecture = architecture(name)?;
                match host.uninstall(architecture.name)? {
                    true => print(&format!("removed the handler for {}", architecture.name)),
                    false => {
                        eprintln!("no handler of ours for {}", architecture.name);
                        missing = true;
                    }
                }
                if persist && host.forget(architecture.name)? {
                    print("removed its file in binfmt.d");
                }
            }
            Ok(u8::from(missing))
        }
        BinfmtCommand::Print { platforms, emulator } => {
            let choice = values::emulator_choice(&emulator)?;
            for (architecture, emulator) in chosen(&platforms, &choice)? {
                let line = host.line(architecture.name, &emulator.path, emulator.flags())?;
                print(&format!("# {}, flags:", architecture.name));
                emulator.flags().explain().iter().for_each(|sentence| print(&format!("#   {sentence}")));
                print(&String::from_utf8_lossy(&line));
            }
            Ok(0)
        }
    }
}

/// Checks, before anything is registered, that it can be; with `persist` also that the files will exist at
/// the next start.
fn check<'a>(host: &Host, emulators: impl Iterator<Item = &'a Emulator>, persist: bool) -> Result<()> {
    if !host.status()?.mounted {
        bail!(
            "binfmt_misc is not mounted on this machine: sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"
        );
    }
    for emulator in emulators.filter(|_| persist) {
        if let Err(reason) = Host::stays(&emulator.path) {
            bail!(
                "{}: {reason}, and with --persist it would be registered at every start of the machine; install it first: sudo install {} /usr/local/bin/",
                emulator.path.display(),
                emulator.path.display()
            );
        }
    }
    Ok(())
}

/// Refuses to change the whole machine from inside a user namespace, unless `--host` asks for that.
fn check_namespace(host: &Host, for_host: bool) -> Result<()> {
    if !for_host && host.status()?.mounted && host.is_of_outside() {
        bail!(
            "this user namespace has no binfmt_misc of its own, so the handlers of the whole machine would be changed: mount one over it (mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc, Linux 6.7), or say --host"
        );
    }
    Ok(())
}

fn architecture(name: &str) -> Result<&'static Architecture> {
    let platform: Platform = name.parse()?;
    Architecture::named(&platform.architecture)
        .with_context(|| format!("no handler for {name}; known: {}", emulator::architectures()))
}

/// The named architectures with their emulators; if none is named, all foreign ones that have an emulator
/// here.
fn chosen(platforms: &[String], choice: &Choice) -> Result<Vec<(&'static Architecture, Emulator)>> {
    if !platforms.is_empty() {
        let mut all = Vec::new();
        for name in platforms {
            let architecture = architecture(name)?;
            all.push((architecture, emulator::find(architecture.name, choice)?));
        }
        return Ok(all);
    }
    let foreign =
        ARCHITECTURES.iter().filter(|a| !emulator::is_native(&Platform::new("linux", a.name, None)));
    let all: Vec<_> = foreign.filter_map(|a| Some((a, emulator::find(a.name, choice).ok()?))).collect();
    if all.is_empty() {
        bail!(
            "no emulator is here: copy crossdock-emu beside crossdock (arm64, arm, riscv64), or sudo apt-get install --no-install-recommends qemu-user-static"
        );
    }
    Ok(all)
}

fn status(host: &Host) -> Result<u8> {
    let status = host.status()?;
    if !status.mounted {
        print(
            "binfmt_misc is not mounted on this machine (crossdock does not need it; to mount it: sudo mount -t binfmt_misc none /proc/sys/fs/binfmt_misc)",
        );
        return Ok(0);
    }
    print(&format!("binfmt_misc is {}", if status.enabled { "enabled" } else { "disabled" }));
    let mut rows = vec![["ARCHITECTURE", "HANDLER", "STATE", "FLAGS", "NAME"].map(str::to_string).to_vec()];
    for architecture in ARCHITECTURES {
        for entry in status.entries.iter().filter(|e| e.serves(architecture)) {
            rows.push(vec![
                architecture.name.to_string(),
                entry.interpreter.display().to_string(),
                if entry.enabled { "enabled" } else { "disabled" }.to_string(),
                entry.flags.to_string(),
                entry.name.clone(),
            ]);
        }
    }
    if rows.len() == 1 {
        print("no handler for another CPU is registered");
    } else {
        table(&rows);
    }
    Ok(0)
}
