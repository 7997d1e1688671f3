//! RUN.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crossdock_dockerfile::Lines;
use crossdock_dockerfile::ignore::{Ignore, clean};
use crossdock_dockerfile::instruction::{CommandLine, Instruction, Run};
use crossdock_dockerfile::mount::{self, Mount, MountKind, Sharing};
use crossdock_dockerfile::parser::heredoc_of_word;
use crossdock_oci::store::TemporaryDirectory;
use crossdock_oci::store::{CacheMount, Scratch, Sharing as CacheSharing};
use crossdock_sandbox as sandbox;
use rustix::fs::{CWD, FileType};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::agent::AgentSocket;
use crate::copy::{self, CopyOptions, Placement};
use crate::engine::Engine;
use crate::error::{BuildError, ErrorKind};
use crate::event::{Event, StepId};
use crate::graph::Origin;
use crate::key::Key;
use crate::request::NamedContext;
use crate::stage::{StageRun, Step};
use crate::tree::Tree;

/// Where a shebang heredoc is mounted, as in BuildKit.
const PIPES: &str = "/dev/pipes";

/// What a mount needs while the command runs.
pub(crate) enum Prepared {
    Bind {
        source: Bound,
        writable: bool,
    },
    Cache {
        id: String,
        sharing: Sharing,
        mode: u32,
        owner: (u32, u32),
        initial: Option<Bound>,
    },
    Tmpfs {
        size: Option<u64>,
    },
    File {
        content: Vec<u8>,
        mode: u32,
        owner: (u32, u32),
    },
    Agent {
        id: String,
        is_required: bool,
        mode: u32,
        owner: (u32, u32),
    },
    Secret {
        id: String,
        is_required: bool,
        /// The variable that gets the secret.
        variable: Option<String>,
        /// Whether the secret is a file at the mount's target.
        is_file: bool,
        mode: u32,
        owner: (u32, u32),
    },
}

/// A file or directory, looked up inside its tree. It stays the same until the command runs, even if its path
/// leads elsewhere by then.
pub(crate) type Bound = Arc<OwnedFd>;

/// A mount of a command.
pub(crate) struct PreparedMount {
    pub what: Prepared,
    pub target: String,
    pub read_only: bool,
}

/// Mounts and directories that live as long as the step.
#[derive(Default)]
pub(crate) struct Kept {
    attached: Vec<Attached>,
    pub directories: Vec<TemporaryDirectory>,
}

impl Kept {
    /// Attaches a detached mount, so that paths below it can be opened and mounted; returns where.
    pub fn attach(&mut self, engine: &Engine<'_>, mount: &OwnedFd) -> Result<PathBuf, ErrorKind> {
        let place = engine.temporary()?;
        move_mount(mount, "", CWD, place.path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| ErrorKind::io(format!("mount {}", place.path().display()), e.into()))?;
        let path = place.path().to_path_buf();
        self.attached.push(Attached(place));
        Ok(path)
    }
}

/// A mount at a temporary directory; gone when dropped.
struct Attached(TemporaryDirectory);

