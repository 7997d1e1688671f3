//! Commands.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use crossdock_dockerfile::ignore::clean;
use crossdock_oci::store::Scratch;
use crossdock_sandbox as sandbox;

use super::graph::{Exec, Mount, MountKind};
use super::solving::{Change, Current, Solving, Value, entry};
use crate::command::execute::{self, Command};
use crate::command::failed::failed;
use crate::command::mounts::{Bound, Guards, Kept, Prepared, PreparedMount, open_inside, sharing_of};
use crate::devices::Device;
use crate::error::ErrorKind;
use crate::files::copy;
use crate::solver::key::{Key, Part};

/// A tree that the command may change, and the output that is the changed tree.
struct Changed {
    value: Value,
    /// Where it is mounted; `/` is the root.
    target: String,
    selector: String,
    read_only: bool,
    output: Option<usize>,
}

/// A command with its inputs.
struct Ready {
    root: Changed,
    /// Trees besides the root whose changes are outputs that somebody uses.
    changed: Vec<Changed>,
    others: Vec<PreparedMount>,
    env: Vec<String>,
    devices: Vec<Device>,
    key: crossdock_oci::Digest,
    parts: Vec<Part>,
    _kept: Kept,
}

impl Solving<'_, '_, '_> {
    /// Runs the command, or finds its results; gives the outputs that are used.
    pub fn exec(
        &self,
        current: &Current<'_>,
        exec: &Exec,
        used: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Value>, ErrorKind> {
        let ready = self.ready(current, exec, used)?;
        // What the command wrote to other outputs than the one that is being made.
        let beside = RefCell::new(BTreeMap::new());
        let mut outputs = BTreeMap::new();
        for changed in [&ready.root].into_iter().chain(&ready.changed) {
            let Some(output) = changed.output.filter(|output| used.contains(output)) else { continue };
            if changed.read_only {
                outputs.insert(output, changed.value.clone());
                continue;
            }
            let mut key = Key::new("output", &ready.key);
            key.field(&changed.target);
            let change =
                Change { base: &changed.value, key: (key.finish(), ready.parts.clone()), varies: true };
            let value = self.change(current, change, &mut |scratch| {
                let made = beside.borrow_mut().remove(&output);
                if let Some(made) = made {
                    return take_over(&made, scratch);
                }
                let made = self.run(current, exec, &ready, (output, scratch))?;
                beside.borrow_mut().extend(made);
                Ok(())
            })?;
            outputs.insert(output, value);
        }
        Ok(outputs)
    }

    /// Inputs, key and mounts of the command.
    fn ready(&self, current: &Current<'_>, exec: &Exec, used: &BTreeSet<usize>) -> Result<Ready, ErrorKind> {
        if exec.args.is_empty() {
            return Err(ErrorKind::Dockerfile("a command has no arguments".to_string()));
        }
        if exec.insecure && !self.engine.settings.allow_insecure {
            let message = "a command with all rights needs the permission security.insecure";
            return Err(ErrorKind::Dockerfile(message.to_string()));
        }
        let (mut root, mut changed, mut others) = (None, Vec::new(), Vec::new());
        let mut kept = Kept::default();
        let mut inputs = Vec::new();
        let mut key = command_key(current, exec, &self.engine.settings.steps.key);
        let devices = execute::devices_for(self.engine, &exec.devices, &mut key)?;
        for mount in &exec.mounts {
            let target = absolute(&exec.cwd, &mount.target);
            key.part(format!("the mount at {target}")).field(&target).field(mount.read_only.to_string());
            let MountKind::Bind { input, selector, output } = &mount.kind else {
                others.push(self.other(current, mount, target, &mut key, &mut kept)?);
                continue;
            };
            let value = self.value(*input)?;
            inputs.push(value.clone());
            let selector = clean(&format!("/{selector}")).split_off(1);
            self.add_bind(&mut key, &value, &selector)?;
            let is_root = target == "/";
            if is_root && !selector.is_empty() {
                let message = "the root of a command cannot be a directory of a tree (selector)";
                return Err(ErrorKind::Dockerfile(message.to_string()));
            }
            let is_used = output.is_some_and(|output| used.contains(&output));
            if !is_root && !is_used {
                let what = Prepared::Bind {
                    source: self.bound(&value, &selector, &mut kept)?,
                    writable: !mount.read_only,
                };
                others.push(PreparedMount { what, target, read_only: mount.read_only });
                continue;
            }
            let value = if mount.read_only && !is_root { value } else { self.layered(current, &value)? };
            let one = Changed { value, target, selector, read_only: mount.read_only, output: *output };
            match is_root {
                true => root = Some(one),
                false => changed.push(one),
            }
        }
        let root = root.ok_or_else(|| ErrorKind::Dockerfile("a command has no root mount".to_string()))?;
        for secret in &exec.secrets {
            others.push(PreparedMount {
                what: Prepared::Secret {
                    id: secret.id.clone(),
                    is_required: !secret.is_optional,
                    variable: Some(secret.name.clone()),
                    is_file: false,
                    mode: 0,
                    owner: (0, 0),
                },
                target: "/".to_string(),
                read_only: true,
            });
        }
        let (key, parts) = self.engine.timed(key);
        self.keyed(current, &key, &inputs.iter().collect::<Vec<_>>());
        let mut env = exec.env.clone();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(format!("PATH={}", sandbox::PATH_DEFAULT));
        }
        env.extend(exec.proxies.iter().cloned());
        Ok(Ready { root, changed, others, env, devices, key, parts, _kept: kept })
    }

    /// Adds the tree of a mount to the key: as a whole by its digest, a part of it by its content.
    fn add_bind(&self, key: &mut Key, value: &Value, selector: &str) -> Result<(), ErrorKind> {
        key.field("bind").field(selector);
        match (selector, self.tree(value)?) {
            ("", _) | (_, None) => drop(key.field(value.digest.as_str())),
            (_, Some(tree)) => {
                let options = self.options_of(value);
                copy::add_to_key(key, &tree, &entry(&tree, selector)?, &options, None)?;
            }
        }
        Ok(())
    }

    /// Opens a path of a tree for a mount.
    fn bound(&self, value: &Value, selector: &str, kept: &mut Kept) -> Result<Bound, ErrorKind> {
        let base = match &value.directory {
            Some(directory) => directory.path.clone(),
            None if value.layers.is_empty() => {
                let directory = self.engine.temporary()?;
                let path = directory.path().to_path_buf();
                kept.directories.push(directory);
                path
            }
            None => {
                kept.attach(self.engine, &sandbox::overlay_fd(&value.lower(self.engine.env.store)?, None)?)?
            }
        };
        open_inside(&base, selector)
    }

    /// A mount that is no tree.
    fn other(
        &self,
        current: &Current<'_>,
        mount: &Mount,
        target: String,
        key: &mut Key,
        kept: &mut Kept,
    ) -> Result<PreparedMount, ErrorKind> {
        let what = match &mount.kind {
            MountKind::Bind { .. } => unreachable!("the caller handles trees"),
            MountKind::Cache { id, sharing, initial, selector } => {
                let name = if id.is_empty() { &target } else { id };
                key.field("cache").field(name);
                let initial = match initial {
                    None => None,
                    Some(_) => {
                        let selector = clean(&format!("/{selector}")).split_off(1);
                        Some(self.bound(&self.value(*initial)?, &selector, kept)?)
                    }
                };
                // The directory that it begins with says whose it is.
                let (mode, owner) = match &initial {
                    None => (0o755, (0, 0)),
                    Some(initial) => {
                        let found = rustix::fs::fstat(&initial.open);
                        let found =
                            found.map_err(|e| ErrorKind::io("examine what a cache begins with", e.into()))?;
                        (found.st_mode & 0o7777, (found.st_uid, found.st_gid))
                    }
                };
                // As with the caches of a Dockerfile, which these are, too.
                let id = format!("{} {name}", current.op.platform);
                Some(Prepared::Cache { id, sharing: sharing_of(*sharing), mode, owner, initial })
            }
            MountKind::Tmpfs { size } => {
                key.field("tmpfs").field(format!("{size:?}"));
                mount.kind.without_tree()
            }
            MountKind::Secret { id, .. } => {
                key.field("secret").field(id);
                mount.kind.without_tree()
            }
            MountKind::Agent { id, .. } => {
                key.field("ssh").field(id);
                mount.kind.without_tree()
            }
        };
        let what = what.unwrap_or_else(|| unreachable!("mounts of trees are made above"));
        Ok(PreparedMount { what, target, read_only: mount.is_read_only() })
    }

    /// Runs the command. Changes of the tree that is `output` go to `scratch`; those of other outputs are
    /// returned.
    fn run(
        &self,
        current: &Current<'_>,
        exec: &Exec,
        ready: &Ready,
        (output, scratch): (usize, &Scratch),
    ) -> Result<BTreeMap<usize, Scratch>, ErrorKind> {
        let engine = self.engine;
        let mut beside = BTreeMap::new();
        let mut dropped = Vec::new();
        let command = Command {
            args: &exec.args,
            env: &ready.env,
            cwd: if exec.cwd.is_empty() { "/" } else { &exec.cwd },
            user: &exec.user,
            network: exec.network,
            insecure: exec.insecure,
            devices: &ready.devices,
        };
        let upper = place(engine, &ready.root, (output, scratch), &mut beside, &mut dropped)?;
        let lower = ready.root.value.lower(engine.env.store)?;
        let mut spec = command.spec(engine, &current.op.platform, &lower, upper)?;
        spec.read_only_root = ready.root.read_only;
        spec.extra_hosts.extend(exec.hosts.iter().cloned());
        spec.limits.extend(&exec.limits);
        if !exec.hostname.is_empty() {
            spec.hostname = exec.hostname.clone();
        }
        let mut kept = Kept::default();
        for changed in &ready.changed {
            let source = if changed.read_only {
                self.bound(&changed.value, &changed.selector, &mut kept)?
            } else {
                let upper = place(engine, changed, (output, scratch), &mut beside, &mut dropped)?;
                writable(engine, changed, upper, &mut kept)?
            };
            let source =
                source.open.try_clone().map_err(|e| ErrorKind::io("keep a mount's source open", e))?;
            let kind = sandbox::MountKind::Bind { source: source.into(), recursive: false };
            let target = changed.target.clone().into();
            spec.mounts.push(sandbox::Mount { kind, target, read_only: changed.read_only });
        }
        let mut guards = Guards::default();
        for mount in &ready.others {
            spec.mounts.extend(guards.mount(engine, mount)?);
        }
        // The client has said where its agent is.
        let has_agent = exec.env.iter().any(|variable| variable.starts_with("SSH_AUTH_SOCK="));
        let more = guards.variables.drain(..).filter(|v| !(has_agent && v.starts_with("SSH_AUTH_SOCK=")));
        spec.env.extend(more.map(OsString::from));
        let done = execute::execute(engine, current.step, &spec, &exec.args, &exec.exit_codes);
        if let (Err(ErrorKind::Command { .. }), Some(first)) = (&done, engine.env.failed)
            && ready.root.output == Some(output)
        {
            let lower = ready.root.value.lower(engine.env.store)?;
            let command = Command { env: &exec.env, ..command };
            first.note(failed(
                engine.env.store,
                &command,
                &current.op.platform,
                (&lower, scratch.upper()),
                &ready.others,
            ));
        }
        done?;
        Ok(beside)
    }
}

