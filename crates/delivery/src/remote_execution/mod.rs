//! RUN steps on an engine of the Remote Execution API: the builder's orders become actions, and their
//! results layers of the store. `docs/dev/farm.md` says what is sent and what is believed.

mod action;
mod ahead;
mod asked;
mod chain;
pub mod machine;
mod output;
pub mod places;
mod result;
mod small;
pub mod workers;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossdock_builder::away::order::{Package, Task};
use crossdock_builder::solver::cache::CachedStep;
use crossdock_builder::{Chain, Elsewhere, Environment, ErrorKind, Event, MadeHere, Record, StepId, Wait};
use crossdock_oci::Digest;
use crossdock_reapi::{ActionResult, Address, Blob, Client, Dial, Execution, FarmError, Policy, Stage, Told};

use self::ahead::{Asking, Chains};
use self::asked::Asked;
use self::machine::Machine;
use self::output::Output;
use self::places::{Place, Places, Rule};
use self::result::{Outcome, Reading};
use self::small::Small;

/// How often blobs that the farm has lost are sent again for one execution.
const SENDS_MAX: u32 = 3;
/// How long steps do not ask a farm that has failed: a server of builds lives longer than a failure.
const DOWN_TIME: Duration = Duration::from_secs(300);

/// What the user says of a farm.
#[derive(Debug)]
pub struct Options {
    /// How it is reached.
    pub settings: crossdock_reapi::Settings,
    /// Which properties workers need.
    pub rules: Vec<Rule>,
    /// crossdock for workers of other CPUs.
    pub executables: Vec<(crossdock_platform::Platform, PathBuf)>,
    /// How long a step waits for a worker before it goes on elsewhere.
    pub wait: Duration,
    /// The machine that is reached by ssh, if it is no farm; see [`Options::of_machine`].
    pub machine: Option<Arc<Machine>>,
}

impl Options {
    /// A machine, reached by ssh, instead of a farm.
    pub fn of_machine(machine: Arc<Machine>, wait: Duration) -> Options {
        let nowhere =
            Address { is_tls: false, host: "localhost".to_string(), port: 0, instance: String::new() };
        let mut settings = crossdock_reapi::Settings::new(nowhere);
        let dialled = machine.clone();
        settings.dial = Some(Dial { name: machine.name.clone(), open: Arc::new(move || dialled.open()) });
        Options { settings, rules: Vec::new(), executables: Vec::new(), wait, machine: Some(machine) }
    }
}

/// A farm, which is connected when the first step asks for it.
pub struct Farm {
    options: Options,
    client: Mutex<Option<Arc<Client>>>,
    /// Results that were asked for.
    asked: Asked,
    chains: Chains,
    small: Small,
    /// What went wrong in the background and was not told yet.
    troubles: Arc<Mutex<Vec<String>>>,
    /// Results that are noted if their layers are there in the end: the digests of their entries and the
    /// layers.
    hoped: Mutex<Vec<(Digest, ActionResult, crossdock_reapi::Digest)>>,
    /// The same of chains, by the keys of their last steps.
    hoped_chains: Mutex<Vec<(Digest, Vec<CachedStep>)>>,
    /// When it failed for all steps, which then do not ask for a while.
    down_since: Mutex<Option<Instant>>,
    /// Whether everything there is to end.
    is_over: AtomicBool,
    /// Executables that were read for their digests.
    executables: Mutex<HashMap<PathBuf, Blob>>,
}

/// Why a step is not executed in one place.
enum Unplaced {
    /// The command failed, or the build ended: so does the step.
    Error(ErrorKind),
    /// The farm failed.
    Farm(FarmError),
    /// This place does not take it, for a reason that ends a sentence.
    Reason(String),
}

impl From<FarmError> for Unplaced {
    fn from(error: FarmError) -> Unplaced {
        Unplaced::Farm(error)
    }
}