impl Drop for Attached {
    fn drop(&mut self) {
        // If this fails, the mount goes with the process's mount namespace.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

impl StageRun<'_, '_, '_> {
    pub fn run_step(&mut self, run: &Run, instruction: &Instruction) -> Result<(), BuildError> {
        let lines = instruction.lines;
        let engine = self.engine;
        let (args, shown, script) = self.command(run, lines)?;
        let title = format!("RUN {shown}");
        self.begin(&title, lines);
        let mut env = self.environment();
        let proxies = self.state.scope.proxy_args();
        let cwd = match self.state.config.config.working_dir.as_str() {
            "" => "/".to_string(),
            directory => directory.to_string(),
        };
        let network = match run.network.as_deref() {
            Some("none") => sandbox::Network::None,
            Some("host") => sandbox::Network::Host,
            _ => engine.request.network,
        };
        // A Dockerfile must not override a restriction from the command line.
        let allowed = [engine.request.network, sandbox::Network::None];
        if !allowed.contains(&network) && !engine.request.allow_network_host {
            let message = "RUN --network=host needs the permission --allow network.host, since this build's --network is another";
            return Err(ErrorKind::Dockerfile(message.to_string()).at(lines));
        }
        if let Some(device) = run.devices.iter().find(|device| !device.contains("required=false")) {
            let message = format!(
                "RUN --device={device}: devices of the machine (CDI) are not handed to steps; leave it out, or say required=false"
            );
            return Err(ErrorKind::Dockerfile(message).at(lines));
        }
        let insecure = run.security.as_deref() == Some("insecure");
        if insecure && !engine.request.allow_insecure {
            let message = "RUN --security=insecure needs the permission --allow security.insecure";
            return Err(ErrorKind::Dockerfile(message.to_string()).at(lines));
        }

        let mut key = Key::new("run", &self.state.digest);
        key.part("the command").list(&args);
        // As `Key::list` does, with a part for each variable.
        key.part("").field(env.len().to_string());
        for variable in &env {
            key.part(format!("${}", variable.split('=').next().unwrap_or_default())).field(variable);
        }
        key.part("the user").field(&self.state.config.config.user);
        key.part("the working directory").field(&cwd);
        key.part("the network").field(format!("{} {insecure}", key_of(network)));
        key.part("the platform").field(self.state.platform.to_string());
        key.part("the script").field(script.as_deref().unwrap_or_default());
        let options = &engine.request.steps;
        if !options.key.is_empty() {
            key.part("the options for RUN").list(&options.key);
        }
        let mut kept = Kept::default();
        let mut mounts = Vec::new();
        for text in &run.mounts {
            let expanded = self.expand(text, lines)?;
            let mount = mount::parse(&expanded).map_err(|m| ErrorKind::Dockerfile(m).at(lines))?;
            key.part(format!("--mount={text}"));
            mounts.push(self.prepare(&mount, &mut key, &mut kept, lines)?);
        }
        if let Some(script) = script {
            mounts.push(PreparedMount {
                what: Prepared::File { content: script.into_bytes(), mode: 0o755, owner: (0, 0) },
                target: args[0].clone(),
                read_only: true,
            });
        }
        // Proxies go to the command but not into the key: a build behind another proxy is the same build.
        env.extend(proxies);

        let arguments = self.state.scope.run_args(&self.state.env);
        let created_by = match arguments.len() {
            0 => format!("RUN {}", args.join(" ")),
            n => format!("RUN |{n} {} {}", arguments.join(" "), args.join(" ")),
        };
        let lower = self.state.lower();
        let (user, platform) = (self.state.config.config.user.clone(), self.state.platform.clone());
        let mut execute = |scratch: &Scratch, step: StepId| -> Result<(), ErrorKind> {
            let command = Command { args: &args, env: &env, cwd: &cwd, user: &user, network, insecure };
            let mut spec = command.spec(engine, &platform, &lower, scratch)?;
            let mut guards = Guards::default();
            for mount in &mounts {
                spec.mounts.extend(guards.mount(engine, mount)?);
            }
            spec.env.extend(guards.variables.drain(..).map(OsString::from));
            execute(engine, step, &spec, &args, &[0])
        };
        let step = Step { title: &title, key: engine.timed(key), created_by, varies: true };
        self.layer_step(step, lines, &mut execute)
    }

    /// Arguments, the text to show, and the script of a heredoc that begins with `#!`.
    fn command(&self, run: &Run, lines: Lines) -> Result<(Vec<String>, String, Option<String>), BuildError> {
        let text = match &run.command {
            CommandLine::Exec(args) if args.is_empty() => {
                return Err(ErrorKind::Dockerfile("RUN requires at least one argument".to_string()).at(lines));
            }
            CommandLine::Exec(args) => return Ok((args.clone(), shown_args(args), None)),
            CommandLine::Shell(text) => text,
        };
        let escape = self.engine.file.directives.escape;
        let [first, ..] = &run.heredocs[..] else {
            if text.is_empty() {
                return Err(ErrorKind::Dockerfile("RUN requires at least one argument".to_string()).at(lines));
            }
            return Ok((self.in_shell(text), text.clone(), None));
        };
        if heredoc_of_word(text, escape).is_none() {
            // More than a heredoc: the shell reads the heredocs itself.
            let mut whole = text.clone();
            for heredoc in &run.heredocs {
                whole.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
            }
            return Ok((self.in_shell(&whole), text.clone(), None));
        }
        let content = first.text();
        let shown = format!("{text} ({})", content.lines().next().unwrap_or_default());
        match content.starts_with("#!") {
            true => Ok((vec![format!("{PIPES}/{}", first.name)], shown, Some(content))),
            false => Ok((self.in_shell(&content), shown, None)),
        }
    }

    fn prepare(
        &self,
        mount: &Mount,
        key: &mut Key,
        kept: &mut Kept,
        lines: Lines,
    ) -> Result<PreparedMount, BuildError> {
        let is_bind = matches!(mount.kind, MountKind::Bind { .. });
        let target = mount.target.as_deref().or(is_bind.then_some(".")).map(|target| self.absolute(target));
        key.field(format!("mount {} {:?}", mount.read_only, target));
        let what = match &mount.kind {
            MountKind::Bind { from, source } => {
                let path = self.bind_source(from.as_deref(), source.as_deref(), Some(key), kept, lines)?;
                Prepared::Bind { source: path, writable: !mount.read_only }
            }
            MountKind::Cache { id, from, source, sharing, mode, uid, gid } => {
                let id = id.clone().unwrap_or_else(|| target.clone().unwrap_or_default());
                key.field("cache").field(&id);
                let initial = match from {
                    None => None,
                    Some(_) => {
                        Some(self.bind_source(from.as_deref(), source.as_deref(), None, kept, lines)?)
                    }
                };
                // Platforms must not share caches: package managers keep programs in them. Another owner or
                // mode also means another cache, as with BuildKit.
                let mut id = format!("{} {id}", self.state.platform);
                if (*uid, *gid, *mode) != (0, 0, 0o755) {
                    id.push_str(&format!(" {uid}:{gid} {mode:o}"));
                }
                Prepared::Cache { id, sharing: *sharing, mode: *mode, owner: (*uid, *gid), initial }
            }
            MountKind::Tmpfs { size } => {
                key.field("tmpfs").field(format!("{size:?}"));
                Prepared::Tmpfs { size: *size }
            }
            MountKind::Secret { id, env: variable, required, mode, uid, gid } => {
                let name = id.clone().unwrap_or_else(|| {
                    let path = target.as_deref().or(variable.as_deref()).unwrap_or_default();
                    path.rsplit('/').next().unwrap_or(path).to_string()
                });
                key.field("secret").field(&name).option(variable.as_deref());
                let what = Prepared::Secret {
                    id: name.clone(),
                    is_required: *required,
                    variable: variable.clone(),
                    is_file: variable.is_none() || target.is_some(),
                    mode: *mode,
                    owner: (*uid, *gid),
                };
                let target = target.unwrap_or_else(|| format!("/run/secrets/{name}"));
                return Ok(PreparedMount { what, target, read_only: true });
            }
            MountKind::Ssh { id, required, mode, uid, gid } => {
                let id = id.clone().unwrap_or_else(|| "default".to_string());
                key.field("ssh").field(&id).field(format!("{uid} {gid} {mode:o}"));
                let target = target.unwrap_or_else(|| "/run/buildkit/ssh_agent.0".to_string());
                let what = Prepared::Agent { id, is_required: *required, mode: *mode, owner: (*uid, *gid) };
                return Ok(PreparedMount { what, target, read_only: false });
            }
        };
        let target =
            target.ok_or_else(|| ErrorKind::Dockerfile("a mount needs a target".to_string()).at(lines))?;
        Ok(PreparedMount { what, target, read_only: mount.read_only })
    }

    /// The source of a bind. Its content enters `key` if there is one.
    fn bind_source(
        &self,
        from: Option<&str>,
        source: Option<&str>,
        key: Option<&mut Key>,
        kept: &mut Kept,
        lines: Lines,
    ) -> Result<Bound, BuildError> {
        let origin = from.map(|from| self.origin(from, lines)).transpose()?;
        let relative = clean(&format!("/{}", source.unwrap_or_default())).split_off(1);
        let layers = match &origin {
            None | Some(Origin::Context(NamedContext::Directory { .. })) => None,
            Some(origin) => Some(self.origin_layers(origin, lines)?),
        };
        if matches!(origin, Some(Origin::Scratch)) {
            let directory = self.engine.temporary().map_err(|e| e.at(lines))?;
            let empty =
                Tree::open(directory.path(), Ignore::default()).and_then(|tree| tree.root().try_clone());
            kept.directories.push(directory);
            return Ok(Arc::new(empty.map_err(|e| ErrorKind::io("mount scratch", e).at(lines))?));
        }
        let tree = self.tree(origin.as_ref(), layers.as_ref().map(|(layers, _)| layers.as_slice()), lines)?;
        let shown = from.map_or("the build context".to_string(), |from| format!("\"{from}\""));
        let failed =
            |e: std::io::Error| ErrorKind::io(format!("mount \"/{relative}\" of {shown}"), e).at(lines);
        let entry = tree.entry(&relative).map_err(failed)?;
        if let Some(key) = key {
            let options = CopyOptions::default();
            let cache = if origin.is_none() { self.engine.stat_cache.as_ref() } else { None };
            match &layers {
                // A whole stage or image has a digest already.
                Some((_, digest)) if relative.is_empty() => drop(key.field("bind").field(digest.as_str())),
                _ => {
                    key.field("bind");
                    copy::add_to_key(key, &tree, &entry, &options, cache)
                        .map_err(|e| ErrorKind::Copy(e).at(lines))?;
                }
            }
        }
        let base = match (&origin, layers) {
            (None, _) | (Some(Origin::Context(NamedContext::Directory { .. })), _) if !tree.is_filtered() => {
                match &origin {
                    Some(Origin::Context(NamedContext::Directory { path, .. })) => path.clone(),
                    _ => self.engine.request.context.clone().unwrap_or_default(),
                }
            }
            (_, Some((layers, _))) => {
                let lower: Vec<PathBuf> = layers.iter().map(|layer| layer.fs.clone()).collect();
                let overlay =
                    sandbox::overlay_fd(&lower, None).map_err(|e| ErrorKind::Overlay(e).at(lines))?;
                kept.attach(self.engine, &overlay).map_err(|e| e.at(lines))?
            }
            _ => {
                // Files that the ignore file leaves out must not be seen, so the rest is copied.
                let place = self.engine.temporary().map_err(|e| e.at(lines))?;
                let root = Tree::open(place.path(), Ignore::default()).map_err(failed)?;
                let options = CopyOptions { owner: Some((0, 0)), ..CopyOptions::default() };
                copy::copy(&tree, &entry, root.root(), relative.as_bytes(), Placement::Exact, &options)
                    .map_err(|e| ErrorKind::Copy(e).at(lines))?;
                let path = place.path().to_path_buf();
                kept.directories.push(place);
                path
            }
        };
        // Resolved inside the root again, so that a link in the tree cannot name a file of this machine.
        let inside = Tree::open(&base, Ignore::default()).map_err(failed)?;
        inside.open_at(&relative, rustix::fs::OFlags::PATH).map(Arc::new).map_err(failed)
    }
}

/// What a command is, apart from the options of the build.
pub(crate) struct Command<'a> {
    pub args: &'a [String],
    /// `NAME=VALUE`.
    pub env: &'a [String],
    pub cwd: &'a str,
    pub user: &'a str,
    pub network: sandbox::Network,
    pub insecure: bool,
}

