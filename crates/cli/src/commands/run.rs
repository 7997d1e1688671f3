//! run, emulate and unshare.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use crossdock_dockerfile::values::{bytes, csv};
use crossdock_elf::Elf;
use crossdock_oci::store::LoadedImage;
use crossdock_oci::{Descriptor, Store};
use crossdock_platform::Platform;
use crossdock_sandbox::architecture::ARCHITECTURES;
use crossdock_sandbox::{
    Attach, Mount, MountKind, Network, Programs, Root, SandboxError, Security, Spec, binfmt, emulator,
    run_attached,
};

use super::source::{self, Source};
use crate::input::{Kinds, read_whole};
use crate::output::{self, ExitWith, say};
use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::values::{self, hosts, limits, network};

// "-h" is docker's short form of --hostname.
#[derive(clap::Args)]
#[command(disable_help_flag = true, override_usage = "crossdock run [OPTIONS] IMAGE [COMMAND]...")]
pub struct RunArgs {
    /// The image, then the command and its arguments instead of the image's; no option of crossdock follows
    /// the image
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND]")]
    pub words: Vec<OsString>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Platform of the image [default: this machine's if the image has it, else the only one in the store]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Accepted for docker; containers are always removed
    #[arg(long)]
    pub rm: bool,
    /// Environment: NAME=VALUE, or NAME to take it from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// File of environment lines
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Bind a directory or file: SOURCE:TARGET[:ro]
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub volumes: Vec<String>,
    /// Mounts: type=bind|tmpfs,source=...,target=...[,readonly]
    #[arg(long = "mount", value_name = "SPEC")]
    pub mounts: Vec<String>,
    /// An empty file system in memory
    #[arg(long = "tmpfs", value_name = "TARGET")]
    pub tmpfs: Vec<String>,
    /// Program instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Network: host, private or none
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "host")]
    pub network: String,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// More lines for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub add_hosts: Vec<String>,
    /// Refuse writes to the root
    #[arg(long)]
    pub read_only: bool,
    /// Put a small init before the command
    #[arg(long)]
    pub init: bool,
    /// All capabilities of the user namespace, no seccomp profile
    #[arg(long)]
    pub privileged: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limits: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub ulimits: Vec<String>,
    /// When to ask the registry: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: String,
    /// What runs programs of other CPUs: auto, builtin, qemu or a path
    #[arg(long, value_name = "EMULATOR", default_value = "auto")]
    pub emulator: String,
    /// Refused: containers end with this command
    #[arg(short, long, hide = true)]
    pub detach: bool,
    /// Accepted for docker; containers have no names
    #[arg(long, hide = true)]
    pub name: Option<String>,
    /// Accepted for docker with the host's network, in which every port is reachable as it is
    #[arg(short, long = "publish", hide = true)]
    pub publish: Vec<String>,
}

impl RunArgs {
    /// The image as it was given, as text.
    pub fn image(&self) -> std::borrow::Cow<'_, str> {
        self.words.first().map(|word| word.to_string_lossy()).unwrap_or_default()
    }

    /// The words after the image.
    pub fn command(&self) -> &[OsString] {
        self.words.get(1..).unwrap_or_default()
    }
}

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

/// An `--env-file` larger than this, in bytes, is refused; the kernel gives no program an environment of more
/// than 6 MiB (execve(2)).
const ENV_FILE_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// Docker's exit code for a container that could not be created.
pub const NOT_STARTED: u8 = 125;

pub fn run(session: &Session, args: RunArgs) -> Result<u8> {
    run_image(session, args).map_err(|error| match error.downcast_ref::<ExitWith>() {
        Some(_) => error,
        None => {
            let code =
                error.downcast_ref::<SandboxError>().map_or(i32::from(NOT_STARTED), SandboxError::exit_code);
            ExitWith(code as u8, output::chain(&error)).into()
        }
    })
}

