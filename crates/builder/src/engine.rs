//! Looks steps up in the cache, executes new ones, packs layers in the background.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Scope as Threads;
use std::time::Instant;

use crossdock_dockerfile::Dockerfile;
use crossdock_oci::name::random_name;
use crossdock_oci::store::{Follow, Frozen, LayerOptions, Scratch, Store, TemporaryDirectory};
use crossdock_oci::{Descriptor, Digest, Reference};
use crossdock_platform::Platform;
use crossdock_sandbox::{Emulator, Killer};

use crate::cache::{CachedStep, Imported, StepCache};
use crate::error::{BuildError, ErrorKind};
use crate::event::{Event, Events, Miss, StepId, StepInfo, Wait};
use crate::git::GitSource;
use crate::graph::TRIGGERS_MAX;
use crate::key::{Key, Part, differences};
use crate::request::BuildRequest;
use crate::secrets::Secrets;
use crate::sink::{LayerSink, Stop};
use crate::stat_cache::StatCache;
use crate::state::{Layer, Packed, Record, State, StepResult};
use crate::sync::{Flights, Promise, Shared, SharedFlight, Slots};
use crate::view::View;

/// Where base images come from.
pub trait Images: Sync {
    /// The manifest of `reference` for `platform`; its blobs are then in the store. With `pull` the registry
    /// is asked even if the store knows the name. The error is a sentence for the user.
    fn resolve(&self, reference: &Reference, platform: &Platform, pull: bool) -> Result<Descriptor, String>;

    /// Downloads `url` for ADD to a file of the store's temporary directory, and returns its path and the
    /// time of `Last-Modified` in seconds since 1970.
    fn download(&self, url: &str, to: &std::path::Path) -> Result<Option<i64>, String>;

    /// Brings a layer of [`Environment::imported`] into the store.
    fn layer(&self, layer: &Descriptor) -> Result<(), String>;

    /// Checks a repository out for ADD into an empty directory, with or without `.git`, and returns the
    /// commit.
    fn checkout(&self, source: &GitSource, keep_git: bool, to: &std::path::Path) -> Result<String, String>;
}

/// What the engine needs from outside.
pub struct Environment<'a> {
    /// The store.
    pub store: &'a Store,
    /// Base images.
    pub images: &'a dyn Images,
    /// Takes progress.
    pub events: &'a dyn Events,
    /// Results of other builds.
    pub imported: &'a Imported,
    /// How layers are written.
    pub layers: LayerOptions,
    /// Receives layers while they are written.
    pub sink: Option<&'a dyn LayerSink>,
    /// Secrets and SSH agents.
    pub secrets: &'a dyn Secrets,
    /// Ends the build from outside.
    pub stop: Arc<Stop>,
    /// What this build has in common with other builds of the same process.
    pub shared: &'a Shared,
    /// The emulator for a platform that this machine does not run itself. The error is a sentence for the
    /// user.
    pub emulator: &'a (dyn Fn(&Platform) -> Result<Emulator, String> + Sync),
}

/// One build under way.
pub(crate) struct Engine<'a> {
    pub env: &'a Environment<'a>,
    pub request: &'a BuildRequest,
    pub file: Dockerfile,
    pub stat_cache: Option<StatCache>,
    /// Memory that the configurations of all stages take, in bytes.
    pub weight: Arc<AtomicUsize>,
    /// ONBUILD triggers run so far.
    triggers: AtomicUsize,
    slots: Slots,
    /// Threads that may pack at once.
    packers: usize,
    backlog: Mutex<Backlog>,
    flights: Flights<Digest>,
    done: Mutex<HashMap<Digest, StepResult>>,
    quick: Mutex<BTreeMap<Digest, Digest>>,
    pub emulators: OnceLock<Vec<Emulator>>,
    stages: BTreeMap<(usize, usize), Arc<StagePromise>>,
    /// The stage runs whose layers are in the images.
    in_image: BTreeSet<(usize, usize)>,
    /// Stages that only an ONBUILD trigger of a base image needs, found during the build.
    late: Mutex<BTreeMap<(usize, usize), Arc<StagePromise>>>,
    failure: Mutex<Option<BuildError>>,
    stop: Arc<Stop>,
    steps: AtomicUsize,
    /// Roots of several layers, kept for further use.
    views: Mutex<HashMap<Vec<PathBuf>, Arc<View>>>,
}

/// A step's directory, to be packed into a layer.
struct Packing {
    step: StepId,
    key: Digest,
    created: String,
    renewal: Option<String>,
    frozen: Frozen,
    /// Whether the layer goes to the sink.
    is_followed: bool,
    promise: Arc<Promise<Result<Packed, String>>>,
    /// Lets other builds look up the step's result; dropped once it is recorded.
    _flight: SharedFlight,
}

