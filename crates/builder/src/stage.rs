//! One stage for one target platform: walks the instructions in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::Scope as Threads;
use std::time::Instant;

use crossdock_dockerfile::instruction::{CommandLine, Instruction, Kind};
use crossdock_dockerfile::parser::parse_trigger;
use crossdock_dockerfile::{Dockerfile, Lines, Stage};
use crossdock_oci::config::{Healthcheck, ProcessConfig};
use crossdock_oci::store::Scratch;
use crossdock_oci::{Digest, ImageConfig, Reference};
use crossdock_platform::Platform;
use crossdock_sandbox::PATH_DEFAULT;

use crate::copy::{self, CopyOptions, Placement};
use crate::engine::{Engine, How, StagePromise};
use crate::error::{BuildError, ErrorKind, shell_error};
use crate::event::{Event, StepId, StepInfo, Wait};
use crate::graph::{Names, Origin};
use crate::key::{Key, Part};
use crate::request::NamedContext;
use crate::scope::{Env, Scope};
use crate::state::{Base, Layer, Packed, State, Weight, open_root};
use crate::sync::Promise;

/// The shell of the shell form without SHELL.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A step that makes a layer.
pub(crate) struct Step<'a> {
    /// As given to [`StageRun::begin`].
    pub title: &'a str,
    /// Digest of the step's dependencies, and its named parts.
    pub key: (Digest, Vec<Part>),
    /// Its line of history.
    pub created_by: String,
    /// Whether its result may differ each time.
    pub varies: bool,
}

pub(crate) struct StageRun<'scope, 'env, 'a> {
    pub engine: &'scope Engine<'a>,
    pub threads: &'scope Threads<'scope, 'env>,
    /// Index of the stage.
    pub index: usize,
    /// Index of the target platform.
    pub target: usize,
    base: String,
    scope: Scope,
    /// Steps shown so far, and in all.
    shown: usize,
    total: usize,
    pub use_cache: bool,
    /// Whether the stage itself had a CMD.
    cmd_is_set: bool,
    /// The step that was announced and has not ended.
    open: Option<(StepId, Instant)>,
    /// The steps that the announced one depends on.
    inputs: RefCell<Vec<StepId>>,
    pub state: State,
}

/// Runs a stage, and keeps the engine's promise of it.
pub(crate) fn keep_promise<'scope, 'env>(
    engine: &'scope Engine<'_>,
    threads: &'scope Threads<'scope, 'env>,
    key: (usize, usize),
    base: &str,
    scope: &Scope,
) {
    /// Keeps the promise even if the run panics, so that nobody waits forever.
    struct Keep(Arc<StagePromise>, Option<Arc<State>>);
    impl Drop for Keep {
        fn drop(&mut self) {
            self.0.keep(self.1.take());
        }
    }
    let mut keep = Keep(engine.promise(key).0, None);
    if engine.check_cancelled().is_err() {
        return;
    }
    match StageRun::new(engine, threads, key, base, scope).run() {
        Ok(state) => keep.1 = Some(Arc::new(state)),
        Err(BuildError { kind: ErrorKind::Cancelled, .. }) => {}
        Err(mut error) => {
            if engine.request.platforms.len() > 1 {
                error.platform = Some(engine.request.platforms[key.1].clone());
            }
            engine.fail(error);
        }
    }
}

/// The expanded base name of a stage.
pub(crate) fn base_name(file: &Dockerfile, scope: &Scope, index: usize) -> Result<String, BuildError> {
    let stage = &file.stages[index];
    let base = scope.expand_global(&stage.base).map_err(|e| shell_error(e, stage.lines))?;
    if base.text.trim().is_empty() {
        let message = format!("base name ({}) should not be blank", stage.base);
        return Err(ErrorKind::Dockerfile(message).at(stage.lines));
    }
    Ok(base.text)
}