fn run_image(session: &Session, args: RunArgs) -> Result<u8> {
    if args.detach {
        bail!(
            "--detach is not supported: a container ends with this command; leave it out, or put \"&\" behind the command"
        );
    }
    let store = session.store()?;
    let manifest = image(session, &store, &args)?;
    let loaded = store.load_image(&manifest)?;
    // The platform in the image's own configuration, not the one it is stored under, decides about the
    // emulator.
    let platform = loaded.config.platform();
    if args.platform.is_none() {
        source::warn_of_foreign(&args.image(), &platform);
    }
    let lower: Vec<PathBuf> = store.unpack_image(&loaded, 0)?.into_iter().map(|u| u.path).collect();
    if lower.is_empty() {
        bail!("{} has no files", args.image());
    }
    let scratch = store.new_scratch()?;
    let root = Root::Overlay { lower, upper: scratch.upper(), work: scratch.work(), volatile: true };
    let mut spec = Spec::new(root, command(&loaded, &args)?);
    let process = &loaded.config.config;
    spec.env = environment(&loaded, &args, session.container_proxies())?;
    spec.cwd = PathBuf::from(args.workdir.as_deref().unwrap_or(match process.working_dir.as_str() {
        "" => "/",
        directory => directory,
    }));
    spec.user = args.user.clone().unwrap_or_else(|| process.user.clone());
    spec.hostname = args.hostname.clone().unwrap_or_else(|| manifest.digest.short().to_string());
    spec.network = network(&args.network)?;
    if let (Network::Private(_), Some(ports)) = (spec.network, args.publish.first()) {
        bail!(
            "--publish {ports}: no port of this machine leads to a private network; with --network host every port is reachable"
        );
    }
    spec.read_only_root = args.read_only;
    spec.init = args.init;
    spec.security = if args.privileged { Security::Insecure } else { Security::Sandbox };
    spec.programs = Programs::of(&platform);
    spec.extra_hosts = hosts(&args.add_hosts, spec.network)?;
    spec.limits = limits(&args.ulimits)?;
    if let Some(text) = &args.shm_size {
        spec.shm_size = bytes(text).with_context(|| format!("--shm-size {text}: not a size"))?;
    }
    spec.mounts = mounts(&args, session.single_id())?;
    tell_what_is_not_done(session, &args, &spec);
    let choice = values::emulator_choice(&args.emulator)?;
    spec.emulators = values::emulator_for(&platform, &choice)?.into_iter().collect();
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        bail!("--tty --interactive needs a terminal on standard input: leave out --tty");
    }
    let attach = Attach { stdin: args.interactive, terminal: args.tty };
    let status = run_attached(&spec, attach)?;
    drop(scratch);
    Ok(status.code() as u8)
}

/// Warns about docker's options that do less here.
fn tell_what_is_not_done(session: &Session, args: &RunArgs, spec: &Spec) {
    for ports in &args.publish {
        say(&format!(
            "warning: --publish {ports} does nothing: the command is in {}",
            match spec.network {
                Network::None => "no network",
                _ => "this machine's network, where its ports are open under their own numbers",
            }
        ));
    }
    if let Some(name) = &args.name {
        say(&format!(
            "warning: --name {name} does nothing: containers have no names and end with this command"
        ));
    }
    let user = spec.user.split(':').next().unwrap_or_default();
    if session.single_id() && !matches!(user, "" | "0" | "root") {
        say(&format!(
            "warning: the command stays root and does not become user {user}: only one user id is available{}",
            session.single_id_note().map(|note| format!(": {note}")).unwrap_or_default()
        ));
    }
}