impl Command<'_> {
    /// The command in a root of layers, with its changes going to `scratch`.
    ///
    /// # Errors
    ///
    /// There is no emulator for the platform.
    pub fn spec(
        &self,
        engine: &Engine<'_>,
        platform: &crossdock_platform::Platform,
        lower: &[PathBuf],
        scratch: &Scratch,
    ) -> Result<sandbox::Spec, ErrorKind> {
        let options = &engine.request.steps;
        let root = sandbox::Root::Overlay {
            lower: lower.to_vec(),
            upper: scratch.upper(),
            work: scratch.work(),
            volatile: true,
        };
        let mut spec = sandbox::Spec::new(root, self.args.iter().map(OsString::from));
        spec.env = self.env.iter().map(OsString::from).collect();
        spec.cwd = PathBuf::from(self.cwd);
        spec.user = self.user.to_string();
        spec.hostname = "buildkitsandbox".to_string();
        spec.network = self.network;
        spec.security = if self.insecure { sandbox::Security::INSECURE } else { options.security };
        spec.groups = options.groups.clone();
        spec.resolv_conf = options.resolv_conf.clone();
        spec.mounts = options.mounts.clone();
        spec.programs = sandbox::Programs::of(platform);
        spec.extra_hosts = engine.request.add_hosts.clone();
        spec.limits = engine.request.limits.clone();
        if let Some(size) = engine.request.shm_size {
            spec.shm_size = size;
        }
        spec.emulators = engine.emulators(platform)?;
        Ok(spec)
    }
}