impl<'scope, 'env, 'a> StageRun<'scope, 'env, 'a> {
    pub fn new(
        engine: &'scope Engine<'a>,
        threads: &'scope Threads<'scope, 'env>,
        (index, target): (usize, usize),
        base: &str,
        scope: &Scope,
    ) -> StageRun<'scope, 'env, 'a> {
        let stage = &engine.file.stages[index];
        let filter = &engine.request.no_cache_filter;
        let filtered =
            filter.iter().any(|name| stage.name.as_deref() == Some(name) || *name == index.to_string());
        let platform = engine.request.platforms[target].clone();
        StageRun {
            engine,
            threads,
            index,
            target,
            base: base.to_string(),
            scope: scope.clone(),
            shown: 0,
            total: 1 + stage.instructions.iter().filter(|i| makes_layer(&i.kind)).count(),
            use_cache: !engine.request.no_cache && !filtered,
            cmd_is_set: false,
            open: None,
            inputs: RefCell::default(),
            state: State {
                digest: Digest::of(b""),
                layers: Vec::new(),
                base: Base::default(),
                config: ImageConfig::default(),
                env: Env::default(),
                scope: scope.stage(None),
                weight: Weight::new(&engine.weight),
                platform,
                made_by: None,
            },
        }
    }

    /// Waits for an earlier stage of the same target platform; runs the stage if it was not known to be
    /// needed.
    fn stage(&self, index: usize) -> Result<Arc<State>, ErrorKind> {
        let key = (index, self.target);
        // A stage needs only earlier ones, so no stage waits for itself here.
        let (promise, is_new) = self.engine.promise(key);
        if is_new {
            // Each step of it is announced; its base may be one more.
            let instructions = &self.engine.file.stages[index].instructions;
            let steps = instructions.iter().filter(|i| makes_layer(&i.kind)).count();
            self.engine.env.events.event(Event::Planned { steps });
            match base_name(&self.engine.file, &self.scope, index) {
                Ok(base) => keep_promise(self.engine, self.threads, key, &base, &self.scope),
                Err(error) => {
                    self.engine.fail(error);
                    promise.keep(None);
                }
            }
        }
        if let Some((step, _)) = self.open.filter(|_| !promise.is_kept()) {
            let name = stage_name(&self.engine.file, index);
            self.engine.tell_wait(step, Wait::Stage(name));
        }
        let state = promise.wait().ok_or(ErrorKind::Cancelled)?;
        self.note_input(state.made_by);
        Ok(state)
    }

    /// Notes that the announced step depends on another one.
    fn note_input(&self, input: Option<StepId>) {
        let mut inputs = self.inputs.borrow_mut();
        if let Some(input) = input.filter(|input| !inputs.contains(input)) {
            inputs.push(input);
        }
    }

    pub fn run(mut self) -> Result<State, BuildError> {
        let walked = self.walk();
        // A step that failed before it was looked up.
        if let (Err(error), Some((step, _))) = (&walked, self.open.take()) {
            self.engine.give_up(step, &error.kind);
        }
        walked.map(|()| self.state)
    }

    fn walk(&mut self) -> Result<(), BuildError> {
        let engine = self.engine;
        let stage = &engine.file.stages[self.index];
        self.from(stage)?;
        // Every image has a PATH, as in BuildKit: `ENV PATH=$PATH:/more` relies on it.
        if self.state.env.get("PATH").is_none() {
            self.state.env.set("PATH", PATH_DEFAULT);
        }
        let triggers = self.state.config.config.on_build.take().unwrap_or_default();
        engine.count_triggers(triggers.len()).map_err(|e| e.at(stage.lines))?;
        for trigger in triggers {
            let node = parse_trigger(&trigger)
                .and_then(|node| crossdock_dockerfile::instruction::instruction(&node, '\\'))
                .map_err(|e| {
                    ErrorKind::Dockerfile(format!("ONBUILD {trigger}: {}", e.message)).at(stage.lines)
                })?;
            let steps = usize::from(makes_layer(&node.kind));
            self.total += steps;
            engine.env.events.event(Event::Planned { steps });
            self.instruction(&Instruction { lines: stage.lines, ..node })?;
        }
        for instruction in &stage.instructions {
            self.instruction(instruction)?;
        }
        Ok(())
    }

    /// The name of the stage's next step in progress lines.
    fn title(&mut self, text: &str) -> String {
        self.shown += 1;
        let engine = self.engine;
        let stage = &engine.file.stages[self.index];
        let (own, target) = (&self.state.platform, &engine.request.platforms[self.target]);
        let platform = match engine.request.platforms.len() {
            _ if own.normalised() != target.normalised() => format!("{} ", shown_cross(own, target)),
            1 => String::new(),
            _ => format!("{target} "),
        };
        let name = match (&stage.name, engine.file.stages.len()) {
            (Some(name), _) => format!("{name} "),
            (None, 1) => String::new(),
            (None, _) => format!("stage-{} ", self.index),
        };
        format!("[{platform}{name}{}/{}] {text}", self.shown, self.total)
    }

    /// Announces the next step of the stage.
    pub fn begin(&mut self, command: &str, lines: Lines) {
        let name = self.title(command);
        let platform = self.state.platform.clone();
        let info = StepInfo {
            name,
            command: command.to_string(),
            stage: stage_name(&self.engine.file, self.index),
            target: self.engine.request.platforms[self.target].clone(),
            is_emulated: command.starts_with("RUN ") && !platform.is_native(),
            platform,
            lines,
        };
        *self.inputs.borrow_mut() = self.state.made_by.into_iter().collect();
        self.open = Some(self.engine.announce(info));
    }

    /// The digest under which the store notes the parts of the key of a step at this place.
    fn place(&self, command: &str) -> Digest {
        let context = self.engine.request.context.as_deref().map(|path| path.as_os_str().as_encoded_bytes());
        let mut place = Key::new("place", &Digest::of(b""));
        place
            .option(context)
            .field(stage_name(&self.engine.file, self.index))
            .field(self.state.platform.to_string())
            .field(self.engine.request.platforms[self.target].to_string())
            .field(command);
        place.finish()
    }

    fn from(&mut self, stage: &Stage) -> Result<(), BuildError> {
        let engine = self.engine;
        if let Some(text) = &stage.platform {
            let expanded = self.scope.expand_global(text).map_err(|e| shell_error(e, stage.lines))?.text;
            let parsed = expanded.parse::<Platform>();
            self.state.platform = parsed.map_err(|e| ErrorKind::Dockerfile(e.to_string()).at(stage.lines))?;
        }
        let names = Names { file: &engine.file, contexts: &engine.request.contexts };
        let origin = names.resolve(&self.base, self.index, stage.lines)?;
        let base = self.base.clone();
        match origin {
            Origin::Scratch => {
                self.shown += 1;
                self.scratch();
            }
            Origin::Stage(index) => {
                self.shown += 1;
                let inherited = self.stage(index);
                let inherited = inherited.map_err(|e| e.at(stage.lines))?;
                self.state = (*inherited).clone();
                self.state.weight.add(0).map_err(|e| e.at(stage.lines))?;
                self.state.scope = self.scope.stage(Some(&inherited.scope));
            }
            Origin::Image(reference) => self.image_base(&reference, &base, stage.lines)?,
            Origin::Context(NamedContext::Image(reference)) => {
                self.image_base(&reference, &base, stage.lines)?
            }
            Origin::Context(NamedContext::OciLayout { path, name }) => {
                let manifest = self.layout_image(&path, name.as_deref(), stage.lines)?;
                self.load_base(&manifest, &base, stage.lines)?;
            }
            Origin::Context(NamedContext::Images(images)) => {
                let manifest = self.choose(&images, &base, stage.lines)?;
                self.load_base(&manifest, &base, stage.lines)?;
            }
            Origin::Context(NamedContext::Directory { path, ignore }) => {
                self.scratch();
                self.directory_base(&NamedContext::Directory { path, ignore }, &base, stage.lines)?;
            }
            Origin::Context(NamedContext::Stage(_)) => {
                unreachable!("a name of a stage is resolved to the stage")
            }
        }
        Ok(())
    }

    /// Sets the configuration of an empty image.
    fn scratch(&mut self) {
        let platform = self.state.platform.clone();
        self.state.config.os = platform.os;
        self.state.config.architecture = platform.architecture;
        self.state.config.variant = platform.variant;
        self.state.config.config.working_dir = "/".to_string();
        if self.engine.request.source_date_epoch.is_some() {
            self.state.config.created = Some(self.engine.now());
        }
    }

    /// Makes a directory the root file system of a stage: its files are one layer and belong to root, as with
    /// COPY.
    fn directory_base(&mut self, context: &NamedContext, name: &str, lines: Lines) -> Result<(), BuildError> {
        let origin = Origin::Context(context.clone());
        let tree = self.tree(Some(&origin), None, lines)?;
        let start =
            tree.entry("").map_err(|e| ErrorKind::io(format!("read build context {name}"), e).at(lines))?;
        let options = CopyOptions {
            owner: Some((0, 0)),
            mtime_max: self.engine.request.source_date_epoch,
            ..CopyOptions::default()
        };
        let title = format!("FROM {name}");
        self.begin(&title, lines);
        let mut key = Key::new("context", &Digest::of(b""));
        key.part("the files");
        copy::add_to_key(&mut key, &tree, &start, &options, None)
            .map_err(|e| ErrorKind::Copy(e).at(lines))?;
        let key = self.engine.timed(key);
        let mut execute = |scratch: &Scratch, _| {
            let stack = open_root(scratch, &[])?;
            copy::copy(&tree, &start, stack.root(), b"", Placement::Exact, &options)?;
            Ok(stack.finish()?)
        };
        let step = Step { title: &title, key, created_by: title.clone(), varies: false };
        self.layer_step(step, lines, &mut execute)
    }

    fn image_base(&mut self, reference: &Reference, name: &str, lines: Lines) -> Result<(), BuildError> {
        let engine = self.engine;
        let platform = self.state.platform.clone();
        self.begin(&format!("FROM {name}"), lines);
        let (step, started) = self.open.take().expect("a step was announced");
        let resolved = engine.env.images.resolve(reference, &platform, engine.request.pull);
        let result = resolved
            .map_err(|reason| ErrorKind::BaseImage { name: reference.familiar(), reason }.at(lines))
            .and_then(|manifest| {
                engine.env.events.event(Event::Unpacking { step });
                self.load_base(&manifest, name, lines)
            });
        match &result {
            Ok(()) => {
                let digest = self.state.digest.clone();
                engine.env.events.event(Event::Keyed { step, digest, inputs: Vec::new() });
                self.state.made_by = Some(step);
                engine.finish(step, started, false);
            }
            Err(error) => engine.give_up(step, &error.kind),
        }
        result
    }

    /// Loads an image of an OCI layout directory into the store.
    fn layout_image(
        &self,
        path: &std::path::Path,
        name: Option<&str>,
        lines: Lines,
    ) -> Result<crossdock_oci::Descriptor, BuildError> {
        let wanted = |entry: &crossdock_oci::Descriptor| match name {
            None => true,
            Some(name) => {
                entry.digest.as_str() == name
                    || entry
                        .annotations
                        .get("org.opencontainers.image.ref.name")
                        .is_some_and(|tag| tag == name)
            }
        };
        let shown = || format!("oci-layout://{}", path.display());
        let loaded =
            self.engine.env.store.read_layout(path, wanted).map_err(|e| ErrorKind::Store(e).at(lines))?;
        let images: Vec<_> = loaded.into_iter().flat_map(|image| image.images).collect();
        self.choose(&images, &shown(), lines)
    }

    /// The image for the stage's platform.
    fn choose(
        &self,
        images: &[(Platform, crossdock_oci::Descriptor)],
        name: &str,
        lines: Lines,
    ) -> Result<crossdock_oci::Descriptor, BuildError> {
        match self.state.platform.best(images.iter().map(|(platform, _)| platform)) {
            Some(best) => Ok(images[best].1.clone()),
            None => {
                let offered: Vec<String> = images.iter().map(|(platform, _)| platform.to_string()).collect();
                let reason =
                    format!("no image for {}; it offers: {}", self.state.platform, offered.join(", "));
                Err(ErrorKind::BaseImage { name: name.to_string(), reason }.at(lines))
            }
        }
    }

    /// Takes over the base image's configuration and layers.
    fn load_base(
        &mut self,
        manifest: &crossdock_oci::Descriptor,
        name: &str,
        lines: Lines,
    ) -> Result<(), BuildError> {
        let (mut config, layers) = image_layers(self.engine, manifest).map_err(|e| e.at(lines))?;
        self.state.weight.add(config.to_bytes().len()).map_err(|e| e.at(lines))?;
        self.state.env = Env::new(std::mem::take(&mut config.config.env));
        let found = config.platform();
        if self.state.platform.rank(&found).is_none() {
            let message = format!("{name} is an image for {found}, not for {}", self.state.platform);
            self.engine.env.events.event(Event::Warning { message, lines: Some(lines) });
        }
        let mut key = Key::new("base", &Digest::of(b""));
        key.list(config.rootfs.diff_ids.iter().map(Digest::as_str));
        self.state.digest = key.finish();
        self.state.base = Base { layers: layers.len(), history: config.history.len() };
        self.state.layers = layers;
        self.state.config = ImageConfig { rootfs: Default::default(), ..config };
        Ok(())
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), BuildError> {
        let lines = instruction.lines;
        self.engine.check_cancelled().map_err(|e| e.at(lines))?;
        match &instruction.kind {
            Kind::Run(run) => return self.run_step(run, instruction),
            Kind::Copy(transfer) => return self.copy_step(transfer, instruction, false),
            Kind::Add(transfer) => return self.copy_step(transfer, instruction, true),
            Kind::Workdir(path) => {
                let path = self.expand(path, lines)?;
                return self.workdir_step(&path, instruction);
            }
            _ => {}
        }
        let history = self.metadata(&instruction.kind, lines)?;
        self.state.note_metadata(history).map_err(|e| e.at(lines))
    }

    /// Changes the configuration; returns the line for the history.
    fn metadata(&mut self, kind: &Kind, lines: Lines) -> Result<String, BuildError> {
        Ok(match kind {
            Kind::Arg(definitions) => {
                for definition in definitions {
                    let State { scope, env, weight, .. } = &mut self.state;
                    let before = scope.size();
                    scope.declare(definition, env).map_err(|e| shell_error(e, lines))?;
                    weight.add_memory(scope.size().saturating_sub(before)).map_err(|e| e.at(lines))?;
                }
                let shown = definitions.iter().map(|d| match &d.default {
                    Some(default) => format!("{}={default}", d.name),
                    None => d.name.clone(),
                });
                format!("ARG {}", shown.collect::<Vec<_>>().join(" "))
            }
            Kind::Env(pairs) => {
                let pairs = self.expand_pairs(pairs, lines)?;
                for (name, value) in &pairs {
                    self.state.env.set(name, value);
                }
                format!("ENV {}", shown_pairs(&pairs))
            }
            Kind::Label(pairs) => {
                let pairs = self.expand_pairs(pairs, lines)?;
                let labels = self.process().labels.get_or_insert_default();
                labels.extend(pairs.iter().cloned());
                format!("LABEL {}", shown_pairs(&pairs))
            }
            Kind::Cmd(command) => {
                let line = self.command_line(command);
                self.cmd_is_set = true;
                self.process().cmd = Some(line.clone());
                format!("CMD {}", json(&line))
            }
            Kind::Entrypoint(command) => {
                let line = self.command_line(command);
                self.process().entrypoint = Some(line.clone());
                // A CMD of the base image belongs to its own ENTRYPOINT; one of this stage, before it, stays.
                if !self.cmd_is_set {
                    self.process().cmd = None;
                }
                format!("ENTRYPOINT {}", json(&line))
            }
            Kind::Expose(ports) => {
                let mut shown = Vec::new();
                for port in ports {
                    for word in self.expand_words(port, lines)? {
                        let ports = expose(&word).map_err(|m| ErrorKind::Dockerfile(m).at(lines))?;
                        let exposed = self.process().exposed_ports.get_or_insert_default();
                        exposed.extend(ports.iter().map(|p| (p.clone(), serde_json::json!({}))));
                        let length = ports.iter().map(String::len).sum();
                        self.state.weight.add(length).map_err(|e| e.at(lines))?;
                        shown.extend(ports);
                    }
                }
                format!("EXPOSE {}", shown.join(" "))
            }
            Kind::Healthcheck(health) => {
                let test = health.test.clone();
                self.process().healthcheck = Some(Healthcheck {
                    test: test.clone(),
                    interval: health.interval,
                    timeout: health.timeout,
                    start_period: health.start_period,
                    start_interval: health.start_interval,
                    retries: health.retries,
                });
                format!("HEALTHCHECK {}", json(&test))
            }
            Kind::Maintainer(name) => {
                self.state.config.author = Some(name.clone());
                format!("MAINTAINER {name}")
            }
            Kind::Onbuild(trigger) => {
                self.process().on_build.get_or_insert_default().push(trigger.clone());
                format!("ONBUILD {trigger}")
            }
            Kind::Shell(shell) => {
                self.process().shell = Some(shell.clone());
                format!("SHELL {}", json(shell))
            }
            Kind::StopSignal(signal) => {
                let signal = self.expand(signal, lines)?;
                check_signal(&signal).map_err(|m| ErrorKind::Dockerfile(m).at(lines))?;
                self.process().stop_signal = Some(signal.clone());
                format!("STOPSIGNAL {signal}")
            }
            Kind::User(user) => {
                let user = self.expand(user, lines)?;
                self.process().user = user.clone();
                format!("USER {user}")
            }
            Kind::Volume(paths) => {
                let paths = paths.iter().map(|p| self.expand(p, lines)).collect::<Result<Vec<_>, _>>()?;
                if paths.iter().any(String::is_empty) {
                    return Err(ErrorKind::Dockerfile("VOLUME has an empty path".to_string()).at(lines));
                }
                let volumes = self.process().volumes.get_or_insert_default();
                volumes.extend(paths.iter().map(|p| (p.clone(), serde_json::json!({}))));
                format!("VOLUME {}", json(&paths))
            }
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => {
                unreachable!("instructions that make layers are handled by the caller")
            }
        })
    }

    fn process(&mut self) -> &mut ProcessConfig {
        &mut self.state.config.config
    }

    fn command_line(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(args) => args.clone(),
            CommandLine::Shell(text) if text.is_empty() => Vec::new(),
            CommandLine::Shell(text) => self.in_shell(text),
        }
    }

    /// The command line that runs a command in the stage's shell.
    pub fn in_shell(&self, command: &str) -> Vec<String> {
        let default = || DEFAULT_SHELL.map(str::to_string).to_vec();
        let mut line = self.state.config.config.shell.clone().unwrap_or_else(default);
        line.push(command.to_string());
        line
    }

    /// Expands a word and warns of variables that are not set.
    pub fn expand(&self, word: &str, lines: Lines) -> Result<String, BuildError> {
        let expanded = self.state.scope.expand(word, &self.state.env).map_err(|e| shell_error(e, lines))?;
        // An ARG without a value is meant to be empty.
        for name in expanded.unset.iter().filter(|name| !self.state.scope.declares(name)) {
            let message = format!("variable ${name} is not set");
            self.engine.env.events.event(Event::Warning { message, lines: Some(lines) });
        }
        Ok(expanded.text)
    }

    fn expand_words(&self, word: &str, lines: Lines) -> Result<Vec<String>, BuildError> {
        Ok(self.state.scope.expand(word, &self.state.env).map_err(|e| shell_error(e, lines))?.words)
    }

    fn expand_pairs(
        &self,
        pairs: &[(String, String)],
        lines: Lines,
    ) -> Result<Vec<(String, String)>, BuildError> {
        pairs
            .iter()
            .map(|(name, value)| Ok((self.expand(name, lines)?, self.expand(value, lines)?)))
            .collect()
    }

    /// Executes or looks up the announced step, which makes a layer.
    pub fn layer_step(
        &mut self,
        Step { title, key, created_by, varies }: Step<'_>,
        lines: Lines,
        execute: &mut dyn FnMut(&Scratch, StepId) -> Result<(), ErrorKind>,
    ) -> Result<(), BuildError> {
        let engine = self.engine;
        let (step, started) = self.open.take().expect("a step was announced");
        let (key, parts) = key;
        let inputs = self.inputs.take();
        engine.env.events.event(Event::Keyed { step, digest: key.clone(), inputs });
        let place = self.place(title);
        let place = (&place, &parts[..]);
        let how = How { use_cache: self.use_cache, varies, run: (self.index, self.target), place };
        let result = engine.step(self.threads, &key, how, step, &mut |scratch| execute(scratch, step));
        match result {
            Ok((result, cached)) => {
                engine.finish(step, started, cached);
                self.state.made_by = Some(step);
                self.state.push(key, &result, created_by).map_err(|e| e.at(lines))
            }
            Err(error) => {
                engine.give_up(step, &error);
                Err(error.at(lines))
            }
        }
    }

    /// The origin that the `from` of COPY or a mount names.
    pub fn origin(&self, name: &str, lines: Lines) -> Result<Origin, BuildError> {
        let names = Names { file: &self.engine.file, contexts: &self.engine.request.contexts };
        names.resolve(name, self.index, lines)
    }

    /// The layers of an origin that is an image or a stage, and a digest that names their content.
    pub fn origin_layers(&self, origin: &Origin, lines: Lines) -> Result<(Vec<Layer>, Digest), BuildError> {
        let from_manifest = |manifest: &crossdock_oci::Descriptor| {
            let (config, layers) = image_layers(self.engine, manifest).map_err(|e| e.at(lines))?;
            let mut key = Key::new("base", &Digest::of(b""));
            key.list(config.rootfs.diff_ids.iter().map(Digest::as_str));
            Ok((layers, key.finish()))
        };
        match origin {
            Origin::Scratch => Ok((Vec::new(), Digest::of(b""))),
            Origin::Stage(index) => {
                let state = self.stage(*index);
                let state = state.map_err(|e| e.at(lines))?;
                Ok((state.layers.clone(), state.digest.clone()))
            }
            Origin::Image(reference) | Origin::Context(NamedContext::Image(reference)) => {
                let platform = &self.state.platform;
                let images = self.engine.env.images;
                let manifest =
                    images.resolve(reference, platform, self.engine.request.pull).map_err(|reason| {
                        let reason = self.explain_later_stage(reference, reason);
                        ErrorKind::BaseImage { name: reference.familiar(), reason }.at(lines)
                    })?;
                from_manifest(&manifest)
            }
            Origin::Context(NamedContext::OciLayout { path, name }) => {
                from_manifest(&self.layout_image(path, name.as_deref(), lines)?)
            }
            Origin::Context(NamedContext::Images(images)) => {
                from_manifest(&self.choose(images, "the result of another build", lines)?)
            }
            Origin::Context(_) => {
                Err(ErrorKind::Dockerfile("a directory is not an image".to_string()).at(lines))
            }
        }
    }

    /// Explains the error if the name is that of a later stage, which was taken for an image.
    fn explain_later_stage(&self, reference: &Reference, reason: String) -> String {
        let is_it = |stage: &Stage| {
            let named = stage.name.as_ref().and_then(|name| name.parse::<Reference>().ok());
            named.is_some_and(|named| named == *reference)
        };
        match self.engine.file.stages[self.index..].iter().any(is_it) {
            true => format!("{reason} (a stage of that name comes later; only earlier stages can be used)"),
            false => reason,
        }
    }

    /// `NAME=value` of every variable that a command of this stage sees: the image's ENV and the stage's
    /// ARGs.
    pub fn environment(&self) -> Vec<String> {
        let mut env = self.state.env.entries().to_vec();
        env.extend(self.state.scope.run_args(&self.state.env));
        env
    }
}

