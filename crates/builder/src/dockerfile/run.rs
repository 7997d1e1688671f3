//! RUN.

use std::ffi::OsString;

use crossdock_dockerfile::Lines;
use crossdock_dockerfile::ignore::{Ignore, clean};
use crossdock_dockerfile::instruction::{CommandLine, Instruction, Run};
use crossdock_dockerfile::mount::{self, Mount, MountKind};
use crossdock_dockerfile::parser::heredoc_of_word;
use crossdock_oci::Digest;
use crossdock_oci::store::Scratch;
use crossdock_sandbox as sandbox;

use super::names::Origin;
use super::request::NamedContext;
use super::stage::{StageRun, Step};
use crate::away::send::{may_leave, package};
use crate::command::execute::{Command, devices_for, execute, key_of, shown_args};
use crate::command::failed::failed;
use crate::command::mounts::{Bound, Guards, Kept, Prepared, PreparedMount, sharing_of};
use crate::devices::DeviceRequest;
use crate::dockerfile::paths::below;
use crate::error::{BuildError, ErrorKind};
use crate::event::StepId;
use crate::files::copy::{self, CopyOptions, Placement};
use crate::files::tree::Tree;
use crate::solver::engine::{Leave, Reach};
use crate::solver::key::Key;
use crate::solver::layer::trees_of;

/// Where a shebang heredoc is mounted, as in BuildKit.
const PIPES: &str = "/dev/pipes";

/// What a RUN instruction says, apart from its mounts.
struct Words {
    args: Vec<String>,
    /// The command, for messages.
    shown: String,
    /// A heredoc that begins with `#!`.
    script: Option<String>,
    /// `NAME=VALUE`.
    env: Vec<String>,
    cwd: String,
    network: sandbox::Network,
    insecure: bool,
}