/// The network's part of a step's key: the kind of network decides what a command finds, the program that
/// connects it does not. The words date from when there were two kinds, so that cached steps stay known.
pub(crate) fn key_of(network: sandbox::Network) -> &'static str {
    match network {
        sandbox::Network::Host => "true",
        sandbox::Network::None => "false",
        sandbox::Network::Private(_) => "private",
    }
}

/// Locks and directories that a running command needs.
#[derive(Default)]
pub(crate) struct Guards {
    caches: Vec<CacheMount>,
    scratches: Vec<Scratch>,
    directories: Vec<TemporaryDirectory>,
    agents: Vec<AgentSocket>,
    /// `NAME=VALUE` that mounts add to the environment.
    pub variables: Vec<String>,
}

impl Guards {
    /// The sandbox's mount for a prepared one; `None` if it is optional and there is nothing to mount.
    pub fn mount(
        &mut self,
        engine: &Engine<'_>,
        mount: &PreparedMount,
    ) -> Result<Option<sandbox::Mount>, ErrorKind> {
        let target = PathBuf::from(&mount.target);
        let kind = match &mount.what {
            Prepared::Bind { source, writable: true } => self.writable(engine, source)?,
            Prepared::Bind { source, .. } => {
                sandbox::MountKind::Bind { source: opened(source)?.into(), recursive: true }
            }
            Prepared::Secret { id, is_required, variable, is_file, mode, owner: (uid, gid) } => {
                let found = engine.env.secrets.secret(id).map_err(ErrorKind::Dockerfile)?;
                let Some(secret) = found else {
                    return if *is_required { Err(ErrorKind::MissingSecret(id.clone())) } else { Ok(None) };
                };
                if let Some(variable) = variable {
                    self.variables.push(format!("{variable}={}", String::from_utf8_lossy(&secret.0)));
                }
                if !is_file {
                    return Ok(None);
                }
                sandbox::MountKind::File {
                    content: sandbox::Content(secret.0),
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                }
            }
            Prepared::Agent { id, is_required, mode, owner } => {
                let found = engine.env.secrets.agent(id).map_err(ErrorKind::Dockerfile)?;
                let Some(path) = found else {
                    let message = format!("the SSH agent \"{id}\" is required by a mount: pass --ssh {id}");
                    return if *is_required { Err(ErrorKind::Dockerfile(message)) } else { Ok(None) };
                };
                self.variables.push(format!("SSH_AUTH_SOCK={}", mount.target));
                let failed = |e| ErrorKind::io(format!("lead to the SSH agent {}", path.display()), e);
                let agent = AgentSocket::new(engine.temporary()?, &path, *owner, *mode).map_err(failed)?;
                let source = agent.path().into();
                self.agents.push(agent);
                // A connection does not change the socket's file.
                let kind = sandbox::MountKind::Bind { source, recursive: false };
                return Ok(Some(sandbox::Mount { kind, target, read_only: true }));
            }
            Prepared::Tmpfs { size } => {
                sandbox::MountKind::Tmpfs { size: *size, mode: 0o1777, owner: (0, 0), executable: true }
            }
            Prepared::File { content, mode, owner: (uid, gid) } => sandbox::MountKind::File {
                content: sandbox::Content(content.clone()),
                mode: *mode,
                uid: *uid,
                gid: *gid,
            },
            Prepared::Cache { id, sharing, mode, owner, initial } => {
                let sharing = match sharing {
                    Sharing::Shared => CacheSharing::Shared,
                    Sharing::Private => CacheSharing::Private,
                    Sharing::Locked => CacheSharing::Locked,
                };
                let fill = |path: &Path| fill_cache(path, *mode, *owner, initial.as_ref());
                let cache = engine.env.store.cache_mount(id, sharing, fill)?;
                let path = cache.path().to_path_buf();
                self.caches.push(cache);
                sandbox::MountKind::Bind { source: path.into(), recursive: false }
            }
        };
        Ok(Some(sandbox::Mount { kind, target, read_only: mount.read_only }))
    }

