//! run: one command in an image.

pub mod dns;
mod environment;
mod limits;
pub mod mounts;
pub mod rights;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use crossdock_dockerfile::values::bytes;
use crossdock_oci::store::LoadedImage;
use crossdock_oci::{Descriptor, Store};
use crossdock_sandbox::{Attach, Network, Programs, Root, SandboxError, Spec, run_attached};

use self::dns::DnsArgs;
use self::environment::{EnvironmentArgs, environment};
use self::limits::LimitArgs;
use self::mounts::{MountArgs, Surroundings, mounts};
use self::rights::RightsArgs;
use crate::access::{ConnectionArgs, CredentialArgs};
use crate::output::{self, ExitWith, say};
use crate::progress::{Display, ProgressMode};
use crate::session::Session;
use crate::single_platform::SinglePlatformArgs;
use crate::values::{self, hosts, limits, network, random_id};
use crossdock_delivery::source::{self};

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
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    #[command(flatten)]
    pub mounts: MountArgs,
    /// Program instead of the image's ENTRYPOINT; with arguments as a list of JSON, such as '["sh", "-c"]'
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Network: host, private or none
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "host")]
    pub network: String,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    #[command(flatten)]
    pub dns: DnsArgs,
    /// More lines for /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub add_hosts: Vec<String>,
    /// Refuse writes to the root
    #[arg(long)]
    pub read_only: bool,
    /// Put a small init before the command
    #[arg(long)]
    pub init: bool,
    #[command(flatten)]
    pub rights: RightsArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limits: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub ulimits: Vec<String>,
    /// Write an id of the container to a file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Show no progress of pulling the image
    #[arg(short, long)]
    pub quiet: bool,
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
    #[command(flatten)]
    pub single: SinglePlatformArgs,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub credentials: CredentialArgs,
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

fn run_image(session: &Session, mut args: RunArgs) -> Result<u8> {
    let given: Vec<String> = args.platform.iter().cloned().collect();
    if let Some(platform) = args.single.platform(session, &given)? {
        args.platform = Some(platform.to_string());
    }
    let mut accesses = vec![args.connection.access()];
    // An id names no registry.
    if let Ok(reference) = values::reference(&args.image()) {
        accesses.insert(0, args.credentials.access(&args.connection, reference.registry())?);
    }
    session.reach(accesses, args.connection.retry);
    if args.detach {
        bail!(
            "--detach is not supported: a container ends with this command; leave it out, or put \"&\" behind the command"
        );
    }
    let store = session.store()?;
    let manifest = image(session, &store, &args, &args.image())?;
    let loaded = store.load_image(&manifest)?;
    // The platform in the image's own configuration, not the one it is stored under, decides about the
    // emulator.
    let platform = loaded.config.platform();
    if args.platform.is_none() {
        crate::desk::warn_of_foreign(&args.image(), &platform);
    }
    let lower = unpacked(&store, &loaded)?;
    if lower.is_empty() {
        bail!("{} has no files", args.image());
    }
    let scratch = store.new_scratch()?;
    let root =
        Root::Overlay { lower: lower.clone(), upper: scratch.upper(), work: scratch.work(), volatile: true };
    let mut spec = Spec::new(root, command(&loaded, &args)?);
    let process = &loaded.config.config;
    spec.cwd = PathBuf::from(args.workdir.as_deref().unwrap_or(match process.working_dir.as_str() {
        "" => "/",
        directory => directory,
    }));
    spec.user = args.user.clone().unwrap_or_else(|| process.user.clone());
    spec.hostname = args.hostname.clone().unwrap_or_else(|| manifest.digest.short().to_string());
    let surroundings = environment::Surroundings {
        hostname: &spec.hostname,
        has_terminal: args.tty,
        proxies: session.container_proxies(),
    };
    spec.env = environment(&loaded, &args.environment, surroundings)?;
    spec.network = network(&args.network)?;
    if let (Network::Private(_), Some(ports)) = (spec.network, args.publish.first()) {
        bail!(
            "--publish {ports}: no port of this machine leads to a private network; with --network host every port is reachable"
        );
    }
    spec.read_only_root = args.read_only;
    spec.init = args.init;
    spec.security = args.rights.own.security(args.rights.privileged)?;
    spec.groups = args.rights.own.groups(session.single_id());
    spec.sysctls = args.rights.sysctls(spec.network)?;
    spec.resolv_conf = args.dns.resolv_conf()?;
    spec.own_files = true;
    spec.programs = Programs::of(&platform);
    spec.extra_hosts = hosts(&args.add_hosts, spec.network)?;
    spec.limits = limits(&args.ulimits)?;
    if let Some(text) = &args.shm_size {
        spec.shm_size = bytes(text).with_context(|| format!("--shm-size {text}: not a size"))?;
    }
    // What the image declares as volumes can be written to even if the root cannot.
    let declared: Vec<String> = match args.read_only {
        true => process.volumes.iter().flatten().map(|(path, _)| path.clone()).collect(),
        false => Vec::new(),
    };
    let other = |name: &str| {
        let manifest = image(session, &store, &args, name)?;
        unpacked(&store, &store.load_image(&manifest)?)
    };
    let surroundings =
        Surroundings { store: &store, layers: &lower, single_id: session.single_id(), image: &other };
    let mounts = mounts(&args.mounts, &declared, &surroundings)?;
    spec.mounts = mounts.list.clone();
    spec.mount_attributes = mounts.attributes.clone();
    for variable in &mounts.env {
        let name = variable.split_inclusive('=').next().unwrap_or_default();
        // What the user gives counts more than what the device says.
        if !spec.env.iter().any(|other| other.as_encoded_bytes().starts_with(name.as_bytes())) {
            spec.env.push(variable.into());
        }
    }
    spec.control_group = args.limits.group()?;
    tell_what_is_not_done(session, &args, &spec);
    let choice = values::emulator_choice(&args.emulator)?;
    spec.emulators = values::emulator_for(&platform, &choice)?.into_iter().collect();
    spec.images = crossdock_sandbox::Images::of(store.root(), &spec.emulators);
    if let (Some(images), true) = (&mut spec.images, spec.control_group.is_some()) {
        // A process that makes images would count as one of the container's.
        images.emulator = None;
    }
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        bail!("--tty --interactive needs a terminal on standard input: leave out --tty");
    }
    let attach = Attach { stdin: args.interactive, terminal: args.tty };
    if let Some(path) = &args.cidfile {
        write_id(path)?;
    }
    let status = run_attached(&spec, attach)?;
    drop((scratch, mounts));
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