/// Configuration and unpacked layers of an image in the store.
pub(crate) fn image_layers(
    engine: &Engine<'_>,
    manifest: &crossdock_oci::Descriptor,
) -> Result<(ImageConfig, Vec<Layer>), ErrorKind> {
    let image = engine.env.store.load_image(manifest)?;
    let unpacked = engine.env.store.unpack_image(&image, 0)?;
    let layers = unpacked.into_iter().zip(&image.manifest.layers).zip(&image.config.rootfs.diff_ids);
    let layers = layers.map(|((unpacked, descriptor), diff_id)| {
        let packed = Packed { diff_id: diff_id.clone(), descriptor: descriptor.clone() };
        Layer { fs: unpacked.path, packed: Arc::new(Promise::kept(Ok(packed))) }
    });
    let layers = layers.collect();
    Ok((image.config, layers))
}

/// The name of a stage, or its number counted from 0.
fn stage_name(file: &Dockerfile, index: usize) -> String {
    file.stages[index].name.clone().unwrap_or_else(|| index.to_string())
}

/// `linux/amd64->arm64`, as BuildKit names steps that run on one CPU for an image of another.
fn shown_cross(own: &Platform, target: &Platform) -> String {
    let (own, target) = (own.to_string(), target.to_string());
    let system = own.split('/').next().unwrap_or_default();
    match target.strip_prefix(system).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) => format!("{own}->{rest}"),
        None => format!("{own}->{target}"),
    }
}