    /// `rw`: the command may write; its writes are dropped.
    fn writable(&mut self, engine: &Engine<'_>, source: &Bound) -> Result<sandbox::MountKind, ErrorKind> {
        let failed = |e: io::Error| ErrorKind::io("prepare a writable mount", e);
        let stat = rustix::fs::fstat(source).map_err(|e| failed(e.into()))?;
        let itself = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
        let mount = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let scratch = engine.env.store.new_scratch()?;
                let upper = sandbox::Upper { upper: scratch.upper(), work: scratch.work(), volatile: false };
                let mount = sandbox::overlay_fd(&[itself], Some(&upper)).map_err(ErrorKind::Overlay)?;
                self.scratches.push(scratch);
                mount
            }
            FileType::RegularFile => {
                let directory = engine.temporary()?;
                let mut copy = File::create_new(directory.path().join("file")).map_err(failed)?;
                File::open(itself).and_then(|mut file| io::copy(&mut file, &mut copy)).map_err(failed)?;
                // A single id cannot give files away.
                let _ = fchown(&copy, Some(stat.st_uid), Some(stat.st_gid));
                let mode = rustix::fs::Mode::from_raw_mode(stat.st_mode);
                rustix::fs::fchmod(&copy, mode).map_err(|e| failed(e.into()))?;
                self.directories.push(directory);
                copy.into()
            }
            _ => {
                let kind = "a device, FIFO or socket cannot be mounted writable: leave out rw".to_string();
                return Err(ErrorKind::Dockerfile(kind));
            }
        };
        Ok(sandbox::MountKind::Bind { source: mount.into(), recursive: false })
    }
}

