//! One stage for one target platform: walks the instructions in order.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Scope as Threads;
use std::time::Instant;

use crossdock_dockerfile::instruction::{Instruction, Kind};
use crossdock_dockerfile::parser::parse_trigger;
use crossdock_dockerfile::{Dockerfile, Lines};
use crossdock_oci::store::Scratch;
use crossdock_oci::{Digest, ImageConfig};
use crossdock_platform::Platform;
use crossdock_sandbox::PATH_DEFAULT;

use super::plan::{Plan, RunKey, StagePromise};
use super::scope::{Env, Scope};
use super::state::{State, Weight};
use crate::error::{BuildError, ErrorKind, shell_error};
use crate::event::{Event, StepId, StepInfo, Wait};
use crate::solver::engine::{Engine, How, Reach};
use crate::solver::environment::Chain;
use crate::solver::key::{Key, Part};
use crate::solver::layer::{Base, MakeLater};

/// The shell of the shell form without SHELL.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Steps whose keys are told before their turn.
const KEYS_AHEAD_MAX: usize = 500;

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
    /// What other machines have to do with it.
    pub reach: Reach<'a>,
    /// How its layer is made later, if that can wait; `None` if it is made now.
    pub later: Option<MakeLater>,
}

pub(crate) struct StageRun<'scope, 'env, 'a> {
    pub plan: &'scope Plan<'a>,
    pub engine: &'scope Engine<'a>,
    pub threads: &'scope Threads<'scope, 'env>,
    /// Index of the stage.
    pub index: usize,
    /// Index of the target platform.
    pub target: usize,
    pub(super) base: String,
    pub(super) scope: Scope,
    /// Steps shown so far, and in all.
    shown: usize,
    pub(super) total: usize,
    pub use_cache: bool,
    /// Whether the stage itself had a CMD.
    pub(super) cmd_is_set: bool,
    /// The step that was announced and has not ended.
    pub(super) open: Option<(StepId, Instant)>,
    /// Whether an instruction after this one reads files of the stage.
    is_read_later: bool,
    /// Index of the next instruction.
    next: usize,
    /// Whether this run only computes keys: it tells nothing.
    is_ahead: bool,
    /// The steps that the announced one depends on.
    inputs: RefCell<Vec<StepId>>,
    /// Keys of the steps so far of the chain that this step is of, see [`Chain`].
    chain: Vec<Digest>,
    pub state: State,
}

/// Runs a stage, and keeps the engine's promise of it.
pub(crate) fn keep_promise<'scope, 'env>(
    plan: &'scope Plan<'_>,
    threads: &'scope Threads<'scope, 'env>,
    key: RunKey,
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
    let mut keep = Keep(plan.promise(key).0, None);
    let engine = &plan.engine;
    if engine.check_cancelled().is_err() {
        return;
    }
    match StageRun::new(plan, threads, key, base, scope).run() {
        Ok(state) => keep.1 = Some(Arc::new(state)),
        Err(BuildError { kind: ErrorKind::Cancelled, .. }) => {}
        Err(mut error) => {
            if plan.request.settings.platforms.len() > 1 {
                error.platform = Some(plan.request.settings.platforms[key.1].clone());
            }
            engine.fail(error);
        }
    }
}

/// The expanded base name of a stage, which a build must have.
pub(crate) fn base_name(file: &Dockerfile, scope: &Scope, index: usize) -> Result<String, BuildError> {
    let stage = &file.stages[index];
    let base = scope.base_of(stage)?;
    if base.trim().is_empty() {
        let message = format!("base name ({}) should not be blank", stage.base);
        return Err(ErrorKind::Dockerfile(message).at(stage.lines));
    }
    Ok(base)
}