impl Farm {
    /// A farm that nobody has asked yet.
    ///
    /// # Errors
    ///
    /// The settings contradict each other, or name files that cannot be read.
    pub fn new(options: Options) -> anyhow::Result<Farm> {
        crossdock_reapi::check(&options.settings)?;
        Ok(Farm {
            options,
            client: Mutex::default(),
            asked: Asked::default(),
            chains: Chains::default(),
            small: Small::default(),
            troubles: Arc::default(),
            hoped: Mutex::default(),
            hoped_chains: Mutex::default(),
            down_since: Mutex::default(),
            is_over: AtomicBool::default(),
            executables: Mutex::default(),
        })
    }

    /// Whether steps are not to ask it.
    fn is_down(&self) -> bool {
        let since = *lock(&self.down_since);
        self.is_over.load(Ordering::SeqCst) || since.is_some_and(|since| since.elapsed() < DOWN_TIME)
    }

    /// Whether somebody has asked it, and it has not failed since.
    fn is_connected(&self) -> bool {
        lock(&self.client).is_some() && !self.is_down()
    }

    /// The connection, unless the farm has failed.
    fn client(&self, env: &Environment<'_>) -> Option<Arc<Client>> {
        self.client_asking(env, &[], &|_, _| {}).map(|(client, _)| client)
    }

    /// The same, and whether it has asked for results: it does if it connects.
    fn client_asking(
        &self,
        env: &Environment<'_>,
        actions: &[crossdock_reapi::Digest],
        told: Told<'_>,
    ) -> Option<(Arc<Client>, bool)> {
        if self.is_down() {
            return None;
        }
        let mut client = lock(&self.client);
        // Another thread may have tried meanwhile.
        if let Some(client) = client.as_ref() {
            return Some((client.clone(), false));
        }
        if self.is_down() {
            return None;
        }
        match Client::connect_asking(self.options.settings.clone(), actions, told) {
            Ok(connected) => {
                let connected = Arc::new(connected);
                *client = Some(connected.clone());
                Some((connected, true))
            }
            Err(error) => {
                self.fail(env, &error);
                None
            }
        }
    }

    /// Gives the farm up for a while, and tells so once.
    fn fail(&self, env: &Environment<'_>, error: &FarmError) {
        let is_new = {
            let mut since = lock(&self.down_since);
            let is_new = since.is_none_or(|since| since.elapsed() >= DOWN_TIME);
            if is_new {
                *since = Some(Instant::now());
            }
            is_new
        };
        if is_new {
            let what = match self.options.machine {
                Some(_) => "a worker is not used, steps run elsewhere",
                None => "the farm is not used, steps run here",
            };
            warn(env, format!("{what}: {error}"));
        }
    }

    /// Tells what went wrong with one step, or gives the farm up if it went wrong for all.
    fn tell(&self, env: &Environment<'_>, name: &str, error: &FarmError) {
        match error {
            FarmError::Stopped => {}
            FarmError::Unreachable { .. }
            | FarmError::Unauthorised { .. }
            | FarmError::Unfit { .. }
            | FarmError::Settings(_)
            | FarmError::File { .. } => self.fail(env, error),
            _ => warn(env, format!("{name}: {error}")),
        }
    }

    /// The executable at a path as a blob; read once.
    fn executable(&self, path: &Path) -> Result<Blob, FarmError> {
        let mut known = lock(&self.executables);
        if let Some(blob) = known.get(path) {
            return Ok(blob.clone());
        }
        let blob = action::blob_of_file(path)?;
        known.insert(path.to_path_buf(), blob.clone());
        Ok(blob)
    }