fn opened(source: &Bound) -> Result<OwnedFd, ErrorKind> {
    source.try_clone().map_err(|e| ErrorKind::io("keep a mount's source open", e))
}

/// Sets content, owner and mode of a new cache directory.
fn fill_cache(
    path: &Path,
    mode: u32,
    (uid, gid): (u32, u32),
    initial: Option<&Bound>,
) -> Result<(), ErrorKind> {
    let failed = |e: io::Error| ErrorKind::io(format!("prepare the cache {}", path.display()), e);
    if let Some(initial) = initial {
        let source = Tree::new(opened(initial)?);
        let target = Tree::open(path, Ignore::default()).map_err(failed)?;
        let start = source.entry("").map_err(failed)?;
        copy::copy(&source, &start, target.root(), b"", Placement::Exact, &CopyOptions::default())?;
    }
    // A single id cannot give files away; the cache then belongs to the only user there is.
    let _ = chown(path, Some(uid), Some(gid));
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(failed)
}

/// Runs the command and passes its output on line by line. It has done well if its exit code is one of
/// `good`.
pub(crate) fn execute(
    engine: &Engine<'_>,
    step: StepId,
    spec: &sandbox::Spec,
    args: &[String],
    good: &[i32],
) -> Result<(), ErrorKind> {
    let command = shown_args(args);
    let failed = |source| ErrorKind::Sandbox { command: command.clone(), source };
    let mut running = sandbox::spawn(spec, sandbox::Io::pipes()).map_err(failed)?;
    let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
    let heard = Mutex::new(Heard::default());
    let killer = running.killer();
    let stop = killer.clone();
    let mut no_thread = None;
    let status = engine.while_running(step, killer, || {
        running.wait_for_start()?;
        std::thread::scope(|threads| {
            if let Some(stderr) = stderr {
                let running = &running;
                let heard = &heard;
                let pass = move || {
                    running.watch_if_it_lasts(stderr.as_fd());
                    pass_on(engine, step, true, stderr, heard);
                };
                if let Err(error) = std::thread::Builder::new().spawn_scoped(threads, pass) {
                    no_thread = Some(error);
                    stop.kill(9);
                }
            }
            if let Some(stdout) = stdout {
                pass_on(engine, step, false, stdout, &heard);
            }
        });
        running.wait()
    });
    if let Some(error) = no_thread {
        return Err(ErrorKind::io(format!("start a thread for the output of {command:?}"), error));
    }
    engine.check_cancelled()?;
    match status.map_err(failed)? {
        sandbox::ExitStatus::Code(code) if good.contains(&code) => Ok(()),
        status => {
            let hint = hint(&status, &heard.into_inner().unwrap_or_default());
            let status = match status {
                sandbox::ExitStatus::Code(code) => format!("exit code: {code}"),
                sandbox::ExitStatus::Signal(_) => status.to_string(),
            };
            Err(ErrorKind::Command { command, status, hint })
        }
    }
}