impl StageRun<'_, '_, '_> {
    pub fn run_step(&mut self, run: &Run, instruction: &Instruction) -> Result<(), BuildError> {
        let lines = instruction.lines;
        let engine = self.engine;
        let words = self.words(run, lines)?;
        let title = format!("RUN {}", words.shown);
        self.begin(&title, lines);
        self.check_rights(&words).map_err(|e| e.at(lines))?;
        let mut key = self.run_key(&words);
        let requests = run.devices.iter().map(|text| self.device_request(text, lines));
        let requests = requests.collect::<Result<Vec<_>, BuildError>>()?;
        let devices = devices_for(engine, &requests, &mut key).map_err(|e| e.at(lines))?;
        let Words { args, script, env: own_env, cwd, network, insecure, .. } = words;
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
        let env: Vec<String> = own_env.iter().cloned().chain(self.state.scope.proxy_args()).collect();

        let arguments = self.state.scope.run_args(&self.state.env);
        let created_by = match arguments.len() {
            0 => format!("RUN {}", args.join(" ")),
            n => format!("RUN |{n} {} {}", arguments.join(" "), args.join(" ")),
        };
        let layers = self.state.layers.clone();
        let (user, platform) = (self.state.config.config.user.clone(), self.state.platform.clone());
        let mut execute = |scratch: &Scratch, step: StepId| -> Result<(), ErrorKind> {
            let devices = &devices;
            let command =
                Command { args: &args, env: &env, cwd: &cwd, user: &user, network, insecure, devices };
            let lower = trees_of(engine.env.store, &layers)?;
            let mut spec = command.spec(engine, &platform, &lower, scratch)?;
            let mut guards = Guards::default();
            for mount in &mounts {
                spec.mounts.extend(guards.mount(engine, mount)?);
            }
            spec.env.extend(guards.variables.drain(..).map(OsString::from));
            let done = execute(engine, step, &spec, &args, &[0]);
            if let (Err(ErrorKind::Command { .. }), Some(first)) = (&done, engine.env.failed) {
                let command = Command { env: &own_env, ..command };
                first.note(failed(engine.env.store, &command, &platform, (&lower, scratch.upper()), &mounts));
            }
            done
        };
        // The proxies of this machine are of no use to another one, and may hold passwords.
        let (env, devices) = (&own_env, &devices);
        let command = Command { args: &args, env, cwd: &cwd, user: &user, network, insecure, devices };
        let package = || package(engine, &command, &platform, &layers, &mounts);
        let shown_command = shown_args(&args);
        let leave = Leave { name: &title, command: &shown_command, platform: &platform, package: &package };
        let reach = match may_leave(engine, (insecure, devices), &mounts) {
            true => Reach::Away(&leave),
            false => Reach::Here,
        };
        let key = engine.timed(key);
        if matches!(reach, Reach::Away(_)) {
            self.ask_ahead(&key.0);
        }
        let step = Step { title: &title, key, created_by, varies: true, reach, later: None };
        self.layer_step(step, lines, &mut execute)
    }

    /// What a `--device` asks for.
    fn device_request(&self, text: &str, lines: Lines) -> Result<DeviceRequest, BuildError> {
        let expanded = self.expand(text, lines)?;
        let wrong = |reason| ErrorKind::Dockerfile(format!("RUN --device={text}: {reason}")).at(lines);
        DeviceRequest::parse(&expanded).map_err(wrong)
    }

    /// The key of a RUN instruction that is looked at before its turn, and whether it may be executed
    /// elsewhere; `None` if that takes files of another stage or the context, or a device.
    pub(super) fn run_key_ahead(
        &self,
        run: &Run,
        lines: Lines,
    ) -> Result<Option<(Digest, bool)>, BuildError> {
        let Some(mounts) = self.mounts_ahead(run) else { return Ok(None) };
        let words = self.words(run, lines)?;
        let mut key = self.run_key(&words);
        let mut kept = Kept::default();
        let mut prepared = Vec::new();
        for (text, mount) in run.mounts.iter().zip(&mounts) {
            key.part(format!("--mount={text}"));
            prepared.push(self.prepare(mount, &mut key, &mut kept, lines)?);
        }
        let may_leave = may_leave(self.engine, (words.insecure, &[]), &prepared);
        Ok(Some((self.engine.timed(key).0, may_leave)))
    }

    /// The mounts of a RUN instruction whose key can be told before its turn.
    pub(super) fn mounts_ahead(&self, run: &Run) -> Option<Vec<Mount>> {
        let needs_files = |mount: &Mount| {
            let is_of_files =
                matches!(mount.kind, MountKind::Bind { .. } | MountKind::Cache { from: Some(_), .. });
            is_of_files || mount.for_user
        };
        let mount = |text: &String| {
            let expanded = self.state.scope.expand(text, &self.state.env).ok()?;
            mount::parse(&expanded.text).ok().filter(|mount| !needs_files(mount))
        };
        if run.devices.is_empty() { run.mounts.iter().map(mount).collect() } else { None }
    }

    fn words(&self, run: &Run, lines: Lines) -> Result<Words, BuildError> {
        let (args, shown, script) = self.command(run, lines)?;
        let cwd = match self.state.config.config.working_dir.as_str() {
            "" => "/".to_string(),
            directory => directory.to_string(),
        };
        let network = match run.network.as_deref() {
            Some("none") => sandbox::Network::None,
            Some("host") => sandbox::Network::Host,
            _ => self.plan.request.settings.network,
        };
        let insecure = run.security.as_deref() == Some("insecure");
        Ok(Words { args, shown, script, env: self.environment(), cwd, network, insecure })
    }

    /// Refuses what the command line does not allow.
    fn check_rights(&self, words: &Words) -> Result<(), ErrorKind> {
        let settings = &self.plan.request.settings;
        // A Dockerfile must not override a restriction from the command line.
        let allowed = [settings.network, sandbox::Network::None];
        if !allowed.contains(&words.network) && !settings.allow_network_host {
            let message = "RUN --network=host needs the permission --allow network.host, since this build's --network is another";
            return Err(ErrorKind::Dockerfile(message.to_string()));
        }
        if words.insecure && !settings.allow_insecure {
            let message = "RUN --security=insecure needs the permission --allow security.insecure";
            return Err(ErrorKind::Dockerfile(message.to_string()));
        }
        Ok(())
    }

    /// The key of a RUN instruction as far as its mounts.
    fn run_key(&self, words: &Words) -> Key {
        let Words { args, script, env, cwd, network, insecure, .. } = words;
        let mut key = Key::new("run", &self.state.digest);
        key.part("the command").list(args);
        // As `Key::list` does, with a part for each variable.
        key.part("").field(env.len().to_string());
        for variable in env {
            key.part(format!("${}", variable.split('=').next().unwrap_or_default())).field(variable);
        }
        key.part("the user").field(&self.state.config.config.user);
        key.part("the working directory").field(cwd);
        key.part("the network").field(format!("{} {insecure}", key_of(*network)));
        key.part("the platform").field(self.state.platform.to_string());
        key.part("the script").field(script.as_deref().unwrap_or_default());
        let options = &self.plan.request.settings.steps;
        if !options.key.is_empty() {
            key.part("the options for RUN").list(&options.key);
        }
        let settings = &self.engine.settings;
        if let Some(name) = &settings.hostname {
            key.part("the host name").field(name);
        }
        // As in BuildKit: an address may be another one each time.
        if !settings.add_hosts.is_empty() {
            key.part("the names of --add-host").list(settings.add_hosts.iter().map(|(name, _)| name));
        }
        if let Some(size) = settings.shm_size {
            key.part("the size of /dev/shm").field(size.to_string());
        }
        if !settings.limits.is_empty() {
            key.part("the limits").list(settings.limits.iter().map(|limit| format!("{limit:?}")));
        }
        key
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
        let escape = self.plan.file.directives.escape;
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
        let user = match self.state.config.config.user.as_str() {
            user if mount.for_user && !user.is_empty() => self.owner(user, lines)?,
            _ => (0, 0),
        };
        if is_bind && user != (0, 0) {
            let message = "RUN --mount: U would give files of the context or a stage to the user of the command; give them an owner with COPY --chown";
            return Err(ErrorKind::Dockerfile(message.to_string()).at(lines));
        }
        let what = match &mount.kind {
            MountKind::Bind { from, source } => {
                let path = self.bind_source(from.as_deref(), source.as_deref(), Some(key), kept, lines)?;
                Prepared::Bind { source: path, writable: !mount.read_only }
            }
            MountKind::Cache { id, from, source, sharing, mode, uid, gid } => {
                let (uid, gid) = match (uid, gid) {
                    (0, 0) => user,
                    (uid, gid) => (*uid, *gid),
                };
                let mut id = id.clone().unwrap_or_else(|| target.clone().unwrap_or_default());
                let namespace = self.plan.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
                if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
                    id = format!("{namespace}/{id}");
                }
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
                if (uid, gid, *mode) != (0, 0, 0o755) {
                    id.push_str(&format!(" {uid}:{gid} {mode:o}"));
                }
                Prepared::Cache { id, sharing: sharing_of(*sharing), mode: *mode, owner: (uid, gid), initial }
            }
            MountKind::Tmpfs { size, mode } => {
                key.field("tmpfs").field(format!("{size:?}"));
                if *mode != 0o1777 {
                    key.field(format!("{mode:o}"));
                }
                Prepared::Tmpfs { size: *size, mode: *mode }
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
            return Ok(empty.map_err(|e| ErrorKind::io("mount scratch", e).at(lines))?.into());
        }
        let wanted: Vec<String> = below(&relative).into_iter().collect();
        let stacked = layers.as_ref().map(|(layers, _)| layers.as_slice());
        let tree = self.tree(origin.as_ref(), stacked, &wanted, lines)?;
        let shown = from.map_or("the build context".to_string(), |from| format!("\"{from}\""));
        let failed =
            |e: std::io::Error| ErrorKind::io(format!("mount \"/{relative}\" of {shown}"), e).at(lines);
        let entry = tree.entry(&relative).map_err(failed)?;
        if let Some(key) = key {
            let options = CopyOptions::default();
            let cache = if origin.is_none() { self.plan.stat_cache.as_ref() } else { None };
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
        let from_layers = layers.as_ref().map(|(layers, _)| (layers.clone(), relative.clone()));
        let base = match (&origin, layers) {
            (None, _) | (Some(Origin::Context(NamedContext::Directory { .. })), _) if !tree.is_filtered() => {
                match &origin {
                    Some(Origin::Context(NamedContext::Directory { path, .. })) => path.clone(),
                    _ => self.plan.request.context.clone().unwrap_or_default(),
                }
            }
            (_, Some((layers, _))) => {
                let lower = trees_of(self.engine.env.store, &layers).map_err(|e| e.at(lines))?;
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
        let open = inside.open_at(&relative, rustix::fs::OFlags::PATH).map_err(failed)?;
        Ok(Bound { layers: from_layers, ..Bound::from(open) })
    }
}