pub(crate) fn makes_layer(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

fn json(words: &[String]) -> String {
    serde_json::to_string(words).expect("strings always serialise")
}

fn shown_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// `80`, `80/udp`, `8000-8010/tcp`: the ports as the configuration lists them.
pub(crate) fn expose(word: &str) -> Result<Vec<String>, String> {
    let invalid = || {
        format!("invalid port {word:?}: it must be a number or a range, with /tcp, /udp or /sctp behind it")
    };
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    // Docker takes `host:container` and exposes the container's port.
    let range = range.rsplit(':').next().unwrap_or(range);
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) =
        (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if first == 0 || first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Signals as `kill -l` of Linux names them, with or without `SIG`, or numbers 1 to 64.
pub(crate) fn check_signal(signal: &str) -> Result<(), String> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.starts_with("RTMIN") || name.starts_with("RTMAX");
    if signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n)) || NAMES.contains(&name) || real_time {
        return Ok(());
    }
    Err(format!("invalid signal: {signal}"))
}

/// Adds the labels of `--label`, which override the Dockerfile's.
pub(crate) fn add_labels(config: &mut ImageConfig, labels: &BTreeMap<String, String>) {
    if !labels.is_empty() {
        config.config.labels.get_or_insert_default().extend(labels.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(expose("80").expect("valid"), ["80/tcp"]);
        assert_eq!(expose("53/UDP").expect("valid"), ["53/udp"]);
        assert_eq!(expose("8000-8002").expect("valid"), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        for bad in ["", "x", "0", "70000", "5-3", "80/http"] {
            assert!(expose(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals() {
        for good in ["9", "SIGTERM", "term", "SIGRTMIN+3"] {
            assert!(check_signal(good).is_ok(), "{good}");
        }
        for bad in ["", "0", "65", "SIGFOO"] {
            assert!(check_signal(bad).is_err(), "{bad}");
        }
    }
}