/// What the command line and its surroundings are, for the key.
fn command_key(current: &Current<'_>, exec: &Exec, options: &[String]) -> Key {
    let mut key = Key::new("exec", &crossdock_oci::Digest::of(b""));
    key.part("the command").list(&exec.args);
    key.part("").field(exec.env.len().to_string());
    for variable in &exec.env {
        key.part(format!("${}", variable.split('=').next().unwrap_or_default())).field(variable);
    }
    key.part("the user").field(&exec.user);
    key.part("the working directory").field(&exec.cwd);
    key.part("the network").field(format!("{} {}", execute::key_of(exec.network), exec.insecure));
    key.part("the platform").field(current.op.platform.to_string());
    key.part("the surroundings").field(&exec.hostname).field(format!("{:?} {:?}", exec.hosts, exec.limits));
    key.field(format!("{:?}", exec.exit_codes)).list(options);
    key.list(exec.secrets.iter().map(|secret| format!("{}={}", secret.name, secret.id)));
    key
}

/// Where changes of a tree go: to the output that is made now, to one that is made later, or nowhere.
fn place<'b>(
    engine: &crate::solver::engine::Engine<'_>,
    changed: &Changed,
    (output, scratch): (usize, &'b Scratch),
    beside: &'b mut BTreeMap<usize, Scratch>,
    dropped: &'b mut Vec<Scratch>,
) -> Result<&'b Scratch, ErrorKind> {
    if changed.output == Some(output) {
        return Ok(scratch);
    }
    let new = engine.env.store.new_scratch()?;
    Ok(match changed.output {
        Some(other) => beside.entry(other).insert_entry(new).into_mut(),
        None => {
            dropped.push(new);
            dropped.last().expect("one was added")
        }
    })
}

/// A tree whose changes go to a directory.
fn writable(
    engine: &crate::solver::engine::Engine<'_>,
    changed: &Changed,
    upper: &Scratch,
    kept: &mut Kept,
) -> Result<Bound, ErrorKind> {
    let upper = sandbox::Upper { upper: upper.upper(), work: upper.work(), volatile: true };
    let mount = sandbox::overlay_fd(&changed.value.lower(engine.env.store)?, Some(&upper))?;
    match changed.selector.as_str() {
        "" => Ok(mount.into()),
        selector => open_inside(&kept.attach(engine, &mount)?, selector),
    }
}

/// Moves what a command wrote to where a step expects it.
fn take_over(made: &Scratch, scratch: &Scratch) -> Result<(), ErrorKind> {
    // rename(2) replaces an empty directory.
    std::fs::rename(made.upper(), scratch.upper())
        .map_err(|e| ErrorKind::io(format!("move {}", made.upper().display()), e))
}

/// A path of the command's, absolute and clean.
fn absolute(cwd: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => clean(path),
        false => clean(&format!("/{cwd}/{path}")),
    }
}
