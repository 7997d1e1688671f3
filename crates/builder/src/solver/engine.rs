//! Looks steps up in the cache, executes new ones, packs layers in the background.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::thread::Scope as Threads;
use std::time::{Duration, Instant};

use crossdock_oci::Digest;
use crossdock_oci::name::random_name;
use crossdock_oci::store::{Owners, Scratch, TemporaryDirectory};
use crossdock_platform::Platform;
use crossdock_sandbox::{Emulator, Killer};

use crate::away::order::{Package, Task};
use crate::error::{BuildError, ErrorKind};
use crate::event::{Event, Miss, StepId, StepInfo, Wait};
use crate::solver::cache::{CachedStep, StepCache};
use crate::solver::environment::{Elsewhere, Environment, Farm, MadeHere};
use crate::solver::fetching::Fetchers;
use crate::solver::flights::{Flights, Promise, SharedFlight, Slots};
use crate::solver::key::{Key, Part, differences};
use crate::solver::layer::{Layer, MakeLater, Record, StepResult};
use crate::solver::packing::{Packers, Packing, remember};
use crate::solver::recorded::{Place, Recorded, Together, note, pack_kept, recorded};
use crate::solver::settings::Settings;
use crate::solver::view::View;

/// What went wrong with layers that other machines should have.
pub(crate) type Lost = Arc<Mutex<Vec<String>>>;

/// Age from which the kernel has most likely written a tree to the disk: it begins after 30 s (Linux,
/// Documentation/admin-guide/sysctl/vm.rst, `dirty_expire_centisecs`).
const WRITTEN_AFTER: Duration = Duration::from_secs(60);

/// An attempt to build. If a layer that is known cannot be had, a second one begins.
#[derive(Default)]
pub(crate) struct Attempt {
    /// Whether layers of other machines are fetched at once, and all layers unpacked before anything is built
    /// on them, rather than in the background or when they are needed.
    pub is_wary: bool,
    /// Number of steps that this attempt and those before have announced.
    pub steps: AtomicUsize,
    pub lost: Lost,
}

/// One build under way.
pub(crate) struct Engine<'a> {
    pub env: &'a Environment<'a>,
    pub settings: &'a Settings,
    attempt: Arc<Attempt>,
    slots: Slots,
    packers: Packers<'a>,
    fetchers: Fetchers<'a>,
    flights: Flights<Digest>,
    done: Mutex<HashMap<Digest, StepResult>>,
    quick: Mutex<BTreeMap<Digest, Digest>>,
    /// Chains that a farm was asked for: the keys of their steps, by the last one.
    chains: Mutex<BTreeMap<Digest, Vec<Digest>>>,
    /// Notes of steps that other machines have executed.
    notes: Together,
    /// Emulators for the platforms of the build, found when the first command needs them.
    emulators: OnceLock<Vec<Emulator>>,
    failure: Mutex<Option<BuildError>>,
    /// Roots of several layers, kept for further use.
    views: Mutex<HashMap<Vec<PathBuf>, Arc<View>>>,
    /// Layers of earlier builds are made to survive a power loss once in a build.
    settled: Once,
}

/// How a step is looked up.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    /// Whether an earlier result will do.
    pub use_cache: bool,
    /// Whether the step's result may differ each time, as with commands.
    pub varies: bool,
    /// Whether the layer becomes one of the images', so that a push may begin with it.
    pub is_in_image: bool,
    /// Whether the layer's tree will be read; the archive of a known layer is unpacked only then.
    pub needs_tree: bool,
    /// Whether the layer's archive will be read: it is packed at once. Otherwise it is packed when somebody
    /// needs it.
    pub needs_archive: bool,
    /// Makes the layer of a step that does not vary, if somebody needs it all the same. With this a layer
    /// that nobody is known to need is not made.
    pub later: Option<&'a MakeLater>,
    /// Where the step stands, and the parts of its key, to tell what has changed since the last time.
    pub place: (&'a Digest, &'a [Part]),
    /// What other machines have to do with it.
    pub reach: Reach<'a>,
}