/// The layers of an image, unpacked, the lowest first.
fn unpacked(store: &Store, image: &LoadedImage) -> Result<Vec<PathBuf>> {
    Ok(store.unpack_image(image, 0)?.into_iter().map(|unpacked| unpacked.path).collect())
}

/// Writes the file of `--cidfile`, with an id that no other container gets. As in docker, the file stays when
/// the container ends.
fn write_id(path: &Path) -> Result<()> {
    let doing = || format!("--cidfile {}", path.display());
    let mut file = std::fs::File::create_new(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{}: the file exists; another container may have this id", doing())
        }
        _ => anyhow::Error::from(error).context(doing()),
    })?;
    file.write_all(random_id()?.as_bytes()).with_context(doing)
}

/// The image of this name, fetched as `--pull` says.
fn image(session: &Session, store: &Store, args: &RunArgs, name: &str) -> Result<Descriptor> {
    let always = match args.pull.as_str() {
        "missing" => false,
        "always" => true,
        "never" => false,
        other => bail!("--pull {other}: missing, always or never"),
    };
    let platform = values::platform(args.platform.as_ref())?;
    if !always {
        let found = source::find(store, name, platform.as_ref());
        match found.and_then(|found| Ok(source::choose(&found, name)?.manifest.clone())) {
            Ok(manifest) => return Ok(manifest),
            Err(error) if args.pull == "never" || !source::is_absence(&error) || source::is_id(name) => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    let reference = values::reference(name)?;
    let display = Display::new(if args.quiet { ProgressMode::Quiet } else { ProgressMode::Auto });
    let source = crate::desk::source_of(session, store, display.clone());
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
        // podman-run(1): a list of JSON has arguments, too.
        Some(program) => match serde_json::from_str::<Vec<String>>(program) {
            Ok(words) => words.into_iter().map(OsString::from).collect(),
            Err(_) => vec![OsString::from(program)],
        },
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