impl<'scope, 'env, 'a> StageRun<'scope, 'env, 'a> {
    pub fn new(
        plan: &'scope Plan<'a>,
        threads: &'scope Threads<'scope, 'env>,
        (index, target): RunKey,
        base: &str,
        scope: &Scope,
    ) -> StageRun<'scope, 'env, 'a> {
        let stage = &plan.file.stages[index];
        let filter = &plan.request.no_cache_filter;
        let filtered =
            filter.iter().any(|name| stage.name.as_deref() == Some(name) || *name == index.to_string());
        let platform = plan.request.settings.platforms[target].clone();
        StageRun {
            plan,
            engine: &plan.engine,
            threads,
            index,
            target,
            base: base.to_string(),
            scope: scope.clone(),
            shown: 0,
            total: 1 + stage.instructions.iter().filter(|i| makes_layer(&i.kind)).count(),
            use_cache: !plan.request.settings.no_cache && !filtered,
            cmd_is_set: false,
            open: None,
            is_read_later: true,
            next: 0,
            is_ahead: false,
            inputs: RefCell::default(),
            chain: Vec::new(),
            state: State {
                digest: Digest::of(b""),
                layers: Vec::new(),
                base: Base::default(),
                config: ImageConfig::default(),
                env: Env::default(),
                scope: scope.stage(None),
                weight: Weight::new(&plan.weight),
                platform,
                made_by: None,
            },
        }
    }

    /// Waits for an earlier stage of the same target platform; runs the stage if it was not known to be
    /// needed.
    pub(super) fn stage(&self, index: usize) -> Result<Arc<State>, ErrorKind> {
        let key = (index, self.target);
        // A stage needs only earlier ones, so no stage waits for itself here.
        let (promise, is_new) = self.plan.promise(key);
        if is_new {
            // Each step of it is announced; its base may be one more.
            let instructions = &self.plan.file.stages[index].instructions;
            let steps = instructions.iter().filter(|i| makes_layer(&i.kind)).count();
            self.engine.env.events.event(Event::Planned { steps });
            match base_name(&self.plan.file, &self.scope, index) {
                Ok(base) => keep_promise(self.plan, self.threads, key, &base, &self.scope),
                Err(error) => {
                    self.engine.fail(error);
                    promise.keep(None);
                }
            }
        }
        if let Some((step, _)) = self.open.filter(|_| !promise.is_kept()) {
            let name = stage_name(&self.plan.file, index);
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
        let (plan, engine) = (self.plan, self.engine);
        let stage = &plan.file.stages[self.index];
        self.from(stage)?;
        // Every image has a PATH, as in BuildKit: `ENV PATH=$PATH:/more` relies on it.
        if self.state.env.get("PATH").is_none() {
            self.state.env.set("PATH", PATH_DEFAULT);
        }
        let triggers = self.state.config.config.on_build.take().unwrap_or_default();
        self.plan.count_triggers(triggers.len()).map_err(|e| e.at(stage.lines))?;
        for trigger in triggers {
            let node = parse_trigger(&trigger)
                .and_then(|node| crossdock_dockerfile::instruction::instruction(&node, '\\'))
                .map_err(|e| {
                    ErrorKind::Dockerfile(format!("ONBUILD {trigger}: {}", e.message)).at(stage.lines)
                })?;
            plan.note_trigger(&node);
            let steps = usize::from(makes_layer(&node.kind));
            self.total += steps;
            engine.env.events.event(Event::Planned { steps });
            self.instruction(&Instruction { lines: stage.lines, ..node })?;
        }
        for (i, instruction) in stage.instructions.iter().enumerate() {
            self.next = i + 1;
            self.is_read_later = stage.instructions[i + 1..].iter().any(|later| makes_layer(&later.kind));
            self.instruction(instruction)?;
        }
        Ok(())
    }

    /// Whether anybody reads the files that this instruction makes.
    pub(super) fn needs_tree(&self) -> bool {
        self.is_read_later || self.plan.request.settings.needs_trees || self.index != self.plan.target
    }

    /// Whether anybody reads the archives of the layers that this stage makes.
    pub(super) fn needs_archive(&self) -> bool {
        let settings = &self.plan.request.settings;
        settings.needs_steps || settings.needs_images && self.plan.is_in_image((self.index, self.target))
    }

    /// Directories of the layers so far for overlay, the lowest first.
    pub(super) fn lower(&self, lines: Lines) -> Result<Vec<PathBuf>, BuildError> {
        self.state.lower(self.engine.env.store).map_err(|e| e.at(lines))
    }

    /// The name of the stage's next step in progress lines.
    fn title(&mut self, text: &str) -> String {
        self.shown += 1;
        let plan = self.plan;
        let stage = &plan.file.stages[self.index];
        let (own, target) = (&self.state.platform, &plan.request.settings.platforms[self.target]);
        let platform = match plan.request.settings.platforms.len() {
            _ if own.normalised() != target.normalised() => format!("{} ", shown_cross(own, target)),
            1 => String::new(),
            _ => format!("{target} "),
        };
        let name = match (&stage.name, plan.file.stages.len()) {
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
            stage: stage_name(&self.plan.file, self.index),
            target: self.plan.request.settings.platforms[self.target].clone(),
            is_emulated: command.starts_with("RUN ") && !platform.is_native(),
            platform,
            lines,
        };
        *self.inputs.borrow_mut() = self.state.made_by.into_iter().collect();
        self.open = Some(self.engine.announce(info));
    }

    /// The digest under which the store notes the parts of the key of a step at this place.
    fn place(&self, command: &str) -> Digest {
        let context = self.plan.request.context.as_deref().map(|path| path.as_os_str().as_encoded_bytes());
        let mut place = Key::new("place", &Digest::of(b""));
        place
            .option(context)
            .field(stage_name(&self.plan.file, self.index))
            .field(self.state.platform.to_string())
            .field(self.plan.request.settings.platforms[self.target].to_string())
            .field(command);
        place.finish()
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), BuildError> {
        let lines = instruction.lines;
        self.engine.check_cancelled().map_err(|e| e.at(lines))?;
        if self.engine.env.farm.is_some() && !self.is_told_ahead(&instruction.kind) {
            self.chain.clear();
        }
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

    /// The key of the announced step, whose result an earlier build or another machine has noted under
    /// `quick`.
    pub(super) fn known_under(&self, quick: &Digest) -> Result<Option<Digest>, ErrorKind> {
        let (engine, needs_tree) = (self.engine, self.needs_tree());
        if !self.use_cache {
            return Ok(None);
        }
        if let Some(known) = engine.quick_key(quick)?
            && engine.is_known(&known, needs_tree)?
        {
            return Ok(Some(known));
        }
        let (step, _) = self.open.expect("a step was announced");
        let Some(known) = engine.env.farm.and_then(|farm| farm.key_of(engine.env, quick, step)) else {
            return Ok(None);
        };
        let is_in_image = self.plan.is_in_image((self.index, self.target));
        let is_known = engine.is_known(&known, needs_tree)?
            || engine.take_known(self.threads, &known, step, is_in_image)?;
        if is_known {
            engine.remember_quick(quick, &known)?;
        }
        Ok(is_known.then_some(known))
    }

    /// Asks a farm for the step with this key and for those that follow, if the store does not know it: they
    /// are then answered together, rather than one after the other.
    pub(super) fn ask_ahead(&mut self, key: &Digest) {
        let Some(farm) = self.engine.env.farm.filter(|_| self.use_cache) else { return };
        self.chain.push(key.clone());
        let store = self.engine.env.store;
        if self.engine.is_done(key) || store.cache_has(key) || farm.is_asked(key) {
            return;
        }
        let ahead = self.keys_ahead(key);
        let unknown = ahead.iter().filter(|key| !store.cache_has(key));
        let keys: Vec<Digest> = std::iter::once(key).chain(unknown).cloned().collect();
        let chain = [&self.chain[..], &ahead].concat();
        let last = chain.last().expect("one was added above");
        let are_wanted = self.plan.is_in_image((self.index, self.target));
        farm.ask(self.engine.env, Chain { keys: &keys, last, are_wanted });
        self.engine.note_chain(chain);
    }

    /// Whether the key of an instruction can be told before its turn: not if it takes files of another stage
    /// or the context, or a device.
    fn is_told_ahead(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Copy(_) | Kind::Add(_) => false,
            Kind::Run(run) => self.mounts_ahead(run).is_some(),
            _ => true,
        }
    }

    /// The keys of the RUN and WORKDIR instructions after the step with this key that may be executed
    /// elsewhere, as far as keys can be told without a result: each has another key if one before it was
    /// renewed.
    fn keys_ahead(&self, key: &Digest) -> Vec<Digest> {
        let instructions = &self.plan.file.stages[self.index].instructions[self.next..];
        let mut ahead = StageRun {
            plan: self.plan,
            engine: self.engine,
            threads: self.threads,
            index: self.index,
            target: self.target,
            base: self.base.clone(),
            scope: self.scope.clone(),
            shown: 0,
            total: 0,
            use_cache: true,
            cmd_is_set: self.cmd_is_set,
            open: None,
            is_read_later: true,
            next: 0,
            is_ahead: true,
            inputs: RefCell::default(),
            chain: Vec::new(),
            state: self.state.clone(),
        };
        ahead.state.digest = key.clone();
        let mut keys = Vec::new();
        for instruction in instructions {
            if keys.len() == KEYS_AHEAD_MAX {
                break;
            }
            let lines = instruction.lines;
            // What is wrong is told when its turn comes.
            let Ok(Some((key, may_leave))) = (match &instruction.kind {
                Kind::Run(run) => ahead.run_key_ahead(run, lines),
                Kind::Workdir(path) => ahead.workdir_key_ahead(path, lines).map(|key| Some((key, true))),
                Kind::Copy(_) | Kind::Add(_) => Ok(None),
                kind => match ahead.metadata(kind, lines) {
                    Ok(_) => continue,
                    Err(error) => Err(error),
                },
            }) else {
                break;
            };
            ahead.state.digest = key.clone();
            if may_leave {
                keys.push(key);
            }
        }
        keys
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
        let is_told = |name: &&String| !self.is_ahead && !self.state.scope.declares(name);
        for name in expanded.unset.iter().filter(is_told) {
            let message = format!("variable ${name} is not set");
            self.engine.env.events.event(Event::Warning { message, lines: Some(lines) });
        }
        Ok(expanded.text)
    }

    pub(super) fn expand_words(&self, word: &str, lines: Lines) -> Result<Vec<String>, BuildError> {
        Ok(self.state.scope.expand(word, &self.state.env).map_err(|e| shell_error(e, lines))?.words)
    }

    pub(super) fn expand_pairs(
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
        Step { title, key, created_by, varies, reach, later }: Step<'_>,
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
        let is_in_image = self.plan.is_in_image((self.index, self.target));
        let (needs_tree, needs_archive) = (self.needs_tree(), self.needs_archive());
        let (use_cache, later) = (self.use_cache, later.as_ref());
        let how = How { use_cache, varies, is_in_image, needs_tree, needs_archive, later, place, reach };
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

    /// `NAME=value` of every variable that a command of this stage sees: the image's ENV and the stage's
    /// ARGs.
    pub fn environment(&self) -> Vec<String> {
        let mut env = self.state.env.entries().to_vec();
        env.extend(self.state.scope.run_args(&self.state.env));
        env
    }
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