    /// Executes a package in one place; says whether the result was known.
    fn execute(
        &self,
        (env, client): (&Environment<'_>, &Arc<Client>),
        task: &Task<'_>,
        package: &Package,
        place: &Place,
    ) -> Result<(Elsewhere, bool), Unplaced> {
        let executable = match &self.options.machine {
            // It has its own.
            Some(machine) => machine.executable()?,
            None => self.executable(&place.executable)?,
        };
        let emulator = package.emulator.as_ref().ok().and_then(Option::as_deref);
        let emulator = emulator.filter(|_| place.is_emulated);
        let emulator = emulator.map(|path| self.executable(path)).transpose()?;
        let action = action::action(env.store, package, executable, emulator, &place.properties)?;
        let reading = Reading { env, client, small: &self.small, task };
        // Where clients write, the entry under the key says as much; the engine looks again anyhow.
        if task.use_cache
            && !client.capabilities().may_update
            && let Some(known) = client.action_result(&action.digest, &[result::ANSWER])?
            && known.exit_code == 0
        {
            match self.fetched(&reading, &known) {
                Ok(known) => return Ok((known, true)),
                // A result that cannot be used is no result.
                Err(Unplaced::Farm(error)) => {
                    warn(env, format!("{}: a cached result is not used: {error}", task.name))
                }
                Err(Unplaced::Reason(reason)) => {
                    warn(env, format!("{}: a cached result is not used: {reason}", task.name));
                }
                Err(error) => return Err(error),
            }
        }
        let mut sends = 0;
        let mut skip_cache = !task.use_cache;
        let mut placed = None;
        let place = |placed: &mut Option<String>, worker: String| {
            if placed.as_ref() != Some(&worker) {
                *placed = Some(worker.clone());
                env.events.event(Event::Placed { step: task.step, worker });
            }
        };
        let mut output = Output::new(task.step);
        let executed = loop {
            env.events.event(Event::Waiting { step: task.step, wait: Wait::Upload });
            client.send(&action.blobs)?;
            env.events.event(Event::Waiting { step: task.step, wait: Wait::Worker });
            let mut is_executing = false;
            let mut told = |stage: Stage| match stage {
                Stage::Queued if !is_executing => {}
                // Its worker was lost.
                Stage::Queued => env.events.event(Event::Waiting { step: task.step, wait: Wait::Worker }),
                Stage::Executing(worker) => {
                    if !std::mem::replace(&mut is_executing, true) {
                        env.events.event(Event::Executing { step: task.step });
                    }
                    // Most servers tell the name only with the result.
                    place(&mut placed, worker);
                }
            };
            let mut output = |stderr: bool, bytes: &[u8]| output.take(env.events, stderr, bytes);
            let mut policy = Policy {
                skip_cache,
                wait: self.options.wait,
                inline: &[result::ANSWER],
                is_stopped: &|| env.stop.is_set() || self.is_over.load(Ordering::SeqCst),
                told: &mut told,
                output: &mut output,
            };
            sends += 1;
            match client.execute(&action.digest, &mut policy) {
                Err(FarmError::Missing(_)) if sends < SENDS_MAX => {}
                Err(FarmError::Stopped) => return Err(Unplaced::Error(ErrorKind::Cancelled)),
                // Some engines keep failures, and what failed once may succeed now.
                Ok(Execution::Done { result, is_cached: true, .. })
                    if result.exit_code != 0 && !skip_cache =>
                {
                    skip_cache = true;
                }
                other => break other?,
            }
        };
        match executed {
            Execution::NotTaken => {
                let seconds = self.options.wait.as_secs_f64();
                Err(Unplaced::Reason(format!("no worker took it in {seconds} s")))
            }
            Execution::Done { result, is_cached, told, .. } => {
                if !is_cached {
                    place(&mut placed, result.worker.clone());
                    reading.tell_rest(&result, output, told);
                }
                Ok((self.fetched(&reading, &result)?, is_cached))
            }
        }
    }

    /// The same; `None` if the place does not take it, which is told, or noted among the reasons.
    fn take(
        &self,
        to: (&Environment<'_>, &Arc<Client>),
        task: &Task<'_>,
        package: &Package,
        place: &Place,
        reasons: &mut Vec<String>,
    ) -> Result<Option<(Elsewhere, bool)>, ErrorKind> {
        match self.execute(to, task, package, place) {
            Ok(made) => Ok(Some(made)),
            Err(Unplaced::Error(error)) => Err(error),
            Err(Unplaced::Reason(reason)) => {
                reasons.push(format!("{}: {reason}", place.name));
                Ok(None)
            }
            Err(Unplaced::Farm(error)) => {
                self.tell(to.0, &format!("{} does not run {}", task.name, place.name), &error);
                Ok(None)
            }
        }
    }

    /// What a result gives. When its layer was fetched and verified, it is noted under the step's key.
    fn fetched(&self, reading: &Reading<'_>, result: &ActionResult) -> Result<Elsewhere, Unplaced> {
        let (client, troubles) = (reading.client.clone(), self.troubles.clone());
        let (key, name) = (reading.task.key.clone(), reading.task.name.to_string());
        let noted = move |record: &Record| {
            if let Err(error) = note(&client, &key, record) {
                lock(&troubles).push(format!("{name}: the result is not noted for others: {error}"));
            }
        };
        match reading.outcome(result, noted)? {
            Outcome::Done(made) => Ok(*made),
            Outcome::Failed(error) => Err(Unplaced::Error(error)),
            Outcome::Unusable(reason) => Err(Unplaced::Reason(reason)),
        }
    }
}

impl Farm {
    /// Brings a result that was made here to the farm, unless it only hopes for the layer.
    fn bring(&self, env: &Environment<'_>, client: &Client, made: &MadeHere<'_>) -> Result<(), FarmError> {
        let result = match made.key {
            Some(key) => result::for_other(key, &made.record),
            None => result::for_key(&made.record),
        };
        if let Some(layer) = &made.record.layer {
            let blob = action::blob_of_layer(env.store, &layer.descriptor)?;
            if !made.is_sent {
                lock(&self.hoped).push((made.under.clone(), result, blob.digest));
                return Ok(());
            }
            client.send(&[blob])?;
        }
        client.update_action_result(&action::of_key(made.under).digest, &result)
    }

    /// Notes the results whose layers got there.
    fn note_hoped(&self, env: &Environment<'_>, client: &Client) -> Result<(), FarmError> {
        let (hoped, chains) =
            (std::mem::take(&mut *lock(&self.hoped)), std::mem::take(&mut *lock(&self.hoped_chains)));
        let of_step = |step: &CachedStep| step.record.layer.as_ref().and_then(result::digest_of);
        let of_chains = chains.iter().flat_map(|(_, steps)| steps.iter().filter_map(of_step));
        let layers = hoped.iter().map(|(_, _, layer)| layer.clone()).chain(of_chains);
        let layers: BTreeSet<_> = layers.collect();
        if hoped.is_empty() && chains.is_empty() {
            return Ok(());
        }
        let missing = client.missing(&layers.into_iter().collect::<Vec<_>>())?;
        let there = hoped.into_iter().filter(|(_, _, layer)| !missing.contains(layer));
        let mut there: Vec<_> =
            there.map(|(under, result, _)| (action::of_key(&under).digest, result)).collect();
        for (last, mut steps) in chains {
            steps.retain(|step| of_step(step).is_none_or(|layer| !missing.contains(&layer)));
            if self.chains.lacks(&last, &steps) {
                there.push((action::of_chain(&last).digest, chain::result_of(env.store, &steps)));
            }
        }
        client.update_action_results(&there)
    }
}

/// Writes a result under the step's key, for machines whose layers below have other times.
fn note(client: &Client, key: &Digest, record: &Record) -> Result<(), FarmError> {
    // Nobody executes this action, so nobody needs its blobs.
    client.update_action_result(&action::of_key(key).digest, &result::for_key(record))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn warn(env: &Environment<'_>, message: String) {
    env.events.event(Event::Warning { message, lines: None });
}

impl crossdock_builder::Farm for Farm {
    fn ask(&self, env: &Environment<'_>, chain: Chain<'_>) {
        let small = chain.are_wanted.then(|| self.small.clone());
        let asking = Asking::begin((&self.asked, &self.chains), chain.keys, chain.last, small);
        let Some(asking) = asking.map(Arc::new) else { return };
        let first = asking.first();
        let connected = self.client_asking(env, &first, &|number, answer| asking.take(number, answer));
        let is_begun = match connected {
            Some((client, true)) => {
                let (rest, asked) = (asking.clone(), client.clone());
                let ask = move || rest.ask_rest(&asked);
                !asking.take_entry(env.store, &client) || std::thread::Builder::new().spawn(ask).is_ok()
            }
            Some((client, false)) => {
                let (all, store) = (asking.clone(), env.store.clone());
                let ask = move || {
                    client.action_results(&first, &|number, answer| all.take(number, answer));
                    if all.take_entry(&store, &client) {
                        all.ask_rest(&client);
                    }
                };
                std::thread::Builder::new().spawn(ask).is_ok()
            }
            None => false,
        };
        if !is_begun {
            asking.take_back();
        }
    }

    fn is_asked(&self, key: &Digest) -> bool {
        self.asked.has(key)
    }

    fn known(&self, env: &Environment<'_>, key: &Digest, step: StepId) -> Option<Elsewhere> {
        let client = self.client(env)?;
        let known = self.asked.answer(&client, key, self.chains.are_doubted());
        let known = known.and_then(|known| match known {
            Some(known) => result::of_key((env.store, &client, &self.small), &known),
            None => Ok(None),
        });
        let known = known.unwrap_or_else(|error| {
            self.tell(env, &format!("step {step}"), &error);
            None
        });
        known.map(|made| {
            let (chains, fetch) = (self.chains.clone(), made.fetch);
            Elsewhere { fetch: Box::new(move || fetch().inspect_err(|_| chains.doubt())), ..made }
        })
    }

    fn key_of(&self, env: &Environment<'_>, under: &Digest, step: StepId) -> Option<Digest> {
        let client = self.client(env)?;
        let known = self.asked.answer(&client, under, false).and_then(|known| match known {
            Some(known) => result::with_key(&client, &known),
            None => Ok(None),
        });
        let known = known.unwrap_or_else(|error| {
            self.tell(env, &format!("step {step}"), &error);
            None
        });
        known.map(|(key, result)| {
            self.asked.note(&key, result);
            key
        })
    }

    fn share(&self, env: &Environment<'_>, made: MadeHere<'_>) {
        let client = lock(&self.client).clone().filter(|_| !self.is_down());
        let Some(client) = client.filter(|client| client.capabilities().may_update) else { return };
        if let Err(error) = self.bring(env, &client, &made) {
            lock(&self.troubles).push(format!("a result is not shared: {error}"));
        }
    }

    fn share_chain(&self, _: &Environment<'_>, last: &Digest, steps: Vec<CachedStep>) {
        let client = lock(&self.client).clone().filter(|_| !self.is_down());
        if client.is_some_and(|client| client.capabilities().may_update) && self.chains.lacks(last, &steps) {
            lock(&self.hoped_chains).push((last.clone(), steps));
        }
    }

    fn cancel_all(&self) {
        let client = lock(&self.client).clone();
        if let Some(client) = client {
            client.cancel_all();
        }
        // Later, so that no thread takes its execution away and is then ended before it has cancelled it.
        self.is_over.store(true, Ordering::SeqCst);
    }

    fn settle(&self, env: &Environment<'_>) {
        let client = lock(&self.client).clone().filter(|_| !self.is_down() && !env.stop.is_set());
        if let Some(Err(error)) = client.map(|client| self.note_hoped(env, &client)) {
            lock(&self.troubles).push(format!("results are not shared: {error}"));
        }
        for trouble in std::mem::take(&mut *lock(&self.troubles)) {
            warn(env, trouble);
        }
    }

    fn carry_out(
        &self,
        env: &Environment<'_>,
        task: &Task<'_>,
    ) -> Result<Option<(Elsewhere, bool)>, ErrorKind> {
        let Some(client) = self.client(env) else { return Ok(None) };
        let package = (task.package)()?;
        let has_emulator = matches!(package.emulator, Ok(Some(_)));
        let places = Places { rules: &self.options.rules, executables: &self.options.executables };
        let (places, mut reasons) = places.of(task.platform, has_emulator);
        if let Err(reason) = &package.emulator {
            reasons.push(format!("emulated: {reason}"));
        }
        for place in places {
            if let Some(made) = self.take((env, &client), task, &package, &place, &mut reasons)? {
                return Ok(Some(made));
            }
            if self.is_down() {
                return Ok(None);
            }
        }
        if !reasons.is_empty() {
            warn(env, format!("{} runs here: {}", task.name, reasons.join("; ")));
        }
        Ok(None)
    }
}