/// The image to run.
fn image(session: &Session, store: &Store, args: &RunArgs) -> Result<Descriptor> {
    let always = match args.pull.as_str() {
        "missing" => false,
        "always" => true,
        "never" => false,
        other => bail!("--pull {other}: missing, always or never"),
    };
    let platform = values::platform(args.platform.as_ref())?;
    if !always {
        let found = source::find(store, &args.image(), platform.as_ref());
        match found.and_then(|found| Ok(source::choose(&found, &args.image())?.manifest.clone())) {
            Ok(manifest) => return Ok(manifest),
            Err(error)
                if args.pull == "never" || !source::is_absence(&error) || source::is_id(&args.image()) =>
            {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    let reference = values::reference(&args.image())?;
    let display = Display::new(ProgressMode::Auto);
    let source = Source::new(session, store, display.clone());
    let manifest = match platform {
        Some(platform) => source.resolve(&reference, &platform, true),
        None => source.fetch_for_machine(&reference),
    };
    display.clear();
    manifest
}

/// ENTRYPOINT and CMD, or what the options give instead.
fn command(image: &LoadedImage, args: &RunArgs) -> Result<Vec<OsString>> {
    let process = &image.config.config;
    let words = |list: &Option<Vec<String>>| list.iter().flatten().map(OsString::from).collect::<Vec<_>>();
    let mut line = match &args.entrypoint {
        // An empty --entrypoint removes the image's.
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![OsString::from(program)],
        None => words(&process.entrypoint),
    };
    if !args.command().is_empty() {
        line.extend(args.command().iter().cloned());
    } else if args.entrypoint.is_none() {
        line.extend(words(&process.cmd));
    }
    if line.is_empty() {
        bail!("{} has no command: give one", args.image());
    }
    Ok(line)
}

fn environment(image: &LoadedImage, args: &RunArgs, proxies: Vec<(String, String)>) -> Result<Vec<OsString>> {
    // A name that is set again moves to the end.
    let mut env: BTreeMap<usize, OsString> = BTreeMap::new();
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut set = |entry: OsString| {
        let name = entry.as_bytes().split(|b| *b == b'=').next().unwrap_or_default().to_vec();
        let place = env.last_key_value().map_or(0, |(last, _)| last + 1);
        if let Some(before) = places.insert(name, place) {
            env.remove(&before);
        }
        env.insert(place, entry);
    };
    set(OsString::from("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    if args.tty {
        set(OsString::from("TERM=xterm"));
    }
    image.config.config.env.iter().for_each(|entry| set(OsString::from(entry)));
    proxies.into_iter().for_each(|(name, value)| set(OsString::from(format!("{name}={value}"))));
    let mut given = |entry: &std::ffi::OsStr| {
        if entry.as_bytes().contains(&b'=') {
            set(entry.to_owned());
        } else if let Some(value) = std::env::var_os(entry) {
            let mut whole = entry.to_owned();
            whole.push("=");
            whole.push(value);
            set(whole);
        }
    };
    for file in &args.env_files {
        let text = read_whole(file, ENV_FILE_SIZE_MAX, Kinds::Any).context("--env-file")?;
        let text = String::from_utf8(text);
        let text = text.with_context(|| format!("--env-file {}: not UTF-8 text", file.display()))?;
        // Some editors of other systems put a byte order mark before the first line.
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split('=').next().unwrap_or_default();
            // The value may be a secret, so it is not shown.
            let wrong =
                |what: &str| anyhow::anyhow!("--env-file {}, line {}: {what}", file.display(), number + 1);
            if name.is_empty() {
                return Err(wrong("no name stands before \"=\""));
            }
            if name.contains(char::is_whitespace) {
                return Err(wrong(&format!("the name \"{name}\" has a space: write NAME=VALUE")));
            }
            if line.contains('\0') {
                return Err(wrong("it holds a byte 0, which no variable can"));
            }
            given(std::ffi::OsStr::new(line));
        }
    }
    for entry in &args.env {
        if entry.is_empty() || entry.as_bytes().starts_with(b"=") {
            bail!("--env {}: no name stands before \"=\"", entry.to_string_lossy());
        }
        given(entry);
    }
    Ok(env.into_values().collect())
}

/// Reads `--tmpfs TARGET[:OPTION,...]` with the options of tmpfs(5) and mount(8). With a single id everything
/// belongs to root.
fn tmpfs(text: &str, single_id: bool) -> Result<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut owner, mut read_only, mut executable) = (None, 0o1777, (0, 0), false, true);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let wrong = |what: &str| anyhow::anyhow!("--tmpfs {text}: {option}: {what}");
        let id = |value: &str| match crossdock_sandbox::user::id(value) {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(wrong("not a number")),
            Err(error) => Err(wrong(&error.to_string())),
        };
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", value) => size = Some(bytes(value).ok_or_else(|| wrong("not a size"))?),
            ("mode", value) => {
                let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
                mode = bits.ok_or_else(|| wrong("not an octal mode"))?;
            }
            ("uid", value) => owner.0 = id(value)?,
            ("gid", value) => owner.1 = id(value)?,
            ("ro", "") => read_only = true,
            ("rw", "") => read_only = false,
            ("noexec", "") => executable = false,
            ("exec", "") => executable = true,
            // nosuid and nodev always hold; options for times and propagation make no difference in a
            // container.
            ("nosuid" | "nodev" | "noatime" | "relatime" | "nodiratime" | "private" | "rprivate", "") => {}
            _ => {
                return Err(wrong(
                    "not one of size=, mode=, uid=, gid=, ro, rw, exec, noexec, nosuid, nodev",
                ));
            }
        }
    }
    if single_id {
        owner = (0, 0);
    }
    Ok(Mount { kind: MountKind::Tmpfs { size, mode, owner, executable }, target: target.into(), read_only })
}

