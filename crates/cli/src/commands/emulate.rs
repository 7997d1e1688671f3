//! emulate and unshare.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use crossdock_elf::Elf;
use crossdock_platform::Platform;
use crossdock_sandbox::architecture::ARCHITECTURES;
use crossdock_sandbox::{Images, Programs, binfmt, emulator};

use crate::output::ExitWith;
use crate::session::Session;
use crate::values;

#[derive(clap::Args)]
#[command(override_usage = "crossdock emulate [OPTIONS] PROGRAM [ARGUMENT]...")]
pub struct EmulateArgs {
    /// The program, an ELF file for another CPU, then its arguments; no option of crossdock follows the
    /// program
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM [ARGUMENT]")]
    pub words: Vec<OsString>,
    /// What runs it: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
    /// Root with the loader and libraries of a dynamic program
    #[arg(short = 'L', long, value_name = "DIR")]
    pub sysroot: Option<PathBuf>,
    /// Print to standard error what the program does
    #[arg(long, value_name = "WHAT")]
    pub trace: Option<Trace>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// System calls, with their arguments and results
    Syscalls,
    /// The address of each block of code (builtin only)
    Blocks,
}

#[derive(clap::Args)]
pub struct UnshareArgs {
    /// Command and arguments [default: $SHELL]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
    /// Platforms whose programs can be run inside [default: all with an emulator]
    #[arg(long, value_name = "OS/ARCH[/VARIANT],...")]
    pub platform: Vec<String>,
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
}

/// The variable by which our emulator learns where it finds translations of earlier runs.
const IMAGES: &str = "CROSSDOCK_EMU_CACHE";

/// Replaces this process by the emulator, or by the program itself if this machine runs it.
pub fn emulate(session: &Session, args: EmulateArgs) -> Result<u8> {
    let (word, arguments) = args.words.split_first().expect("a program is required");
    let given = Path::new(word);
    let shown = given.display();
    let program = if given.components().count() > 1 || given.exists() {
        given.to_path_buf()
    } else {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|directory| directory.join(given))
            .find(|path| path.is_file());
        found.ok_or_else(|| ExitWith(127, format!("{shown}: no such program")))?
    };
    let file = std::fs::File::open(&program).map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        ExitWith(code, format!("{shown}: {error}"))
    })?;
    let elf = Elf::read(&file).map_err(|error| ExitWith(126, format!("{shown}: {error}")))?;
    let Some(platform) = elf.platform() else {
        bail!("{shown}: {}: no emulator knows this machine", crossdock_elf::describe::describe(&elf));
    };
    let choice = values::emulator_choice(&args.emulator)?;
    let error = match values::emulator_for(&platform, &choice)? {
        None if args.trace.is_some() => {
            bail!("{shown} runs on this CPU without an emulator: trace it with strace")
        }
        None => std::process::Command::new(&program).args(arguments).exec(),
        Some(emulator) => {
            if let (Some(interpreter), None) = (&elf.interpreter, &args.sysroot)
                && !Path::new(interpreter).exists()
            {
                bail!(
                    "{shown} needs the loader {interpreter}, which is not here: give the root of a {platform} system with --sysroot DIR"
                );
            }
            let mut command = std::process::Command::new(&emulator.path);
            // Translations from earlier runs; the user may have chosen another folder, or none.
            if emulator.is_builtin()
                && std::env::var_os(IMAGES).is_none()
                && let Some(images) = Images::of(session.root(), std::slice::from_ref(&emulator))
            {
                command.env(IMAGES, images.folder);
            }
            if let Some(sysroot) = &args.sysroot {
                command.arg("-L").arg(sysroot);
            }
            match args.trace {
                None => {}
                // Both emulators have this option.
                Some(Trace::Syscalls) => {
                    command.arg("-strace");
                }
                Some(Trace::Blocks) => {
                    command.args(["--trace", "blocks"]);
                }
            }
            command.arg(&program).args(arguments).exec()
        }
    };
    Err(error).with_context(|| format!("run {shown}"))
}

/// Replaces this process, which is already in its own namespaces, by the command.
pub fn unshare(args: UnshareArgs) -> Result<u8> {
    let choice = values::emulator_choice(&args.emulator)?;
    let platforms = if args.platform.is_empty() { Vec::new() } else { values::platforms(&args.platform)? };
    let emulators = if platforms.is_empty() {
        let known = ARCHITECTURES
            .iter()
            .map(|a| a.name)
            .filter(|name| !emulator::is_native(&Platform::new("linux", name, None)));
        known.filter_map(|name| emulator::find(name, &choice).ok()).collect()
    } else {
        let mut all = Vec::new();
        for platform in &platforms {
            all.extend(values::emulator_for(platform, &choice)?);
        }
        all
    };
    binfmt::register_for_children(&emulators)?;
    if let [platform] = &platforms[..] {
        Programs::of(platform).choose_cpu().context("choose the CPU that programs see")?;
    }
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| OsString::from("/bin/sh"));
    let line = if args.command.is_empty() { vec![shell()] } else { args.command };
    let error = std::process::Command::new(&line[0]).args(&line[1..]).exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Err(ExitWith(code, format!("{}: {error}", line[0].to_string_lossy())).into())
}