/// Longest line passed on in one piece, in bytes.
const LINE_SIZE_MAX: usize = 64 * 1024;

fn pass_on(engine: &Engine<'_>, step: StepId, stderr: bool, stream: impl Read, heard: &Mutex<Heard>) {
    let mut reader = BufReader::new(stream);
    while let Some((line, is_transient)) = next_line(&mut reader) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if let (Ok(mut heard), false) = (heard.lock(), is_transient) {
            heard.line(&line);
        }
        engine.env.events.event(Event::Output { step, stderr, is_transient, line });
    }
}

/// The next line without its end, and whether the command will write over it: it ended with a carriage
/// return that no line feed follows. `None` at the end of the stream.
fn next_line(reader: &mut impl BufRead) -> Option<(Vec<u8>, bool)> {
    let mut line = Vec::new();
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => &[],
        };
        let Some(&first) = available.first() else {
            let is_transient = line.last() == Some(&b'\r');
            trim_returns(&mut line);
            return (!line.is_empty() || is_transient).then_some((line, false));
        };
        // A carriage return is judged by the byte that follows it, which may come much later.
        if line.last() == Some(&b'\r') && !matches!(first, b'\n' | b'\r') {
            trim_returns(&mut line);
            return Some((line, true));
        }
        let room = LINE_SIZE_MAX - line.len();
        let piece = &available[..available.len().min(room)];
        let length = piece.iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(piece.len(), |at| at + 1);
        line.extend_from_slice(&piece[..length]);
        reader.consume(length);
        if line.last() == Some(&b'\n') || line.len() == LINE_SIZE_MAX {
            line.pop_if(|b| *b == b'\n');
            trim_returns(&mut line);
            return Some((line, false));
        }
    }
}

fn trim_returns(line: &mut Vec<u8>) {
    while line.pop_if(|b| *b == b'\r').is_some() {}
}

/// Output of a command that may explain its end.
#[derive(Default)]
struct Heard {
    /// The last lines of both streams.
    last: VecDeque<String>,
    /// The last message of an emulator. It may be older than `last`: programs that still run may print more
    /// lines after it than `last` holds.
    emulator: Option<String>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        if EMULATORS_SAY.iter().any(|start| line.starts_with(start)) {
            self.emulator = Some(line.to_string());
        }
        if self.last.len() == 20 {
            self.last.pop_front();
        }
        self.last.push_back(line.to_string());
    }
}