/// Directories that wait to be packed, and the number of threads that pack.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Packing>,
    threads: usize,
}

/// How a step is looked up.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    /// Whether an earlier result will do.
    pub use_cache: bool,
    /// Whether the step's result may differ each time, as with commands.
    pub varies: bool,
    /// The stage and the platform.
    pub run: (usize, usize),
    /// Where the step stands, and the parts of its key, to tell what has changed since the last time.
    pub place: (&'a Digest, &'a [Part]),
}

/// The end of a stage run; `None` if it or another one failed.
pub(crate) type StagePromise = Promise<Option<Arc<State>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Engine<'a> {
    /// An engine for the stage runs that are known to be needed.
    pub fn new(
        env: &'a Environment<'a>,
        request: &'a BuildRequest,
        file: Dockerfile,
        stat_cache: Option<StatCache>,
        stages: BTreeMap<(usize, usize), Arc<StagePromise>>,
        in_image: BTreeSet<(usize, usize)>,
    ) -> Engine<'a> {
        Engine {
            env,
            request,
            stat_cache,
            slots: Slots::new(request.jobs),
            weight: Arc::default(),
            triggers: AtomicUsize::new(0),
            packers: std::thread::available_parallelism().map_or(1, usize::from),
            backlog: Mutex::default(),
            flights: Flights::new(),
            done: Mutex::default(),
            quick: Mutex::default(),
            emulators: OnceLock::new(),
            stages,
            in_image,
            late: Mutex::default(),
            failure: Mutex::default(),
            stop: env.stop.clone(),
            steps: AtomicUsize::new(0),
            views: Mutex::default(),
            file,
        }
    }

    /// The promise of a stage run, and whether it is new: then the caller must keep it.
    pub fn promise(&self, key: (usize, usize)) -> (Arc<StagePromise>, bool) {
        if let Some(promise) = self.stages.get(&key) {
            return (promise.clone(), false);
        }
        let mut is_new = false;
        let promise = lock(&self.late)
            .entry(key)
            .or_insert_with(|| {
                is_new = true;
                Arc::default()
            })
            .clone();
        (promise, is_new)
    }

    /// Waits for the end of a stage run; `None` if it or another one failed.
    pub fn state(&self, key: (usize, usize)) -> Option<Arc<State>> {
        self.stages[&key].wait()
    }

    /// The first failure, once all threads have ended.
    pub fn failure(&self) -> Option<BuildError> {
        lock(&self.failure).take()
    }

    /// Notes the first failure and stops the rest of the build.
    pub fn fail(&self, error: BuildError) {
        lock(&self.failure).get_or_insert(error);
        self.stop.stop();
    }

    /// An error if another part of the build has failed.
    pub fn check_cancelled(&self) -> Result<(), ErrorKind> {
        if self.stop.is_set() { Err(ErrorKind::Cancelled) } else { Ok(()) }
    }

    /// Lets a failure elsewhere kill this command while `work` waits for it.
    pub fn while_running<T>(&self, step: StepId, killer: Killer, work: impl FnOnce() -> T) -> T {
        self.stop.while_running(step, killer, work)
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
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
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
        How { use_cache, varies, run, place }: How<'_>,
        step: StepId,
        execute: &mut dyn FnMut(&Scratch) -> Result<(), ErrorKind>,
    ) -> Result<(StepResult, bool), ErrorKind> {
        loop {
            self.check_cancelled()?;
            if let Some(result) = self.known(key, use_cache)? {
                return Ok((result, true));
            }
            if self.flights.is_flying(key) {
                self.tell_wait(step, Wait::SameStep);
            }
            let Some(_flight) = self.flights.board(key) else { continue };
            // Another thread may have finished the step between the look-up and boarding.
            if let Some(result) = self.known(key, use_cache)? {
                return Ok((result, true));
            }
            let Some(shared) = self.board_shared(key, step)? else { continue };
            if let Some(result) = self.known(key, use_cache)? {
                return Ok((result, true));
            }
            let miss = if use_cache { self.why_missed(key, place)? } else { Miss::Asked };
            self.env.events.event(Event::Missed { step, miss });
            let _slot = self.slots.try_take().unwrap_or_else(|| {
                self.tell_wait(step, Wait::Place);
                self.slots.take()
            });
            self.check_cancelled()?;
            self.env.events.event(Event::Executing { step });
            let scratch = self.env.store.new_scratch()?;
            execute(&scratch)?;
            let store = self.env.store;
            let is_renewed = varies && !use_cache && store.cache_has(key);
            // The registry most likely has the layer of a step that gives the same result as before.
            let is_followed =
                self.env.sink.is_some() && self.in_image.contains(&run) && (varies || !store.cache_has(key));
            let renewal = is_renewed.then(random_name);
            let result = self.finish_step(threads, step, key, scratch, renewal, is_followed, shared)?;
            self.remember_parts(place)?;
            return Ok((result, false));
        }
    }

    /// The right to execute a step, or `None` once another build of this process has executed it.
    fn board_shared(&self, key: &Digest, step: StepId) -> Result<Option<SharedFlight>, ErrorKind> {
        let mut is_told = false;
        let boarded = self.env.shared.board(key, || {
            if !std::mem::replace(&mut is_told, true) {
                self.tell_wait(step, Wait::SameStep);
            }
            !self.stop.is_set()
        });
        self.check_cancelled()?;
        Ok(boarded)
    }

    /// Why there is no result for a step: compares it with the last step that was executed at its place.
    fn why_missed(&self, key: &Digest, (place, parts): (&Digest, &[Part])) -> Result<Miss, ErrorKind> {
        let store = self.env.store;
        if store.cache_has(key) {
            return Ok(Miss::Gone);
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

    fn known(&self, key: &Digest, use_cache: bool) -> Result<Option<StepResult>, ErrorKind> {
        if let Some(result) = lock(&self.done).get(key) {
            return Ok(Some(result.clone()));
        }
        if !use_cache {
            return Ok(None);
        }
        let Some(result) = self.cached(key)? else { return Ok(None) };
        lock(&self.done).insert(key.clone(), result.clone());
        Ok(Some(result))
    }

    /// The store's record of a step.
    fn record(&self, key: &Digest) -> Result<Option<Record>, ErrorKind> {
        let bytes = self.env.store.cache_get(key)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()))
    }

    /// The result of a cache record whose layer is still in the store, or that another build has exported.
    fn cached(&self, key: &Digest) -> Result<Option<StepResult>, ErrorKind> {
        let store = self.env.store;
        let record = self.record(key)?;
        if let Some(result) = record.map(|record| self.restored(record)).transpose()?.flatten() {
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
        let result = self.restored(record.clone())?;
        if result.is_some() {
            self.remember(key, record)?;
        }
        Ok(result)
    }

    /// The result that a record describes, if its layer is in the store and matches the record.
    fn restored(&self, record: Record) -> Result<Option<StepResult>, ErrorKind> {
        let store = self.env.store;
        let Some(packed) = record.layer else {
            let Record { created, renewal, .. } = record;
            return Ok(Some(StepResult { layer: None, created, renewal }));
        };
        if !store.contains(&packed.descriptor.digest)? {
            return Ok(None);
        }
        // Layers of steps come from an upper directory, so they never depend on lower ones.
        let Ok(unpacked) = store.unpack(&packed.descriptor, &packed.diff_id, &[]) else { return Ok(None) };
        let layer = Layer { fs: unpacked.path, packed: Arc::new(Promise::kept(Ok(packed))) };
        Ok(Some(StepResult { layer: Some(layer), created: record.created, renewal: record.renewal }))
    }

    /// Every step of this build with its result. For use after all threads have ended and all layers are
    /// packed.
    pub fn steps_made(&self) -> StepCache {
        let made = |(key, result): (&Digest, &StepResult)| {
            let layer = result.layer.as_ref().map(|layer| layer.packed.wait()).transpose().ok()?;
            let (created, renewal) = (result.created.clone(), result.renewal.clone());
            Some(CachedStep { key: key.clone(), record: Record { layer, created, renewal } })
        };
        let mut steps: Vec<CachedStep> = lock(&self.done).iter().filter_map(made).collect();
        steps.sort_by(|a, b| a.key.cmp(&b.key));
        StepCache { steps, quick: lock(&self.quick).clone().into_iter().collect() }
    }

    #[expect(clippy::too_many_arguments, reason = "what a packing needs")]
    fn finish_step<'scope, 'env>(
        &'scope self,
        threads: &'scope Threads<'scope, 'env>,
        step: StepId,
        key: &Digest,
        scratch: Scratch,
        renewal: Option<String>,
        is_followed: bool,
        flight: SharedFlight,
    ) -> Result<StepResult, ErrorKind> {
        let created = self.now();
        let is_empty = scratch.is_empty()?;
        if let Some(latest) = self.request.source_date_epoch {
            scratch.clamp_times(latest)?;
        }
        let frozen = scratch.freeze()?;
        let mut result = StepResult { layer: None, created, renewal: renewal.clone() };
        if is_empty {
            self.remember(key, &Record { layer: None, created: result.created.clone(), renewal })?;
        } else {
            let promise = Arc::new(Promise::new());
            result.layer = Some(Layer { fs: frozen.path(), packed: promise.clone() });
            let created = result.created.clone();
            let key = key.clone();
            let packing =
                Packing { step, key, created, renewal, frozen, is_followed, promise, _flight: flight };
            self.pack_later(threads, packing);
        }
        lock(&self.done).insert(key.clone(), result.clone());
        Ok(result)
    }

    /// Leaves the directory to a packing thread; this thread packs it if there is none.
    fn pack_later<'scope, 'env>(&'scope self, threads: &'scope Threads<'scope, 'env>, packing: Packing) {
        let is_needed = {
            let mut backlog = lock(&self.backlog);
            backlog.waiting.push_back(packing);
            let is_needed = backlog.threads < self.packers;
            backlog.threads += usize::from(is_needed);
            is_needed
        };
        if is_needed && std::thread::Builder::new().spawn_scoped(threads, || self.pack_all()).is_err() {
            self.pack_all();
        }
    }

    /// Packs until nothing waits.
    fn pack_all(&self) {
        loop {
            let packing = {
                let mut backlog = lock(&self.backlog);
                match backlog.waiting.pop_front() {
                    Some(packing) => packing,
                    None => {
                        backlog.threads -= 1;
                        return;
                    }
                }
            };
            let Packing { step, key, created, renewal, frozen, is_followed, promise, _flight } = packing;
            self.env.events.event(Event::Packing { step });
            let sink = self.env.sink.filter(|_| is_followed);
            let follow = sink.map(|sink| move |layer| sink.follow(layer, &self.stop));
            let follow = follow.as_ref().map(|follow| follow as Follow<'_>);
            let packed = self.env.store.commit_followed(&frozen, &self.env.layers, follow);
            let packed = packed.map_err(ErrorKind::from);
            let packed = packed.and_then(|layer| {
                let packed = Packed { diff_id: layer.diff_id, descriptor: layer.descriptor };
                let (descriptor, diff_id) = (Box::new(packed.descriptor.clone()), packed.diff_id.clone());
                let told = Event::Packed { step, layer: descriptor, diff_id, size: layer.size };
                self.env.events.event(told);
                self.remember(&key, &Record { layer: Some(packed.clone()), created, renewal })?;
                Ok(packed)
            });
            promise.keep(packed.map_err(|e| e.to_string()));
        }
    }

    /// Counts triggers that are about to run.
    ///
    /// # Errors
    ///
    /// More than [`TRIGGERS_MAX`] in the whole build.
    pub fn count_triggers(&self, count: usize) -> Result<(), ErrorKind> {
        let all = self.triggers.fetch_add(count, Ordering::Relaxed) + count;
        if all > TRIGGERS_MAX {
            let message = format!("more than {TRIGGERS_MAX} ONBUILD triggers run in this build, the limit");
            return Err(ErrorKind::Dockerfile(message));
        }
        Ok(())
    }

    fn remember(&self, key: &Digest, record: &Record) -> Result<(), ErrorKind> {
        let bytes = serde_json::to_vec(record).expect("string keys always serialise");
        let (blobs, snapshots) = match &record.layer {
            Some(packed) => (vec![packed.descriptor.digest.clone()], vec![packed.diff_id.clone()]),
            None => (Vec::new(), Vec::new()),
        };
        Ok(self.env.store.cache_put(key, &bytes, &blobs, &snapshots)?)
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

    /// Whether the result of a step is known.
    pub fn is_known(&self, key: &Digest) -> Result<bool, ErrorKind> {
        Ok(self.known(key, true)?.is_some())
    }

    /// The time for histories: now, or what `SOURCE_DATE_EPOCH` says; RFC 3339 with nanoseconds.
    pub fn now(&self) -> String {
        match self.request.source_date_epoch {
            Some(seconds) => rfc3339(seconds),
            None => format!("{:.9}", jiff::Timestamp::now()),
        }
    }

    /// The digest of a step's key and its parts, with `SOURCE_DATE_EPOCH` added, if set: it changes the times
    /// in the layer, so the layer differs.
    pub fn timed(&self, key: Key) -> (Digest, Vec<Part>) {
        let (key, mut parts) = key.finish_parts();
        match self.request.source_date_epoch {
            None => (key, parts),
            Some(seconds) => {
                let mut timed = Key::new("epoch", &key);
                timed.part("SOURCE_DATE_EPOCH").field(seconds.to_le_bytes());
                let (timed, last) = timed.finish_parts();
                parts.extend(last.into_iter().skip(1));
                (timed, parts)
            }
        }
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
}

/// Seconds since 1970 as RFC 3339 with nanoseconds.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}