/// What other machines have to do with a step.
#[derive(Clone, Copy)]
pub(crate) enum Reach<'a> {
    /// Nothing.
    Here,
    /// It is executed here, and they share its result.
    Shared {
        /// The digest under which they ask for it, if they cannot tell its key.
        under: Option<&'a Digest>,
        /// Whether its layer is sent for that.
        is_sent: bool,
    },
    /// They may execute it.
    Away(&'a Leave<'a>),
}

/// A step that may be executed elsewhere.
pub(crate) struct Leave<'a> {
    /// The step, for messages.
    pub name: &'a str,
    /// The command line, for errors.
    pub command: &'a str,
    /// The platform of its programs.
    pub platform: &'a Platform,
    /// Makes its package.
    pub package: &'a (dyn Fn() -> Result<Package, ErrorKind> + Sync),
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Engine<'a> {
    /// An engine that has done nothing yet, for the only attempt.
    pub fn new(env: &'a Environment<'a>, settings: &'a Settings) -> Engine<'a> {
        Engine::of_attempt(env, settings, Arc::new(Attempt { is_wary: true, ..Attempt::default() }))
    }

    /// An engine for one of several attempts.
    pub fn of_attempt(env: &'a Environment<'a>, settings: &'a Settings, attempt: Arc<Attempt>) -> Engine<'a> {
        Engine {
            env,
            settings,
            attempt,
            slots: Slots::new(settings.jobs),
            packers: Packers::new(env),
            fetchers: Fetchers::default(),
            flights: Flights::new(),
            done: Mutex::default(),
            quick: Mutex::default(),
            chains: Mutex::default(),
            notes: Together::new(),
            emulators: OnceLock::new(),
            failure: Mutex::default(),
            views: Mutex::default(),
            settled: Once::new(),
        }
    }

    /// The first failure, once all threads have ended.
    pub fn failure(&self) -> Option<BuildError> {
        lock(&self.failure).take()
    }

    /// Notes the first failure and stops the rest of the build.
    pub fn fail(&self, error: BuildError) {
        lock(&self.failure).get_or_insert(error);
        self.env.stop.stop();
    }

    /// An error if another part of the build has failed.
    pub fn check_cancelled(&self) -> Result<(), ErrorKind> {
        if self.env.stop.is_set() { Err(ErrorKind::Cancelled) } else { Ok(()) }
    }

    /// Lets a failure elsewhere kill this command while `work` waits for it.
    pub fn while_running<T>(&self, step: StepId, killer: Killer, work: impl FnOnce() -> T) -> T {
        self.env.stop.while_running(step, killer, work)
    }

    /// Reports that a step has no result.
    pub fn give_up(&self, step: StepId, why: &ErrorKind) {
        self.env.events.event(match why {
            ErrorKind::Cancelled => Event::Cancelled { step },
            _ => Event::Failed { step },
        });
    }

    /// Announces a new step and returns its number and start.
    pub fn announce(&self, info: StepInfo) -> (StepId, Instant) {
        let step = self.attempt.steps.fetch_add(1, Ordering::SeqCst) + 1;
        self.env.events.event(Event::Started { step, info: Box::new(info) });
        (step, Instant::now())
    }

    /// Reports what a step waits for.
    pub fn tell_wait(&self, step: StepId, wait: Wait) {
        self.env.events.event(Event::Waiting { step, wait });
    }

    /// Reports the end of a step.
    pub fn finish(&self, step: StepId, started: Instant, cached: bool) {
        self.env.events.event(Event::Done { step, cached, duration: started.elapsed() });
    }

    /// The result of the step with this key, from the cache, from another thread, or from `execute`, which
    /// writes into a scratch directory; and whether the result was known. `How` says whether the cache is
    /// used and whether the step's result may differ each time.
    pub fn step<'scope, 'env>(
        &'scope self,
        threads: &'scope Threads<'scope, 'env>,
        key: &Digest,
        how: How<'_>,
        step: StepId,
        execute: &mut dyn FnMut(&Scratch) -> Result<(), ErrorKind>,
    ) -> Result<(StepResult, bool), ErrorKind> {
        // A farm shares archives, so with one no layer waits until somebody needs it.
        let how = How { needs_archive: how.needs_archive || self.env.farm.is_some(), ..how };
        let How { use_cache, varies, is_in_image, needs_archive, later, place, reach, .. } = how;
        let later = later.filter(|_| !how.needs_tree && !needs_archive);
        let found = || -> Result<Option<(StepResult, bool)>, ErrorKind> {
            let found = self.known(key, &how)?;
            if let Some(layer) = found.as_ref().and_then(|result| result.layer.as_ref()) {
                self.pack_if_needed(threads, layer, needs_archive);
            }
            Ok(found.map(|result| (result, true)))
        };
        loop {
            self.check_cancelled()?;
            if let Some(found) = found()? {
                return Ok(found);
            }
            if self.flights.is_flying(key) {
                self.tell_wait(step, Wait::SameStep);
            }
            let Some(_flight) = self.flights.board(key) else { continue };
            let Some(shared) = self.board_shared(key, step)? else { continue };
            // Another thread may have finished the step between the look-up and boarding.
            if (self.is_done(key) || self.env.store.cache_has(key))
                && let Some(found) = found()?
            {
                return Ok(found);
            }
            // What is shared under another digest was asked for before its key was known.
            let may_be_known = match reach {
                Reach::Here => false,
                Reach::Shared { under, .. } => under.is_none(),
                Reach::Away(_) => true,
            };
            if use_cache && may_be_known && self.take_known(threads, key, step, is_in_image)? {
                continue;
            }
            let miss = if use_cache { self.why_missed(key, place)? } else { Miss::Asked };
            self.env.events.event(Event::Missed { step, miss });
            let store = self.env.store;
            if let Some(make) = later {
                self.env.events.event(Event::Executing { step });
                let result = self.put_off(key, use_cache, make)?;
                self.remember_parts(place)?;
                return Ok((result, false));
            }
            let is_renewed = varies && !use_cache && store.cache_has(key);
            let renewal = is_renewed.then(random_name);
            if let Reach::Away(leave) = reach
                && let Some(farm) = self.env.farm
            {
                let task = Task {
                    key,
                    step,
                    name: leave.name,
                    command: leave.command,
                    platform: leave.platform,
                    use_cache,
                    created: self.now(),
                    renewal: renewal.clone(),
                    package: leave.package,
                };
                if let Some((made, is_known)) = farm.carry_out(self.env, &task)?
                    && let Some(result) = self.take_over(threads, key, made, true)?
                {
                    self.remember_parts(place)?;
                    return Ok((result, is_known));
                }
                self.check_cancelled()?;
            }
            let _slot = self.slots.try_take().unwrap_or_else(|| {
                self.tell_wait(step, Wait::Place);
                self.slots.take()
            });
            self.check_cancelled()?;
            self.env.events.event(Event::Executing { step });
            let scratch = store.new_scratch()?;
            if let Err(error) = execute(&scratch) {
                if let Some(failed) = self.env.failed.filter(|failed| failed.wrote_to(&scratch.upper())) {
                    failed.add_changes(scratch.freeze()?);
                }
                return Err(error);
            }
            // The registry most likely has the layer of a step that gives the same result as before.
            let is_followed = self.env.sink.is_some() && is_in_image && (varies || !self.was_made(key)?);
            let packing = Packing {
                step,
                key: key.clone(),
                created: self.now(),
                renewal,
                is_followed,
                promise: Arc::default(),
                _flight: shared,
            };
            let result = self.finish_step(threads, packing, scratch, needs_archive)?;
            if let Reach::Shared { under, is_sent } = reach
                && let Some(farm) = self.env.farm
            {
                self.share_later(threads, farm, (key, under, is_sent), &result);
            }
            self.remember_parts(place)?;
            return Ok((result, false));
        }
    }

    /// Lets a layer that is packed when somebody waits for it be packed now, in the background.
    fn pack_if_needed<'scope>(
        &'scope self,
        threads: &'scope Threads<'scope, '_>,
        layer: &Layer,
        is_needed: bool,
    ) {
        if is_needed && !layer.is_elsewhere() && layer.packed.is_put_off() {
            let (promise, stop) = (layer.packed.clone(), self.env.stop.clone());
            let pack = move || {
                if !stop.is_set() {
                    let _ = promise.wait();
                }
            };
            // How long it becomes is not known yet.
            self.fetchers.fetch_later(threads, u64::MAX, Box::new(pack));
        }
    }

    /// The result of a step whose layer nobody needs, as far as is known: it is not made.
    fn put_off(&self, key: &Digest, use_cache: bool, make: &MakeLater) -> Result<StepResult, ErrorKind> {
        let created = self.now();
        // What was made before the user wanted all steps executed is the same.
        if use_cache || !self.was_made(key)? {
            let layer = Some(Place::PutOff { put_off: true });
            note(self.env.store, key, &Recorded { layer, created: created.clone(), renewal: None })?;
        }
        let result = self.put_off_result(make, created);
        lock(&self.done).insert(key.clone(), result.clone());
        Ok(result)
    }

    fn put_off_result(&self, make: &MakeLater, created: String) -> StepResult {
        let (store, make, latest) = (self.env.store.clone(), make.clone(), self.settings.source_date_epoch);
        let made = move || -> Result<_, ErrorKind> {
            let scratch = store.new_scratch()?;
            make(&scratch)?;
            if let Some(latest) = latest {
                scratch.clamp_times(latest)?;
            }
            Ok(scratch.freeze()?)
        };
        let layer = Layer::later(self.env.store, self.env.layers, made);
        StepResult { layer: Some(layer), created, renewal: None }
    }

    /// Whether a step has been executed, and its layer was made then; it may be gone.
    fn was_made(&self, key: &Digest) -> Result<bool, ErrorKind> {
        let store = self.env.store;
        let is_put_off = |r: Recorded| matches!(r.layer, Some(Place::PutOff { .. }));
        Ok(store.cache_has(key) && !recorded(store, key)?.is_some_and(is_put_off))
    }

    /// Takes the result of the step with this key from other machines, if they know it. It is then known
    /// here.
    pub fn take_known<'scope>(
        &'scope self,
        threads: &'scope Threads<'scope, '_>,
        key: &Digest,
        step: StepId,
        is_in_image: bool,
    ) -> Result<bool, ErrorKind> {
        let known = self.env.farm.and_then(|farm| farm.known(self.env, key, step));
        let taken = known.map(|known| self.take_over(threads, key, known, is_in_image)).transpose()?;
        Ok(taken.flatten().is_some())
    }

    /// Whether this build has the result of a step.
    pub fn is_done(&self, key: &Digest) -> bool {
        lock(&self.done).contains_key(key)
    }

    /// Notes the keys of a chain that a farm was asked for, to share their results in the end.
    pub fn note_chain(&self, keys: Vec<Digest>) {
        if let Some(last) = keys.last() {
            lock(&self.chains).entry(last.clone()).or_insert(keys);
        }
    }

    /// Writes the notes of steps that other machines have executed, for use after all threads have ended.
    pub fn write_notes(&self) -> Result<(), ErrorKind> {
        self.notes.write(self.env.store)
    }

    /// Shares the chains that the farm was asked for. For use after all threads have ended: what is not here
    /// by then is not shared.
    pub fn share_chains(&self, farm: &dyn Farm) {
        for (last, keys) in std::mem::take(&mut *lock(&self.chains)) {
            let done = lock(&self.done);
            let known = keys.iter().filter_map(|key| Some((key, done.get(key)?)));
            // A renewed step is not what others mean by its key.
            let known = known.filter(|(_, result)| result.renewal.is_none());
            let steps = known.filter_map(|(key, result)| CachedStep::of_here(key, result)).collect();
            drop(done);
            farm.share_chain(self.env, &last, steps);
        }
    }

    /// Shares the result of a step that was executed here, in the background.
    fn share_later<'scope>(
        &'scope self,
        threads: &'scope Threads<'scope, '_>,
        farm: &'a dyn Farm,
        (key, under, is_sent): (&Digest, Option<&Digest>, bool),
        result: &StepResult,
    ) {
        // A renewed step is not what others mean by its key.
        if result.renewal.is_some() {
            return;
        }
        let (env, key, under, result) = (self.env, key.clone(), under.cloned(), result.clone());
        let share = move || {
            let Ok(layer) = result.layer.map(|layer| layer.packed.wait()).transpose() else { return };
            let record = Record { layer, created: result.created, renewal: None };
            let (under, key) = match &under {
                Some(under) => (under, Some(&key)),
                None => (&key, None),
            };
            if !env.stop.is_set() {
                farm.share(env, MadeHere { under, key, record, is_sent });
            }
        };
        // How long it becomes is not known yet.
        self.fetchers.fetch_later(threads, u64::MAX, Box::new(share));
    }

    /// Takes over what another machine has. Its layer is fetched in the background if that is `wanted`, else
    /// when somebody needs it, and the step is recorded then. `None` if it cannot be had.
    fn take_over<'scope>(
        &'scope self,
        threads: &'scope Threads<'scope, '_>,
        key: &Digest,
        made: Elsewhere,
        is_wanted: bool,
    ) -> Result<Option<StepResult>, ErrorKind> {
        let store = self.env.store;
        let Elsewhere { record, fetch, is_here } = made;
        // Keys of later steps depend on a renewal, so it has to be certain.
        if self.attempt.is_wary || record.renewal.is_some() {
            return self.take_over_warily(key, record, &*fetch);
        }
        let created = record.created.clone();
        let Some(announced) = record.layer.clone() else {
            self.notes.note(store, key, &record.into())?;
            // There is nothing to verify, and others may be told.
            self.fetchers.fetch_later(threads, 0, Box::new(move || drop(fetch())));
            let result = StepResult { layer: None, created, renewal: None };
            lock(&self.done).insert(key.clone(), result.clone());
            return Ok(Some(result));
        };
        let promise = {
            let (store, key, announced) = (store.clone(), key.clone(), announced.clone());
            let (lost, notes) = (self.attempt.lost.clone(), self.notes.clone());
            Arc::new(Promise::later(move || {
                fetch().inspect_err(|reason| lock(&lost).push(reason.clone()))?;
                notes.note(&store, &key, &record.clone().into()).map_err(|e| e.to_string())?;
                Ok(announced.clone())
            }))
        };
        if is_here {
            let _ = promise.wait();
        } else if is_wanted {
            let (promise, stop) = (promise.clone(), self.env.stop.clone());
            // A build that ends needs nothing more.
            let fetch = move || {
                if !stop.is_set() {
                    let _ = promise.wait();
                }
            };
            self.fetchers.fetch_later(threads, announced.descriptor.size, Box::new(fetch));
        }
        let layer = Some(Layer::elsewhere(announced, promise));
        let result = StepResult { layer, created, renewal: None };
        lock(&self.done).insert(key.clone(), result.clone());
        Ok(Some(result))
    }

    /// The same, fetched and unpacked now.
    fn take_over_warily(
        &self,
        key: &Digest,
        record: Record,
        fetch: &dyn Fn() -> Result<(), String>,
    ) -> Result<Option<StepResult>, ErrorKind> {
        let taken = match fetch() {
            Ok(()) => self.restored(record.clone(), true)?.ok_or("it cannot be unpacked".to_string()),
            Err(reason) => Err(reason),
        };
        match taken {
            Ok(result) => {
                remember(self.env.store, key, &record)?;
                lock(&self.done).insert(key.clone(), result.clone());
                Ok(Some(result))
            }
            Err(reason) => {
                let message = format!("a layer of another machine is not used: {reason}");
                self.env.events.event(Event::Warning { message, lines: None });
                Ok(None)
            }
        }
    }

    /// The right to execute a step, or `None` once another build of this process has executed it.
    fn board_shared(&self, key: &Digest, step: StepId) -> Result<Option<SharedFlight>, ErrorKind> {
        let mut is_told = false;
        let boarded = self.env.shared.board(key, || {
            if !std::mem::replace(&mut is_told, true) {
                self.tell_wait(step, Wait::SameStep);
            }
            !self.env.stop.is_set()
        });
        self.check_cancelled()?;
        Ok(boarded)
    }

    /// Why there is no result for a step: compares it with the last step that was executed at its place.
    fn why_missed(&self, key: &Digest, (place, parts): (&Digest, &[Part])) -> Result<Miss, ErrorKind> {
        let store = self.env.store;
        if store.cache_has(key) {
            return Ok(if self.was_made(key)? { Miss::Gone } else { Miss::PutOff });
        }
        let bytes = store.cache_get(place)?;
        let before = bytes.and_then(|bytes| serde_json::from_slice::<Vec<Part>>(&bytes).ok());
        let changed = before.map(|before| differences(&before, parts)).filter(|names| !names.is_empty());
        Ok(changed.map_or(Miss::New, Miss::Changed))
    }

    /// Notes the parts of a key, for the next build's [`Engine::why_missed`].
    fn remember_parts(&self, (place, parts): (&Digest, &[Part])) -> Result<(), ErrorKind> {
        let bytes = serde_json::to_vec(parts).expect("strings always serialise");
        Ok(self.env.store.cache_put(place, &bytes, &[], &[])?)
    }

    fn known(&self, key: &Digest, how: &How<'_>) -> Result<Option<StepResult>, ErrorKind> {
        if let Some(result) = lock(&self.done).get(key) {
            return Ok(Some(result.clone()));
        }
        if !how.use_cache {
            return Ok(None);
        }
        let Some(result) = self.cached(key, how)? else { return Ok(None) };
        lock(&self.done).insert(key.clone(), result.clone());
        Ok(Some(result))
    }

    /// The result that the store has a note of, if its layer is still there or is not needed; or one that
    /// another build has exported.
    fn cached(&self, key: &Digest, how: &How<'_>) -> Result<Option<StepResult>, ErrorKind> {
        let store = self.env.store;
        if let Some(noted) = recorded(store, key)?
            && let Some(result) = self.noted(key, noted, how)?
        {
            return Ok(Some(result));
        }
        let Some(record) = self.env.imported.steps.get(key) else { return Ok(None) };
        if let Some(packed) = &record.layer
            && !store.contains(&packed.descriptor.digest)?
            && let Err(reason) = self.env.images.layer(&packed.descriptor)
        {
            let message =
                format!("a layer of an imported cache cannot be had, its step is executed: {reason}");
            self.env.events.event(Event::Warning { message, lines: None });
            return Ok(None);
        }
        let result = self.restored(record.clone(), how.needs_tree)?;
        if result.is_some() {
            remember(store, key, record)?;
        }
        Ok(result)
    }

    /// The result that a note describes.
    fn noted(
        &self,
        key: &Digest,
        Recorded { layer, created, renewal }: Recorded,
        how: &How<'_>,
    ) -> Result<Option<StepResult>, ErrorKind> {
        let layer = match layer {
            None => None,
            Some(Place::Packed { packed, .. }) => Some(*packed),
            Some(Place::Kept { kept }) => {
                let Some(tree) = self.env.store.kept(&kept)? else { return Ok(None) };
                let layer = Some(self.kept_layer(key, tree, kept));
                return Ok(Some(StepResult { layer, created, renewal }));
            }
            Some(Place::PutOff { .. }) => {
                let later = how.later.filter(|_| !how.needs_tree && !how.needs_archive);
                return Ok(later.map(|make| self.put_off_result(make, created)));
            }
        };
        self.restored(Record { layer, created, renewal }, how.needs_tree)
    }

    /// A layer of a step without an archive, which is packed when somebody needs it.
    fn kept_layer(&self, key: &Digest, tree: PathBuf, kept: Digest) -> Layer {
        let (store, key, options) = (self.env.store.clone(), key.clone(), self.env.layers);
        let pack = move || pack_kept(&store, &key, &kept, &options).map_err(|error| error.to_string());
        Layer::new(Some(tree), Arc::new(Promise::later(pack)))
    }

    /// The result that a record describes, if its layer is in the store and matches the record.
    fn restored(&self, record: Record, needs_tree: bool) -> Result<Option<StepResult>, ErrorKind> {
        let store = self.env.store;
        let Some(packed) = record.layer else {
            let Record { created, renewal, .. } = record;
            return Ok(Some(StepResult { layer: None, created, renewal }));
        };
        if !store.contains(&packed.descriptor.digest)? {
            return Ok(None);
        }
        // Layers of steps come from an upper directory, so they never depend on lower ones.
        let tree = match store.snapshot(&packed.diff_id, &[])? {
            // A layer that cannot be unpacked is no result, which shows when somebody needs its files.
            None if needs_tree && self.attempt.is_wary => {
                match store.unpack(&packed.descriptor, &packed.diff_id, &[]) {
                    Ok(unpacked) => Some(unpacked.path),
                    Err(_) => return Ok(None),
                }
            }
            known => known,
        };
        let layer = Layer::new(tree, Arc::new(Promise::kept(Ok(packed))));
        Ok(Some(StepResult { layer: Some(layer), created: record.created, renewal: record.renewal }))
    }

    /// Every step of this build with its result. For use after all threads have ended and all layers are
    /// packed. Layers that only other machines have are fetched, unless nobody needs the steps: then their
    /// steps are left out.
    pub fn steps_made(&self) -> StepCache {
        let made = |(key, result): (&Digest, &StepResult)| match self.settings.needs_steps {
            true => CachedStep::of(key, result),
            false => CachedStep::of_here(key, result),
        };
        let mut steps: Vec<CachedStep> = lock(&self.done).iter().filter_map(made).collect();
        steps.sort_by(|a, b| a.key.cmp(&b.key));
        StepCache { steps, quick: lock(&self.quick).clone().into_iter().collect() }
    }

    /// Makes a layer of what a step wrote: notes it, and packs it in the background if its archive is needed.
    fn finish_step<'scope, 'env>(
        &'scope self,
        threads: &'scope Threads<'scope, 'env>,
        packing: Packing,
        scratch: Scratch,
        needs_archive: bool,
    ) -> Result<StepResult, ErrorKind> {
        let (store, key) = (self.env.store, packing.key.clone());
        let (created, renewal) = (packing.created.clone(), packing.renewal.clone());
        let is_empty = scratch.is_empty()?;
        if let Some(latest) = self.settings.source_date_epoch {
            scratch.clamp_times(latest)?;
        }
        let frozen = scratch.freeze()?;
        let mut result = StepResult { layer: None, created, renewal };
        let recorded =
            |layer| Recorded { layer, created: packing.created.clone(), renewal: packing.renewal.clone() };
        match frozen.path() {
            _ if is_empty => note(store, &key, &recorded(None))?,
            Some(tree) if !needs_archive => {
                let kept = store.keep_frozen(&frozen)?;
                note(store, &key, &recorded(Some(Place::Kept { kept: kept.clone() })))?;
                result.layer = Some(self.kept_layer(&key, tree, kept));
                self.settle_others();
            }
            tree => {
                result.layer = Some(Layer::new(tree, packing.promise.clone()));
                self.packers.pack_later(threads, packing, frozen);
            }
        }
        lock(&self.done).insert(key, result.clone());
        Ok(result)
    }

    /// Makes layers of earlier builds survive a power loss, without waiting for it: those that have no
    /// archive could not be unpacked again.
    fn settle_others(&self) {
        self.settled.call_once(|| {
            let store = self.env.store.clone();
            // If it fails or cannot begin, the next build tries again.
            let settle = move || drop(store.settle_older(WRITTEN_AFTER));
            let _ = std::thread::Builder::new().name("settle".to_string()).spawn(settle);
        });
    }

    /// The key that an earlier build noted under a quick key.
    pub fn quick_key(&self, quick: &Digest) -> Result<Option<Digest>, ErrorKind> {
        let bytes = self.env.store.cache_get(quick)?;
        let known: Option<Digest> = bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        let known = known.or_else(|| self.env.imported.quick.get(quick).cloned());
        if let Some(key) = &known {
            lock(&self.quick).insert(quick.clone(), key.clone());
        }
        Ok(known)
    }

    /// Notes the key that a quick key leads to.
    pub fn remember_quick(&self, quick: &Digest, key: &Digest) -> Result<(), ErrorKind> {
        lock(&self.quick).insert(quick.clone(), key.clone());
        Ok(self.env.store.cache_put(quick, key.as_str().as_bytes(), &[], &[])?)
    }

    /// Whether the result of a step is known, and was not put off.
    pub fn is_known(&self, key: &Digest, needs_tree: bool) -> Result<bool, ErrorKind> {
        let how = How {
            use_cache: true,
            varies: false,
            is_in_image: false,
            needs_tree,
            needs_archive: false,
            later: None,
            place: (key, &[]),
            reach: Reach::Here,
        };
        Ok(self.known(key, &how)?.is_some())
    }

    /// The time for histories: now, or what `SOURCE_DATE_EPOCH` says; RFC 3339 with nanoseconds.
    pub fn now(&self) -> String {
        match self.settings.source_date_epoch {
            Some(seconds) => rfc3339(seconds),
            None => format!("{:.9}", jiff::Timestamp::now()),
        }
    }

    /// The digest of a step's key and its parts, with what else makes another layer: `SOURCE_DATE_EPOCH`,
    /// which changes the times, and a user without ids for other owners.
    pub fn timed(&self, key: Key) -> (Digest, Vec<Part>) {
        let (mut key, mut parts) = key.finish_parts();
        let mut add = |kind, part, value: &[u8]| {
            let mut more = Key::new(kind, &key);
            more.part(part).field(value);
            let (whole, last) = more.finish_parts();
            parts.extend(last.into_iter().skip(1));
            key = whole;
        };
        if let Some(seconds) = self.settings.source_date_epoch {
            add("epoch", "SOURCE_DATE_EPOCH", &seconds.to_le_bytes());
        }
        // With a single id, owners are lost: the result is none for those who can keep them.
        if self.env.store.owners() == Owners::Ignore {
            add("owners", "the ids of the user", b"one");
        }
        (key, parts)
    }

    /// The read-only root of several layers. It is made once in a build: without overlayfs it costs a hard
    /// link for every file.
    pub fn view(&self, layers: &[PathBuf]) -> Result<Arc<View>, ErrorKind> {
        let mut views = lock(&self.views);
        if let Some(view) = views.get(layers) {
            return Ok(view.clone());
        }
        let view = Arc::new(View::new(self.env.store, layers)?);
        views.insert(layers.to_vec(), view.clone());
        Ok(view)
    }

    /// A temporary directory in the store, removed with its mounts and content.
    pub fn temporary(&self) -> Result<TemporaryDirectory, ErrorKind> {
        Ok(self.env.store.temporary_directory()?)
    }

    /// Emulators for every platform of this build and for the step's own, which `FROM --platform` may have
    /// named. A step may need any of them, since its private list of handlers hides the machine's.
    pub fn emulators(&self, own: &Platform) -> Result<Vec<Emulator>, ErrorKind> {
        let asked_for = || {
            let foreign = self.settings.platforms.iter().filter(|p| !p.is_native());
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

    fn emulator(&self, platform: &Platform) -> Result<Emulator, ErrorKind> {
        (self.env.emulator)(platform)
            .map_err(|reason| ErrorKind::Emulator { platform: platform.clone(), reason })
    }
}

/// Seconds since 1970 as RFC 3339 with nanoseconds.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}