fn mounts(args: &RunArgs, single_id: bool) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    for text in &args.volumes {
        let fields: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match fields[..] {
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => bail!(
                "--volume {text}: the form is SOURCE:TARGET[:ro] (volumes without a source are not kept, leave them out)"
            ),
        };
        if !source.starts_with(['/', '.', '~']) {
            bail!("--volume {text}: named volumes are not supported, give a path such as ./{source}");
        }
        let mut read_only = false;
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" => read_only = true,
                "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "rprivate" | "private" => {}
                other => bail!("--volume {text}: unknown option {other}"),
            }
        }
        // Like docker, create a missing source directory.
        if !Path::new(source).exists() {
            std::fs::create_dir_all(source).with_context(|| format!("--volume {text}: create {source}"))?;
        }
        all.push(bind(source, target, read_only, &format!("--volume {text}"))?);
    }
    for text in &args.mounts {
        let flag = format!("--mount {text}");
        let (mut kind, mut source, mut target, mut read_only, mut size, mut mode) =
            ("bind".to_string(), None, None, false, None, 0o1777);
        for field in csv(text).map_err(|e| anyhow::anyhow!("{flag}: {e}"))? {
            let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
            match key {
                "type" => kind = value.to_string(),
                "source" | "src" => source = Some(value.to_string()),
                "target" | "dst" | "destination" => target = Some(value.to_string()),
                "readonly" | "ro" => read_only = value == "true" || value == "1",
                "tmpfs-size" => {
                    size = Some(bytes(value).with_context(|| format!("{flag}: not a size: {value}"))?)
                }
                "tmpfs-mode" => {
                    mode = u32::from_str_radix(value, 8)
                        .with_context(|| format!("{flag}: not a mode: {value}"))?
                }
                "bind-propagation" | "consistency" => {}
                other => bail!("{flag}: unknown option {other}"),
            }
        }
        let target = target.with_context(|| format!("{flag}: no target"))?;
        all.push(match (kind.as_str(), source) {
            ("bind", Some(source)) => bind(&source, &target, read_only, &flag)?,
            ("bind", None) => bail!("{flag}: no source"),
            ("tmpfs", _) => Mount {
                kind: MountKind::Tmpfs { size, mode, owner: (0, 0), executable: true },
                target: target.into(),
                read_only,
            },
            (other, _) => bail!("{flag}: type {other} is not supported, only bind and tmpfs"),
        });
    }
    for text in &args.tmpfs {
        all.push(tmpfs(text, single_id)?);
    }
    if let Some(bad) = all.iter().find(|m| !m.target.is_absolute()) {
        bail!("the target {} of a mount must be absolute", bad.target.display());
    }
    Ok(all)
}

fn bind(source: &str, target: &str, read_only: bool, flag: &str) -> Result<Mount> {
    let source = match (source.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(source),
    };
    let source = std::fs::canonicalize(&source).with_context(|| format!("{flag}: {}", source.display()))?;
    Ok(Mount {
        kind: MountKind::Bind { source: source.into(), recursive: true },
        target: target.into(),
        read_only,
    })
}

/// Replaces this process by the emulator, or by the program itself if this machine runs it.
pub fn emulate(args: EmulateArgs) -> Result<u8> {
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
