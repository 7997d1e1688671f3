//! Containers: roots in which somebody runs commands to look into a result. What the commands change is
//! dropped with the container.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use crossdock_dockerfile::ignore::clean;
use crossdock_oci::store::Scratch;
use crossdock_platform::Platform;
use crossdock_sandbox as sandbox;

use crate::command::execute::Command;
use crate::command::mount::{Mount, MountKind};
use crate::command::mounts::{Bound, Guards, Kept, Prepared, PreparedMount, open_inside, sharing_of};
use crate::error::ErrorKind;
use crate::solver::engine::Engine;
use crate::solver::environment::Environment;
use crate::solver::settings::Settings;

/// What a container is.
#[derive(Clone, Debug)]
pub struct ContainerRequest {
    /// Layers of the root, the lowest first; none for an empty root.
    pub root: Vec<PathBuf>,
    /// Whether writes to the root are refused.
    pub read_only: bool,
    /// The platform of the commands.
    pub platform: Platform,
    /// Their network.
    pub network: sandbox::Network,
    /// Lines for `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// The name of the machine that they see; empty for the usual one.
    pub hostname: String,
    /// Mounts besides the root.
    pub mounts: Vec<ContainerMount>,
}

/// A mount of a container. A tree is its layers, the lowest first; changes of it are dropped.
pub type ContainerMount = Mount<Vec<PathBuf>>;

/// A command of a container.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The command line.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Variables that hold secrets: the variable, the secret's id, and whether it may be missing.
    pub secrets: Vec<(String, String, bool)>,
    /// The working directory; empty for `/`.
    pub cwd: String,
    /// `USER[:GROUP]`; empty for root.
    pub user: String,
    /// Whether the command has all rights that the builder has.
    pub insecure: bool,
}

/// An open container. Its root is mounted once, so several commands may run at the same time.
pub struct Container<'a> {
    engine: Engine<'a>,
    request: &'a ContainerRequest,
    root: sandbox::Root,
    mounts: Vec<sandbox::Mount>,
    variables: Vec<String>,
    _guards: Guards,
    _kept: Kept,
    _changes: Option<Scratch>,
}

impl<'a> Container<'a> {
    /// Opens a container.
    ///
    /// # Errors
    ///
    /// A mount has no source; the kernel cannot lay layers over each other; a secret is missing.
    pub fn new(
        env: &'a Environment<'a>,
        settings: &'a Settings,
        request: &'a ContainerRequest,
    ) -> Result<Container<'a>, ErrorKind> {
        let engine = Engine::new(env, settings);
        let (mut kept, mut guards) = (Kept::default(), Guards::default());
        let mut changes = None;
        let root = match (request.read_only, &request.root[..]) {
            (true, [_, ..]) => sandbox::Root::OverlayReadOnly { lower: request.root.clone() },
            (_, []) => {
                let directory = engine.temporary()?;
                let path = directory.path().to_path_buf();
                kept.directories.push(directory);
                sandbox::Root::Directory(path)
            }
            (false, lower) => {
                let scratch = changes.insert(env.store.new_scratch()?);
                let upper = sandbox::Upper { upper: scratch.upper(), work: scratch.work(), volatile: true };
                let mount = sandbox::overlay_fd(lower, Some(&upper))?;
                sandbox::Root::Directory(kept.attach(&engine, &mount)?)
            }
        };
        let mut mounts = Vec::new();
        for mount in &request.mounts {
            let prepared = prepared(&engine, mount, &request.platform, &mut kept)?;
            mounts.extend(guards.mount(&engine, &prepared)?);
        }
        let variables = guards.variables.drain(..).collect();
        Ok(Container {
            engine,
            request,
            root,
            mounts,
            variables,
            _guards: guards,
            _kept: kept,
            _changes: changes,
        })
    }

    /// Starts a command.
    ///
    /// # Errors
    ///
    /// There is no emulator for the platform; all rights are not allowed; a secret is missing; the sandbox
    /// cannot start. If the command cannot be executed, its end says so.
    pub fn start(&self, process: &Process, io: sandbox::Io) -> Result<sandbox::Running, ErrorKind> {
        let Container { engine, request, .. } = self;
        if process.insecure && !engine.settings.allow_insecure {
            let message = "a command with all rights needs the permission security.insecure";
            return Err(ErrorKind::Dockerfile(message.to_string()));
        }
        let mut env = process.env.clone();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(format!("PATH={}", sandbox::PATH_DEFAULT));
        }
        for (variable, id, is_optional) in &process.secrets {
            match engine.env.secrets.secret(id).map_err(ErrorKind::Dockerfile)? {
                Some(secret) => env.push(format!("{variable}={}", String::from_utf8_lossy(&secret.0))),
                None if *is_optional => {}
                None => return Err(ErrorKind::MissingSecret(id.clone())),
            }
        }
        let command = Command {
            args: &process.args,
            env: &env,
            cwd: if process.cwd.is_empty() { "/" } else { &process.cwd },
            user: &process.user,
            network: request.network,
            insecure: process.insecure,
            devices: &[],
        };
        let mut spec = command.spec_in(engine, &request.platform, self.root.clone())?;
        spec.read_only_root = request.read_only;
        spec.mounts.extend(self.mounts.iter().cloned());
        spec.extra_hosts.extend(request.hosts.iter().cloned());
        if !request.hostname.is_empty() {
            spec.hostname = request.hostname.clone();
        }
        spec.env.extend(self.variables.iter().map(OsString::from));
        // Signals reach the command through it.
        spec.init = true;
        let failed = |source| ErrorKind::Sandbox { command: process.args.join(" "), source };
        sandbox::spawn(&spec, io).map_err(failed)
    }
}

fn prepared(
    engine: &Engine<'_>,
    mount: &ContainerMount,
    platform: &Platform,
    kept: &mut Kept,
) -> Result<PreparedMount, ErrorKind> {
    let target = clean(&format!("/{}", mount.target));
    let what = match &mount.kind {
        MountKind::Bind { input, selector, .. } => {
            let source = open_tree(engine, input, selector, kept)?;
            Prepared::Bind { source, writable: !mount.read_only }
        }
        MountKind::Cache { id, sharing, initial, selector } => {
            // As with the caches of steps, which these are, too.
            let id = format!("{platform} {}", if id.is_empty() { &target } else { id });
            let initial = match &initial[..] {
                [] => None,
                layers => Some(open_tree(engine, layers, selector, kept)?),
            };
            Prepared::Cache { id, sharing: sharing_of(*sharing), mode: 0o755, owner: (0, 0), initial }
        }
        other => other.without_tree().unwrap_or_else(|| unreachable!("mounts of trees are made above")),
    };
    Ok(PreparedMount { what, target, read_only: mount.is_read_only() })
}

/// Opens a path of a tree.
fn open_tree(
    engine: &Engine<'_>,
    layers: &[PathBuf],
    selector: &str,
    kept: &mut Kept,
) -> Result<Bound, ErrorKind> {
    let base = match layers {
        [] => {
            let directory = engine.temporary()?;
            let path = directory.path().to_path_buf();
            kept.directories.push(directory);
            path
        }
        layers => kept.attach(engine, &sandbox::overlay_fd(layers, None)?)?,
    };
    open_inside(&base, &clean(&format!("/{selector}")).split_off(1))
}