/// How messages of emulators begin: ours, and QEMU's.
const EMULATORS_SAY: [&str; 2] = ["crossdock-emu: ", "qemu: "];

/// A hint for a failure with a well-known cause.
fn hint(status: &sandbox::ExitStatus, heard: &Heard) -> String {
    const ILLEGAL_INSTRUCTION: i32 = 4;
    let says = |text: &str| heard.last.iter().any(|line| line.contains(text));
    if let Some(line) = &heard.emulator {
        return format!(" ({line})");
    }
    if says("Exec format error") || says("exec format error") {
        return " (a program is for another CPU than the step's platform and has no emulator: see \"crossdock doctor\")"
            .to_string();
    }
    if status.code() == 128 + ILLEGAL_INSTRUCTION {
        return " (a program died of an instruction that the CPU does not have)".to_string();
    }
    if says("Temporary failure resolving") || says("Could not resolve host") {
        return " (the network or its name server cannot be reached from the build)".to_string();
    }
    match status {
        sandbox::ExitStatus::Signal(9) => " (killed: out of memory, or by somebody)".to_string(),
        _ => String::new(),
    }
}

fn shown_args(args: &[String]) -> String {
    args.join(" ")
}

impl Engine<'_> {
    /// Emulators for every platform of this build and for the step's own, which `FROM --platform` may have
    /// named. A step may need any of them, since its private list of handlers hides the machine's.
    pub fn emulators(&self, own: &crossdock_platform::Platform) -> Result<Vec<sandbox::Emulator>, ErrorKind> {
        let asked_for = || {
            let foreign = self.request.platforms.iter().filter(|p| !p.is_native());
            foreign.filter_map(|p| (self.env.emulator)(p).ok()).collect()
        };
        let mut all = self.emulators.get_or_init(asked_for).clone();
        if !own.is_native() {
            let emulator = self.emulator(own)?;
            if !all.contains(&emulator) {
                all.push(emulator);
            }
        }
        Ok(all)
    }

    fn emulator(&self, platform: &crossdock_platform::Platform) -> Result<sandbox::Emulator, ErrorKind> {
        (self.env.emulator)(platform)
            .map_err(|reason| ErrorKind::Emulator { platform: platform.clone(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a stream that arrives in pieces of so many bytes.
    fn lines(stream: &[u8], piece: usize) -> Vec<(String, bool)> {
        let mut reader = BufReader::with_capacity(piece, stream);
        let text = |(line, is_transient)| (String::from_utf8(line).expect("UTF-8"), is_transient);
        std::iter::from_fn(|| next_line(&mut reader)).map(text).collect()
    }

    #[test]
    fn a_carriage_return_ends_a_line_that_is_written_over() {
        for piece in [1, 2, 3, 100] {
            for (stream, expected) in [
                ("a\nb", vec![("a", false), ("b", false)]),
                ("a\r\nb\r\n", vec![("a", false), ("b", false)]),
                ("1%\r2%\r100%\n", vec![("1%", true), ("2%", true), ("100%", false)]),
                ("1%\r\r\n", vec![("1%", false)]),
                ("1%\r", vec![("1%", false)]),
                ("\n\n", vec![("", false), ("", false)]),
                ("\ra", vec![("", true), ("a", false)]),
                ("", vec![]),
            ] {
                let expected: Vec<(String, bool)> =
                    expected.into_iter().map(|(line, is)| (line.to_string(), is)).collect();
                assert_eq!(lines(stream.as_bytes(), piece), expected, "{stream:?} by {piece}");
            }
        }
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let stream = "x".repeat(2 * LINE_SIZE_MAX + 1);
        let lengths: Vec<usize> = lines(stream.as_bytes(), 1000).iter().map(|(line, _)| line.len()).collect();
        assert_eq!(lengths, [LINE_SIZE_MAX, LINE_SIZE_MAX, 1]);
    }
}
